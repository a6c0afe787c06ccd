"""N-grams of words and characters as a part of an ONNX graph."""

import numpy as np
import torch
from onnx import TensorProto

from ..models.ngrams import CHARACTER_FACTOR, POWER, PRIME, WORD_FACTOR, NgramFeatures
from .graph import Graph, to_array


def add_ngram_logits(graph: Graph, ngrams: NgramFeatures, ids: str, logits: str) -> str:
    """Add what the n-grams of each text give to its logits.

    The n-grams of characters of each vocabulary entry are summed here, once for all; those of words are hashed in the
    graph.

    Args:
        graph ([`Graph`]): The graph to add to.
        ngrams ([`NgramFeatures`]): The weights.
        ids (`str`): Name of the token ids `[sequence_length, batch_size]`, of padding the size of the vocabulary.
        logits (`str`): Name of float32 `[batch_size, num_labels]`.

    Returns:
        `str`: name of the sum.
    """
    counts = _count_in_texts(graph, len(ngrams.spellings), ids)
    pooled = graph("Add", _of_words(graph, ngrams, ids, counts), _of_characters(graph, ngrams, ids, counts))
    if ngrams.projection is not None:
        pooled = graph(
            "MatMul", pooled, graph("Transpose", graph.weight(to_array(ngrams.projection.weight)), perm=[1, 0])
        )
    return graph("Add", logits, graph("Add", pooled, to_array(ngrams.bias)))


def _count_in_texts(graph: Graph, num_entries: int, ids: str) -> str:
    """Count how often each token stands in its text: float32 `[L, B]`."""
    size = graph("Concat", [num_entries + 1], graph("Shape", ids, start=1), axis=0)
    ones = graph("Expand", 1.0, graph("Shape", ids))
    counts = graph("ScatterElements", graph("Expand", 0.0, size), ids, ones, axis=0, reduction="add")
    return graph("GatherElements", counts, ids, axis=0)


def _sums(graph: Graph, rows: str, squares: str, counts: str) -> tuple[str, str]:
    """Sum rows `[L, B, size]` of n-grams that stand there so often, and their squares `[L, B]`, over each text."""
    shares = graph("Unsqueeze", graph("Pow", counts, POWER - 1), [2])
    squares = graph("Mul", squares, graph("Pow", counts, 2 * POWER - 1))
    summed = graph("ReduceSum", graph("Mul", rows, shares), [0], keepdims=0)
    return summed, graph("ReduceSum", squares, [0], keepdims=0)


def _of_words(graph: Graph, ngrams: NgramFeatures, ids: str, counts: str) -> str:
    keys = graph("Gather", np.append(ngrams.entry_ngrams().keys.cpu().numpy(), 0), ids)  # [L, B]
    num_buckets, owners = len(ngrams.hashes), ngrams.hashes.cpu().numpy()
    owners = np.where(owners == 0, np.int32(-1), owners)
    scales = to_array(ngrams.scales)
    table = _with_zeros(to_array(ngrams.weight) * scales[:, None])
    squares = np.append(scales**2, np.float32(0))
    is_word = graph("Greater", keys, 0)
    hashes, least, sums, lengths = keys, counts, "", ""
    for size in range(1, ngrams.max_ngram + 1):
        if size > 1:
            before = graph("Slice", graph("Pad", hashes, [1, 0, 0, 0]), [0], [-1], [0])
            exists = graph("And", graph("Greater", before, 0), is_word)
            extended = graph("Add", graph("Mul", before, WORD_FACTOR), keys)
            hashes = graph("Where", exists, graph("Add", graph("Mod", extended, PRIME - 1), 1), 0)
            earlier = graph("Slice", graph("Pad", least, [1, 0, 0, 0], 1.0), [0], [-1], [0])
            least = graph("Min", earlier, counts)
        first = graph("Mod", hashes, num_buckets)
        second = graph("Mod", graph("Mod", graph("Mul", hashes, CHARACTER_FACTOR), PRIME), num_buckets)
        buckets = graph("Where", _owns(graph, owners, second, hashes), second, num_buckets)
        buckets = graph("Where", _owns(graph, owners, first, hashes), first, buckets)
        # [B, size] and [B]
        given, length = _sums(graph, graph.lookup(table, buckets), graph("Gather", squares, buckets), least)
        sums, lengths = (graph("Add", sums, given), graph("Add", lengths, length)) if sums else (given, length)
    return _normalised(graph, sums, lengths)


def _owns(graph: Graph, owners: np.ndarray, buckets: str, hashes: str) -> str:
    """Tell which n-grams own a bucket. A bucket without an owner has -1, where there is no n-gram 0."""
    owner = graph("Cast", graph("Gather", owners, buckets), to=TensorProto.INT64)
    return graph("Equal", owner, hashes)


def _of_characters(graph: Graph, ngrams: NgramFeatures, ids: str, counts: str) -> str:
    offsets, buckets, _ = ngrams.entry_ngrams()
    with torch.no_grad():
        scales = ngrams.scales[buckets]
        values = torch.cat([ngrams.weight[buckets] * scales.unsqueeze(1), scales.unsqueeze(1) ** 2], dim=1)
        entries = torch.arange(len(offsets) - 1, device=values.device).repeat_interleave(offsets.diff())
        summed = values.new_zeros(len(offsets) - 1, values.shape[1]).index_add(0, entries, values)
    given, squares = _with_zeros(to_array(summed[:, :-1])), _with_zeros(to_array(summed[:, -1:]))[:, 0]
    return _normalised(graph, *_sums(graph, graph.lookup(given, ids), graph("Gather", squares, ids), counts))


def _normalised(graph: Graph, sums: str, squares: str) -> str:
    return graph("Div", sums, graph("Unsqueeze", graph("Sqrt", graph("Max", squares, 1.0)), [1]))


def _with_zeros(table: np.ndarray) -> np.ndarray:
    """Add a row for padding, or for n-grams that do not count."""
    return np.concatenate([table, np.zeros_like(table[:1])])


__all__ = ["add_ngram_logits"]
