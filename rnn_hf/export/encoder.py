"""Classifiers and taggers as ONNX graphs, exact on packed sequences, as float32 or int8.

The graph is built from ONNX operators by hand: no exporter of torch keeps the packed semantics of a recurrent layer.
Inside, tokens stand in time-major layout `[sequence_length, batch_size]`, each sequence from the first step on.
"""

import copy
import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import nn

from ..inference.loading import RnnModelWithHead
from ..models.embeddings import PADDING, UNKNOWN, CharacterCNN, RnnEmbeddings
from ..models.modeling_rnn import RnnForSequenceClassification, RnnForTokenClassification

try:
    from onnx import ModelProto, TensorProto, checker, defs, helper

    from .crf import label_scores, max_marginals, spread
    from .graph import Graph, quantized, to_array
    from .lexical import add_lexical_scores, lexical_scores
    from .ngrams import add_ngram_logits
    from .words import Words
except ImportError as error:
    raise ImportError('Exporting a model needs the package onnx: pip install "rnn_hf[onnx]"') from error

# Since 18, the axes of all reductions are inputs.
LOWEST_OPSET = 18

# The order of the gates in ONNX, as positions in torch's order.
_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN_TANH": (0,), "RNN_RELU": (0,)}
# Character features of more entries than this are computed in the graph: a table of them would outweigh the rest. By
# whether it is of int8 numbers, which take a quarter of the space.
_MOST_CACHED_ENTRIES = {False: 8192, True: 32768}
_LOWEST = float(np.finfo(np.float32).min)


