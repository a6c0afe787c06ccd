"""Export models to ONNX, exact on packed sequences, as float32 or int8.

The graph is built from ONNX operators by hand: no exporter of torch keeps the packed semantics of a recurrent layer.
Inside, tokens stand in time-major layout `[sequence_length, batch_size]`, each sequence from the first step on.
"""

import copy
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .crf_rnn import ConditionalRandomField, allowed_transitions, tagging_scheme
from .embeddings_rnn import PADDING, UNKNOWN, RnnEmbeddings, SpellingEncoder
from .model_files import read_json, replace_file
from .modeling_rnn import RnnForSequenceClassification, RnnForTokenClassification
from .prediction import RnnModelWithHead, load

try:
    from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, checker, defs, helper

    from .onnx_graph import Graph, quantized
except ImportError as error:
    raise ImportError('Exporting a model needs the package onnx: pip install "rnn_hf[onnx]"') from error

# Since 18, the axes of all reductions are inputs.
LOWEST_OPSET = 18

# The order of the gates in ONNX, as places in torch's order.
_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN_TANH": (0,), "RNN_RELU": (0,)}
# Spellings of more entries than this are read in the graph: a table of what they give would outweigh all the rest.
_MOST_FOLDED_ENTRIES = 8192
_LOWEST = float(np.finfo(np.float32).min)
_FORBIDDEN = 1e4
_IMPOSSIBLE = -1e30


def to_onnx(model: RnnModelWithHead, *, opset: int = LOWEST_OPSET, int8: bool = False) -> ModelProto:
    """Make an ONNX graph of a classifier or tagger.

    Inputs are `input_ids` and `attention_mask`, int64 `[batch_size, sequence_length]` of any size, with padding
    anywhere. Outputs are the `logits` of the model in evaluation, and of a tagger also `labels`, int64
    `[batch_size, sequence_length]`, the best of each token, those of the Viterbi algorithm where there is a
    conditional random field. What stands at padding means nothing.

    With `int8`, embeddings and weights are stored as int8 numbers. An LSTM also computes with them, through
    onnxruntime's `DynamicQuantizeLSTM`; it measures the range of a batch, without its padding, so that the other
    sequences of a batch change the logits of a sequence a little. onnxruntime has no such operator for a GRU or a
    simple RNN: they become smaller, not faster, and compute in float32. Spellings that are read in the graph keep the
    254 most frequent characters.

    Args:
        model ([`RnnForSequenceClassification`] or [`RnnForTokenClassification`]): A trained model.
        opset (`int`): Version of ONNX's operators.
        int8 (`bool`): Whether to quantise.

    Returns:
        `onnx.ModelProto`, with the task, the labels, the cell type and the version of this package as metadata.

    Raises:
        ValueError: An unsupported opset, or a model without a head.

    Example:
    ```python
    >>> from rnn_hf import RnnConfig, RnnForSequenceClassification
    >>> from rnn_hf.export import to_onnx
    >>> graph = to_onnx(RnnForSequenceClassification(RnnConfig(vocab_size=100, num_labels=3))).graph
    >>> [value.name for value in graph.input], [value.name for value in graph.output]
    (['input_ids', 'attention_mask'], ['logits'])

    ```
    """
    if not isinstance(model, RnnForSequenceClassification | RnnForTokenClassification):
        raise ValueError(f"Only a classifier or a tagger can be exported, got a {type(model).__name__}.")
    _check_opset(opset)
    if model.dtype != torch.float32:
        model = copy.deepcopy(model).float()
    graph = Graph(int8)
    num_labels = len(model.config.label_names)
    shape: list[Any] = ["batch_size", "sequence_length"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in ("input_ids", "attention_mask")]
    if isinstance(model, RnnForSequenceClassification):
        task, names = "text-classification", [_classifier(graph, model)]
        outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch_size", num_labels])]
    else:
        task, names = "token-classification", _tagger(graph, model)
        outputs = [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, [*shape, num_labels]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, shape),
        ]
    for name, output in zip(names, outputs, strict=True):
        graph.nodes.append(helper.make_node("Identity", [name], [output.name]))
    opsets = [helper.make_opsetid("", opset)] + [helper.make_opsetid("com.microsoft", 1)] * int8
    proto = helper.make_model(
        helper.make_graph(graph.nodes, type(model).__name__, inputs, outputs, graph.initializers),
        opset_imports=opsets,
        ir_version=helper.find_min_ir_version_for(opsets[:1]),
        producer_name="rnn_hf",
        producer_version=version("rnn_hf"),
    )
    properties = {
        "task": task,
        "labels": json.dumps(model.config.label_names, ensure_ascii=False),
        "cell_type": model.config.cell_type,
        "rnn_hf_version": version("rnn_hf"),
    }
    helper.set_model_props(proto, properties)
    checker.check_model(proto)
    return proto


