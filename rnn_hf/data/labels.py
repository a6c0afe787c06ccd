"""Read the labels of a classifier's corpus in any of the forms that people write them in."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from datasets import Dataset
from transformers.utils import logging

from ..formats.arguments import DataArguments
from ..formats.label_texts import missing_fault, number_fault, parse_list, read_label_names
from ..formats.loading import Split
from ..utils.messages import listed, shown
from .label_columns import LISTS, are_whole_fractions, has_blanks

logger = logging.get_logger(__name__)

_BATCH_SIZE = 1000
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?inf", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
# A number that nobody would write so: 0110 and 01.5 are codes.
_CODE = re.compile(r"[+-]?0\d.*", re.ASCII)
_FLAGS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


class RowError(ValueError):
    """A bad row, in a message that names it."""


@dataclass(frozen=True)
class LabelForm:
    """How labels are written.

    Args:
        column (`str`): The column, for messages.
        is_number (`bool`): Whether texts are numbers.
        is_list (`bool`): Whether texts are lists, as `"['a', 'b']"`, or with `separator`, as `"a#b"`.
        separator (`str`, *optional*): What stands between labels.
        is_one_hot (`bool`): Whether lists have a 0 or 1 for each label.
        names (`tuple[str]`, *optional*): Names of the integer labels, or of the positions.
        is_single (`bool`): Whether a list holds the one label of a text.
        has_blanks (`bool`): Whether labels may have blanks around them, which are no part of them.

    Example:
    ```python
    >>> from rnn_hf.data.labels import LabelForm
    >>> LabelForm("label", is_list=True, separator="#").read("sports# long")
    ['sports', 'long']
    >>> LabelForm("label", is_one_hot=True, names=("a", "b", "c")).read([1, 0, 1])
    ['a', 'c']

    ```
    """

    column: str
    is_number: bool = False
    is_list: bool = False
    separator: str | None = None
    is_one_hot: bool = False
    names: tuple[str, ...] | None = None
    is_single: bool = False
    has_blanks: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether labels are what the column holds."""
        is_written = self.is_number or self.is_list or self.is_one_hot or self.names
        return not (is_written or self.is_single or self.has_blanks)

    def read(self, label: Any) -> Any:
        """Read a label.

        Args:
            label: What the column holds.

        Returns:
            A name, a number, or a list of names; what is neither is returned as it is.

        Raises:
            ValueError: It is not in this form.
        """
        if self.is_single and isinstance(label, list):
            if len(label) != 1:
                raise ValueError(
                    f"column {self.column!r} must hold one label for each text, got {shown(label)}. A new model may "
                    "learn several: --problem_type multi_label_classification."
                )
            label = label[0]
        if self.has_blanks and isinstance(label, str):
            label = label.strip() or label
        if isinstance(label, str):
            if self.is_number:
                if _NUMBER.fullmatch(label.strip()):
                    return float(label)
                raise ValueError((number_fault if label.strip() else missing_fault)(self.column, label))
            if self.is_list:
                label = self._parts(label)
                if not self.is_one_hot and self.names is None:
                    return list(map(str, label))
        if self.is_one_hot:
            return self._hot(label)
        if self.names is not None:
            return [self._name(one) for one in label] if isinstance(label, list) else self._name(label)
        return label

    def _parts(self, label: str) -> list[Any]:
        if self.separator is not None:
            return [part for part in map(str.strip, label.split(self.separator)) if part]
        parts = parse_list(label)
        if parts is None:
            raise ValueError(
                f"column {self.column!r} must hold a list of labels, got {shown(label)}. Say with --label_separator "
                "what stands between labels, or write them as a list: \"['a', 'b']\"."
            )
        return parts

    def _hot(self, label: Any) -> list[str]:
        assert self.names is not None
        if not isinstance(label, list) or not _is_one_hot(label):
            raise ValueError(
                f"column {self.column!r} must hold a list with a 0 or 1 for each label, as in the other rows, got "
                f"{shown(label)}."
            )
        if len(label) != len(self.names):
            raise ValueError(
                f"column {self.column!r} holds a list of {len(label)}, but there are {len(self.names)} labels: "
                f"{listed(self.names)}."
            )
        return [name for name, flag in zip(self.names, label, strict=True) if flag]

    def _name(self, label: Any) -> Any:
        names: Any = self.names
        if isinstance(label, str) and _WHOLE.fullmatch(label.strip()):
            label = int(label)
        if label is None or label == "":
            return label
        if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < len(names):
            raise ValueError(
                f"column {self.column!r} holds {shown(label)}, but --label_names names the whole numbers 0 to "
                f"{len(names) - 1}: {listed(names)}."
            )
        return names[label]


