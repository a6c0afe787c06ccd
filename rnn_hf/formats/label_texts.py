"""Labels and their names in texts: lists, joins of several labels, files of names; what is said of wrong ones."""

import ast
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..utils.messages import shown
from .arguments import check_label_name, source_name

# A list as numpy prints it, without commas.
_NUMPY = r"(?:'[^']*'|\"[^\"]*\"|\d+\.?)"
_NUMPY_LIST = re.compile(rf"\[\s*(?:{_NUMPY}(?:\s+{_NUMPY})*)?\s*\]", re.ASCII)
_NUMPY_ELEMENT = re.compile(r"'([^']*)'|\"([^\"]*)\"|(\d+)\.?", re.ASCII)
# Which Python would join to one text.
_ADJACENT = re.compile(r"\w['\"]\s*['\"]\w")
# Separators that people put between labels, without naming them.
_SEPARATORS = ",;|#"
# The share of the parts of joins that occur again, at least.
_LEAST_AGAIN = 0.8


def parse_list(text: str) -> list[Any] | None:
    """Read a list of labels that is written as a text: as JSON, as Python or as numpy writes it.

    Args:
        text (`str`): Any text.

    Returns:
        `list`, *optional*: texts and whole numbers; `None` if the text is no such list.

    Example:
    ```python
    >>> from rnn_hf.formats.label_texts import parse_list
    >>> parse_list('["a", "b"]'), parse_list("['a']"), parse_list("['a' 'b']"), parse_list("[1 0]"), parse_list("a")
    (['a', 'b'], ['a'], ['a', 'b'], [1, 0], None)

    ```
    """
    text = text.strip()
    if text[:1] + text[-1:] not in ("[]", "()", "{}"):
        return None
    parts: Any
    if _NUMPY_LIST.fullmatch(text):
        found = _NUMPY_ELEMENT.findall(text[1:-1])
        return [int(number) if number else single or double for single, double, number in found]
    try:
        parts = json.loads(text)
    except (ValueError, RecursionError):
        if _ADJACENT.search(text):
            return None
        try:
            parts = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    if not isinstance(parts, list | tuple | set | frozenset):
        return None
    parts = sorted(parts, key=str) if isinstance(parts, set | frozenset) else list(parts)
    parts = [int(part) if isinstance(part, float) and part.is_integer() else part for part in parts]
    return parts if all(isinstance(part, str | int) for part in parts) else None


def read_label_names(given: list[str] | None) -> list[str] | None:
    r"""Return the names of the integer labels: those that are given, or the lines of the one file that is named.

    Args:
        given (`list[str]`, *optional*): `--label_names`.

    Raises:
        ValueError: The file is not there or cannot be read, or a name is empty, too long or there twice.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf.formats.label_texts import read_label_names
    >>> with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
    ...     _ = file.write("ham\nspam\n")
    ...     file.flush()
    ...     read_label_names([file.name]), read_label_names(["ham", "spam"])
    (['ham', 'spam'], ['ham', 'spam'])

    ```
    """
    if not given:
        return None
    names = given
    if len(given) == 1 and os.path.isfile(given[0]):
        try:
            names = Path(given[0]).read_text(encoding="utf-8-sig").rstrip().split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"--label_names: {source_name(given[0])} cannot be read as UTF-8: {error}.") from error
        names = [name.strip() for name in names]
    elif len(given) == 1:
        raise ValueError(f"--label_names: {source_name(given[0])} is no file. Name two labels or more.")
    for name in names:
        problem = "is named twice" if names.count(name) > 1 else check_label_name(name)
        if problem is not None:
            raise ValueError(f"--label_names: {shown(name)} {problem}.")
    return list(names)


def joined_labels(names: Sequence[str]) -> str | None:
    """Find the separator of which names are joins, if they look like several labels in one.

    Args:
        names (`Sequence[str]`): Different labels.

    Returns:
        `str`, *optional*: the separator that makes few parts of them, of which nearly all occur again.

    Example:
    ```python
    >>> from rnn_hf.formats.label_texts import joined_labels
    >>> joined_labels(["joy", "joy,fear", "fear", "fear,anger", "anger"]), joined_labels(["Oslo, Norway", "Rome"])
    (',', None)

    ```
    """
    for separator in _SEPARATORS:
        joins = [name for name in names if separator in name]
        if not joins:
            continue
        counts: dict[str, int] = {}
        for name in names:
            for part in {part.strip() for part in name.split(separator)}:
                counts[part] = counts.get(part, 0) + 1
        if "" in counts or len(counts) >= len(names):
            continue
        parts = [part.strip() for name in joins for part in name.split(separator)]
        if sum(counts[part] > 1 for part in parts) >= _LEAST_AGAIN * len(parts):
            return separator
    return None


def number_hint(names: Sequence[str]) -> str | None:
    """Say what to do with labels that are numbers with a decimal comma or a percent sign, if all are.

    Args:
        names (`Sequence[str]`): Different labels.

    Example:
    ```python
    >>> from rnn_hf.formats.label_texts import number_hint
    >>> number_hint(["85%", "7 %"])
    "look like percentages ('85%'), and are classes. For a regression, write them without the sign."

    ```
    """
    if len(names) > 2 and all(re.fullmatch(r"[+-]?\d+,\d+", name) for name in names):
        return (
            f"look like numbers with a decimal comma ({shown(names[0])}), and are classes. For a regression, say "
            '--dataset_kwargs \'{"decimal": ","}\'.'
        )
    if names and all(re.fullmatch(r"[+-]?\d+(?:[.,]\d+)? ?%", name) for name in names):
        return (
            f"look like percentages ({shown(names[0])}), and are classes. For a regression, write them without the "
            "sign."
        )
    return None


def sort_names(names: Iterable[str]) -> list[str]:
    """Sort the names of labels; where all are whole numbers, as numbers.

    Args:
        names (`Iterable[str]`): Different labels.

    Example:
    ```python
    >>> from rnn_hf.formats.label_texts import sort_names
    >>> sort_names({"10", "9"}), sort_names({"10", "9", "a"})
    (['9', '10'], ['10', '9', 'a'])

    ```
    """
    found = list(names)
    numeric = all(name.removeprefix("-").isdecimal() for name in found)
    return sorted(found, key=lambda name: (int(name), name)) if numeric else sorted(found)


def missing_fault(column: str, label: Any) -> str:
    """Say that a row has no label."""
    return f"column {column!r} holds no label: {shown(label)}. Give it one, or remove the row."


def number_fault(column: str, label: Any) -> str:
    """Say that a label is no number."""
    return (
        f"column {column!r} must hold a number, got {shown(label)}. A regression has no labels but numbers. Name the "
        "right column with --label_column."
    )


__all__ = [
    "joined_labels",
    "missing_fault",
    "number_fault",
    "number_hint",
    "parse_list",
    "read_label_names",
    "sort_names",
]
