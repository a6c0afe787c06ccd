"""Which n-grams a classifier counts, and how much each of them."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..data.examples import iterate_examples
from ..models.modeling_rnn import RnnForSequenceClassification
from ..models.ngrams import NgramFeatures, bucket_choices, character_ngrams, entry_keys, take_ragged, word_ngrams

# Texts whose n-grams are counted, the first ones of a longer corpus.
_MOST_TEXTS = 200_000
# Tokens that are counted at once.
_CHUNK = 100_000
# Vocabulary entries whose n-grams are found at once.
_MOST_ENTRIES = 4096
_FEWEST_TEXTS = 2
# Buckets for each n-gram, so that few share one, and most parameters of the table.
_ROOM = 1.2
_MOST_BUCKETS, _MOST_PARAMETERS = 2**18, 6_000_000


def set_ngrams(model: RnnForSequenceClassification, dataset: Iterable[Any], num_buckets: int | None = None) -> int:
    """Let a classifier count the n-grams that occur in two texts of the training data or more.

    The weight of an n-gram is its inverse document frequency, times the square root of how much more probable it is
    with one label than with the others (the largest log-count ratio, https://aclanthology.org/P12-2018). Where too many
    would need a bucket, those have it that tell most.

    Args:
        model ([`RnnForSequenceClassification`]): The model, which knows the characters of its vocabulary.
        dataset (`Iterable`): Encoded examples, with `input_ids` and `labels` or `label`.
        num_buckets (`int`, *optional*): Number of buckets; without it 1.2 for each n-gram or more, a power of 2.

    Returns:
        `int`: number of n-grams that own a bucket.

    Example:
    ```python
    >>> from datasets import Dataset
    >>> from rnn_hf import RnnConfig, RnnForSequenceClassification, train_tokenizer
    >>> from rnn_hf.text.characters import set_vocabulary
    >>> from rnn_hf.linear.ngram_choice import set_ngrams
    >>> data = Dataset.from_dict({"text": ["a cat", "a cat", "a dog", "a dog"], "labels": [0, 0, 1, 1]})
    >>> tokenizer = train_tokenizer(data["text"], kind="word")
    >>> model = RnnForSequenceClassification(RnnConfig(vocab_size=len(tokenizer), ngram_buckets=1))
    >>> set_vocabulary(model, tokenizer)
    >>> set_ngrams(model, data.map(tokenizer, input_columns="text")) > 20
    True

    ```
    """
    assert model.ngrams is not None
    num_labels = 0 if model.config.problem_type == "regression" else len(model.config.label_names)
    hashes, counts, weights = _weigh(model.ngrams, dataset, num_labels)
    if num_buckets is None:
        most = min(_MOST_BUCKETS, _MOST_PARAMETERS // max(model.ngrams.size, 1))
        wanted = 1 << int(_ROOM * len(hashes) + 1).bit_length()
        num_buckets = min(wanted, 1 << (most.bit_length() - 1))
    if num_buckets != model.config.ngram_buckets:
        model.config.ngram_buckets = num_buckets
        spellings = model.ngrams.spellings
        model.ngrams = NgramFeatures(model.config)
        model.ngrams.apply(model._init_weights)
        model.ngrams.spellings = spellings
    left, number = np.argsort(-counts * weights, kind="stable"), 0
    for choice in (0, 1):
        buckets = bucket_choices(torch.from_numpy(hashes[left]), num_buckets)[choice].numpy()
        buckets, firsts = np.unique(buckets, return_index=True)
        is_free = model.ngrams.hashes[buckets].numpy() == 0
        buckets, firsts = buckets[is_free], firsts[is_free]
        model.ngrams.hashes[buckets] = torch.tensor(hashes[left[firsts]], dtype=torch.int32)
        model.ngrams.scales[buckets] = torch.tensor(weights[left[firsts]], dtype=torch.float32)
        left, number = np.delete(left, firsts), number + len(firsts)
    return number


def _weigh(ngrams: NgramFeatures, dataset: Iterable[Any], num_labels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the hashes of n-grams, the number of texts that each is in, and its weight."""
    num_texts, of_labels, of_texts = 0, [], []
    for texts, hashes, labels in _occurrences(ngrams, dataset, num_labels):
        num_texts += len(labels)
        of_texts.append(np.unique(hashes, return_counts=True))
        if num_labels:
            rows, columns = labels.nonzero()
            first, last = np.searchsorted(texts, rows), np.searchsorted(texts, rows, side="right")
            positions = np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)] or [texts[:0]])
            codes = hashes[positions] * num_labels + np.repeat(columns, last - first)
            of_labels.append(np.unique(codes, return_counts=True))
    hashes, counts = _summed(of_texts)
    kept = counts >= _FEWEST_TEXTS
    hashes, counts = hashes[kept], counts[kept]
    weights = np.log((1 + num_texts) / (1 + counts)) + 1
    if num_labels > 1:
        codes, with_label = _summed(of_labels)
        positions = np.searchsorted(hashes, codes // num_labels).clip(max=max(len(hashes) - 1, 0))
        owned = hashes[positions] == codes // num_labels if len(hashes) else np.zeros(len(codes), dtype=bool)
        positions, labels, with_label = positions[owned], codes[owned] % num_labels, with_label[owned]
        inside = np.bincount(labels, with_label, num_labels)
        outside = counts.sum() - inside + len(hashes)
        ratios = np.log(with_label + 1) - np.log(np.maximum(inside + len(hashes), 1))[labels]
        ratios -= np.log(counts[positions] - with_label + 1) - np.log(np.maximum(outside, 1))[labels]
        largest = np.zeros(len(hashes))
        np.maximum.at(largest, positions, np.abs(ratios))
        weights = weights * np.sqrt(largest)
    return hashes, counts, weights


class _Entries(NamedTuple):
    """A hash of each vocabulary entry, and those of its n-grams of characters, entry by entry, from offsets on."""

    keys: Tensor
    offsets: Tensor
    hashes: Tensor


def _occurrences(
    ngrams: NgramFeatures, dataset: Iterable[Any], num_labels: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield, chunk by chunk, the distinct n-grams of each text: texts in order, hashes; and labels, 0 or 1."""
    hashes, num_tokens = torch.cat(list(map(character_ngrams, ngrams.spellings.split(_MOST_ENTRIES)))), 0
    offsets = nn.functional.pad((hashes > 0).sum(dim=1).cumsum(0), (1, 0))
    entries = _Entries(entry_keys(ngrams.spellings), offsets, hashes[hashes > 0])
    chunk: list[Any] = []
    for example in islice(iterate_examples(dataset), _MOST_TEXTS):
        chunk.append(example)
        num_tokens += len(example["input_ids"])
        if num_tokens >= _CHUNK:
            yield _distinct(ngrams, entries, chunk, num_labels)
            chunk, num_tokens = [], 0
    if chunk:
        yield _distinct(ngrams, entries, chunk, num_labels)


def _distinct(
    ngrams: NgramFeatures, entries: _Entries, examples: list[Any], num_labels: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ids = torch.cat([torch.as_tensor(example["input_ids"]) for example in examples]).long()
    lengths = torch.tensor([len(example["input_ids"]) for example in examples])
    texts = torch.repeat_interleave(torch.arange(len(examples)), lengths)
    befores = torch.arange(len(ids)) - 1
    befores[(lengths.cumsum(0) - lengths)[lengths > 0]] = -1
    hashes = word_ngrams(entries.keys[ids], befores, ngrams.max_ngram)
    num_entries = len(entries.keys)
    distinct = (texts * num_entries + ids).unique()
    of_entries, owners = take_ragged(entries.offsets, entries.hashes, distinct % num_entries)
    codes = [(texts * 2**31 + hashes)[hashes > 0], (distinct // num_entries)[owners] * 2**31 + of_entries]
    # To count, numpy sorts, and takes half the time of its table of hashes.
    found, _ = np.unique(torch.cat(codes).numpy(), return_counts=True)
    labels = np.zeros((len(examples), num_labels), dtype=bool)
    for row, example in enumerate(examples if num_labels else []):
        label = np.asarray(example.get("labels", example.get("label")))
        if label.ndim == 0 and label >= 0:
            labels[row, int(label)] = True
        elif label.ndim == 1:
            labels[row] = label > 0
    return found // 2**31, found % 2**31, labels


def _summed(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Sum what was counted chunk by chunk."""
    if not parts:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    items, inverse = np.unique(np.concatenate([items for items, _ in parts]), return_inverse=True)
    return items, np.bincount(inverse, np.concatenate([counts for _, counts in parts])).astype(np.int64)


__all__ = ["set_ngrams"]
