"""Read the rows of a file one by one, with all their columns as they are written, to predict on them."""

import csv
import glob
import io
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from ..utils.messages import listed, shown
from .arguments import DataArguments, Task, builder_options, source_name
from .columns import USUAL_NAMES, choose_column
from .conll import OPTIONS, conllu_layout, is_range, load_conll
from .conll_columns import WORD_NAMES
from .conll_layout import Layout, iterate_rows
from .loading import quiet
from .tables import check_table, csv_options, encoding_fault, find_separator, open_text

ROW_FORMATS = ("csv", "tsv", "json", "parquet", "conll", "conllu")
_ENDINGS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".conll": "conll",
    ".iob2": "conll",
    ".conllu": "conllu",
}
_COMPRESSIONS = (".gz", ".bz2", ".xz")
_BATCH_SIZE = 1000


@dataclass
class Rows:
    """Rows of a file.

    Args:
        format (`str`): One of `ROW_FORMATS`.
        name (`str`): What to call the file in messages.
        rows (`Iterator`): Of each row its place, as `row 3`, and its columns. A CoNLL file has a row a sentence, with
            the columns `lines` and `words`, the numbers of the lines that hold a word.
        columns (`list[str]`): Names of the columns; of JSON those of the first row.
        options (`dict`): For writing alike: of CSV those of `csv.writer`, of Parquet `schema`, of JSON `is_array`.
    """

    format: str
    name: str
    rows: Iterator[tuple[str, dict[str, Any]]]
    columns: list[str]
    options: dict[str, Any] = field(default_factory=dict)


def row_format(path: str) -> str | None:
    """Tell by its name whether a file has rows, and in which format.

    Args:
        path (`str`): A file's name.

    Returns:
        `str`, *optional*: one of `ROW_FORMATS`; `None` for a file with a text a line.

    Example:
    ```python
    >>> from rnn_hf.formats.rows import row_format
    >>> row_format("a.jsonl"), row_format("a.csv.gz"), row_format("a.txt")
    ('json', 'csv', None)

    ```
    """
    stem, ending = os.path.splitext(path.lower())
    if ending in _COMPRESSIONS:
        ending = os.path.splitext(stem)[1]
    return _ENDINGS.get(ending)


def read_rows(path: str, format: str, arguments: DataArguments) -> Rows:
    r"""Open a file, whose rows are then read one by one.

    Args:
        path (`str`): A local file, or `-` for standard input.
        format (`str`): One of `ROW_FORMATS`.
        arguments ([`DataArguments`]): `dataset_kwargs`, `tokens_column` and `text_column` are read.

    Raises:
        ValueError: The file cannot be read, or its rows could not be told apart; with the line.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf.formats.arguments import DataArguments
    >>> from rnn_hf.formats.rows import read_rows
    >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
    ...     _ = file.write("id,text\n007,\"one\ntwo\"\n")
    ...     file.flush()
    ...     list(read_rows(file.name, "csv", DataArguments()).rows)
    [('row 1', {'id': '007', 'text': 'one\ntwo'})]

    ```
    """
    name = "standard input" if path == "-" else source_name(path)
    options = builder_options(arguments)
    if path != "-" and not os.path.isfile(path):
        raise ValueError(f"{name} cannot be read: {'Is a directory' if os.path.isdir(path) else 'No such file'}.")
    if format == "parquet":
        return _parquet(path, name)
    if format in ("csv", "tsv"):
        return _table(path, name, ({"sep": "\t"} if format == "tsv" else {}) | options, format, arguments)
    known = ("encoding",) if format == "json" else tuple(OPTIONS)
    if other := [option for option in options if option not in known]:
        raise ValueError(
            f"--dataset_kwargs {listed(other)}: prediction reads {format} files with {listed(known)} only."
        )
    lines = _lines(path, name, options.get("encoding"))
    return _json(lines, name) if format == "json" else _conll(path, lines, name, format, options, arguments)