class _Tokens:
    """The inputs in compact layout: each row's tokens first, in their order.

    Padding has an id behind the vocabulary, for which tables have a row of zeros.

    Args:
        graph ([`Graph`]): The graph to add to.
        num_entries (`int`): Size of the vocabulary.
        extra_step (`bool`): Whether to add a step of padding, for operators that need one step at least.
    """

    def __init__(self, graph: Graph, num_entries: int, extra_step: bool):
        self.mask = graph("Cast", "attention_mask", to=TensorProto.BOOL)  # [B, L]
        ones = graph("Cast", self.mask, to=TensorProto.INT64)
        self.lengths = graph("ReduceSum", ones, [1])  # [B, 1]
        behind = graph("Add", self.lengths, graph("CumSum", graph("Sub", 1, ones), 1))
        # Where each column goes: tokens to the front, padding behind.
        self.places = graph("Sub", graph("Where", self.mask, graph("CumSum", ones, 1), behind), 1)  # [B, L]
        ids = graph("Where", self.mask, "input_ids", num_entries)
        self.ids = graph("Transpose", graph("ScatterElements", ids, self.places, ids, axis=1), perm=[1, 0])  # [L, B]
        if extra_step:
            row = graph("Expand", num_entries, graph("Shape", self.lengths))
            self.ids = graph("Concat", self.ids, graph("Transpose", row, perm=[1, 0]), axis=0)
        self.are_tokens = graph("Less", self.ids, num_entries)  # [L, B]


def _classifier(graph: Graph, model: RnnForSequenceClassification) -> str:
    tokens = _Tokens(graph, model.model.embeddings.num_entries, extra_step=False)
    states, last_states = _encode(graph, model, tokens)
    size = [-1, model.config.num_directions * model.config.hidden_size]
    if model.config.pooling == "attention":
        scores = graph("MatMul", _joined(graph, states, size[1]), _array(model.attention.weight).T)  # [L, B, 1]
        scores = graph("Where", graph("Unsqueeze", tokens.are_tokens, [2]), scores, _LOWEST)
        weights = graph("Unsqueeze", graph("Softmax", scores, axis=0), [1])  # [L, 1, B, 1]
        pooled = graph("ReduceSum", graph("Mul", states, weights), [0], keepdims=0)
    elif model.config.pooling == "max":
        masked = graph("Where", graph("Unsqueeze", tokens.are_tokens, [1, 3]), states, _LOWEST)
        has_tokens = graph("Greater", tokens.lengths, 0)
        pooled = graph("Where", has_tokens, graph("ReduceMax", masked, [0], keepdims=0), 0.0)
    elif model.config.pooling == "mean":
        counts = graph("Cast", graph("Max", tokens.lengths, 1), to=TensorProto.FLOAT)
        pooled = graph("Div", graph("ReduceSum", states, [0], keepdims=0), counts)
    else:
        pooled = last_states
    # [directions, batch_size, hidden_size] to [batch_size, directions * hidden_size]
    pooled = graph("Reshape", graph("Transpose", pooled, perm=[1, 0, 2]), size)
    weight, bias = _array(model.classifier.weight), _array(model.classifier.bias)
    return graph("Gemm", pooled, graph.weight(weight), bias, transB=1)


