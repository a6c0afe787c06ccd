"""Check a CSV or TSV file before it is read: its encoding, its header, its quotes, and the fields of each line."""

import bz2
import csv
import gzip
import json
import lzma
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import IO, Any

from ..utils.messages import listed, shown
from .arguments import DataArguments, source_name
from .columns import USUAL_NAMES

# Options under which a file is not plain CSV: it is read without a check.
_UNCHECKED = ("skiprows", "comment", "lineterminator", "dialect", "skipfooter", "nrows", "usecols", "index_col")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
# What may stand between columns.
SEPARATORS = (",", ";", "\t", "|")
WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
# Different values of a column of classes, at most.
_MOST_CLASSES = 1000
# What no text has near its beginning.
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x7f]")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?", re.ASCII)
_CP1252 = '--dataset_kwargs \'{"encoding": "cp1252"}\''
_QUOTING = "--dataset_kwargs '{\"quoting\": 3}'"


class TableError(ValueError):
    """A fault of a table, in a message that names the file."""


def open_text(path: str, encoding: str | None = None) -> IO[str]:
    """Open a text file, compressed or not, with the ends of its lines as they are."""
    encoding = "utf-8-sig" if encoding is None or encoding.lower() in ("utf-8", "utf8") else encoding
    return opener(path)(path, "rt", encoding=encoding, newline="")


def opener(path: str) -> Any:
    """Return what opens a file by its ending: a function as `open`."""
    return next((opener for ending, opener in _OPENERS.items() if path.endswith(ending)), open)


def csv_options(options: dict[str, Any]) -> dict[str, Any] | None:
    """Turn options of the datasets builder into those of Python's `csv.reader`.

    Args:
        options (`dict[str, Any]`): As in `--dataset_kwargs`.

    Returns:
        `dict[str, Any]`, *optional*: the options; `None` if a file cannot be read so.

    Example:
    ```python
    >>> from rnn_hf.formats.tables import csv_options
    >>> csv_options({"sep": ";"})["delimiter"], csv_options({"sep": ", "})
    (';', None)

    ```
    """
    separator = options.get("delimiter") or options.get("sep") or ","
    usual: dict[str, Any] = {
        "delimiter": separator,
        "quotechar": options.get("quotechar", '"'),
        "escapechar": options.get("escapechar"),
        "doublequote": options.get("doublequote", True),
        "skipinitialspace": options.get("skipinitialspace", False),
        "quoting": options.get("quoting", csv.QUOTE_MINIMAL),
        "strict": True,
    }
    try:
        csv.reader((), **usual)
    except (TypeError, ValueError):
        return None
    return None if any(options.get(name) not in (None, 0, False) for name in _UNCHECKED) else usual


def check_tables(paths: Sequence[str], shown_name: str, options: dict[str, Any], arguments: DataArguments) -> None:
    """Check several files, which must have the same columns.

    Args:
        paths (`Sequence[str]`): Local files.
        shown_name (`str`): What they are called together, or the one file.
        options (`dict[str, Any]`): Options of the datasets builder.
        arguments ([`DataArguments`]): Name the columns that are read.

    Raises:
        TableError: See [`check_table`]; or the columns differ.
    """
    wanted = [arguments.text_column, arguments.label_column, *(arguments.label_columns or ())]
    first: list[str] = []
    for path in paths:
        with open(path, "rb") as lines:
            if not any(line.strip() for line in lines):
                continue
        shown_file = shown_name if len(paths) == 1 else source_name(path)
        names = check_table(path, shown_file, options, wanted)
        if set(names) != set(first or names):
            raise TableError(
                f"{shown_name}: its rows differ in their columns; {shown_file} has {listed(names)}, the first file "
                f"{listed(first)}. Give all the same columns."
            )
        first = names


