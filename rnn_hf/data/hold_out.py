"""Hold out validation and test data of the training data."""

import math
from collections import Counter
from collections.abc import Collection
from typing import Any

from datasets import Dataset
from transformers.utils import logging

from ..formats.loading import SPLIT_NAMES, Split
from ..utils.messages import shown
from .validation import label_name

logger = logging.get_logger(__name__)

_SEED = 42
_STRIDE = 10
# Rows of a label below which what is held out says little about it.
_FEW = 5


def hold_out(
    splits: dict[str, Split],
    num_rows: dict[str, int],
    origin: str,
    label_column: str,
    label_counts: dict[str, int],
) -> tuple[dict[str, Split], dict[str, int]]:
    """Hold out a tenth of the training data for validation, and another for a test where there is none.

    A label keeps a row at least for training: one that is drawn last of its label is exchanged for another.

    Args:
        splits (`dict[str, Split]`): With `train`, without `validation`.
        num_rows (`dict[str, int]`): Rows of each split.
        origin (`str`): Where the training data comes from, for messages.
        label_column (`str`): Column of the labels.
        label_counts (`dict[str, int]`): Rows of each label, where each row has one; of what has no classes, none.

    Returns:
        All splits in their order, and the rows of each.

    Raises:
        ValueError: There are too few rows.

    Example:
    ```python
    >>> from datasets import Dataset
    >>> from rnn_hf.data.hold_out import hold_out
    >>> train = Dataset.from_dict({"label": list("ab" * 10)})
    >>> hold_out({"train": train}, {"train": 20}, "a.csv", "label", {"a": 10, "b": 10})[1]
    {'train': 16, 'validation': 2, 'test': 2}

    ```
    """
    splits, num_rows = dict(splits), dict(num_rows)
    missing = ["validation"] if "test" in splits else ["test", "validation"]
    size = max(1, round(num_rows["train"] / _STRIDE))
    if num_rows["train"] < len(missing) * size + 1:
        raise ValueError(f"{origin} has too few rows to hold some out: {num_rows['train']}.")
    _warn_of_rare_labels(origin, label_counts)
    if isinstance(splits["train"], Dataset):
        for name in missing:
            splits["train"], splits[name] = _parted(splits["train"], size, label_column, bool(label_counts))
            logger.warning(
                f"No {name} data given: {size} rows of {origin} are held out for it, chosen with seed {_SEED}."
            )
            num_rows[name] = size
            num_rows["train"] -= size
    else:
        single = {label for label, count in label_counts.items() if count == 1}
        for position, name in enumerate(missing):
            stride, train = _STRIDE - position, splits["train"]
            feature = (train.features or {}).get(label_column)
            for offset in range(stride):
                chosen = {"stride": stride, "offset": offset, "column": label_column, "feature": feature}
                options: dict[str, Any] = {"with_indices": True, "fn_kwargs": chosen | {"single": single}}
                splits[name] = train.filter(_is_held_out, **options)
                splits["train"] = train.filter(_is_kept, **options)
                size = math.ceil(num_rows["train"] / stride)
                if single:
                    size = sum(1 for _ in splits[name].select_columns([label_column]))
                if size > 0:
                    break
            else:
                raise ValueError(f"{origin} has one row only of each label: give --{name}_file.")
            logger.warning(f"No {name} data given: {size} rows of {origin} are held out for it, every {stride}th.")
            num_rows[name] = size
            num_rows["train"] -= size
    order = [name for name in SPLIT_NAMES if name in splits]
    return {name: splits[name] for name in order}, {name: num_rows[name] for name in order}


def _parted(train: Dataset, size: int, label_column: str, has_classes: bool) -> tuple[Dataset, Dataset]:
    """Draw rows by the seed; those that are the last of their label are exchanged for others."""
    parts = Dataset.from_dict({"row": list(range(len(train)))}).train_test_split(test_size=size, seed=_SEED)
    kept, held = list(parts["train"]["row"]), list(parts["test"]["row"])
    if has_classes:
        labels = list(train[label_column])
        counts = Counter(labels[row] for row in kept)
        spare = len(kept)
        for place, row in enumerate(held):
            if counts[labels[row]] > 0:
                continue
            spare = next((index for index in range(spare - 1, -1, -1) if counts[labels[kept[index]]] > 1), -1)
            if spare < 0:
                break  # every label has one row
            counts[labels[kept[spare]]] -= 1
            counts[labels[row]] += 1
            held[place], kept[spare] = kept[spare], row
    return train.select(kept), train.select(held)


def _is_held_out(
    row: dict[str, Any], index: int, *, stride: int, offset: int, column: str, feature: Any, single: Collection[str]
) -> bool:
    return index % stride == offset and not (single and label_name(row[column], feature) in single)


def _is_kept(row: dict[str, Any], index: int, **options: Any) -> bool:
    return not _is_held_out(row, index, **options)


def _warn_of_rare_labels(origin: str, label_counts: dict[str, int]) -> None:
    rare = sorted((count, label) for label, count in label_counts.items() if count < _FEW)
    if rare:
        few = ", ".join(f"{shown(label, 60)} {count}" for count, label in rare[:20])
        more = f", … ({len(rare)} in all)" if len(rare) > 20 else ""
        single = " A label's only row stays in the training data." if rare[0][0] == 1 else ""
        logger.warning(
            f"{origin}: labels with fewer than {_FEW} rows, about which scores on rows that are held out say little: "
            f"{few}{more}.{single}"
        )


__all__ = ["hold_out"]