def _tagger(graph: Graph, model: RnnForTokenClassification) -> list[str]:
    tokens = _Tokens(graph, model.model.embeddings.num_entries, extra_step=model.crf is not None)
    model.match_vocabulary()
    word_starts = np.append(model.word_starts.cpu().numpy(), False)
    is_start = graph("Gather", word_starts, tokens.ids)  # [L, B]
    scores = _emissions(graph, model, tokens, is_start)
    if model.crf is not None:
        scores = _max_marginals(graph, model.crf, scores, is_start)
    rows = graph("Transpose", scores, perm=[1, 0, 2])  # [B, L, num_labels]
    columns = graph("GatherND", rows, graph("Unsqueeze", tokens.places, [2]), batch_dims=1)
    logits = graph("Where", graph("Unsqueeze", tokens.mask, [2]), columns, 0.0)
    return [logits, graph("ArgMax", logits, axis=-1, keepdims=0)]


def _encode(graph: Graph, model: RnnModelWithHead, tokens: _Tokens) -> tuple[str, str]:
    """Return the last layer's states `[L, directions, B, hidden_size]` and its last ones `[directions, B, …]`."""
    rnn = model.model.rnn
    lengths = graph("Cast", graph("Squeeze", tokens.lengths, [1]), to=TensorProto.INT32)
    balance = _balance(model) if graph.int8 and rnn.mode == "LSTM" else np.ones(rnn.input_size, dtype=np.float32)
    inputs = _embed(graph, model.model.embeddings, tokens, balance)
    states, last_states = _recurrent_layer(graph, rnn, 0, inputs, lengths, balance)
    for layer in range(1, rnn.num_layers):
        inputs = _joined(graph, states, model.config.num_directions * rnn.hidden_size)
        states, last_states = _recurrent_layer(graph, rnn, layer, inputs, lengths)
    return states, last_states


def _balance(model: RnnModelWithHead) -> np.ndarray:
    """Find numbers to divide features by, and to multiply their weights with, so that int8 loses less.

    Vectors of several sources have features of different size, but share one scale
    (https://arxiv.org/abs/2211.10438).
    """
    embeddings, rnn = model.model.embeddings, model.model.rnn
    tables = [embeddings.word_embeddings.weight]
    if embeddings.static_embeddings is not None:
        tables.append(embeddings.static_embeddings.vectors.weight)
    if embeddings.spelling is not None:
        tables.append(_all_spellings(embeddings))
    largest = np.concatenate([np.abs(_array(table)).max(axis=0) for table in tables])
    weights = [_array(getattr(rnn, name)) for name, _ in rnn.named_parameters() if name.startswith("weight_ih_l0")]
    of_weights = np.abs(np.concatenate(weights)).max(axis=0)
    usable = (largest > 0) & (of_weights > 0)
    return np.sqrt(np.divide(largest, of_weights, out=np.ones_like(largest), where=usable))


def _joined(graph: Graph, states: str, size: int) -> str:
    """Join directions: `[L, directions, B, hidden_size]` to `[L, B, directions * hidden_size]`."""
    return graph("Reshape", graph("Transpose", states, perm=[0, 2, 1, 3]), [0, 0, size])