def check_table(path: str, shown_file: str, options: dict[str, Any], wanted: Iterable[str] = ()) -> list[str]:
    r"""Refuse a CSV or TSV file in which rows would be lost or shifted.

    Args:
        path (`str`): A local file.
        shown_file (`str`): Its name, for messages.
        options (`dict[str, Any]`): Options of the datasets builder.
        wanted (`Iterable[str]`): Columns that the options name.

    Returns:
        `list[str]`: the names of its columns; none if it was not checked.

    Raises:
        ValueError: A workbook; another encoding; two columns of one name; a line with more fields than the header; a
            stray quote, which swallows lines. The message names the line and what to do.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf.formats.tables import check_table
    >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
    ...     _ = file.write("text,label\nGreat, really,pos\n")
    ...     file.flush()
    ...     check_table(file.name, "a.csv", {})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    rnn_hf.formats.tables.TableError: a.csv, line 2: 3 fields, but 2 columns...

    ```
    """
    _check_encoding(path, shown_file, options.get("encoding"))
    usual = csv_options(options)
    header = options.get("header", "infer")
    names = options.get("column_names") or options.get("names")
    if usual is None or not (header in ("infer", 0) or (header is None and names)):
        return []
    rows = _Rows(shown_file, usual, list(names) if names else None)
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        with open_text(path, options.get("encoding")) as file:
            rows.look_at_all(file, skip_header=bool(names) and header == 0)
    except UnicodeDecodeError as error:
        raise TableError(encoding_fault(path, shown_file, options.get("encoding"), error)) from None
    except (EOFError, LookupError, OSError, lzma.LZMAError, zlib.error):
        return []  # which reading it names
    rows.end({*wanted, *USUAL_NAMES["text_column"], *USUAL_NAMES["label_column"]})
    return rows.names or []


def find_separator(path: str, options: dict[str, Any], wanted: Iterable[str] = ()) -> str | None:
    r"""Find what separates columns, where the header shows that it is not what the name of the file tells.

    Args:
        path (`str`): A local file.
        options (`dict[str, Any]`): Options of the datasets builder.
        wanted (`Iterable[str]`): Names that columns have.

    Returns:
        `str`, *optional*: `;`, `|`, a tab or a comma, if one alone parts the first line into several names, of which
        one is wanted, and the separator of the options does not part it.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf.formats.tables import find_separator
    >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
    ...     _ = file.write("text;label\nGreat, really;pos\n")
    ...     file.flush()
    ...     find_separator(file.name, {"sep": ","}, ["text"])
    ';'

    ```
    """
    usual = csv_options(options)
    if usual is None or options.get("column_names") or options.get("names") or options.get("header", "infer") is None:
        return None
    line = ""
    faults = (OSError, EOFError, LookupError, UnicodeDecodeError, lzma.LZMAError, zlib.error)
    with suppress(*faults), open_text(path, options.get("encoding")) as file:
        line = next((one for one in islice(file, 100) if one.strip()), "")
    found = []
    for separator in dict.fromkeys([usual["delimiter"], *SEPARATORS]):
        with suppress(csv.Error):
            names = next(csv.reader([line], **(usual | {"delimiter": separator})), [])
            if len(names) > 1 and separator == usual["delimiter"]:
                return None
            if len(names) > 1 and {name.strip().lower() for name in names} & {name.lower() for name in wanted}:
                found.append(separator)
    return found[0] if len(found) == 1 else None


def _remembered(lines: Iterable[str], taken: list[str]) -> Iterator[str]:
    for line in lines:
        taken.append(line)
        yield line