def input_column(rows: Rows, task: Task, arguments: DataArguments) -> str:
    """Return the column of texts or words, by the options or by its usual name.

    Args:
        rows ([`Rows`]): What was read.
        task (`str`): `"text-classification"` or `"token-classification"`.
        arguments ([`DataArguments`]): `text_column` and `tokens_column` are read.

    Raises:
        ValueError: There is none.
    """
    if task == "token-classification":
        option, column = "tokens_column", arguments.tokens_column or "tokens"
    else:
        option = "text_column"
        column = choose_column(option, arguments.text_column, rows.columns, rows.name)
    if column not in rows.columns:
        raise ValueError(
            f"{rows.name} has no column {shown(column)}, only: {listed(rows.columns)}. Name the right one with "
            f"--{option}, or say --input_format lines for a text a line."
        )
    return column


def _lines(path: str, name: str, encoding: str | None) -> Iterator[str]:
    if path == "-":
        file: IO[str] = io.TextIOWrapper(sys.stdin.buffer, encoding=encoding or "utf-8-sig", newline="")
    else:
        file = open_text(path, encoding)
    try:
        with file:
            yield from file
    except UnicodeDecodeError as error:
        if path == "-":
            raise ValueError(f"{name} is not {encoding or 'UTF-8'}: {error.reason}.") from None
        raise ValueError(encoding_fault(path, name, encoding, error)) from None
    except (OSError, EOFError) as error:
        raise ValueError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}.") from error


def _table(path: str, name: str, options: dict[str, Any], format: str, arguments: DataArguments) -> Rows:
    if path != "-" and "delimiter" not in options:
        wanted = [arguments.text_column, *USUAL_NAMES["text_column"], *WORD_NAMES]
        options = options | {"sep": find_separator(path, options, wanted) or options.get("sep") or ","}
    usual = csv_options(options)
    if usual is None:
        raise ValueError(
            f"--dataset_kwargs: prediction reads CSV with sep, quoting, quotechar, doublequote, escapechar, encoding "
            f"and column_names only; {name} needs others."
        )
    if path != "-":
        check_table(path, name, options, [arguments.text_column])
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    reader = csv.reader(_lines(path, name, options.get("encoding")), **usual)
    named = options.get("column_names") or options.get("names")
    header = None
    if named is None or options.get("header") == 0:
        header = next((row for row in reader if any(row)), None)
        if header is None:
            raise ValueError(f"{name} has no rows.")
    columns = list(named or header or ())
    if twice := [column for column in columns if columns.count(column) > 1]:
        raise ValueError(f"{name} has several columns with the name {shown(twice[0])}: rename all but one.")

    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        number = 0
        try:
            for row in reader:
                if not row or (len(row) == 1 and not row[0].strip()):
                    continue
                number += 1
                if len(row) > len(columns):
                    raise ValueError(f"{name}, row {number}: {len(row)} fields, but {len(columns)} columns.")
                row += [""] * (len(columns) - len(row))
                yield f"row {number}", dict(zip(columns, row, strict=True))
        except csv.Error as error:
            raise ValueError(f"{name}, row {number + 1}: {error}.") from None

    written = {key: value for key, value in usual.items() if key not in ("strict", "skipinitialspace")}
    if usual["quoting"] == csv.QUOTE_NONE:
        written["quotechar"] = None
    return Rows(format, name, rows(), columns, written | {"header": header is not None})


def _json(lines: Iterator[str], name: str) -> Rows:
    def parsed(number: int, line: str) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            column = f", column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            reason = getattr(error, "msg", str(error))
            raise ValueError(f"{name}, line {number}{column}: {reason}: {shown(line.strip(), 60)}.") from None
        if not isinstance(row, dict):
            raise ValueError(f"{name}, line {number}: a row must be an object, got {shown(row, 60)}.")
        return row

    numbered = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    first_line = next(numbered, None)
    if first_line is None:
        raise ValueError(f"{name} has no rows.")
    if first_line[1].lstrip().startswith("["):
        try:
            array = json.loads("".join([first_line[1], *(line for _, line in numbered)]))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{name} holds no array of rows: {error}.") from None
        for position, row in enumerate(array, start=1):
            if not isinstance(row, dict):
                raise ValueError(f"{name}, row {position}: a row must be an object, got {shown(row, 60)}.")
        if not array:
            raise ValueError(f"{name} has no rows.")
        rows = ((f"row {position}", row) for position, row in enumerate(array, start=1))
        columns = list(dict.fromkeys(column for row in array for column in row))
        return Rows("json", name, rows, columns, {"is_array": True})
    first = parsed(*first_line)

    def all_rows() -> Iterator[tuple[str, dict[str, Any]]]:
        yield f"line {first_line[0]}", first
        for number, line in numbered:
            yield f"line {number}", parsed(number, line)

    return Rows("json", name, all_rows(), list(first), {"is_array": False})


