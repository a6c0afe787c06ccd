"""Which column of a tagger's training data holds auxiliary labels."""

import math
from collections import Counter
from typing import Any

import numpy as np

from ..formats.arguments import check_label_name
from ..formats.label_texts import sort_names
from ..formats.loading import Split, column_names, quiet
from ..formats.spans import mark_ends
from ..models.labels import tagging_scheme
from ..utils.messages import listed, shown
from .validation import SplitCheck, class_label

_BATCH_SIZE = 1000
# More different values than these, or than a third of the different words, are none of tags but lemmas and the like.
_MOST_VALUES, _MOST_VALUES_A_WORD = 100, 1 / 3
# The least share of what there is to know of the labels that a column tells, and of a column that labels do not tell.
_LEAST_SHARE = 0.1
# Numbers that are so correlated with the position in the sentence are positions, or heads.
_MOST_CORRELATION = 0.5


def auxiliary_labels(
    split: Split, origin: str, input_column: str, label_column: str, wanted: str
) -> tuple[str | None, list[str]]:
    """Find the column of auxiliary labels, and their names.

    Of several columns, the one is taken that tells the most of the labels: their mutual information is the greatest.
    Columns that repeat the labels, or hold something else than a tag for each word, are left out.

    Args:
        split (`Split`): The training data.
        origin (`str`): Where it comes from, for messages.
        input_column (`str`): Column of the words.
        label_column (`str`): Column of the tags.
        wanted (`str`): Name of the column; `"auto"` to look for one, `"none"` for none.

    Returns:
        Its name, `None` without one, and the names of its labels in the order of their ids.

    Raises:
        ValueError: There is no such column, or it does not hold a tag for each word.

    Example:
    ```python
    >>> from datasets import Dataset
    >>> from rnn_hf.data.auxiliary import auxiliary_labels
    >>> words = [["Anna", "saw", "my", "house", "and", "Bob", "mowed", "the", "lawn", "."]]
    >>> columns = {"tokens": words, "tags": [["B-PER", "O", "O", "O", "O", "B-PER", "O", "O", "O", "O"]]}
    >>> columns |= {"id": [[*range(10)]], "pos": [["N", "V", "X", "N", "X", "N", "V", "X", "N", "X"]], "lemma": words}
    >>> auxiliary_labels(Dataset.from_dict(columns), "a.jsonl", "tokens", "tags", "auto")
    ('pos', ['N', 'V', 'X'])

    ```
    """
    if wanted == "none":
        return None, []
    if wanted == "auto":
        return _find(split, input_column, label_column)
    if wanted not in column_names(split):
        raise ValueError(
            f"The train data has no column {shown(wanted)}, only: {listed(column_names(split))}. "
            "Name the right one with --auxiliary_tags_column."
        )
    check = SplitCheck("token-classification", origin, input_column, wanted, None, None, allow_empty_text=True)
    check.read(split)
    return wanted, check.label_names()


def ends_of_spans(label_names: list[str]) -> list[str]:
    """Name the auxiliary labels of spans without a column of such: their tags, with marks where they end.

    Args:
        label_names (`list[str]`): The labels.

    Returns:
        `list[str]`: IOBES tags in the order of their ids; none where labels are no IOB2 tags of spans of several words.

    Example:
    ```python
    >>> from rnn_hf.data.auxiliary import ends_of_spans
    >>> ends_of_spans(["O", "B-PER", "I-PER"]), ends_of_spans(["NOUN", "VERB"])
    (['O', 'B-PER', 'S-PER', 'I-PER', 'E-PER'], [])

    ```
    """
    if tagging_scheme(label_names) != "iob2" or not any(name.startswith("I-") for name in label_names):
        return []
    return list(dict.fromkeys(mark for name in label_names for mark in (name, *mark_ends([name]))))