class _Rows:
    """Check each row against the header, and find those that a quote swallowed."""

    def __init__(self, shown_file: str, usual: dict[str, Any], names: list[str] | None):
        self.file, self.usual, self.names = shown_file, usual, names
        self.classes: list[set[str] | None] = [set() for _ in names or ()]
        self.is_number = [True for _ in names or ()]
        self.swallowed: list[tuple[int, list[list[str]]]] = []
        self.short: dict[int, int] = {}  # by the number of fields, the first line with so few

    def look_at_all(self, file: Iterable[str], skip_header: bool) -> None:
        """Look at all rows of a file."""
        taken: list[str] = []
        reader = csv.reader(_remembered(file, taken), **self.usual)
        number = 0
        while True:
            first = number + 1
            try:
                row = next(reader, None)
            except csv.Error as error:
                if "NUL" in str(error):  # of Python 3.10
                    return
                raise TableError(_quote_fault(self.file, first, taken, str(error))) from None
            number += len(taken)
            if row is None:
                return
            if any(one.strip() for one in row) or len(row) > 1:
                if not skip_header:
                    self.look(row, first, taken)
                skip_header = False
            taken.clear()

    def look(self, row: list[str], line: int, taken: list[str]) -> None:
        """Look at a row: its fields, the number of its first line, and its lines."""
        if self.names is None:
            separator = self.usual["delimiter"]
            if found := re.fullmatch("sep=(.)", separator.join(row).strip(), re.IGNORECASE):
                cure = "" if found[1] == separator else f", and say --dataset_kwargs '{json.dumps({'sep': found[1]})}'"
                raise TableError(
                    f"{self.file}, line {line}: {shown(found[0])} is for Excel alone, and names no columns. Remove the "
                    f"line{cure}."
                )
            self.names = row
            self.classes, self.is_number = [set() for _ in row], [True for _ in row]
            return
        if row == self.names and len(row) > 1:
            raise TableError(f"{self.file}, line {line}: the header stands here again. Remove the line.")
        if len(row) > len(self.names) == 1 and (
            other := next((one for one in SEPARATORS if one in self.names[0] and one != self.usual["delimiter"]), None)
        ):
            raise TableError(
                f"{self.file}: the first line, {shown(self.names[0], 60)}, is one column, but line {line} has "
                f"{len(row)}. If {shown(other)} separates columns, say --dataset_kwargs "
                f"'{json.dumps({'sep': other})}'."
            )
        if len(row) > len(self.names):
            raise TableError(
                f"{self.file}, line {line}: {len(row)} fields, but {len(self.names)} columns "
                f"({listed(self.names, most=5)}). Quote a text that holds the separator "
                f"{shown(self.usual['delimiter'])}."
            )
        if len(row) < len(self.names):
            self.short.setdefault(len(row), line)
        if len(taken) > 1:
            inner = list(csv.reader(taken, **(self.usual | {"quoting": csv.QUOTE_NONE, "strict": False})))
            if len(self.names) > 1 and all(len(one) == len(self.names) for one in inner):
                self.swallowed.append((line, inner))
            return
        for position, value in enumerate(row):
            known = self.classes[position]
            self.is_number[position] = self.is_number[position] and _NUMBER.fullmatch(value) is not None
            if known is not None:
                known.add(value)
                if len(known) > _MOST_CLASSES:
                    self.classes[position] = None

    def end(self, wanted: set[str]) -> None:
        """Refuse what only all rows together show."""
        usual = [name in wanted or name.strip().lower() in wanted for name in self.names or ()]
        if (needed := max((index for index, is_wanted in enumerate(usual, start=1) if is_wanted), default=0)) and (
            lacking := [line for width, line in self.short.items() if width < needed]
        ):
            raise TableError(
                f"{self.file}, line {min(lacking)}: the row ends before the column {shown(self.names[needed - 1])}. "  # type: ignore[index]
                f"Complete it, or remove it; is {shown(self.usual['delimiter'])} the separator?"
            )
        twice = [name for name, count in Counter(self.names or ()).items() if count > 1]
        if twice := [name for name in twice if name in wanted or name.strip().lower() in wanted]:
            raise TableError(f"{self.file} has several columns with the name {shown(twice[0])}: rename all but one.")
        for line, inner in self.swallowed:
            if self.usual["delimiter"] == "\t" or self._are_rows(inner):
                raise TableError(
                    f"{self.file}, line {line}: a quote opens here, and closes in line {line + len(inner) - 1} only: "
                    f"{len(inner)} lines would be read as one row. If quotes are part of the text, say "
                    f"{_QUOTING}; else close the quote, or double it within the text."
                )

    def _are_rows(self, lines: list[list[str]]) -> bool:
        """Tell whether each line has, in some column, a value of other rows; the first line's last is not cut off."""
        return all(
            any(
                value.strip() and (value in (known or ()) or (is_number and _NUMBER.fullmatch(value)))
                for known, is_number, value in zip(self.classes, self.is_number, one, strict=True)
            )
            for one in lines
        )


