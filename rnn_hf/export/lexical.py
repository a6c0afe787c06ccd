"""Lexical features of words as parts of an ONNX graph."""

import numpy as np
from onnx import TensorProto

from ..models.lexical import NUM_CELLS, NUM_CLASSES, PRIME, WINDOW, HashWeights, LexicalFeatures, count_characters
from .graph import Graph, to_array


def add_lexical_scores(graph: Graph, lexical: LexicalFeatures, scores: str, ids: str, is_start: str) -> str:
    """Add what lexical features say of each token's labels.

    Args:
        graph ([`Graph`]): The graph to add to.
        lexical ([`LexicalFeatures`]): The weights.
        scores (`str`): Name of float32 `[sequence_length, batch_size, num_labels]`.
        ids (`str`): Name of the token ids `[sequence_length, batch_size]`, those of padding behind the vocabulary.
        is_start (`str`): Name of booleans `[sequence_length, batch_size]`: which tokens begin a word.

    Returns:
        `str`: name of the sums, of the same shape as `scores`.

    Example:
    ```python
    >>> from rnn_hf import RnnConfig
    >>> from rnn_hf.export.graph import Graph
    >>> from rnn_hf.export.lexical import add_lexical_scores
    >>> from rnn_hf.models.lexical import LexicalFeatures
    >>> lexical = LexicalFeatures(RnnConfig(vocab_size=9, num_lexical_features=64, num_labels=3))
    >>> graph = Graph()
    >>> add_lexical_scores(graph, lexical, "scores", "ids", "is_start").partition("_")[0]
    'Add'

    ```
    """
    sums, words = lexical_scores(graph, lexical, ids, is_start)
    size = graph("Concat", graph("Shape", words), graph("Shape", sums, start=2), axis=0)
    of_tokens = graph("Expand", graph("Unsqueeze", words, [2]), size)
    return graph("Add", scores, graph("GatherElements", sums, of_tokens, axis=0))


def lexical_scores(graph: Graph, lexical: LexicalFeatures, ids: str, is_start: str) -> tuple[str, str]:
    """Score the labels of words by lexical features; arguments as of [`add_lexical_scores`].

    Returns:
        `str`: name of the scores, float32 `[W, batch_size, num_labels]`, where `W` is the largest number of words; and
        `str`: name of the number of each token's word, int64 `[sequence_length, batch_size]`.
    """
    steps = graph("Sub", graph("CumSum", graph("Add", graph("Mul", ids, 0), 1), 0), 1)  # [L, B]
    starts = graph("Cast", graph("Or", is_start, graph("Equal", steps, 0)), to=TensorProto.INT64)
    words = graph("Sub", graph("CumSum", starts, 0), 1)
    nothing = graph("Mul", ids, 0)
    are_words = graph("ScatterElements", nothing, words, starts, axis=0, reduction="max")
    # Behind a sequence's last word are some without a token.
    num_words = graph("Reshape", graph("Add", graph("ReduceMax", words, keepdims=0), 1), [1])
    codes, lengths, are_words = (
        graph("Slice", values, [0], num_words, [0])
        for values in (*_join_characters(graph, lexical, ids, starts, words), are_words)
    )
    features = _find_features(graph, lexical, codes, lengths)
    features = graph("Mul", features, graph("Unsqueeze", are_words, [2]))  # [W, B, 13]
    weight = to_array(lexical.weight)
    weight[0] = 0.0
    given = graph.lookup_sum(weight, features)  # [W, B, 5 * size]
    padded = graph("Pad", given, [WINDOW, 0, 0, WINDOW, 0, 0])
    sums = ""
    for first in range(2 * WINDOW + 1):
        # What the word at this distance gives to this one.
        end = first - 2 * WINDOW or np.iinfo(np.int64).max
        begins, ends = [first, first * lexical.size], [end, (first + 1) * lexical.size]
        part = graph("Slice", padded, begins, ends, [0, 2])
        sums = graph("Add", sums, part) if sums else part
    if lexical.projection is not None:
        sums = graph("MatMul", sums, graph("Transpose", graph.weight(to_array(lexical.projection.weight)), perm=[1, 0]))
    return sums, words