class _Column:
    """What a column holds, beside the labels.

    Attributes:
        counts (`Counter`): How often each label goes with each value.
        varies (`bool`): Whether two words of a sentence have different values.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[Any, Any]] = Counter()
        self.varies = False
        self.may_be_positions = True
        self.sums = np.zeros(6)

    def read(self, values: Any, tags: list[Any]) -> bool:
        """Read a sentence, and tell whether each word has a tag in it."""
        if not isinstance(values, list) or len(values) != len(tags) or not {*map(type, values)} <= {str, int}:
            return False
        self.counts.update(zip(tags, values, strict=True))
        self.varies = self.varies or len(set(values)) > 1
        if self.may_be_positions:
            self._read_numbers(values)
        return True

    def _read_numbers(self, values: list[Any]) -> None:
        try:
            numbers = np.array([int(value) for value in values], dtype=np.float64)
        except (ValueError, OverflowError):
            self.may_be_positions = False
            return
        positions = np.arange(len(numbers), dtype=np.float64)
        products = (positions @ positions, numbers @ numbers, positions @ numbers)
        self.sums += np.array([len(numbers), positions.sum(), numbers.sum(), *products])

    def values(self) -> set[Any]:
        """Return the different values."""
        return {value for _, value in self.counts}

    def are_positions(self) -> bool:
        """Tell whether all values are numbers that grow along the sentences."""
        if not self.may_be_positions:
            return False
        count, x, y, xx, yy, xy = self.sums.tolist()
        spread = (count * xx - x * x) * (count * yy - y * y)
        return spread > 0 and count * xy - x * y > _MOST_CORRELATION * math.sqrt(spread)

    def information(self) -> tuple[float, float, float]:
        """Measure, in bits, what the labels tell, what the values tell, and what these tell of each other."""
        labels, values = Counter[Any](), Counter[Any]()
        for (label, value), count in self.counts.items():
            labels[label] += count
            values[value] += count
        of_labels, of_values = _entropy(labels), _entropy(values)
        return of_labels, of_values, of_labels + of_values - _entropy(self.counts)


def _entropy(counts: Counter[Any]) -> float:
    shares = np.array(list(counts.values()), dtype=np.float64) / max(counts.total(), 1)
    return float(-(shares * np.log2(shares)).sum())


def _find(split: Split, input_column: str, label_column: str) -> tuple[str | None, list[str]]:
    """Choose one of the columns beside words and labels."""
    names = [name for name in column_names(split) if name not in (input_column, label_column)]
    # Most columns are seen at once to hold something else, and need not be read to their ends.
    names = list(_survey(split.take(_BATCH_SIZE), names, input_column, label_column))
    best = 0.0
    chosen: tuple[str | None, list[str]] = (None, [])
    for name, column in _survey(split, names, input_column, label_column).items():
        of_labels, of_values, shared = column.information()
        is_useful = shared >= _LEAST_SHARE * of_labels and of_values - shared >= _LEAST_SHARE * of_values
        label_names = _names(column.values(), (split.features or {}).get(name))
        if is_useful and label_names and shared > best:
            best, chosen = shared, (name, label_names)
    return chosen


def _survey(split: Split, names: list[str], input_column: str, label_column: str) -> dict[str, _Column]:
    """Read columns, and return those that may hold tags."""
    columns = {name: _Column() for name in names}
    words: set[str] = set()
    if not columns:
        return {}
    with quiet():
        for batch in split.select_columns([input_column, label_column, *names]).iter(batch_size=_BATCH_SIZE):
            for name, column in list(columns.items()):
                rows = zip(batch[name], batch[label_column], strict=True)
                if not all(column.read(values, tags) for values, tags in rows) or len(column.values()) > _MOST_VALUES:
                    del columns[name]
            if not columns:
                return {}
            if len(words) * _MOST_VALUES_A_WORD < _MOST_VALUES:
                words.update(*batch[input_column])
    most = _MOST_VALUES_A_WORD * len(words)
    return {
        name: column
        for name, column in columns.items()
        if column.varies and not column.are_positions() and 2 <= len(column.values()) <= most
    }


def _names(values: set[Any], feature: Any) -> list[str]:
    """Return the names of values; none where one of them has none."""
    classes = class_label(feature)
    if classes is not None:
        return list(classes.names) if all(0 <= value < classes.num_classes for value in values) else []
    names = sort_names({str(value) for value in values})
    return [] if any(map(check_label_name, names)) else names


__all__ = ["auxiliary_labels"]