def _quote_fault(shown_file: str, line: int, taken: list[str], reason: str) -> str:
    if "unexpected end of data" in reason:
        return (
            f"{shown_file}, line {line}: a quote opens here, and never closes. If quotes are part of the text, say "
            f"{_QUOTING}; else close it, or double it within the text."
        )
    last = line + max(len(taken) - 1, 0)
    where = f"line {line}" if last == line else f"lines {line} to {last}"
    if any('\\"' in one for one in taken):
        return (
            f"{shown_file}, {where}: a backslash stands before a quote within the text. If it says that the quote is "
            f"part of the text, say --dataset_kwargs '{json.dumps({'escapechar': chr(92)})}'; else double the quote."
        )
    return (
        f"{shown_file}, {where}: text follows on a closing quote ({shown((taken or [''])[-1].strip(), 60)}). If quotes "
        f"are part of the text, say {_QUOTING}; else double those within the text."
    )


def _check_encoding(path: str, shown_file: str, encoding: str | None) -> None:
    with open(path, "rb") as file:
        beginning = file.read(4)
    if beginning.startswith(b"PK\x03\x04") or beginning == b"\xd0\xcf\x11\xe0":
        if path.lower().endswith(".zip"):
            return
        raise TableError(workbook_fault(shown_file))
    if beginning.startswith(_UTF_16) and encoding is None:
        raise TableError(utf_16_fault(shown_file))


def workbook_fault(shown_file: str) -> str:
    """Say what to do with a workbook."""
    return (
        f"{shown_file} is a workbook of a spreadsheet program, which is not read: save the sheet as CSV (in Excel: "
        "Save As, CSV UTF-8), and name that."
    )


def unreadable(paths: Sequence[str], shown_file: str, encoding: str | None, error: BaseException | None) -> str | None:
    """Say what is wrong with the encoding of files, if that is what an error, or one behind it, is about.

    Args:
        paths (`Sequence[str]`): Local files.
        shown_file (`str`): What they are called together.
        encoding (`str`, *optional*): The encoding that was given.
        error (`BaseException`): What reading them raised.
    """
    if encoding is None:
        for path in paths:
            with open(path, "rb") as file:
                if file.read(2) in _UTF_16:
                    return utf_16_fault(shown_file if len(paths) == 1 else source_name(path))
    while error is not None and not isinstance(error, UnicodeDecodeError):
        error = error.__cause__ or error.__context__
    if error is None:
        return None
    for path in paths:
        with suppress(OSError, EOFError), opener(path)(path, "rb") as file:
            if _BINARY.search(file.read(1000)):
                return None  # it is no text at all
        try:
            with open_text(path, encoding) as text:
                for _ in text:
                    pass
        except UnicodeDecodeError as fault:
            return encoding_fault(path, shown_file if len(paths) == 1 else source_name(path), encoding, fault)
        except (OSError, EOFError, LookupError):
            return None
    return None


def utf_16_fault(shown_file: str) -> str:
    """Say what to do with a file in UTF-16."""
    return f'{shown_file} is written in UTF-16. Say --dataset_kwargs \'{{"encoding": "utf-16"}}\', or save it as UTF-8.'


def encoding_fault(path: str, shown_file: str, encoding: str | None, error: UnicodeDecodeError) -> str:
    """Say where a file is not in its encoding, and which one to try.

    Args:
        path (`str`): The local file.
        shown_file (`str`): Its name, for messages.
        encoding (`str`, *optional*): The encoding that was given.
        error (`UnicodeDecodeError`): What reading it raised.
    """
    if encoding is not None:
        return f"{shown_file} is not written in {encoding}, as --dataset_kwargs says: {error.reason}."
    where, byte = shown_file, error.object[error.start]
    with opener(path)(path, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as fault:
                where, byte = f"{shown_file}, line {number}", line[fault.start]
                break
    return (
        f"{where}: the byte 0x{byte:02x} is not UTF-8. If Windows or Excel wrote the file, say "
        f"{_CP1252} (Western Europe; cp1251 is Cyrillic, cp932 Japanese), or save it as UTF-8. If it is no table, say "
        "what it is with --dataset_format."
    )


__all__ = [
    "SEPARATORS",
    "WORKBOOKS",
    "TableError",
    "check_table",
    "check_tables",
    "csv_options",
    "encoding_fault",
    "find_separator",
    "open_text",
    "opener",
    "unreadable",
    "utf_16_fault",
    "workbook_fault",
]
