"""Blocks of rows, into which files of any size are divided, and which are read one by one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ..formats.tables import csv_options, find_separator
from ..utils.messages import listed, shown
from .sources import Source, csv_rows, decode_line, json_row, open_source, read_parquet, set_encoding, table_row

# Rows that are in memory at once; those that `predict` takes together.
WINDOW = 4096
# Rows that are looked at for the columns of JSON lines.
_MOST_LOOKED_AT = 1000


@dataclass(frozen=True)
class Block:
    """Rows of a source that are predicted on together, and written to one file.

    Args:
        source (`int`): Which source.
        first_row (`int`): How many rows of the source stand before them.
        num_rows (`int`): How many they are.
        offset (`int`): Of text, how many bytes stand before them, when decompressed.
    """

    source: int
    first_row: int
    num_rows: int
    offset: int = 0


@dataclass
class Window:
    """Some rows of a block.

    Args:
        rows (`list[dict]` or `pyarrow.Table`): The rows: of Parquet a table.
        faults (`list[str | None]`): For each row what was wrong in reading it.
    """

    rows: Any
    faults: list[str | None]


def plan_blocks(
    sources: Sequence[Source], rows_per_block: int, options: dict[str, Any] | None = None, text_column: str = "text"
) -> list[Block]:
    """Divide files into blocks of rows. Files of text are read once for it, of Parquet only the ends.

    Args:
        sources (`Sequence[Source]`): What [`find_sources`] found. Their columns are filled in.
        rows_per_block (`int`): Most rows in a block.
        options (`dict`, *optional*): How files are written, as in `--dataset_kwargs`.
        text_column (`str`): The column of the texts, by which the separator of a table is found.

    Returns:
        `list[Block]`: All rows of all sources, in their order.

    Raises:
        ValueError: A file cannot be read, or its rows cannot be told apart; or none has a row.
    """
    blocks: list[Block] = []
    for number, source in enumerate(sources):
        try:
            starts, num_rows = _PLANS[source.format](source, rows_per_block, options or {}, text_column)
        except (OSError, EOFError, ImportError) as error:
            raise ValueError(f"{source.name} cannot be read: {getattr(error, 'strerror', None) or error}") from error
        for first_row, offset in zip(range(0, num_rows, rows_per_block), starts, strict=True):
            blocks.append(Block(number, first_row, min(rows_per_block, num_rows - first_row), offset))
    if not blocks:
        raise ValueError(f"{', '.join(source.name for source in sources[:3])}: there are no rows.")
    return blocks


def _plan_parquet(source: Source, size: int, options: dict[str, Any], text_column: str) -> tuple[list[int], int]:
    if options:
        raise ValueError(f"--dataset_kwargs {listed(list(options))}: Parquet files need none. Leave it out.")
    with open_source(source) as opened:
        file = read_parquet(opened, source)
        source.schema, num_rows = file.schema_arrow, file.metadata.num_rows
    source.columns = list(source.schema.names)
    return [0] * len(range(0, num_rows, size)), num_rows


def _plan_lines(source: Source, size: int, options: dict[str, Any], text_column: str) -> tuple[list[int], int]:
    from ..formats.fasttext import is_fasttext  # which takes a second of import

    set_encoding(source, options, ())
    source.columns = ["text"]
    starts, num_rows, offset = [], 0, 0
    with open_source(source) as file:
        for line in file:
            if "has_labels" not in source.options and line.strip():
                source.options["has_labels"] = is_fasttext(decode_line(line, source, offset)[0])
            if num_rows % size == 0:
                starts.append(offset)
            num_rows += 1
            offset += len(line)
    return starts, num_rows


def _plan_json(source: Source, size: int, options: dict[str, Any], text_column: str) -> tuple[list[int], int]:
    set_encoding(source, options, ())
    starts, num_rows, offset, fault = [], 0, 0, None
    with open_source(source) as file:
        for line in file:
            if line.strip():
                if num_rows == 0 and line.lstrip(b"\xef\xbb\xbf \t").startswith(b"["):
                    raise ValueError(f"{source.name} holds an array: save it with a row a line, as JSON lines.")
                if not source.columns and num_rows < _MOST_LOOKED_AT:
                    row, wrong = json_row(line, source, offset)
                    source.columns, fault = list(row), fault or wrong
                if num_rows % size == 0:
                    starts.append(offset)
                num_rows += 1
            offset += len(line)
    if num_rows and not source.columns:
        raise ValueError(f"{source.name} holds no rows of JSON lines: row 1: {fault}")
    return starts, num_rows


def _plan_table(source: Source, size: int, options: dict[str, Any], text_column: str) -> tuple[list[int], int]:
    defaults = {"sep": "\t"} if source.format == "tsv" else {}
    if "delimiter" not in options and "://" not in source.path:
        found = find_separator(source.path, defaults | options, [text_column])
        defaults = {"sep": found or options.get("sep") or defaults.get("sep") or ","}
        options = {key: value for key, value in options.items() if key != "sep"}
    usual = csv_options(defaults | options)
    if usual is None:
        raise ValueError(
            f"--dataset_kwargs: prediction reads CSV with sep, quoting, quotechar, doublequote, escapechar, encoding "
            f"and column_names only; {source.name} needs others."
        )
    set_encoding(source, options, tuple(options))
    source.options["csv"] = usual
    named = options.get("column_names") or options.get("names")
    source.columns = list(named or ())
    starts: list[int] = []
    has_header, num_rows = named is None or options.get("header") == 0, 0
    with open_source(source) as file:
        for offset, row in csv_rows(file, source, 0):
            if has_header:
                has_header, source.columns = False, source.columns or row
                continue
            if num_rows % size == 0:
                starts.append(offset)
            num_rows += 1
    if twice := [one for one in source.columns if source.columns.count(one) > 1]:
        raise ValueError(f"{source.name} has several columns with the name {shown(twice[0])}: rename all but one.")
    return starts, num_rows


_PLANS: dict[str, Callable[[Source, int, dict[str, Any], str], tuple[list[int], int]]] = {
    "parquet": _plan_parquet,
    "lines": _plan_lines,
    "json": _plan_json,
    "csv": _plan_table,
    "tsv": _plan_table,
}


class BlockReader:
    """Read blocks; those that follow each other in a file without beginning anew.

    Args:
        sources (`Sequence[Source]`): The sources of the blocks.
    """

    def __init__(self, sources: Sequence[Source]):
        self.sources = sources
        self._source: int | None = None
        self._opened: Any = None
        self._file: Any = None
        # Of Parquet: the row that comes next, and what was read from there on.
        self._parquet: Any = None
        self._batches: Iterator[Any] = iter(())
        self._row = -1
        self._rest: Any = None

    def read(self, block: Block) -> Iterator[Window]:
        """Yield the rows of a block, some thousands at a time.

        Args:
            block ([`Block`]): One of the blocks of the sources.

        Raises:
            ValueError: The file cannot be read any more, or has fewer rows than before.
        """
        source = self.sources[block.source]
        windows = self._table_windows if source.format == "parquet" else self._text_windows
        try:
            yield from windows(source, block)
        except (OSError, EOFError) as error:
            raise ValueError(f"{source.name} cannot be read: {getattr(error, 'strerror', None) or error}") from error

    def _open(self, number: int) -> None:
        if self._opened is not None:
            self._opened.close()
        self._opened, self._source = open_source(self.sources[number]), number
        self._file = self._opened.open()

    def _text_windows(self, source: Source, block: Block) -> Iterator[Window]:
        if self._source != block.source:
            self._open(block.source)
        self._file.seek(block.offset)
        rows = self._rows(source, block.offset)
        for first in range(0, block.num_rows, WINDOW):
            found = list(islice(rows, min(WINDOW, block.num_rows - first)))
            if len(found) < min(WINDOW, block.num_rows - first):
                raise ValueError(f"{source.name} has fewer rows than when it was first read.")
            faults = [
                fault and f"{source.name}, row {block.first_row + first + number}: {fault}"
                for number, (_, fault) in enumerate(found, start=1)
            ]
            yield Window([row for row, _ in found], faults)

    def _rows(self, source: Source, offset: int) -> Iterator[tuple[dict[str, Any], str | None]]:
        if source.format in ("csv", "tsv"):
            for _, cells in csv_rows(self._file, source, offset):
                yield table_row(cells, source)
            return
        for line in self._file:
            if source.format == "lines":
                text, fault = decode_line(line, source, offset)
                text = text.rstrip("\r\n")
                if source.options.get("has_labels"):
                    from ..formats.fasttext import split_line

                    text = split_line(text)[0]
                yield {"text": text}, fault
            elif line.strip():
                yield json_row(line, source, offset)
            offset += len(line)

    def _table_windows(self, source: Source, block: Block) -> Iterator[Window]:
        import pyarrow as pa

        if self._source != block.source:
            self._open(block.source)
            self._parquet, self._row = read_parquet(self._file, source), -1
        group = start = 0
        while start + (size := self._parquet.metadata.row_group(group).num_rows) <= block.first_row:
            start, group = start + size, group + 1
        if not start <= self._row <= block.first_row:
            # Groups of rows before that of the block are not read.
            groups = list(range(group, self._parquet.num_row_groups))
            self._batches = self._parquet.iter_batches(batch_size=WINDOW, row_groups=groups)
            self._row, self._rest = start, None
        while self._row < block.first_row:
            self._take(block.first_row - self._row, source)
        for first in range(0, block.num_rows, WINDOW):
            wanted, taken = min(WINDOW, block.num_rows - first), []
            while wanted:
                taken.append(self._take(wanted, source))
                wanted -= taken[-1].num_rows
            table = pa.Table.from_batches(taken, schema=source.schema)
            yield Window(table, [None] * table.num_rows)

    def _take(self, most: int, source: Source) -> Any:
        """Return at most so many rows of Parquet, and at least one."""
        while self._rest is None or not self._rest.num_rows:
            self._rest = next(self._batches, None)
            if self._rest is None:
                raise ValueError(f"{source.name} has fewer rows than when it was first read.")
        taken, self._rest = self._rest.slice(0, most), self._rest.slice(most)
        self._row += taken.num_rows
        return taken


__all__ = ["WINDOW", "Block", "BlockReader", "Window", "plan_blocks"]