def _parquet(path: str, name: str) -> Rows:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    if path == "-":
        raise ValueError("Parquet cannot be read from standard input: name a file.")
    try:
        file = ParquetFile(path)
    except (ArrowException, OSError) as error:
        raise ValueError(f"{name} could not be read as parquet: {error}") from None

    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        number = 0
        for batch in file.iter_batches(batch_size=_BATCH_SIZE):
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", row

    return Rows("parquet", name, rows(), list(file.schema_arrow.names), {"schema": file.schema_arrow})


def _conll(
    path: str, lines: Iterator[str], name: str, format: str, options: dict[str, Any], arguments: DataArguments
) -> Rows:
    """Read sentences as training does, with their lines."""
    named = {"tokens_column": arguments.tokens_column, "tags_column": arguments.tags_column}
    column = arguments.tokens_column or ("form" if format == "conllu" else "tokens")
    layout = None
    if path == "-" and format == "conll":
        names = tuple(options.get("column_names") or ())
        layout = Layout("tabs", names) if names else None
    elif format == "conllu" or any(
        len(split_columns(line)) > 1 for line in _lines(path, name, options.get("encoding"))
    ):
        with quiet():
            layout = (
                conllu_layout(options)
                if format == "conllu"
                else load_conll(glob.escape(path), name, options | named, streaming=True)[1]
            )
    if layout is not None and column not in layout.column_names:
        raise ValueError(
            f"{name} has no column {shown(column)}, only: {listed(layout.column_names)}. Name the right one with "
            "--tokens_column."
        )
    return Rows(format, name, _sentences(lines, layout, column, name), ["tokens"])


def split_columns(line: str) -> list[str]:
    """Part a line of a CoNLL file at its tabs, or at spaces where it has none."""
    line = line.rstrip("\r\n")
    return line.split("\t") if "\t" in line else line.split()


def _sentences(
    lines: Iterator[str], layout: Layout | None, column: str, name: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield sentences with their lines: without a layout, of lines whose first column is a word."""
    kept: dict[int, str] = {}
    words: dict[int, str] = {}
    position = 0 if layout is None else layout.column_names.index(column)

    def numbered() -> Iterator[str]:
        for number, line in enumerate(lines, start=1):
            kept[number] = line
            yield line

    def sentence(last: int) -> tuple[str, dict[str, Any]]:
        taken = [number for number in kept if number <= last]
        row = {
            "lines": [kept.pop(number) for number in taken],
            "places": [taken.index(number) for number in words],
            "tokens": list(words.values()),
            "header": layout.header if layout is not None and taken[0] == 1 else None,
        }
        words.clear()
        return f"line {taken[0]}", row

    found = _first_columns(numbered()) if layout is None else iterate_rows(numbered(), layout, name)
    for row in found:
        if row is not None:
            number, cells = row
            if not (layout is not None and layout.drops_ranges and is_range(cells[0])):
                words[number] = cells[position]
            last_word = number
        else:
            end = max(kept)
            yield sentence(end if not kept[end].strip() else last_word)
    if kept:
        yield sentence(max(kept))


def _first_columns(lines: Iterator[str]) -> Iterator[tuple[int, list[str]] | None]:
    at_start = True
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith("-DOCSTART-"):
            yield number, split_columns(line)
            at_start = False
        elif not at_start:
            yield None
            at_start = True
    if not at_start:
        yield None


__all__ = ["ROW_FORMATS", "Rows", "input_column", "read_rows", "row_format", "split_columns"]
