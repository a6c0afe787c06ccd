"""Build ONNX graphs by calls, with weights as float32 or as int8."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch


class Graph:
    """Nodes and constants of a graph under construction.

    A call adds an operator and returns the name of what it computes. Inputs are such names, arrays and numbers, which
    become constants, or `None` for an optional input that is left out.

    Args:
        int8 (`bool`): Whether [`Graph.weight`] and [`Graph.lookup`] store int8 numbers.
        prefix (`str`): Begins all names, to tell those of a subgraph from those of the graph around it.

    Example:
    ```python
    >>> from rnn_hf.export.graph import Graph
    >>> graph = Graph()
    >>> graph("Relu", graph("Add", "x", 1.0))
    'Relu_2'
    >>> [node.op_type for node in graph.nodes], len(graph.initializers)
    (['Add', 'Relu'], 1)

    ```
    """

    def __init__(self, int8: bool = False, prefix: str = ""):
        self.int8 = int8
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._names_of_constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def __call__(self, operator: str, *inputs: Any, domain: str = "", **attributes: Any) -> str:
        """Add an operator that computes one value, and return its name."""
        return self.call(operator, *inputs, num_outputs=1, domain=domain, **attributes)[0]

    def call(self, operator: str, *inputs: Any, num_outputs: int, domain: str = "", **attributes: Any) -> list[str]:
        """Add an operator that computes several values, and return their names."""
        names = ["" if value is None else value if isinstance(value, str) else self.constant(value) for value in inputs]
        stem = self._new_name(operator)
        outputs = [stem if position == 0 else f"{stem}_{position}" for position in range(num_outputs)]
        self.nodes.append(onnx.helper.make_node(operator, names, outputs, name=stem, domain=domain, **attributes))
        return outputs

    def constant(self, value: Any) -> str:
        """Add a constant, or find an equal one; floats become float32, integers int64."""
        array = np.array(value, order="C")
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        key = array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest()
        if key not in self._names_of_constants:
            name = self._new_name("constant")
            self.initializers.append(onnx.numpy_helper.from_array(array, name))
            self._names_of_constants[key] = name
        return self._names_of_constants[key]

    def weight(self, values: np.ndarray) -> str:
        """Add a weight `[…, out_features, in_features]`.

        As int8 it takes a quarter of the space, with a scale for each output; the runtime makes float32 numbers of it
        when it loads the graph.
        """
        if not self.int8:
            return self.constant(values)
        numbers, scales = quantized(values)
        return self("Mul", self("Cast", numbers, to=onnx.TensorProto.FLOAT), scales)

    def lookup(self, table: np.ndarray, ids: str) -> str:
        """Look up rows of a table `[num_rows, size]`; of int8 numbers, with a scale for each row."""
        if not self.int8:
            return self("Gather", table, ids)
        numbers, scales = quantized(table)
        rows = self("Cast", self("Gather", numbers, ids), to=onnx.TensorProto.FLOAT)
        return self("Mul", rows, self("Gather", scales, ids))

    def lookup_sum(self, table: np.ndarray, ids: str) -> str:
        """Look up rows of a table `[num_rows, size]` and sum them over the last dimension of ids."""
        if not self.int8:
            return self("ReduceSum", self("Gather", table, ids), [-2], keepdims=0)
        numbers, scales = quantized(table)
        rows = self("Cast", self("Gather", numbers, ids), to=onnx.TensorProto.FLOAT)
        factors = self("Unsqueeze", self("Gather", scales[:, 0], ids), [-2])  # […, 1, num_ids]
        return self("Squeeze", self("MatMul", factors, rows), [-2])

    def _new_name(self, stem: str) -> str:
        return f"{self.prefix}{stem}_{len(self.nodes) + len(self.initializers)}"


def subgraph(
    graph: Graph, name: str, inputs: dict[str, Any], outputs: dict[str, Any], scalars: Sequence[str] = ()
) -> onnx.GraphProto:
    """Make the body of a `Scan` or a `Loop`, or a branch of an `If`.

    Args:
        graph ([`Graph`]): Its nodes and constants, with a prefix of their own.
        name (`str`): Its name.
        inputs (`dict[str, int]`): Names and types of its inputs.
        outputs (`dict[str, int]`): Names and types of what it computes.
        scalars (`Sequence[str]`): Which of all these are single numbers; a `Loop` asks for it.

    Returns:
        `onnx.GraphProto`.
    """

    def infos(values: dict[str, Any]) -> list[onnx.ValueInfoProto]:
        shapes: dict[str, Any] = {value: [] if value in scalars else None for value in values}
        return [onnx.helper.make_tensor_value_info(value, kind, shapes[value]) for value, kind in values.items()]

    return onnx.helper.make_graph(graph.nodes, name, infos(inputs), infos(outputs), graph.initializers)


def quantized(values: np.ndarray, bits: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Round numbers to int8, with a scale for each row of the last dimension.

    Args:
        values (`np.ndarray` of shape `[…, size]`): float32 numbers.
        bits (`int`): How many of the 8 bits to use, the sign included.

    Returns:
        int8 numbers of the same shape and float32 scales `[…, 1]`, whose product is near the values.

    Example:
    ```python
    >>> import numpy as np
    >>> from rnn_hf.export.graph import quantized
    >>> numbers, scales = quantized(np.array([[0.5, -1.0], [0.0, 0.0]], dtype=np.float32))
    >>> numbers.tolist(), scales.round(4).tolist()
    ([[64, -127], [0, 0]], [[0.007899999618530273], [1.0]])

    ```
    """
    scales = np.abs(values).max(axis=-1, keepdims=True) / np.float32(2 ** (bits - 1) - 1)
    # Rows of nothing, or of less than float32 divides by.
    scales[scales < np.finfo(np.float32).tiny] = 1.0
    return np.round(values / scales).astype(np.int8), scales


def to_array(values: torch.Tensor) -> np.ndarray:
    """Copy a tensor into an array of single precision."""
    return values.detach().float().cpu().numpy().copy()


__all__ = ["Graph", "quantized", "subgraph", "to_array"]
