"""Write rows with predictions, in the format that they were read in or in another."""

import csv
import json
from collections.abc import Iterable, Mapping
from typing import IO, Any

from ..utils.display import json_line
from ..utils.messages import listed, shown
from .rows import Rows, split_columns

# What a format is called, and how it is written.
OUTPUT_FORMATS = ("csv", "tsv", "jsonl", "json", "parquet", "conll")
_BATCH_SIZE = 1000


class RowWriter:
    """Write rows to a file, each with the columns of its prediction.

    Args:
        file (`IO`): Where to write; in binary mode for Parquet, else in text mode that leaves the ends of lines alone.
        format (`str`): One of `OUTPUT_FORMATS`.
        rows ([`Rows`]): What was read.
        added (`Mapping[str, type]`): The columns of the predictions, and the Python type of their values.
        separator (`str`, *optional*): What stands between several labels in a cell of a table; JSON without it.

    Raises:
        ValueError: The rows cannot be written in this format.

    Example:
    ```python
    >>> import sys
    >>> from rnn_hf.formats.row_writers import RowWriter
    >>> from rnn_hf.formats.rows import Rows
    >>> rows = Rows("csv", "a.csv", iter(()), ["id", "text"])
    >>> with RowWriter(sys.stdout, "jsonl", rows, {"prediction": str, "score": float}) as writer:
    ...     writer.write({"id": "7", "text": "one"}, {"prediction": "a", "score": 0.5})
    {"id": "7", "text": "one", "prediction": "a", "score": 0.5}

    ```
    """

    def __init__(self, file: IO[Any], format: str, rows: Rows, added: Mapping[str, type], separator: str | None = None):
        self.file, self.format, self.rows, self.added, self.separator = file, format, rows, added, separator
        if (format == "conll") != (rows.format in ("conll", "conllu")) and format not in ("jsonl", "json"):
            raise ValueError(f"What is read as {rows.format} cannot be written as {format}: take jsonl.")
        self._is_first = True
        self._pending: list[dict[str, Any]] = []
        self._parquet: Any = None
        self._columns = [*rows.columns, *added]
        if format in ("csv", "tsv"):
            alike = rows.format == format
            options = rows.options if alike else {"delimiter": "\t" if format == "tsv" else ","}
            options = {key: value for key, value in options.items() if key != "header"}
            self._table: Any = csv.writer(file, lineterminator="\n", **options)
            # Python before 3.13 leaves out the quotes that a lone carriage return needs.
            quoting = {} if options.get("quoting") == csv.QUOTE_NONE else {"quoting": csv.QUOTE_ALL}
            self._quoted: Any = csv.writer(file, lineterminator="\n", **(options | quoting))
            if not alike or rows.options.get("header", True):
                self._table.writerow(self._columns)
        elif format == "json":
            file.write("[")

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None:
            self.close()

    def write(self, row: dict[str, Any], prediction: dict[str, Any]) -> None:
        """Write a row, and beside its columns those of its prediction."""
        if self.format == "conll":
            self._write_conll(row, next(iter(prediction.values())))
            return
        if "places" in row:
            row = {"tokens": row["tokens"]}
        if self.format in ("csv", "tsv"):
            known = set(self.rows.columns)
            if other := [column for column in row if column not in known]:
                raise ValueError(
                    f"{self.rows.name}: the column {shown(other[0])} is not in the first row, which has "
                    f"{listed(self.rows.columns)}: take --output_format jsonl."
                )
            cells = [self._cell(row.get(column)) for column in self.rows.columns]
            cells += [self._cell(_rounded(value)) for value in prediction.values()]
            try:
                has_return = any(isinstance(cell, str) and "\r" in cell for cell in cells)
                (self._quoted if has_return else self._table).writerow(cells)
            except csv.Error as error:
                raise ValueError(
                    f"{self.rows.name}: a row cannot be written with the quotes it was read with ({error}): take "
                    "--output_format jsonl."
                ) from None
        elif self.format == "parquet":
            self._pending.append(row | prediction)
            if len(self._pending) >= _BATCH_SIZE:
                self._write_parquet()
        elif self.format == "json":
            self.file.write(f"{'' if self._is_first else ','}\n{json_line(row | prediction)}")
        else:
            self.file.write(json_line(row | prediction) + "\n")
        self._is_first = False

    def close(self) -> None:
        """Write what is left; of the file's end, if it has one."""
        if self.format == "json":
            self.file.write("\n]\n")
        elif self.format == "parquet":
            self._write_parquet()
            self._parquet.close()

    def _cell(self, value: Any) -> Any:
        if value is None:
            return ""
        if isinstance(value, list) and self.separator is not None and all(isinstance(one, str) for one in value):
            if any(self.separator in one for one in value):
                raise ValueError(f"A label holds the separator {shown(self.separator)}: name another one.")
            return self.separator.join(value)
        return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value

    def _write_conll(self, row: dict[str, Any], tags: list[str]) -> None:
        tag_of = dict(zip(row["places"], tags, strict=True))
        for index, line in enumerate(row["lines"]):
            content = line.rstrip("\r\n")
            end = line[len(content) :] or "\n"
            if index in tag_of:
                content = f"{content.rstrip(' ')}{_between(content)}{tag_of[index]}"
            elif content.startswith("-DOCSTART-"):
                content += f"{_between(content)}O"
            elif row.get("header") and [cell.lower() for cell in split_columns(content)] == list(row["header"]):
                content += f"{_between(content)}{next(iter(self.added))}"
            elif content.strip() and not content.startswith("#"):
                content += f"{_between(content)}_"
            self.file.write(content + end)

    def _write_parquet(self) -> None:
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter

        if self._parquet is None:
            schema = (
                self.rows.options.get("schema")
                or pa.Table.from_pylist(
                    [{column: row.get(column) for column in self.rows.columns} for row in self._pending]
                ).schema
            )
            for column, kind in self.added.items():
                schema = schema.append(pa.field(column, _arrow_type(pa, kind)))
            kinds = {float: "number", list: "texts"}
            added = {column: kinds.get(kind, "text") for column, kind in self.added.items()}
            self._schema = schema.with_metadata(add_features(schema.metadata, added))
            self._parquet = ParquetWriter(self.file, self._schema)
        rows = [
            {
                key: json.dumps(value) if isinstance(value, dict) and key in self.added else value
                for key, value in row.items()
            }
            for row in self._pending
        ]
        self._parquet.write_table(pa.Table.from_pylist(rows, schema=self._schema))
        self._pending.clear()


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _between(line: str) -> str:
    return "\t" if "\t" in line else " "


