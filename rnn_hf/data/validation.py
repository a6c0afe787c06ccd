"""Check every row of a corpus, and find out what its labels are."""

import hashlib
import math
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import datasets
from transformers.utils import logging

from ..formats.arguments import Task, check_label_name
from ..formats.label_texts import joined_labels, missing_fault, number_fault, number_hint, sort_names
from ..formats.loading import Split, quiet, reading_fault
from ..utils.messages import listed, shown
from .labels import RowError

logger = logging.get_logger(__name__)

_BATCH_SIZE = 1000
# Beyond it, the square of an error is no number of 32 bits any more.
_LARGEST_NUMBER = 1e15
# So many different words are counted; a column with nearly as many tags, and not few, is none of tags.
_MOST_WORDS = 10_000
_MOST_TAGS_A_WORD = 0.9
_MANY_TAGS = 30
# What spreadsheets and libraries write where a number is missing or has no value.
_NO_NUMBERS = frozenset(
    {"nan", "+nan", "-nan", "na", "n/a", "#n/a", "<na>", "null", "none", "nil", "inf", "+inf", "-inf", "infinity"}
    | {"+infinity", "-infinity", "#value!", "#div/0!", "#num!", "-", "--", "?"}
)


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
        unseen_labels (`str`): `"refuse"` labels that are not known, or `"count"` them in `unseen`.
        named (`list[str]`, *optional*): The labels in the order of their ids, where the data does not say it.

    Attributes:
        unseen (`dict[str, int]`): Labels that are not known, in order, and how many rows or words have them.
        fingerprint (`str`): Digest of what was read, which other texts, labels or orders change.

    Example:
    ```python
    >>> from datasets import Dataset
    >>> from rnn_hf.data.validation import SplitCheck
    >>> split = Dataset.from_dict({"text": ["one", "two"], "label": ["b", "a"]})
    >>> check = SplitCheck("text-classification", "a.csv", "text", "label", None, None)
    >>> check.read(split), check.problem_type, check.label_names()
    (2, 'single_label_classification', ['a', 'b'])

    ```
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
        unseen_labels: Literal["refuse", "count"] = "refuse",
        named: list[str] | None = None,
    ):
        self.task = task
        self.origin = origin
        self.allow_empty_text = allow_empty_text
        self.input_column = input_column
        self.label_column = label_column
        self.problem_type = problem_type
        self.may_be_fractions = problem_type == "single_label_classification" and task == "text-classification"
        self.known = known
        self.known_names = frozenset(known or ())
        self.first_rows: dict[str, int] = {}
        self.additional_labels = additional_labels
        self.unseen_labels = unseen_labels
        self.unseen: dict[str, int] = {}
        self.counts: dict[str, int] = {}  # texts of each label, where each has one
        self.from_feature = named  # names in their order, as a ClassLabel or an option says
        self.smallest, self.largest = math.inf, -math.inf  # numbers of a regression
        self.fewest, self.most = math.inf, 0  # labels of a row
        self.words: set[str] = set()  # the first different words, and how many tags these have
        self.tags_of_words = 0
        self._digest = hashlib.blake2b(digest_size=6)

    @property
    def fingerprint(self) -> str:
        """Digest of what was read."""
        return self._digest.hexdigest()

    def read(self, split: Split) -> int:
        """Check all rows and return their number.

        Raises:
            ValueError: At the first bad row, with the origin, the row's number from 1 and the value.
        """
        feature = (split.features or {}).get(self.label_column)
        classes = class_label(feature)
        if classes is not None and self.known is None:
            self.from_feature = list(classes.names)
            for name in self.from_feature:
                if problem := check_label_name(name):
                    raise ValueError(f"{self.origin}: the label {shown(name)} {problem}.")
        row = 0
        for batch in self._batches(split):
            for text, label in zip(batch[self.input_column], batch[self.label_column], strict=True):
                row += 1
                self._digest.update(f"{text!r} {label!r}\n".encode())
                if self.task == "text-classification":
                    self._check_text(row, text)
                    self._check_label(row, label, feature)
                else:
                    self._check_words(row, text, label, feature)
        if row == 0:
            raise ValueError(f"{self.origin} has no rows.")
        if self.known is None and self.from_feature is None:
            self._check_all_names(row)
        if not self.label_names():
            raise ValueError(f"{self.origin} has no label in any row of column {self.label_column!r}.")
        return row

    def _batches(self, split: Split) -> Iterator[Any]:
        names = list(dict.fromkeys([self.input_column, self.label_column]))
        batches = iter(split.select_columns(names).iter(batch_size=_BATCH_SIZE))
        while True:
            try:
                with quiet():
                    batch = next(batches, None)
            except RowError:
                raise
            except Exception as error:
                fault = reading_fault(error, self.origin)
                raise ValueError(f"{self.origin} could not be read to its end: {fault}") from error
            if batch is None:
                return
            yield batch

    def label_names(self) -> list[str]:
        """Return the labels in the order of their ids: as known, as a `ClassLabel` says, or sorted."""
        if self.known is not None:
            return self.known
        if self.problem_type == "regression":
            return ["LABEL_0"]
        if self.from_feature is not None:
            return self.from_feature + [name for name in self.additional_labels if name not in self.from_feature]
        return sort_names({*self.first_rows, *self.additional_labels})

    def _refuse(self, row: int, message: str) -> None:
        raise ValueError(f"{self.origin}, row {row}: {message}")

    def _check_text(self, row: int, text: Any) -> None:
        if not isinstance(text, str):
            self._refuse(row, f"column {self.input_column!r} must hold a text, got {shown(text)}.")
        if not text.strip() and not self.allow_empty_text:
            self._refuse(
                row,
                f"the text in column {self.input_column!r} is empty: {shown(text)}. Remove the row, or accept empty "
                "texts with --allow_empty_text.",
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
            self._check_number(row, label)
            return
        if isinstance(label, list) != (self.problem_type == "multi_label_classification"):
            wanted = "a list of labels" if self.problem_type == "multi_label_classification" else "one label"
            hint = " Say with --label_separator what stands between labels." if isinstance(label, str) else ""
            self._refuse(row, f"column {self.label_column!r} must hold {wanted}, got {shown(label)}.{hint}")
        if not isinstance(label, list):
            name = self._check_name(row, label, feature)
            self.counts[name] = self.counts.get(name, 0) + 1
            return
        names = [self._check_name(row, one, feature) for one in label]
        self.fewest, self.most = min(self.fewest, len(names)), max(self.most, len(names))
        for position, name in enumerate(names):
            if name in names[:position]:
                self._refuse(
                    row,
                    f"column {self.label_column!r} names the label {shown(name)} twice: {shown(label)}. List each "
                    "label that a text has once, or in every row a 0 or 1 for each label.",
                )

    def _check_number(self, row: int, label: Any) -> None:
        if isinstance(label, bool) or not isinstance(label, int | float):
            self._refuse(row, number_fault(self.label_column, label))
        if not math.isfinite(label):
            self._refuse(row, f"column {self.label_column!r} must hold a finite number, got {label}.")
        if abs(label) > _LARGEST_NUMBER:
            self._refuse(
                row,
                f"column {self.label_column!r} must hold a number up to {_LARGEST_NUMBER:g}, got {shown(label)}, whose "
                "error could not be squared. Scale all labels: divide them by a constant, or take their logarithm.",
            )
        self.smallest, self.largest = min(self.smallest, label), max(self.largest, label)

    def _check_words(self, row: int, words: Any, tags: Any, feature: Any) -> None:
        self.problem_type = "single_label_classification"
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            self._refuse(row, f"column {self.input_column!r} must hold a list of words, got {shown(words)}.")
        if not words and not self.allow_empty_text:
            self._refuse(
                row,
                f"column {self.input_column!r} holds no word. Remove the row, or accept it with --allow_empty_text.",
            )
        if not isinstance(tags, list):
            self._refuse(row, f"column {self.label_column!r} must hold a list of tags, got {shown(tags)}.")
        if len(words) != len(tags):
            self._refuse(
                row,
                f"{len(words)} words in column {self.input_column!r}, but {len(tags)} tags in column "
                f"{self.label_column!r}: {shown(words)}, {shown(tags)}.",
            )
        if self.known is None and len(self.words) < _MOST_WORDS:
            self.words.update(words)
        for word, tag in zip(words, tags, strict=True):
            if _is_missing(tag):
                value = "" if tag is None or tag == "" else f", but {shown(tag)}"
                self._refuse(row, f"the word {shown(word)} has no tag in column {self.label_column!r}{value}.")
            self._check_name(row, tag, feature)
        if len(self.words) < _MOST_WORDS:
            self.tags_of_words = len(self.first_rows)

    def _refuse_missing(self, row: int, label: Any) -> None:
        self._refuse(row, missing_fault(self.label_column, label))

    def _check_name(self, row: int, label: Any, feature: Any) -> str:
        classes = class_label(feature)
        if _is_missing(label) or (classes is not None and label < 0):
            self._refuse_missing(row, label)
        if classes is not None and label >= classes.num_classes:
            self._refuse(
                row,
                f"column {self.label_column!r} holds {label}, but has names for the labels 0 to "
                f"{classes.num_classes - 1} only: {listed(classes.names)}.",
            )
        if isinstance(label, float) and not (self.may_be_fractions and math.isfinite(label)):
            self._refuse_fraction(row, label)
        if not isinstance(label, str | int | float):
            self._refuse(
                row, f"a label in column {self.label_column!r} must be a text or a number, got {shown(label)}."
            )
        name = label_name(label, feature)
        if self.known is None:
            if name not in self.first_rows:
                if problem := check_label_name(name):
                    self._refuse(
                        row,
                        f"the label {shown(name)} in column {self.label_column!r} {problem}. Name the right column "
                        f"with --{'label' if self.task == 'text-classification' else 'tags'}_column.",
                    )
                self.first_rows[name] = row
        elif name not in self.known_names:
            self._check_unseen(row, name)
        return name

    def _refuse_fraction(self, row: int, label: float) -> None:
        what = f"a label in column {self.label_column!r} must be a text or a whole number, got {label}."
        if self.task == "text-classification" and self.problem_type == "single_label_classification":
            self._refuse(row, f"{what} For a regression say --problem_type regression.")
        if self.problem_type == "multi_label_classification":
            self._refuse(row, f"{what} List the labels that a text has, or in every row a 0 or 1 for each label.")
        self._refuse(row, what)

    def _check_unseen(self, row: int, name: str) -> None:
        if self.unseen_labels == "count" and self.problem_type == "single_label_classification":
            self.unseen[name] = self.unseen.get(name, 0) + 1
            return
        known = self.known or []
        if _is_number(name) and not any(map(_is_number if _is_whole(name) else _is_fraction, known)):
            option = "label_column" if self.task == "text-classification" else "tags_column"
            self._refuse(
                row,
                f"column {self.label_column!r} holds numbers, as {shown(name)}, but the model is a "
                f"{'classifier' if option == 'label_column' else 'tagger'} with the labels {listed(known)}. Name the "
                f"right column with --{option}.",
            )
        cures = f"Correct it, or declare it in training with --additional_labels {shown(name)}"
        if self.problem_type == "single_label_classification":
            rows = "rows" if self.task == "text-classification" else "words"
            cures += f", or count such {rows} as errors with --unseen_labels count"
        self._refuse(
            row,
            f"the label {shown(name)} in column {self.label_column!r} is not among those of the training data: "
            f"{listed(known)}. {cures}.",
        )

    def _check_all_names(self, num_rows: int) -> None:
        """Check what is seen of all labels together only."""
        if self.problem_type == "regression":
            if num_rows > 1 and self.smallest == self.largest:
                logger.warning(
                    f"{self.origin}: column {self.label_column!r} holds the same number in all rows, "
                    f"{shown(self.smallest)}: there is nothing to learn."
                )
            return
        odd = [name for name in self.first_rows if name.strip().lower() in _NO_NUMBERS]
        others = [name for name in self.first_rows if name not in odd]
        numbers = bool(others) and all(map(_is_number, others))
        if numbers and (strays := [name for name in odd if name not in self.additional_labels]):
            self._refuse(
                self.first_rows[strays[0]],
                f"column {self.label_column!r} holds {shown(strays[0])}, but numbers in the other rows "
                f"({listed(others, most=3)}). Give it a number, or remove the row; if it is a label, declare it with "
                f"--additional_labels {shown(strays[0])}.",
            )
        if self.task == "text-classification" and not self.may_be_fractions:
            if numbers and not all(name.removeprefix("-").isdecimal() for name in others):
                logger.warning(
                    f"{self.origin}: column {self.label_column!r} holds numbers as texts ({listed(others, most=3)}), "
                    "which are taken for the names of labels. For a regression say --problem_type regression."
                )
            elif self.problem_type == "single_label_classification" and len(self.first_rows) > max(20, num_rows / 2):
                logger.warning(
                    f"{self.origin}: column {self.label_column!r} holds {len(self.first_rows):,} different labels in "
                    f"{num_rows:,} rows. Is it the right column? For a regression say --problem_type regression."
                )
        if self.task == "token-classification":
            self._check_all_tags()
        if self.problem_type == "multi_label_classification" and self.fewest == self.most == 1 < len(self.first_rows):
            logger.warning(
                f"{self.origin}: column {self.label_column!r} lists one label in each row; texts may have several all "
                "the same. If each has one, say --problem_type single_label_classification."
            )
        if self.problem_type == "multi_label_classification" and self.fewest == len(self.first_rows) > 0:
            logger.warning(
                f"{self.origin}: all rows have all labels in column {self.label_column!r}, "
                f"{listed(list(self.first_rows))}: there is nothing to learn."
            )
        self._warn_of_twins()
        self._warn_of_joins()
        if not numbers:
            self._warn_of_missing([name for name in odd if name not in self.additional_labels], num_rows)

    def _warn_of_missing(self, odd: list[str], num_rows: int) -> None:
        """Warn of labels that libraries write where there is none; a sign may be one, if it is not rare."""
        signs = [name for name in ("-", "--", "?") if self.counts.get(name, 0) > num_rows / 20]
        odd = [name for name in odd if name.lower() not in ("none", "nil", *signs)]
        if self.task == "token-classification":
            odd = ["_"] if "_" in self.first_rows and "O" not in self.first_rows else []
        for name in odd:
            logger.warning(
                f"{self.origin}, row {self.first_rows[name]}: column {self.label_column!r} holds {shown(name)}, which "
                "is a label as the others are. If it says that there is none, remove such rows."
            )

    def _warn_of_joins(self) -> None:
        if self.task == "text-classification" and self.problem_type == "single_label_classification":
            names = list(self.first_rows)
            if lists := [name for name in names if name[:1] + name[-1:] == "[]"]:
                logger.warning(
                    f"{self.origin}: column {self.label_column!r} holds {shown(lists[0])} (row "
                    f"{self.first_rows[lists[0]]}), which looks like a list of labels and cannot be read as one: it is "
                    "a class."
                )
            if hint := number_hint(names):
                logger.warning(f"{self.origin}: the labels in column {self.label_column!r} {hint}")
            elif separator := joined_labels(names):
                example = next(name for name in names if separator in name)
                logger.warning(
                    f"{self.origin}: the labels in column {self.label_column!r} look like several in one, as "
                    f"{shown(example)}: each combination would be a class. Part them with --label_separator "
                    f"{shown(separator)}."
                )

    def _check_all_tags(self) -> None:
        """Refuse a column that can hold no tags."""
        cure = "Name the right column with --tags_column; in a file with a line a word, this may be another one too."
        if len(self.label_names()) == 1:
            raise ValueError(
                f"{self.origin}: column {self.label_column!r} holds one tag only, {listed(self.label_names())}: "
                f"there is nothing to learn. {cure}"
            )
        if self.tags_of_words > _MOST_TAGS_A_WORD * len(self.words) and self.tags_of_words >= _MANY_TAGS:
            raise ValueError(
                f"{self.origin}: column {self.label_column!r} holds {self.tags_of_words:,} different tags for "
                f"{len(self.words):,} different words, and is none of tags. {cure}"
            )

    def _warn_of_twins(self) -> None:
        twins: dict[str, str] = {}
        for name in self.first_rows:
            plain = " ".join(unicodedata.normalize("NFKC", name).split())
            other = twins.setdefault(plain.casefold(), name)
            if other != name:
                is_same = plain == " ".join(unicodedata.normalize("NFKC", other).split())
                logger.warning(
                    f"{self.origin}: the labels {shown(other)} (row {self.first_rows[other]}) and {shown(name)} (row "
                    f"{self.first_rows[name]}) in column {self.label_column!r} "
                    f"{'look the same' if is_same else 'differ in capitals alone'}, but are two."
                )
                return


def _is_missing(label: Any) -> bool:
    return label is None or (isinstance(label, str) and not label.strip()) or (label != label)


def _is_number(name: str) -> bool:
    try:
        return math.isfinite(float(name))
    except ValueError:
        return False


def _is_whole(name: str) -> bool:
    return name.removeprefix("-").isdecimal()


def _is_fraction(name: str) -> bool:
    return _is_number(name) and not _is_whole(name)


def class_label(feature: Any) -> datasets.ClassLabel | None:
    """Return the `ClassLabel` of a column, or of its lists' elements, if it has one."""
    inner = getattr(feature, "feature", feature)
    return inner if isinstance(inner, datasets.ClassLabel) else None


def label_name(label: Any, feature: Any) -> str:
    """Return a label's name: that of its `ClassLabel`, or the value itself as text."""
    classes = class_label(feature)
    return classes.int2str(label) if classes is not None else str(label)


__all__ = ["SplitCheck", "Task", "class_label", "label_name"]
