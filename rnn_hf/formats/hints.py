"""Say what a corpus without the wanted column may need: an option, as its rows suggest."""

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

from ..utils.messages import shown
from .arguments import Task
from .loading import Split, column_names

# Rows that are looked at.
_NUM_LOOKED_AT = 100
_FLAGS = frozenset({"0", "1", "0.0", "1.0", "True", "False", "true", "false"})


def column_hint(split: Split, task: Task, option: str) -> str:
    """Suggest an option for a split that lacks a column.

    Args:
        split (`Dataset`): The split.
        task (`str`): `"text-classification"` or `"token-classification"`.
        option (`str`): The option of the column, such as `"label_column"`.

    Returns:
        `str`: a sentence with a space before it, or nothing.

    Example:
    ```python
    >>> from datasets import Dataset
    >>> from rnn_hf.formats.hints import column_hint
    >>> split = Dataset.from_dict({"text": ["one", "two"], "toxic": [0, 1], "rude": [1, 0]})
    >>> column_hint(split, "text-classification", "label_column")
    ' If 0 and 1 say which labels a text has, name the columns with --label_columns toxic rude.'

    ```
    """
    names = column_names(split)
    rows: Iterator[dict[str, Any]] = iter(split)
    rows_seen = list(islice(rows, _NUM_LOOKED_AT))
    return (
        _separator_hint(names)
        or _header_hint(names, rows_seen, task)
        or _nested_hint(rows_seen)
        or (_flags_hint(names, rows_seen) if option == "label_column" else "")
    )


def _separator_hint(names: list[str]) -> str:
    found = [separator for separator in ("\t", ";", "|", ",") if len(names) == 1 and separator in names[0]]
    return f" Or the separator, with --dataset_kwargs '{json.dumps({'sep': found[0]})}'." if found else ""


def _header_hint(names: list[str], rows: list[dict[str, Any]], task: Task) -> str:
    """Say so where the first line of a table looks like a row: one of its values stands in the same column again."""
    found = next((name for row in rows for name, value in row.items() if name == value), None)
    if found is None or task != "text-classification":
        return ""
    values = {name: [str(row[name] or "") for row in rows] for name in names}
    text = max(names, key=lambda name: sum(map(len, values[name])))
    # A label occurs again; of a column that holds one value alone, one cannot say.
    others = [name for name in names if name != text and any(values[name])]
    label = min(others, key=lambda name: (len(set(values[name])) < 2, len(set(values[name]))), default=text)
    known = {text: "text", label: "label"}
    columns = [known.get(name, f"column_{index}") for index, name in enumerate(names, start=1)]
    return (
        f" If the first line is a row, as {shown(found)} in it suggests, name the columns, such as: --dataset_kwargs "
        f"'{json.dumps({'column_names': columns})}'."
    )


def _nested_hint(rows: list[dict[str, Any]]) -> str:
    """Name the key of a JSON object that holds the rows, or the columns that hold columns."""
    first = rows[0] if rows else {}
    for name, value in first.items():
        if len(rows) == 1 and isinstance(value, list) and value and isinstance(value[0], dict):
            inner = ", ".join(shown(key, 40) for key in list(value[0])[:10])
            return (
                f" If the rows are in {shown(name)}, with {inner}, say --dataset_kwargs "
                f"'{json.dumps({'field': name}, ensure_ascii=False)}'."
            )
        if len(rows) == 1 and isinstance(value, list) and len(value) > 1 and isinstance(value[0], list):
            return f" If {shown(name)} holds annotated texts, save that list alone as a file."
    inside = [f"{name}.{key}" for name, value in first.items() if isinstance(value, dict) for key in value]
    if inside and len(inside) <= _NUM_LOOKED_AT:
        return f" Columns within columns, as {shown(inside[0])}, are not read: write each as a column of its own."
    return ""


def _flags_hint(names: list[str], rows: list[dict[str, Any]]) -> str:
    flags = [name for name in names if rows and all(str(row[name]) in _FLAGS for row in rows)]
    if len(flags) < 2:
        return ""
    return (
        f" If 0 and 1 say which labels a text has, name the columns with --label_columns "
        f"{' '.join(name if name.isidentifier() else shown(name) for name in flags)}."
    )


__all__ = ["column_hint"]