def _embed(graph: Graph, embeddings: RnnEmbeddings, tokens: _Tokens, balance: np.ndarray) -> str:
    """Look vectors up, divided by the balance: `[L, B]` to `[L, B, input_size]`, zeros for padding."""
    own, static, spelling = embeddings.word_embeddings, embeddings.static_embeddings, embeddings.spelling
    sizes = [own.embedding_dim, static.vectors.embedding_dim if static is not None else 0]
    own_balance, static_balance, spelling_balance = np.split(balance, np.cumsum(sizes))

    own_ids = tokens.ids
    if own.num_embeddings < embeddings.num_entries:
        others = graph("Where", tokens.are_tokens, embeddings.unk_token_id, own.num_embeddings)
        own_ids = graph("Where", graph("Less", tokens.ids, own.num_embeddings), tokens.ids, others)
    parts = [graph.lookup(_with_zeros(_array(own.weight) / own_balance), own_ids)]
    if static is not None:
        places = np.append(static.places.int().cpu().numpy(), np.int32(static.vectors.num_embeddings))
        vectors = _with_zeros(_array(static.vectors.weight) / static_balance)
        parts.append(graph.lookup(vectors, graph("Gather", places, tokens.ids)))
    if spelling is not None and embeddings.num_entries <= _MOST_FOLDED_ENTRIES:
        folded = _with_zeros(_array(_all_spellings(embeddings)) / spelling_balance)
        parts.append(graph.lookup(folded, tokens.ids))
    elif spelling is not None:
        parts.append(_read_spellings(graph, spelling, tokens.ids, spelling_balance))
    return graph("Concat", *parts, axis=-1) if len(parts) > 1 else parts[0]


def _all_spellings(embeddings: RnnEmbeddings) -> torch.Tensor:
    return embeddings.folded_spelling(
        torch.arange(embeddings.num_entries, device=embeddings.word_embeddings.weight.device)
    )


def _read_spellings(graph: Graph, spelling: SpellingEncoder, ids: str, balance: np.ndarray) -> str:
    """Read the spellings of distinct entries: a place in one is the sum of what the characters around contribute."""
    characters = _array(spelling.char_embeddings.weight)
    characters[PADDING] = 0.0
    codes = spelling.spellings.cpu().numpy()
    num_entries, length = codes.shape
    if graph.int8:  # A code takes a byte: the rarest characters, of a few entries in a large vocabulary, are unknown.
        used, counts = np.unique(codes, return_counts=True)
        codes = np.where(np.isin(codes, used[np.argsort(-counts)][:254]) | (codes == PADDING), codes, UNKNOWN)
    kept = np.union1d(codes, PADDING)
    codes = _with_zeros(np.searchsorted(kept, codes).astype(np.uint8 if len(kept) <= 256 else np.uint16))
    characters = characters[kept]
    convolutions: list[Any] = list(spelling.convolutions)
    kernels = [_array(convolution.weight) for convolution in convolutions]
    widest = max(kernel.shape[2] for kernel in kernels)
    before = widest // 2
    for place, kernel in enumerate(kernels):
        left = before - kernel.shape[2] // 2
        kernels[place] = np.pad(kernel, [(0, 0), (0, 0), (left, widest - kernel.shape[2] - left)])
    joined = np.concatenate(kernels) / balance[:, None, None]  # [num_filters, char_embedding_size, widest]
    bias = np.concatenate([_array(convolution.bias) for convolution in convolutions]) / balance

    distinct, _, inverse = graph.call("Unique", ids, num_outputs=3)
    spelt = graph("Cast", graph("Gather", codes, distinct), to=TensorProto.INT32)  # [num_distinct, length]
    padded = graph("Pad", spelt, [0, before, 0, widest - 1 - before])
    sums = ""
    for offset in range(widest):
        of_characters = graph.weight(characters @ joined[:, :, offset].T)  # [num_codes, num_filters]
        contributions = graph("Gather", of_characters, graph("Slice", padded, [offset], [offset + length], [1]))
        sums = graph("Add", sums, contributions) if sums else contributions
    vectors = graph("Relu", graph("Add", graph("ReduceMax", sums, [1], keepdims=0), bias))
    are_entries = graph("Unsqueeze", graph("Less", distinct, num_entries), [1])
    vectors = graph("Where", are_entries, vectors, 0.0)
    return graph("Gather", vectors, graph("Reshape", inverse, graph("Shape", ids)))


