"""Files of any number, local or remote, and the rows in them."""

import csv
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

import fsspec
from fsspec.core import OpenFile

from ..formats.arguments import source_name
from ..utils.messages import listed, shown

FORMATS = ("lines", "csv", "tsv", "json", "parquet")
_ENDINGS = {
    ".txt": "lines",
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
}
_COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst", ".zip")


@dataclass
class Source:
    """A file of rows.

    Args:
        path (`str`): Where it is, as fsspec opens it.
        format (`str`): One of `FORMATS`.
        columns (`list[str]`): Names of its columns; of JSON lines those of the first row that is one.
        fingerprint (`str`): What changes if the file does.
        options (`dict`): How it is written: `encoding`, of CSV those of `csv.reader`, of lines `has_labels`.
        schema (`pyarrow.Schema`, *optional*): Of Parquet, the types of its columns.
    """

    path: str
    format: str
    columns: list[str] = field(default_factory=list)
    fingerprint: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    schema: Any = None

    @property
    def name(self) -> str:
        """The name for messages, without credentials."""
        return source_name(self.path)


def find_sources(address: str, format: str | None = None) -> list[Source]:
    r"""Find the files that an address means.

    Args:
        address (`str`): A file, a folder or a pattern such as `data/*.parquet`; local, or any address of fsspec such as
            `s3://bucket/reviews` or `hf://datasets/user/name/data/*.parquet`. Of a folder, all files below it whose
            endings are known are meant; those that begin with `_` or `.` are left out.
        format (`str`, *optional*): One of `FORMATS`; what the endings tell, without it.

    Returns:
        `list[Source]`: The files by their names, without columns yet.

    Raises:
        ValueError: There are none, they cannot be reached, or are of several formats.

    Example:
    ```python
    >>> import tempfile
    >>> from pathlib import Path
    >>> from rnn_hf.engines.sources import find_sources
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.jsonl", "a.jsonl.gz", "_manifest.json"):
    ...         _ = Path(folder, name).write_text("")
    ...     [Path(source.path).name for source in find_sources(folder)]
    ['a.jsonl.gz', 'b.jsonl']

    ```
    """
    name = source_name(address)
    try:
        system, path = fsspec.url_to_fs(address)
        if system.isfile(path):
            paths = [path]
        else:
            is_folder = system.isdir(path)
            found = system.find(path) if is_folder else system.glob(path)
            within = {one: one.removeprefix(path) if is_folder else os.path.basename(one) for one in found}
            paths = [one for one in found if _is_data(within[one], format) and system.isfile(one)]
        infos = {one: system.info(one) for one in paths}
    except ImportError as error:
        raise ValueError(f"{name} cannot be reached: {error}") from error
    except Exception as error:  # each file system has exceptions of its own
        raise ValueError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not paths:
        raise ValueError(f"{name} means no file: name a file, a folder with {listed(list(_ENDINGS))}, or a pattern.")
    _, chain, outer = address.partition("::")  # of an archive
    sources = [
        Source(
            f"{system.unstrip_protocol(one)}{chain}{outer}" if "://" in address else one,
            format or _ENDINGS.get(_ending(one), "lines"),
            fingerprint=_fingerprint(infos[one]),
        )
        for one in sorted(paths)
    ]
    if len(formats := sorted({one.format for one in sources})) > 1:
        raise ValueError(f"{name} means files of several formats, {', '.join(formats)}: name those of one.")
    return sources


def _ending(path: str) -> str:
    stem, ending = os.path.splitext(path.lower())
    return os.path.splitext(stem)[1] if ending in _COMPRESSIONS else ending


def _is_data(path: str, format: str | None) -> bool:
    hidden = any(part.startswith(("_", ".")) for part in path.split("/"))
    return not hidden and (format is not None or _ending(path) in _ENDINGS)


def _fingerprint(info: dict[str, Any]) -> str:
    """Name what changes with a file: its size, and its time or its checksum, by whatever name they go."""
    kept = {
        key: info[key] for key in ("size", "mtime", "ETag", "etag", "md5Hash", "LastModified", "oid") if info.get(key)
    }
    return json.dumps(kept, default=str, sort_keys=True)


def open_source(source: Source) -> OpenFile:
    """Prepare to open a file; of text, it is decompressed as its ending tells.

    Args:
        source ([`Source`]): The file.

    Returns:
        `fsspec.core.OpenFile`, which must be kept as long as its file is read: an archive is closed with it.
    """
    return fsspec.open(source.path, "rb", compression=None if source.format == "parquet" else "infer")


def read_parquet(file: Any, source: Source) -> Any:
    """Read the end of a file of Parquet, which tells where the rows are.

    Args:
        file (`IO`): The file.
        source ([`Source`]): Its source.

    Returns:
        `pyarrow.parquet.ParquetFile`

    Raises:
        ValueError: It is something else, or damaged.
    """
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        # A buffer, lest whole columns of a group of rows are read at once.
        return ParquetFile(file, buffer_size=2**20)
    except ArrowException as error:
        raise ValueError(f"{source.name} could not be read as parquet: {error}") from None