def _arrow_type(pa: Any, kind: type) -> Any:
    return {float: pa.float64(), list: pa.list_(pa.string())}.get(kind, pa.string())


def add_features(metadata: dict[bytes, bytes] | None, added: Mapping[str, str]) -> dict[bytes, bytes] | None:
    """Add new columns to what the datasets library wrote about the others of a Parquet file, as the names of labels.

    Args:
        metadata (`dict[bytes, bytes]`, *optional*): That of the file's schema.
        added (`Mapping[str, str]`): The columns, and what they hold: `"text"`, `"number"`, `"texts"` or `"spans"`.

    Returns:
        `dict[bytes, bytes]`, *optional*: the metadata with the new columns.
    """
    if metadata is None or b"huggingface" not in metadata:
        return metadata
    described = json.loads(metadata[b"huggingface"])
    text, number, whole = ({"dtype": name, "_type": "Value"} for name in ("string", "float64", "int64"))
    features = {"text": text, "number": number, "texts": {"feature": text, "_type": "List"}}
    features["spans"] = {"feature": {"start": whole, "end": whole, "label": text}, "_type": "List"}
    described["info"]["features"].update({column: features[kind] for column, kind in added.items()})
    return metadata | {b"huggingface": json.dumps(described).encode()}


def free_name(name: str, taken: Iterable[str]) -> str:
    """Return a name for a column that no other has.

    Example:
    ```python
    >>> from rnn_hf.formats.row_writers import free_name
    >>> free_name("score", ["text"]), free_name("score", ["score", "score_2"])
    ('score', 'score_3')

    ```
    """
    taken, number, free = set(taken), 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


__all__ = ["OUTPUT_FORMATS", "RowWriter", "add_features", "free_name"]