def _recurrent_layer(
    graph: Graph, rnn: nn.RNNBase, layer: int, inputs: str, lengths: str, balance: np.ndarray | float = 1.0
) -> tuple[str, str]:
    """Run a layer: `[L, B, input_size]` to `[L, directions, B, hidden_size]` and `[directions, B, hidden_size]`."""
    suffixes = ("", "_reverse") if rnn.bidirectional else ("",)

    def of_directions(name: str) -> np.ndarray:
        """Stack what directions have, gates in ONNX's order."""
        return np.stack([_in_onnx_order(rnn, _array(getattr(rnn, f"{name}_l{layer}{suffix}"))) for suffix in suffixes])

    weights, recurrent_weights = of_directions("weight_ih") * balance, of_directions("weight_hh")
    biases = np.concatenate([of_directions("bias_ih"), of_directions("bias_hh")], axis=1)
    attributes: dict[str, Any] = {
        "hidden_size": rnn.hidden_size,
        "direction": "bidirectional" if rnn.bidirectional else "forward",
    }
    if graph.int8 and rnn.mode == "LSTM":
        # Of 7 bits, no sum of two products overflows in processors that have no instruction for longer ones.
        numbers, scales = quantized(weights, bits=7)
        recurrent_numbers, recurrent_scales = quantized(recurrent_weights, bits=7)
        zeros = np.zeros(scales.shape[:2], dtype=np.int8)
        states, last_states = graph.call(
            "DynamicQuantizeLSTM",
            inputs,
            numbers.transpose(0, 2, 1),
            recurrent_numbers.transpose(0, 2, 1),
            biases,
            lengths,
            *(None, None, None),
            *(scales[..., 0], zeros, recurrent_scales[..., 0], zeros),
            num_outputs=2,
            domain="com.microsoft",
            **attributes,
        )
        return states, last_states
    if rnn.mode == "GRU":
        attributes["linear_before_reset"] = 1
    elif rnn.mode == "RNN_RELU":
        attributes["activations"] = ["Relu"] * len(suffixes)
    operator = rnn.mode.partition("_")[0]
    states, last_states = graph.call(
        operator,
        inputs,
        graph.weight(weights),
        graph.weight(recurrent_weights),
        biases,
        lengths,
        num_outputs=2,
        **attributes,
    )
    return states, last_states


def _in_onnx_order(rnn: nn.RNNBase, values: np.ndarray) -> np.ndarray:
    gates = np.split(values, len(_GATES[rnn.mode]))
    return np.concatenate([gates[place] for place in _GATES[rnn.mode]])


def _emissions(graph: Graph, model: RnnForTokenClassification, tokens: _Tokens, is_start: str) -> str:
    """Score labels for each token by itself: `[L, B, num_labels]`."""
    states, _ = _encode(graph, model, tokens)
    scores = graph.constant(_array(model.classifier.bias))
    weights = np.split(_array(model.classifier.weight), model.config.num_directions, axis=1)
    for direction, weight in enumerate(weights):
        of_direction = graph("Gather", states, direction, axis=1)  # [L, B, hidden_size]
        transposed = graph("Transpose", graph.weight(weight), perm=[1, 0])
        contribution = graph("MatMul", of_direction, transposed)
        if direction == 0 and model.config.bidirectional and not model.word_starts.all():
            contribution = _at_word_ends(graph, contribution, tokens, is_start)
        scores = graph("Add", contribution, scores)
    return scores