class LabelReader:
    """Find out how the labels of a corpus are written, and read them in each split, the training data first.

    Args:
        arguments ([`DataArguments`]): The options.
        column (`str`): Column of the labels.
        problem_type (`str`, *optional*): As in the configuration, where it is known.
        known (`Sequence[str]`, *optional*): The labels of a trained model.
        optional_separator (`str`, *optional*): What stands between labels, where a text has several.

    Attributes:
        names (`list[str]`, *optional*): The labels in the order of their ids, where the options or the form say it.

    Example:
    ```python
    >>> from datasets import Dataset
    >>> from rnn_hf.formats.arguments import DataArguments
    >>> from rnn_hf.data.labels import LabelReader
    >>> split = Dataset.from_dict({"text": ["one", "two"], "label": ["1.5", "2"]})
    >>> LabelReader(DataArguments(), "label").read(split, "a.csv")["label"][:]
    [1.5, 2.0]

    ```
    """

    def __init__(
        self,
        arguments: DataArguments,
        column: str,
        problem_type: str | None = None,
        known: Sequence[str] | None = None,
        optional_separator: str | None = None,
    ):
        self.column, self.problem_type, self.known = column, problem_type, known
        self.separator, self.columns = arguments.label_separator, arguments.label_columns
        self.optional_separator = optional_separator
        given = self.columns or read_label_names(arguments.label_names)
        self.names = None if given is None else list(given)
        self._form: LabelForm | None = None

    def read(self, split: Split, origin: str) -> Split:
        """Return a split whose column of labels holds names, lists of names or numbers.

        Raises:
            RowError: At the first label that is not written as the others.
        """
        if self.columns:
            form = LabelForm(self.column, is_one_hot=True, names=tuple(self.columns))
            return self._mapped(split, origin, form, self.columns)
        feature = (split.features or {}).get(self.column)
        if getattr(getattr(feature, "feature", feature), "names", None) is not None:
            if self.names is not None:
                raise ValueError(f"{origin}: column {self.column!r} has names for its labels: leave --label_names out.")
            return split
        if self._form is None:
            self._form = self._found(split, origin)
            if self._form.is_one_hot:
                self.names = list(self._form.names or ())
        form = self._form
        if self.problem_type == "multi_label_classification" and not form.is_one_hot:
            form = replace(form, is_list=True)
        elif self.problem_type == "regression":
            form = replace(form, is_number=True)
        is_text = feature is None or getattr(feature, "dtype", None) in ("string", "large_string")
        if self.problem_type == "single_label_classification" and isinstance(feature, LISTS):
            form = replace(form, is_single=True)
        elif is_text and has_blanks(split, self.column) and all(one == one.strip() for one in self.known or ()):
            form = replace(form, has_blanks=True)
        if not is_text and not form.is_one_hot and form.names is None and not form.is_single:
            return split
        return split if form.is_plain else self._mapped(split, origin, form, [self.column])

    def _found(self, split: Split, origin: str) -> LabelForm:
        names = None if self.names is None else tuple(self.names)
        form = LabelForm(self.column, separator=self.separator, names=names)
        if self.separator is not None:
            return replace(form, is_list=True)
        if self.problem_type in ("regression", "single_label_classification"):
            return form
        if self.problem_type is None and names is None and are_whole_fractions(split, self.column):
            logger.warning(
                f"{origin}: column {self.column!r} holds whole numbers with a decimal point, such as 1.0: a "
                "regression. If they are classes, say --problem_type single_label_classification."
            )
        scan = _Scan(self.column, origin, self.optional_separator)
        for row, label in self._labels(split):
            if not scan.goes_on(row, label):
                break
        if scan.is_list or scan.has_separator:
            form = replace(form, is_list=True, separator=self.optional_separator if scan.has_separator else None)
        if scan.is_number and self.problem_type is None and names is None:
            logger.warning(
                f"{origin}: column {self.column!r} holds numbers with a decimal point: a regression. For classes say "
                "--problem_type single_label_classification."
            )
            return replace(form, is_number=True)
        size = scan.one_hot_size
        if size is not None and size >= 2 and (self.known is None or len(self.known) == size):
            names = names or tuple(self.known or map(str, range(size)))
            how = "named by --label_names" if self.names else "in the order of the model's labels"
            if self.names is None and self.known is None:
                how = "named by their number: --label_names can name them"
            logger.warning(
                f"{origin}: column {self.column!r} holds a 0 or 1 for each of {size} labels, {how}: "
                f"{listed(names, most=5)}."
            )
            form = replace(form, is_one_hot=True, names=names)
        return form

    def _labels(self, split: Split) -> Iterator[tuple[int, Any]]:
        row = 0
        # What cannot be read is named when all columns are.
        try:
            for batch in split.select_columns([self.column]).iter(batch_size=_BATCH_SIZE):
                for label in batch[self.column]:
                    row += 1
                    yield row, label
        except RowError:
            raise
        except Exception as error:
            logger.debug(f"The labels could not be read to their end: {error}")

    def _mapped(self, split: Split, origin: str, form: LabelForm, columns: list[str]) -> Split:
        read = partial(_read_batch, columns=columns, column=self.column, form=form, origin=origin)
        if isinstance(split, Dataset):
            labels, start = [], 0
            for batch in split.select_columns(columns).iter(batch_size=_BATCH_SIZE):
                found = read(batch, list(range(start, start + len(batch[columns[0]]))))[self.column]
                labels += found
                start += len(found)
            left = split.remove_columns([one for one in {self.column, *columns} if one in split.column_names])
            return left.add_column(self.column, labels)
        removed = [one for one in columns if one != self.column]
        return split.map(read, batched=True, with_indices=True, batch_size=_BATCH_SIZE, remove_columns=removed)


