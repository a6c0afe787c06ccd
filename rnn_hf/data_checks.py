"""Check every row of a corpus, and find out what its labels are."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import datasets

from .data_files import Split, first_line, listed

Task = Literal["text-classification", "token-classification"]

_BATCH_SIZE = 1000


class SplitCheck:
    """Read a split once: check each row, find out what the labels are, collect their names.

    Args:
        task (`str`): `"text-classification"` or `"token-classification"`.
        origin (`str`): Where the rows come from, for messages.
        input_column (`str`): Column of the texts or the words.
        label_column (`str`): Column of the labels or the tags.
        problem_type (`str`, *optional*): As in the configuration; found out from the first label without it.
        known (`list[str]`, *optional*): The labels there may be; any without it.
        additional_labels (`Sequence[str]`): Labels to add to those that are found.
        allow_empty_text (`bool`): Whether a text may be empty.
    """

    def __init__(
        self,
        task: Task,
        origin: str,
        input_column: str,
        label_column: str,
        problem_type: str | None,
        known: list[str] | None,
        additional_labels: Sequence[str] = (),
        allow_empty_text: bool = False,
    ):
        self.task = task
        self.origin = origin
        self.allow_empty_text = allow_empty_text
        self.input_column = input_column
        self.label_column = label_column
        self.problem_type = problem_type
        self.known = known
        self.found: set[str] = set(additional_labels)
        self.additional_labels = additional_labels
        self.from_feature: list[str] | None = None

    def read(self, split: Split) -> int:
        """Check all rows and return their number.

        Raises:
            ValueError: At the first bad row, with the origin, the row's number from 1 and the value.
        """
        feature = (split.features or {}).get(self.label_column)
        classes = class_label(feature)
        if classes is not None and self.known is None:
            self.from_feature = list(classes.names)
        row = 0
        for batch in self._batches(split):
            for text, label in zip(batch[self.input_column], batch[self.label_column], strict=True):
                row += 1
                if self.task == "text-classification":
                    self._check_text(row, text)
                    self._check_label(row, label, feature)
                else:
                    self._check_words(row, text, label, feature)
        if row == 0:
            raise ValueError(f"{self.origin} has no rows.")
        if not self.label_names():
            raise ValueError(f"{self.origin} has no label in any row of column {self.label_column!r}.")
        return row

    def _batches(self, split: Split) -> Iterator[Any]:
        batches = split.select_columns([self.input_column, self.label_column]).iter(batch_size=_BATCH_SIZE)
        try:
            yield from batches
        except Exception as error:
            raise ValueError(f"{self.origin} could not be read to its end: {first_line(error)}") from error

    def label_names(self) -> list[str]:
        """Return the labels in the order of their ids: as known, as a `ClassLabel` says, or sorted."""
        if self.known is not None:
            return self.known
        if self.problem_type == "regression":
            return ["LABEL_0"]
        if self.from_feature is not None:
            return self.from_feature + [name for name in self.additional_labels if name not in self.from_feature]
        numeric = all(name.lstrip("-").isdigit() for name in self.found)
        return sorted(self.found, key=int) if numeric else sorted(self.found)

    def _refuse(self, row: int, message: str) -> None:
        raise ValueError(f"{self.origin}, row {row}: {message}")

    def _check_text(self, row: int, text: Any) -> None:
        if not isinstance(text, str):
            self._refuse(row, f"column {self.input_column!r} must hold a text, got {text!r}.")
        if not text.strip() and not self.allow_empty_text:
            self._refuse(
                row,
                f"the text in column {self.input_column!r} is empty: {text!r}. Remove the row, or accept empty texts "
                "with --allow_empty_text.",
            )

    def _check_label(self, row: int, label: Any, feature: Any) -> None:
        if _is_missing(label):
            self._refuse_missing(row, label)
        if self.problem_type is None:
            if isinstance(label, list):
                self.problem_type = "multi_label_classification"
            elif isinstance(label, float):
                self.problem_type = "regression"
            else:
                self.problem_type = "single_label_classification"
        if self.problem_type == "regression":
            if isinstance(label, bool) or not isinstance(label, int | float):
                self._refuse(row, f"column {self.label_column!r} must hold a number, got {label!r}.")
            return
        if isinstance(label, list) != (self.problem_type == "multi_label_classification"):
            wanted = "a list of labels" if self.problem_type == "multi_label_classification" else "one label"
            self._refuse(row, f"column {self.label_column!r} must hold {wanted}, got {label!r}.")
        for one in label if isinstance(label, list) else [label]:
            self._check_name(row, one, feature)

    def _check_words(self, row: int, words: Any, tags: Any, feature: Any) -> None:
        self.problem_type = "single_label_classification"
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            self._refuse(row, f"column {self.input_column!r} must hold a list of words, got {words!r}.")
        if not words and not self.allow_empty_text:
            self._refuse(
                row,
                f"column {self.input_column!r} holds no word. Remove the row, or accept it with --allow_empty_text.",
            )
        if not isinstance(tags, list):
            self._refuse(row, f"column {self.label_column!r} must hold a list of tags, got {tags!r}.")
        if len(words) != len(tags):
            self._refuse(
                row,
                f"{len(words)} words in column {self.input_column!r}, but {len(tags)} tags in column "
                f"{self.label_column!r}: {words!r}, {tags!r}.",
            )
        for word, tag in zip(words, tags, strict=True):
            if tag is None or tag == "":
                self._refuse(row, f"the word {word!r} has no tag in column {self.label_column!r}.")
            self._check_name(row, tag, feature)

    def _refuse_missing(self, row: int, label: Any) -> None:
        self._refuse(row, f"column {self.label_column!r} holds no label: {label!r}. Give it one, or remove the row.")

    def _check_name(self, row: int, label: Any, feature: Any) -> None:
        classes = class_label(feature)
        if _is_missing(label) or (classes is not None and not 0 <= label < classes.num_classes):
            self._refuse_missing(row, label)
        if not isinstance(label, str | int | float):
            self._refuse(row, f"a label in column {self.label_column!r} must be a text or a number, got {label!r}.")
        name = label_name(label, feature)
        if self.known is None:
            self.found.add(name)
        elif name not in self.known:
            self._refuse(
                row,
                f"the label {name!r} in column {self.label_column!r} is not among those of the training data: "
                f"{listed(self.known)}. Correct it, or declare it in training with --additional_labels.",
            )


def _is_missing(label: Any) -> bool:
    return label is None or label == "" or (isinstance(label, float) and math.isnan(label))


def class_label(feature: Any) -> datasets.ClassLabel | None:
    """Return the `ClassLabel` of a column, or of its lists' elements, if it has one."""
    inner = getattr(feature, "feature", feature)
    return inner if isinstance(inner, datasets.ClassLabel) else None


def label_name(label: Any, feature: Any) -> str:
    """Return a label's name: that of its `ClassLabel`, or the value itself as text."""
    classes = class_label(feature)
    return classes.int2str(label) if classes is not None else str(label)


__all__ = ["SplitCheck", "Task", "class_label", "label_name"]