def _at_word_ends(graph: Graph, scores: str, tokens: _Tokens, is_start: str) -> str:
    """Give each token what the last token of its word has."""
    words = graph("CumSum", graph("Cast", is_start, to=TensorProto.INT64), 0)  # [L, B]
    steps = graph("Sub", graph("CumSum", graph("Cast", tokens.are_tokens, to=TensorProto.INT64), 0), 1)
    of_words = graph("Pad", graph("Mul", words, 0), [0, 0, 1, 0])
    of_words = graph("ScatterElements", of_words, words, steps, axis=0, reduction="max")
    ends = graph("Unsqueeze", graph("GatherElements", of_words, words, axis=0), [2])
    return graph("GatherElements", scores, graph("Expand", ends, graph("Shape", scores)), axis=0)


def _max_marginals(graph: Graph, crf: ConditionalRandomField, emissions: str, is_start: str) -> str:
    """Score each label by the best allowed sequence through it, over the first tokens of words.

    A `Scan` runs the recursion from the first step and the one from the last at once, and keeps scores where no word
    begins. A state beside those of the labels, at `num_labels`, stands before the first word, and behind the last.
    """
    num_labels = len(crf.label_names)
    words = graph("CumSum", graph("Cast", is_start, to=TensorProto.INT64), 0)
    num_words = graph("ReduceMax", words, [0])  # [1, B]

    both_emissions = _both_ways(graph, graph("Pad", emissions, [0, 0, 0, 0, 0, 1]))  # [L, 2, B, num_labels + 1]
    both_starts = _both_ways(graph, graph("Unsqueeze", is_start, [2]))  # [L, 2, B, 1]
    first = np.full((2, 1, num_labels + 1), _IMPOSSIBLE, dtype=np.float32)
    first[:, :, num_labels] = 0.0
    shape = graph("Concat", [2], graph("Shape", num_words, start=1), [num_labels + 1], axis=0)
    step = _scan_step(_transition_scores(crf))
    _, scores, reached, pointers = graph.call(
        "Scan",
        graph("Expand", first, shape),
        both_emissions,
        both_starts,
        num_outputs=4,
        body=step,
        num_scan_inputs=2,
    )
    forward = graph("Gather", scores, 0, axis=1)  # [L, B, num_labels + 1]
    backward = _reversed(graph, graph("Gather", reached, 1, axis=1))
    # Scores are up to a constant for each token: that of the model.
    forward = _shifted(graph, forward, graph("Greater", words, 1))
    backward = _shifted(graph, backward, graph("Less", words, num_words))
    sums = graph("Slice", graph("Add", forward, backward), [0], [num_labels], [2])  # [L, B, num_labels]

    last_label = graph("ArgMax", graph("Gather", sums, -1), axis=1)  # [B, 1]
    pointers = graph("Gather", pointers, 0, axis=1)
    _, path = graph.call(
        "Scan",
        last_label,
        pointers,
        graph("Unsqueeze", is_start, [2]),
        num_outputs=2,
        body=_trace_step(),
        num_scan_inputs=2,
        scan_input_directions=[1, 1],
        scan_output_directions=[1],
    )
    # Where sequences tie, the labels of the path are preferred by the least that float32 knows.
    best = graph("ReduceMax", sums, [2])
    above = graph("Add", graph("Add", best, graph("Mul", graph("Abs", best), 2.0**-23)), 1e-37)
    marginals = graph("Where", graph("Equal", path, np.arange(num_labels)), above, sums)
    marginals = graph("Where", graph("Unsqueeze", graph("Greater", words, 0), [2]), marginals, 0.0)
    inside = _continued(graph, marginals, crf.label_names)
    return graph("Where", graph("Unsqueeze", is_start, [2]), marginals, inside)


def _both_ways(graph: Graph, steps: str) -> str:
    """Put beside each step, as a new second dimension, the one that is as far from the end."""
    return graph("Concat", *(graph("Unsqueeze", way, [1]) for way in (steps, _reversed(graph, steps))), axis=1)


def _reversed(graph: Graph, steps: str) -> str:
    return graph("Slice", steps, [-1], [np.iinfo(np.int64).min], [0], [-1])


