"""Building blocks of exported graphs."""

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper
from strategies import few

from rnn_hf.export.graph import Graph, quantized


def run(graph, output, **inputs):
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in inputs.items()
    ]
    result = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    built = helper.make_graph(graph.nodes, "test", values, [result], graph.initializers)
    model = helper.make_model(built, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, inputs)[0]


def test_numbers_become_constants_of_their_type():
    graph = Graph()
    names = [graph.constant(value) for value in (1, 1.5, np.float64(2), np.int32(3), True)]
    assert len(set(names)) == 5
    types = [TensorProto.INT64, TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT32, TensorProto.BOOL]
    assert [initializer.data_type for initializer in graph.initializers] == types
    assert [list(initializer.dims) for initializer in graph.initializers] == [[]] * 5


def test_equal_constants_are_stored_once():
    graph = Graph()
    table = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert graph.constant(table) == graph.constant(table.copy())
    others = [table.astype(np.int64), table.reshape(3, 2), table + 1, table[:1], 0.0, 0]
    assert len({graph.constant(one) for one in [table, *others]}) == len(graph.initializers) == 7


@few(50)
@given(
    arrays.arrays(np.float32, (4, 5), elements=st.floats(-100, 100, width=32)),
    st.sampled_from([7, 8]),
)
def test_rounding_is_half_a_step_off_at_most(values, bits):
    numbers, scales = quantized(values, bits)
    assert numbers.dtype == np.int8
    assert np.abs(numbers.astype(int)).max() < 2 ** (bits - 1)
    assert (np.abs(numbers * scales - values) <= scales * 0.5001).all()


@pytest.mark.parametrize("int8", [False, True])
def test_lookup_and_weight_give_what_they_were_given(int8):
    rng = np.random.default_rng(0)
    table, weight = rng.standard_normal((6, 8), dtype=np.float32), rng.standard_normal((3, 8), dtype=np.float32)
    ids = np.array([[5, 0], [2, 2]])
    graph = Graph(int8)
    output = graph("MatMul", graph.lookup(table, "ids"), graph("Transpose", graph.weight(weight), perm=[1, 0]))
    np.testing.assert_allclose(run(graph, output, ids=ids), table[ids] @ weight.T, atol=0.1 if int8 else 1e-5)
    stored = [initializer for initializer in graph.initializers if initializer.data_type == TensorProto.INT8]
    assert len(stored) == 2 * int8