def to_onnx(model: RnnModelWithHead, *, opset: int = LOWEST_OPSET, int8: bool = False) -> ModelProto:
    """Make an ONNX graph of a classifier or tagger.

    Inputs are `input_ids` and `attention_mask`, int64 `[batch_size, sequence_length]` of any size, with padding
    anywhere. Outputs are the `logits` of the model in evaluation, and of a tagger also `labels`, int64
    `[batch_size, sequence_length]`, the best of each token, those of the Viterbi algorithm where there is a
    conditional random field. What stands at padding means nothing.

    With `int8`, embeddings and weights are stored as int8 numbers. An LSTM also computes with them, through
    onnxruntime's `DynamicQuantizeLSTM`; it measures the range of a batch, without its padding, so that the other
    sequences of a batch change the logits of a sequence a little. onnxruntime has no such operator for a GRU or a
    simple RNN: they become smaller, not faster, and compute in float32. A character CNN in the graph keeps the 254
    most frequent characters.

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
    >>> from rnn_hf.export.encoder import to_onnx
    >>> graph = to_onnx(RnnForSequenceClassification(RnnConfig(vocab_size=100, num_labels=3))).graph
    >>> [value.name for value in graph.input], [value.name for value in graph.output]
    (['input_ids', 'attention_mask'], ['logits'])

    ```
    """
    if not isinstance(model, RnnForSequenceClassification | RnnForTokenClassification):
        raise ValueError(f"Only a classifier or a tagger can be exported, got a {type(model).__name__}.")
    check_opset(opset)
    if model.dtype != torch.float32:
        model = copy.deepcopy(model).float()
    graph = Graph(int8)
    num_labels = len(model.config.label_names)
    shape: list[Any] = ["batch_size", "sequence_length"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in ("input_ids", "attention_mask")]
    if isinstance(model, RnnForSequenceClassification):
        task, names = "text-classification", [_calibrated(graph, model, _classifier(graph, model))]
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
    if model.config.temperature != 1:
        properties["temperature"] = str(float(model.config.temperature))
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
        end_ids (`Sequence[int]`): Tokens that are padding where they end a sequence.
    """

    def __init__(self, graph: Graph, num_entries: int, extra_step: bool, end_ids: Sequence[int] = ()):
        self.mask = graph("Cast", "attention_mask", to=TensorProto.BOOL)  # [B, L]
        if end_ids:
            numbers = graph("CumSum", graph("Cast", self.mask, to=TensorProto.INT64), 1)
            is_last = graph("Equal", numbers, graph("ReduceMax", numbers, [1]))
            for end_id in end_ids:
                is_end = graph("And", is_last, graph("Equal", "input_ids", end_id))
                self.mask = graph("And", self.mask, graph("Not", is_end))
        ones = graph("Cast", self.mask, to=TensorProto.INT64)
        self.lengths = graph("ReduceSum", ones, [1])  # [B, 1]
        behind = graph("Add", self.lengths, graph("CumSum", graph("Sub", 1, ones), 1))
        # Where each column goes: tokens to the front, padding behind.
        self.positions = graph("Sub", graph("Where", self.mask, graph("CumSum", ones, 1), behind), 1)  # [B, L]
        ids = graph("Where", self.mask, "input_ids", num_entries)
        self.ids = graph("Transpose", graph("ScatterElements", ids, self.positions, ids, axis=1), perm=[1, 0])  # [L, B]
        if extra_step:
            row = graph("Expand", num_entries, graph("Shape", self.lengths))
            self.ids = graph("Concat", self.ids, graph("Transpose", row, perm=[1, 0]), axis=0)
        self.are_tokens = graph("Less", self.ids, num_entries)  # [L, B]


def _classifier(graph: Graph, model: RnnForSequenceClassification) -> str:
    tokens = _Tokens(graph, model.model.embeddings.num_entries, extra_step=False)
    states, last_states = _encode(graph, model, tokens)
    size = [-1, model.config.num_directions * model.config.hidden_size]
    if model.config.pooling == "attention":
        scores = graph("MatMul", _joined(graph, states, size[1]), to_array(model.attention.weight).T)  # [L, B, 1]
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
    weight, bias = to_array(model.classifier.weight), to_array(model.classifier.bias)
    logits = graph("Gemm", pooled, graph.weight(weight), bias, transB=1)
    if model.ngrams is None:
        return logits
    model.match_vocabulary()
    return add_ngram_logits(graph, model.ngrams, tokens.ids, logits)


def _calibrated(graph: Graph, model: RnnForSequenceClassification, logits: str) -> str:
    """Divide logits by the temperature, as the model does in evaluation."""
    config = model.config
    is_scaled = config.temperature != 1 and config.problem_type != "regression"
    return graph("Div", logits, float(config.temperature)) if is_scaled else logits


def _tagger(graph: Graph, model: RnnForTokenClassification) -> list[str]:
    config = model.config
    pools = config.subword_pooling != "none"
    end_ids = config.end_token_ids if pools else ()
    tokens = _Tokens(graph, model.model.embeddings.num_entries, pools or model.crf is not None, end_ids)
    model.match_vocabulary()
    word_starts = np.append(model.word_starts.cpu().numpy(), False)
    is_start = graph("Gather", word_starts, tokens.ids)  # [L, B]
    if pools:
        scores = _score_words(graph, model, tokens, is_start)
    else:
        scores = _emissions(graph, model, tokens, is_start)
        if model.lexical is not None:
            scores = add_lexical_scores(graph, model.lexical, scores, tokens.ids, is_start)
        if model.crf is not None:
            words = Words(graph, is_start)
            scores = max_marginals(graph, model.crf, words.gather(scores), words)
            scores = label_scores(graph, model.span_labels, scores)
            scores = spread(graph, scores, words, is_start, config.label_names)
    rows = graph("Transpose", scores, perm=[1, 0, 2])  # [B, L, num_labels]
    columns = graph("GatherND", rows, graph("Unsqueeze", tokens.positions, [2]), batch_dims=1)
    logits = graph("Where", graph("Unsqueeze", tokens.mask, [2]), columns, 0.0)
    return [logits, graph("ArgMax", logits, axis=-1, keepdims=0)]


def _score_words(graph: Graph, model: RnnForTokenClassification, tokens: _Tokens, is_start: str) -> str:
    """Score labels for each token, those of its word: `[L, B, num_labels]`; the recurrent layers read words."""
    is_first = graph("Equal", graph("CumSum", graph("Add", graph("Mul", tokens.ids, 0), 1), 0), 1)
    is_start = graph("And", graph("Or", is_start, is_first), tokens.are_tokens)
    words = Words(graph, is_start)
    scores = _emissions(graph, model, tokens, is_start, words)  # [W, B, num_labels]
    if model.lexical is not None:
        lexical, _ = lexical_scores(graph, model.lexical, tokens.ids, is_start)
        scores = graph("Add", scores, graph("Slice", lexical, [0], graph("Shape", scores, end=1), [0]))
    if model.crf is not None:
        scores = label_scores(graph, model.span_labels, max_marginals(graph, model.crf, scores, words))
    return spread(graph, scores, words, is_start, model.config.label_names)


def _encode(graph: Graph, model: RnnModelWithHead, tokens: _Tokens, words: Words | None = None) -> tuple[str, str]:
    """Return the last layer's states and its last ones, with `words` those of words instead of tokens.

    They are float32 `[L, directions, B, hidden_size]` and `[directions, B, hidden_size]`.
    """
    rnn = model.model.rnn
    counts = graph("Squeeze", tokens.lengths, [1]) if words is None else graph("Squeeze", words.num_words, [0])
    lengths = graph("Cast", counts, to=TensorProto.INT32)
    balance = _balance(model) if graph.int8 and rnn.mode == "LSTM" else np.ones(rnn.input_size, dtype=np.float32)
    parts = _embed(graph, model.model.embeddings, tokens, balance)
    if words is not None:
        parts = words.pool(parts, model.model.embeddings.character_cnn is not None, tokens.are_tokens)
    inputs = graph("Concat", *parts, axis=-1) if len(parts) > 1 else parts[0]
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
    if embeddings.character_cnn is not None:
        tables.append(_all_character_ids(embeddings))
    largest = np.concatenate([np.abs(to_array(table)).max(axis=0) for table in tables])
    weights = [to_array(getattr(rnn, name)) for name, _ in rnn.named_parameters() if name.startswith("weight_ih_l0")]
    of_weights = np.abs(np.concatenate(weights)).max(axis=0)
    usable = (largest > 0) & (of_weights > 0)
    return np.sqrt(np.divide(largest, of_weights, out=np.ones_like(largest), where=usable))


def _joined(graph: Graph, states: str, size: int) -> str:
    """Join directions: `[L, directions, B, hidden_size]` to `[L, B, directions * hidden_size]`."""
    return graph("Reshape", graph("Transpose", states, perm=[0, 2, 1, 3]), [0, 0, size])


def _embed(graph: Graph, embeddings: RnnEmbeddings, tokens: _Tokens, balance: np.ndarray) -> list[str]:
    """Look the parts of vectors up, divided by the balance: `[L, B]` to `[L, B, size]` each, zeros for padding."""
    own, static, character_cnn = embeddings.word_embeddings, embeddings.static_embeddings, embeddings.character_cnn
    sizes = [own.embedding_dim, static.vectors.embedding_dim if static is not None else 0]
    own_balance, static_balance, character_balance = np.split(balance, np.cumsum(sizes))

    own_ids = tokens.ids
    if own.num_embeddings < embeddings.num_entries:
        others = graph("Where", tokens.are_tokens, embeddings.unk_token_id, own.num_embeddings)
        own_ids = graph("Where", graph("Less", tokens.ids, own.num_embeddings), tokens.ids, others)
    parts = [graph.lookup(_with_zeros(to_array(own.weight) / own_balance), own_ids)]
    if static is not None:
        positions = np.append(static.vector_ids.int().cpu().numpy(), np.int32(static.vectors.num_embeddings))
        vectors = _with_zeros(to_array(static.vectors.weight) / static_balance)
        parts.append(graph.lookup(vectors, graph("Gather", positions, tokens.ids)))
    if character_cnn is not None and embeddings.num_entries <= _MOST_CACHED_ENTRIES[graph.int8]:
        features = _with_zeros(to_array(_all_character_ids(embeddings)) / character_balance)
        parts.append(graph.lookup(features, tokens.ids))
    elif character_cnn is not None:
        parts.append(_character_features(graph, character_cnn, tokens.ids, character_balance))
    return parts


def _all_character_ids(embeddings: RnnEmbeddings) -> torch.Tensor:
    return embeddings.cached_character_features(
        torch.arange(embeddings.num_entries, device=embeddings.word_embeddings.weight.device)
    )


def _character_features(graph: Graph, character_cnn: CharacterCNN, ids: str, balance: np.ndarray) -> str:
    """Compute character features of distinct entries: each position sums what the characters around it contribute."""
    characters = to_array(character_cnn.char_embeddings.weight)
    characters[PADDING] = 0.0
    codes = character_cnn.character_ids.cpu().numpy()
    num_entries, length = codes.shape
    if graph.int8:  # A code takes a byte: the rarest characters, of a few entries in a large vocabulary, are unknown.
        used, counts = np.unique(codes, return_counts=True)
        codes = np.where(np.isin(codes, used[np.argsort(-counts)][:254]) | (codes == PADDING), codes, UNKNOWN)
    kept = np.union1d(codes, PADDING)
    codes = _with_zeros(np.searchsorted(kept, codes).astype(np.uint8 if len(kept) <= 256 else np.uint16))
    characters = characters[kept]
    convolutions: list[Any] = list(character_cnn.convolutions)
    kernels = [to_array(convolution.weight) for convolution in convolutions]
    widest = max(kernel.shape[2] for kernel in kernels)
    before = widest // 2
    for position, kernel in enumerate(kernels):
        left = before - kernel.shape[2] // 2
        kernels[position] = np.pad(kernel, [(0, 0), (0, 0), (left, widest - kernel.shape[2] - left)])
    joined = np.concatenate(kernels) / balance[:, None, None]  # [num_filters, char_embedding_size, widest]
    bias = np.concatenate([to_array(convolution.bias) for convolution in convolutions]) / balance

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
        weights = (to_array(getattr(rnn, f"{name}_l{layer}{suffix}")) for suffix in suffixes)
        return np.stack([_in_onnx_order(rnn, one) for one in weights])

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
    return np.concatenate([gates[position] for position in _GATES[rnn.mode]])


def _emissions(
    graph: Graph, model: RnnForTokenClassification, tokens: _Tokens, is_start: str, words: Words | None = None
) -> str:
    """Score labels for each token, or each of `words`, by itself: `[L, B, num_labels]`."""
    states, _ = _encode(graph, model, tokens, words)
    scores = graph.constant(to_array(model.classifier.bias))
    weights = np.split(to_array(model.classifier.weight), model.config.num_directions, axis=1)
    for direction, weight in enumerate(weights):
        of_direction = graph("Gather", states, direction, axis=1)  # [L, B, hidden_size]
        transposed = graph("Transpose", graph.weight(weight), perm=[1, 0])
        contribution = graph("MatMul", of_direction, transposed)
        if words is None and direction == 0 and model.config.bidirectional and not model.word_starts.all():
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


def _with_zeros(table: np.ndarray) -> np.ndarray:
    """Add a row for padding."""
    return np.concatenate([table, np.zeros_like(table[:1])])


def check_opset(opset: int) -> None:
    """Check that the installed onnx knows a version of the operators, and that our graphs can be written in it."""
    if not LOWEST_OPSET <= opset <= defs.onnx_opset_version():
        raise ValueError(
            f"opset must be from {LOWEST_OPSET} to {defs.onnx_opset_version()}, the newest that the installed onnx "
            f"knows; got {opset}. Every opset gives the same results, and {LOWEST_OPSET} runs in the most positions."
        )


__all__ = ["LOWEST_OPSET", "check_opset", "to_onnx"]