def _shifted(graph: Graph, scores: str, where: str) -> str:
    highest = graph("Where", graph("Unsqueeze", where, [2]), graph("ReduceMax", scores, [2]), 0.0)
    return graph("Sub", scores, highest)


def _transition_scores(crf: ConditionalRandomField) -> np.ndarray:
    """Return what following costs, `[2, 1, to, from]`: forwards, and backwards, where `from` is the later label."""
    begins, follows, ends = (
        part.logical_not().numpy() * np.float32(-_FORBIDDEN) for part in allowed_transitions(crf.label_names)
    )
    transitions = _array(crf.transitions) + follows
    num_labels = len(crf.label_names)
    scores = np.full((2, 1, num_labels + 1, num_labels + 1), _IMPOSSIBLE, dtype=np.float32)
    scores[0, 0, :num_labels, :num_labels] = transitions.T
    scores[0, 0, :num_labels, num_labels] = _array(crf.start_transitions) + begins
    scores[1, 0, :num_labels, :num_labels] = transitions
    scores[1, 0, :num_labels, num_labels] = _array(crf.end_transitions) + ends
    return scores


def _scan_step(transitions: np.ndarray) -> GraphProto:
    """One step of the recursions: from the scores of a word to those of the next one."""
    step = Graph(prefix="step_")
    shifted = step("Sub", "scores", step("ReduceMax", "scores", [2]))
    ways = step("Add", step("Unsqueeze", shifted, [2]), transitions)  # [2, B, to, from]
    reached = step("ReduceMax", ways, [3], keepdims=0)
    scores = step("Where", "step_starts", step("Add", reached, "step_emissions"), "scores")
    outputs = [scores, step("Identity", scores), reached, step("ArgMax", ways, axis=3, keepdims=0)]
    number, boolean = TensorProto.FLOAT, TensorProto.BOOL
    inputs = {"scores": number, "step_emissions": number, "step_starts": boolean}
    types = [number, number, number, TensorProto.INT64]
    return _subgraph(step, "recursions", inputs, dict(zip(outputs, types, strict=True)))


def _trace_step() -> GraphProto:
    """One step of following the pointers back from the last word's label."""
    step = Graph(prefix="trace_")
    before = step("GatherElements", "trace_pointers", "label", axis=1)
    outputs = [step("Where", "trace_starts", before, "label"), step("Identity", "label")]
    inputs = {"label": TensorProto.INT64, "trace_pointers": TensorProto.INT64, "trace_starts": TensorProto.BOOL}
    return _subgraph(step, "trace", inputs, dict.fromkeys(outputs, TensorProto.INT64))