class _Scan:
    """Look at labels until their form is known."""

    def __init__(self, column: str, origin: str, separator: str | None):
        self.column, self.origin, self.separator = column, origin, separator
        self.is_list = self.has_separator = False
        self.one_hot_size: int | None = None
        self._is_number = True
        self._has_point = self._has_code = False
        self._decimals: set[int] = set()
        self._ends_in_zero = False
        self._last_list = 0

    @property
    def is_number(self) -> bool:
        """Whether all are numbers, with a decimal point, and none is a code such as `0110` or `1.10` beside `1.2`."""
        is_code = self._has_code or (self._ends_in_zero and len(self._decimals) > 1)
        return self._is_number and self._has_point and not is_code

    def goes_on(self, row: int, label: Any) -> bool:
        """Look at a label, and tell whether the next one may still change the form."""
        if label is None or (isinstance(label, str) and not label.strip()):
            return True
        if isinstance(label, list):
            self._is_number = False
            return self._look_at_list(label)
        if self.separator is not None:
            self._is_number = False
            self.has_separator = isinstance(label, str) and self.separator in label
            return not self.has_separator
        if not isinstance(label, str):
            self._is_number = False
            return False
        label = label.strip()
        if not self._last_list and self._is_number and _NUMBER.fullmatch(label):
            self._look_at_number(label)
            return True
        parts = parse_list(label)
        if parts is None and self._last_list:
            raise RowError(
                f"{self.origin}, row {row}: column {self.column!r} holds {shown(label)}, but lists of labels in the "
                f"rows before. Write it as a list, or correct it."
            )
        if parts is None or (self._is_number and self._decimals):
            self._is_number = False
            return False
        self._is_number, self.is_list, self._last_list = False, True, row
        self._look_at_list(parts)
        return True

    def _look_at_number(self, label: str) -> None:
        self._has_point = self._has_point or _WHOLE.fullmatch(label) is None
        self._has_code = self._has_code or _CODE.fullmatch(label) is not None
        decimals = re.split("[eE]", label)[0].partition(".")[2]
        self._decimals.add(len(decimals))
        # A number that is written by a program has one zero behind the point at most: 1.0.
        self._ends_in_zero = self._ends_in_zero or (len(decimals) > 1 and decimals.endswith("0"))

    def _look_at_list(self, label: list[Any]) -> bool:
        if self.one_hot_size == -1 or not _is_one_hot(label) or self.one_hot_size not in (None, len(label)):
            self.one_hot_size = -1
            return False
        self.one_hot_size = len(label)
        return True


def _read_batch(
    batch: dict[str, list[Any]], indices: list[int], *, columns: list[str], column: str, form: LabelForm, origin: str
) -> dict[str, list[Any]]:
    labels = []
    for index, values in zip(indices, zip(*(batch[one] for one in columns), strict=True), strict=True):
        try:
            if columns == [column]:
                labels.append(form.read(values[0]))
            else:
                labels.append(form.read([_flag(value, one) for value, one in zip(values, columns, strict=True)]))
        except ValueError as error:
            raise RowError(f"{origin}, row {index + 1}: {error}") from None
    return {column: labels}


def _flag(value: Any, column: str) -> bool:
    flag = _FLAGS.get(str(value).strip().lower())
    if flag is None:
        raise ValueError(f"column {column!r} must hold 0 or 1, whether the text has this label, got {shown(value)}.")
    return flag


def _is_one_hot(label: list[Any]) -> bool:
    return bool(label) and all(isinstance(one, bool | int | float) and one in (0, 1) for one in label)


__all__ = ["LabelForm", "LabelReader", "RowError"]
