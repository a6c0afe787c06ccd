"""What a whole column of labels shows at a glance, and rows whose labels were rejected."""

from typing import Any

import datasets
import pyarrow.compute as pc
from datasets import Dataset, IterableDataset
from transformers.utils import logging

logger = logging.get_logger(__name__)

LISTS = tuple(getattr(datasets, name) for name in ("List", "LargeList", "Sequence") if hasattr(datasets, name))
# What Prodigy's annotators say of the label of a row.
_ANSWERS = ("accept", "reject", "ignore")


def has_blanks(split: Dataset | IterableDataset, column: str) -> bool:
    """Tell whether texts of a column have blanks around them. Of a stream this is not known, and true.

    Args:
        split (`Dataset`): A split.
        column (`str`): A column of texts.

    Example:
    ```python
    >>> from datasets import Dataset
    >>> from rnn_hf.data.label_columns import has_blanks
    >>> has_blanks(Dataset.from_dict({"label": ["a", "b "]}), "label")
    True

    ```
    """
    if not isinstance(split, Dataset):
        return True
    return any(
        pc.any(pc.not_equal(pc.utf8_trim_whitespace(labels), labels)).as_py() for labels in _chunks(split, column)
    )


def are_whole_fractions(split: Dataset | IterableDataset, column: str) -> bool:
    """Tell whether a column of fractions holds whole numbers only, such as classes that pandas made fractions of.

    Args:
        split (`Dataset`): A split.
        column (`str`): Any column.

    Example:
    ```python
    >>> from datasets import Dataset
    >>> from rnn_hf.data.label_columns import are_whole_fractions
    >>> are_whole_fractions(Dataset.from_dict({"label": [1.0, 2.0]}), "label")
    True

    ```
    """
    feature = (split.features or {}).get(column)
    if not isinstance(split, Dataset) or getattr(feature, "dtype", None) not in ("float64", "float32"):
        return False
    return all(pc.all(pc.equal(pc.floor(labels), labels)).as_py() is not False for labels in _chunks(split, column))


def _chunks(split: Dataset, column: str) -> Any:
    for table in split.with_format("arrow").select_columns([column]).iter(batch_size=100_000):
        yield table.column(column)


def accepted_rows(split: Dataset | IterableDataset, origin: str) -> Dataset | IterableDataset:
    """Leave out the rows that an annotator rejected or ignored, as Prodigy says in a column `answer`.

    Args:
        split (`Dataset`): A split.
        origin (`str`): Where it comes from, for messages.

    Returns:
        The split, which is the same if `answer` holds anything else.

    Example:
    ```python
    >>> from datasets import Dataset
    >>> from rnn_hf.data.label_columns import accepted_rows
    >>> rows = {"text": ["one", "two"], "label": ["a", "a"], "answer": ["accept", "reject"]}
    >>> accepted_rows(Dataset.from_dict(rows), "a.jsonl")["text"][:]
    ['one']

    ```
    """
    if not {"answer", "text", "label"} <= set(split.column_names or ()):
        return split
    if isinstance(split, Dataset):
        answers = split.unique("answer")
        if len(answers) < 2 or not set(answers) <= set(_ANSWERS):
            return split
    elif not all(row["answer"] in _ANSWERS for row in split.take(100)):
        return split
    accepted = split.filter(_is_accepted)
    count = f"{len(split) - len(accepted):,} rows" if isinstance(split, Dataset) else "Rows"
    logger.warning(f"{origin}: {count} whose column 'answer' does not say accept are left out.")
    return accepted


def _is_accepted(row: dict[str, Any]) -> bool:
    return row["answer"] == "accept"


__all__ = ["LISTS", "accepted_rows", "are_whole_fractions", "has_blanks"]