def _subgraph(graph: Graph, name: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> GraphProto:
    """Make the body of a `Scan` from its nodes, and the types of its inputs and outputs."""

    def infos(values: dict[str, Any]) -> list[ValueInfoProto]:
        return [helper.make_tensor_value_info(value, kind, None) for value, kind in values.items()]

    return helper.make_graph(graph.nodes, name, infos(inputs), infos(outputs), graph.initializers)


def _continued(graph: Graph, scores: str, label_names: list[str]) -> str:
    """Let the label of a word's first token go on: `B-LOC` as `I-LOC`."""
    if tagging_scheme(label_names) is None:
        return scores
    partners = list(range(len(label_names)))
    begins = np.zeros(len(label_names), dtype=bool)
    for begin, name in enumerate(label_names):
        if name.startswith("B-") and f"I{name[1:]}" in label_names:
            inside = label_names.index(f"I{name[1:]}")
            partners[begin], partners[inside], begins[begin] = inside, begin, True
    of_partners = graph("Gather", scores, partners, axis=2)
    return graph("Where", begins, graph("Min", scores, of_partners), graph("Max", scores, of_partners))


def _with_zeros(table: np.ndarray) -> np.ndarray:
    """Add a row for padding."""
    return np.concatenate([table, np.zeros_like(table[:1])])


def _array(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy().copy()


def export(
    model_name_or_path: str, output_dir: str | Path, *, opset: int = LOWEST_OPSET, int8: bool = False
) -> dict[str, int]:
    """Write a folder that runs without torch: configuration, tokenizer, `onnx/model.onnx`, `onnx/model_int8.onnx`.

    Args:
        model_name_or_path (`str`): Folder or hub id of a trained classifier or tagger.
        output_dir (`str` or `Path`): Folder to write to; the model's own gets the folder `onnx` beside its weights.
        opset (`int`): Version of ONNX's operators.
        int8 (`bool`): Whether to write the quantised graph too.

    Returns:
        `dict[str, int]`: see [`exported_files`].

    Raises:
        ValueError: Not a model of this package, an unsupported opset, or a folder that cannot be written to, or that
            holds another model.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf import RnnConfig, RnnForTokenClassification, train_tokenizer
    >>> from rnn_hf.export import export
    >>> tokenizer = train_tokenizer([["a", "b"]], kind="word", min_frequency=1, is_split_into_words=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     RnnForTokenClassification(RnnConfig(vocab_size=len(tokenizer))).save_pretrained(folder)
    ...     _ = tokenizer.save_pretrained(folder)
    ...     list(export(folder, folder))
    ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'onnx/model.onnx']

    ```
    """
    _check_opset(opset)
    folder = Path(output_dir)
    own = Path(model_name_or_path).is_dir() and folder.exists() and folder.samefile(model_name_or_path)
    _check_output(folder, own)
    model, tokenizer = load(model_name_or_path)
    graphs = {"model.onnx": to_onnx(model, opset=opset)}
    if int8:
        graphs["model_int8.onnx"] = to_onnx(model, opset=opset, int8=True)
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    if not own:
        model.config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        file = folder / "tokenizer.json"
        replace_file(file, json.dumps(read_json(file), ensure_ascii=False, separators=(",", ":")))
    for name, graph in graphs.items():
        replace_file(folder / "onnx" / name, graph.SerializeToString())
    return exported_files(folder)


def _check_opset(opset: int) -> None:
    if not LOWEST_OPSET <= opset <= defs.onnx_opset_version():
        raise ValueError(
            f"opset must be from {LOWEST_OPSET} to {defs.onnx_opset_version()}, the newest that the installed onnx "
            f"knows; got {opset}. Every opset gives the same results, and {LOWEST_OPSET} runs in the most places."
        )


def _check_output(folder: Path, own: bool) -> None:
    """Check, before what takes long, that a folder can be written to and holds no other model."""
    for path in (folder, folder / "onnx"):
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path} is a file: name a folder to write to.")
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise ValueError(f"{folder} cannot be made: {existing} is a file.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"{folder} cannot be written to: check the permissions of {existing}.")
    if not own and any(folder.glob("*.safetensors")):
        raise ValueError(f"{folder} holds another model, whose configuration would be replaced: name another folder.")
    if (
        not own
        and (folder / "config.json").exists()
        and read_json(folder / "config.json").get("model_type") != "rnn_hf"
    ):
        raise ValueError(
            f"{folder} holds a config.json of something else, which would be replaced: name another folder."
        )


def exported_files(folder: str | Path) -> dict[str, int]:
    """Tell what an exported folder holds for running without torch.

    Args:
        folder (`str` or `Path`): A folder that [`export`] wrote.

    Returns:
        `dict[str, int]`: bytes of `config.json`, the tokenizer's files and the graphs, by their paths in the folder.
    """
    folder = Path(folder)
    names = ["config.json", "tokenizer.json", "tokenizer_config.json", "onnx/model.onnx", "onnx/model_int8.onnx"]
    return {name: (folder / name).stat().st_size for name in names if (folder / name).is_file()}


__all__ = ["LOWEST_OPSET", "export", "exported_files", "to_onnx"]