def set_encoding(source: Source, options: dict[str, Any], others: tuple[str, ...]) -> None:
    """Take the encoding of a file of text from the options, among which there may be others of some names.

    Args:
        source ([`Source`]): The file, whose options are changed.
        options (`dict[str, Any]`): As in `--dataset_kwargs`.
        others (`tuple[str, ...]`): Names of other options that there may be.

    Raises:
        ValueError: There are others, or the encoding is none in which lines can be found.
    """
    if other := [one for one in options if one not in ("encoding", *others)]:
        raise ValueError(f"--dataset_kwargs {listed(other)}: files of {source.format} are read with encoding only.")
    encoding = options.get("encoding") or "utf-8"
    try:
        has_lines = "\n".encode(encoding) == b"\n"
    except LookupError:
        raise ValueError(f"--dataset_kwargs: there is no encoding {shown(encoding)}.") from None
    if not has_lines:
        raise ValueError(f"{source.name} is written in {encoding}, whose lines cannot be found: save it as UTF-8.")
    source.options["encoding"] = encoding


def decode_line(line: bytes, source: Source, offset: int) -> tuple[str, str | None]:
    """Decode a line of a file; see [`json_row`]. Bytes that are no text are shown as `\ufffd`."""
    if offset == 0:
        line = line.removeprefix(b"\xef\xbb\xbf")
    try:
        return line.decode(source.options["encoding"]), None
    except UnicodeDecodeError as error:
        encoding = source.options["encoding"]
        text = line.decode(encoding, errors="replace")
        return text, f"the byte 0x{line[error.start]:02x} is not {encoding}: {shown(text.strip(), 60)}."


def json_row(line: bytes, source: Source, offset: int) -> tuple[dict[str, Any], str | None]:
    """Read a line of JSON lines.

    Args:
        line (`bytes`): The line.
        source ([`Source`]): Its file.
        offset (`int`): How many bytes stand before it.

    Returns:
        The row, which is empty where the line is none, and what is wrong with the line.
    """
    text, fault = decode_line(line, source, offset)
    if fault is None:
        try:
            row = json.loads(text)
            if isinstance(row, dict):
                return row, None
            fault = f"a row must be an object, got {shown(row, 60)}."
        except (ValueError, RecursionError) as error:
            fault = f"{getattr(error, 'msg', str(error))}: {shown(text.strip(), 60)}."
    return {}, fault


def csv_rows(file: IO[bytes], source: Source, offset: int) -> Iterator[tuple[int, list[str]]]:
    """Read the rows of a table, without blank ones.

    Args:
        file (`IO`): The file, from the beginning of a row on.
        source ([`Source`]): Its source.
        offset (`int`): How many bytes stand before that row.

    Yields:
        `tuple[int, list[str]]`: How many bytes stand before a row, and its cells. Bytes that are no text are lone
        surrogates.

    Raises:
        ValueError: Quotes are not closed, so that rows cannot be told apart.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    encoding, position = source.options["encoding"], offset

    def lines() -> Iterator[str]:
        nonlocal position
        for line in file:
            is_first, position = position == 0, position + len(line)
            yield (line.removeprefix(b"\xef\xbb\xbf") if is_first else line).decode(encoding, errors="surrogateescape")

    reader = csv.reader(lines(), **source.options["csv"])
    number = 0
    while True:
        start = position
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise ValueError(
                f"{source.name}: after {number} rows, a quote that is not closed or not doubled ({error}): repair it, "
                "or say --dataset_kwargs '{\"quoting\": 3}' if quotes are text."
            ) from None
        if row is None:
            return
        if row and (len(row) > 1 or row[0].strip()):
            number += 1
            yield start, row


def table_row(cells: list[str], source: Source) -> tuple[dict[str, Any], str | None]:
    """Name the cells of a row of a table.

    Args:
        cells (`list[str]`): Of [`csv_rows`].
        source ([`Source`]): Its file.

    Returns:
        The row, and what is wrong with it.
    """
    fault = None
    if len(cells) > len(source.columns):
        fault = f"{len(cells)} fields, but {len(source.columns)} columns."
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        cells = [cell.encode(errors="surrogateescape").decode(errors="replace") for cell in cells]
        fault = fault or f"not {source.options['encoding']}: {shown(cells, 60)}."
    cells = cells + [""] * (len(source.columns) - len(cells))
    return dict(zip(source.columns, cells, strict=False)), fault


__all__ = [
    "FORMATS",
    "Source",
    "csv_rows",
    "decode_line",
    "find_sources",
    "json_row",
    "open_source",
    "read_parquet",
    "set_encoding",
    "table_row",
]