def _join_characters(graph: Graph, lexical: LexicalFeatures, ids: str, starts: str, words: str) -> tuple[str, str]:
    """Join the characters of each word's tokens: codes `[L, B, room]`, and their numbers `[L, B]`."""
    entries = lexical.character_codes.cpu()
    table = np.pad(entries.numpy(), [(0, 1), (0, 0)])
    room = table.shape[1]
    head = room - room // 2
    counts = graph("Gather", np.append(count_characters(entries).numpy(), 0), ids)  # [L, B]
    before = graph("CumSum", counts, 0, exclusive=1)
    nothing = graph("Mul", ids, 0)
    begins = graph("ScatterElements", nothing, words, graph("Mul", before, starts), axis=0, reduction="max")
    lengths = graph("ScatterElements", nothing, words, counts, axis=0, reduction="add")
    offsets = graph("Sub", before, graph("GatherElements", begins, words, axis=0))
    columns = graph("Add", graph("Unsqueeze", offsets, [2]), np.arange(room))  # [L, B, room]
    cut = graph("Max", graph("Sub", graph("GatherElements", lengths, words, axis=0), room), 0)
    cut = graph("Unsqueeze", cut, [2])
    moved = graph("Where", graph("Less", columns, graph("Add", cut, head)), room, graph("Sub", columns, cut))
    stays = graph("Or", graph("Less", columns, head), graph("Equal", cut, 0))
    codes = graph("Cast", graph("Gather", table, ids), to=TensorProto.INT64)
    columns = graph("Where", graph("Greater", codes, 0), graph("Where", stays, columns, moved), room)
    # Of a flat table, with a column more for what is left out.
    num_rows = graph("Shape", ids, start=1)
    rows = graph("Sub", graph("CumSum", graph("Add", nothing, 1), 1), 1)
    rows = graph("Add", graph("Mul", words, num_rows), rows)
    indices = graph("Add", graph("Mul", graph("Unsqueeze", rows, [2]), room + 1), columns)
    shape = graph("Concat", graph("Shape", ids), [room + 1], axis=0)
    flat = graph("Reshape", graph("Expand", graph("Unsqueeze", nothing, [2]), shape), [-1])
    flat = graph("ScatterElements", flat, graph("Reshape", indices, [-1]), graph("Reshape", codes, [-1]), axis=0)
    joined = graph("Slice", graph("Reshape", flat, shape, allowzero=1), [0], [room], [2])
    return joined, graph("Min", lengths, room)


def _find_features(graph: Graph, lexical: LexicalFeatures, codes: str, lengths: str) -> str:
    """Find the rows of weights of features, as the model does: `[L, B, 13]`."""
    room = lexical.character_codes.shape[1]
    factors = HashWeights.of(room)
    characters, classes = graph("Div", codes, NUM_CLASSES), graph("Mod", codes, NUM_CLASSES)
    beginnings = graph("MatMul", characters, np.array(factors.beginnings))
    num_affixes = len(factors.endings)
    backwards = graph("Sub", graph("Sub", graph("Unsqueeze", lengths, [2]), 1), np.arange(num_affixes))
    is_affix = graph("GreaterOrEqual", backwards, 0)
    last = graph("GatherElements", characters, graph("Max", backwards, 0), axis=2)
    endings = graph("MatMul", graph("Where", is_affix, last, 0), np.array(factors.endings))
    around = graph("Pad", classes, [0, 0, 1, 0, 0, 1])
    pairs = graph("Slice", around, [0], [room + 1], [2])
    pairs = graph("Add", graph("Mul", pairs, NUM_CLASSES), graph("Slice", around, [1], [room + 2], [2]))
    short_shapes = graph("ReduceSum", graph("Gather", np.array(factors.changes), pairs), [2])
    num_classes = min(len(factors.classes), room)
    weights = np.pad(factors.classes[:num_classes], (0, room - num_classes))
    long_shapes = graph("MatMul", classes, weights[:, None])
    long_shapes = graph("Add", long_shapes, graph("Unsqueeze", graph("Min", lengths, len(factors.classes)), [2]))
    hashes = graph("Concat", beginnings, endings, short_shapes, long_shapes, axis=2)
    hashes = graph("Mod", graph("Add", hashes, np.array(factors.constants)), PRIME)
    affixes = graph("Cast", is_affix, to=TensorProto.INT64)
    always = graph("Slice", graph("Add", graph("Mul", affixes, 0), 1), [0], [1], [2])
    there = graph("Concat", always, affixes, affixes, always, always, axis=2)
    rows = graph("Gather", lexical.feature_rows.cpu().numpy(), graph("Mod", hashes, NUM_CELLS))
    return graph("Mul", graph("Cast", rows, to=TensorProto.INT64), there)


__all__ = ["add_lexical_scores", "lexical_scores"]
