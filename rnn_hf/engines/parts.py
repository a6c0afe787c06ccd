"""Predictions as numbered files, each whole or not there, so that a run that ended is taken up where it was."""

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem
from transformers.utils import logging

from ..formats.arguments import source_name
from ..utils.display import json_line
from ..utils.files import replacing
from ..utils.messages import shown
from .batch_predictor import BatchPredictor, values_of
from .blocks import Block, BlockReader, Window
from .sources import Source

MANIFEST = "_manifest.json"
T = TypeVar("T")


class Counts(NamedTuple):
    """How many rows there are, and how many of them have an error."""

    rows: int = 0
    errors: int = 0


class OutputFolder:
    """A folder of numbered files, local or at an address of fsspec.

    Args:
        address (`str`): The folder, which is made.
        ending (`str`): What the names of files end with: `"parquet"` or `"jsonl"`.

    Raises:
        ValueError: It cannot be made, or is a file.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf.engines.parts import OutputFolder
    >>> with tempfile.TemporaryDirectory() as address:
    ...     folder = OutputFolder(address, "jsonl")
    ...     with folder.replacing(folder.name_of(3), "w") as file:
    ...         _ = file.write("{}")
    ...     folder.finished()
    {3}

    ```
    """

    def __init__(self, address: str, ending: str):
        self.address, self.ending, self.name = address, ending, source_name(address)
        try:
            self.system, self.path = fsspec.url_to_fs(address)
            self.system.makedirs(self.path, exist_ok=True)
        except ImportError as error:
            raise ValueError(f"{self.name} cannot be reached: {error}") from error
        except Exception as error:  # each file system has exceptions of its own
            raise ValueError(
                f"--output_dir {self.name} cannot be made: {getattr(error, 'strerror', None) or error}"
            ) from error
        if isinstance(self.system, LocalFileSystem):
            self.address = self.path  # wherever workers are started

    def name_of(self, number: int) -> str:
        """Name a file by its number."""
        return f"part-{number:06d}.{self.ending}"

    def names(self) -> list[str]:
        """List what is in the folder."""
        found = self.system.ls(self.path, detail=False, refresh=True)
        return sorted(os.path.basename(one.rstrip("/")) for one in found)

    def finished(self) -> set[int]:
        """Return the numbers of the files that there are."""
        found = (re.fullmatch(rf"part-(\d+)\.{self.ending}", name) for name in self.names())
        return {int(match[1]) for match in found if match}

    def read(self, name: str) -> str | None:
        """Return the text of a file; `None` if there is none."""
        try:
            return self.system.cat_file(f"{self.path}/{name}").decode()
        except FileNotFoundError:
            return None

    @contextmanager
    def replacing(self, name: str, mode: Any = "wb") -> Iterator[IO[Any]]:
        """Open a file that is seen only when it is whole; `mode` is `"w"` for text as UTF-8, or `"wb"`."""
        if isinstance(self.system, LocalFileSystem):
            with replacing(Path(self.path, name), mode) as file:
                yield file
            return
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder, name)
            with replacing(local, mode) as file:
                yield file
            sent = f"{self.path}/.{name}.{os.path.basename(folder)}"
            self.system.put_file(str(local), sent)
            self.system.mv(sent, f"{self.path}/{name}")

    def remove_leftovers(self) -> None:
        """Remove what was left of files by processes that were killed."""
        for name in self.names():
            if name.startswith(".part-"):
                self.system.rm_file(f"{self.path}/{name}")


@dataclass
class Job:
    """Everything that a worker needs to predict on any of the blocks: settings only, which are small to send.

    Args:
        predictor ([`BatchPredictor`]): What predicts.
        sources (`list[Source]`): The files.
        blocks (`list[Block]`): Their rows.
        output_dir (`str`): The folder of the output.
        output_format (`str`): `"parquet"` or `"jsonl"`.
        column (`str`): What the model reads.
        added (`dict[str, str]`): The columns that are added, by the names of [`prediction_columns`].
        is_regression (`bool`): Whether predictions are numbers.
        schemas (`list`): For Parquet, the `pyarrow.Schema` of the output of each source.
    """

    predictor: BatchPredictor
    sources: list[Source]
    blocks: list[Block]
    output_dir: str
    output_format: str
    column: str
    added: dict[str, str]
    is_regression: bool = False
    schemas: list[Any] = field(default_factory=list)


class BlockWorker:
    """Predict on blocks, in a process of its own.

    Args:
        job ([`Job`]): What to do.
    """

    def __init__(self, job: Job):
        logging.disable_progress_bar()
        self.job = job
        self.folder = OutputFolder(job.output_dir, job.output_format)
        self.reader = BlockReader(job.sources)

    def run(self, number: int) -> Counts:
        """Predict on a block, and write its file.

        Args:
            number (`int`): Which block.

        Returns:
            [`Counts`] of the block.
        """
        job, block, counts = self.job, self.job.blocks[number], Counts()
        with self.folder.replacing(
            self.folder.name_of(number), "wb" if job.output_format == "parquet" else "w"
        ) as file:
            writer = _ParquetPart(file, job.schemas[block.source]) if job.output_format == "parquet" else None
            for window in self.reader.read(block):
                columns = self._predict(window)
                if writer is None:
                    _write_json(file, window, columns)
                else:
                    writer.write(window, columns, job.added["error"])
                errors = sum(one is not None for one in columns[job.added["error"]])
                counts = Counts(counts.rows + len(window.faults), counts.errors + errors)
            if writer is not None:
                writer.close()
        return counts

    def _predict(self, window: Window) -> dict[str, list[Any]]:
        job = self.job
        if isinstance(window.rows, list):
            values = [row.get(job.column) for row in window.rows]
        else:
            values = values_of(window.rows[job.column])
        right = [position for position, fault in enumerate(window.faults) if fault is None]
        found = prediction_columns(job.predictor.predict([values[position] for position in right]))
        if job.is_regression:
            found["prediction"] = [one and one[0] for one in found["prediction"]]
        columns: dict[str, list[Any]] = {name: [None] * len(values) for name in job.added.values()}
        columns[job.added["error"]] = list(window.faults)
        for name, results in found.items():
            for position, result in zip(right, results, strict=True):
                columns[job.added[name]][position] = result
        if isinstance(window.rows, list):
            errors = columns[job.added["error"]]
            for position, row in enumerate(window.rows):
                if taken := [name for name in columns if name in row]:
                    fault = f"its own column {shown(taken[0])} is replaced, which the first row lacks: rename it."
                    errors[position] = _joined(errors[position], fault)
        return columns


def _joined(first: str | None, second: str) -> str:
    return second if first is None else f"{first} {second}"


def prediction_columns(found: Mapping[str, T]) -> dict[str, T]:
    """Name the columns of predictions as `rnn-hf predict` does beside the columns of a file, which may have labels.

    Args:
        found (`Mapping`): By the names of [`BatchPredictor`], its columns or anything about them.

    Example:
    ```python
    >>> from rnn_hf.engines.parts import prediction_columns
    >>> prediction_columns({"label": ["a"], "score": [0.5], "error": [None]})
    {'prediction': ['a'], 'score': [0.5], 'error': [None]}

    ```
    """
    names = {"label": "prediction", "labels": "prediction", "tags": "prediction", "all_scores": "score"}
    if "labels" not in found:
        names["scores"] = "prediction"
    return {names.get(name, name): one for name, one in found.items() if name != "scores" or name in names}


def _write_json(file: IO[str], window: Window, columns: dict[str, list[Any]]) -> None:
    rows = window.rows if isinstance(window.rows, list) else _python_rows(window.rows)
    for row, values in zip(rows, zip(*columns.values(), strict=True), strict=True):
        row = row | dict(zip(columns, values, strict=True))
        try:
            line = json_line(row)
        except TypeError:  # times and bytes of Parquet
            line = json_line(json.loads(json.dumps(row, default=str)))
        file.write(line + "\n")


def _python_rows(table: Any) -> list[dict[str, Any]]:
    columns = [values_of(column) for column in table.columns]
    return [dict(zip(table.column_names, values, strict=True)) for values in zip(*columns, strict=True)]


class _ParquetPart:
    """Write windows as a file of Parquet."""

    def __init__(self, file: IO[bytes], schema: Any):
        from pyarrow.parquet import ParquetWriter

        self.schema = schema
        self.writer = ParquetWriter(file, schema)

    def write(self, window: Window, columns: dict[str, list[Any]], error: str) -> None:
        import pyarrow as pa

        arrays: dict[str, Any] = {}
        if isinstance(window.rows, list):
            for name in self.schema.names:
                if name in columns:
                    continue
                values = [row.get(name) for row in window.rows]
                arrays[name], faults = fit(values, self.schema.field(name).type)
                for position, fault in faults.items():
                    columns[error][position] = _joined(
                        columns[error][position], f"column {shown(name)} is no {fault}, and left out."
                    )
            known = set(self.schema.names)
            for position, row in enumerate(window.rows):
                if other := [name for name in row if name not in known]:
                    columns[error][position] = _joined(
                        columns[error][position],
                        f"column {shown(other[0])} is left out: Parquet has the columns of the first rows.",
                    )
        else:
            arrays = dict(zip(window.rows.column_names, window.rows.columns, strict=True))
        for name, values in columns.items():
            kind = self.schema.field(name).type
            values = [json.dumps(one) if isinstance(one, dict) else one for one in values]
            arrays[name] = pa.array(values, kind)
        self.writer.write_table(pa.Table.from_arrays([arrays[name] for name in self.schema.names], schema=self.schema))

    def close(self) -> None:
        self.writer.close()


def fit(values: list[Any], kind: Any) -> tuple[Any, dict[int, str]]:
    """Make an array of Arrow of values that may be of other types.

    Args:
        values (`list`): Any values.
        kind (`pyarrow.DataType`): The type of the array. Of texts, other values become JSON.

    Returns:
        The array, with null for what does not fit; and for each of these positions the value and the type in words.

    Example:
    ```python
    >>> import pyarrow as pa
    >>> from rnn_hf.engines.parts import fit
    >>> array, faults = fit([7, "eight"], pa.int64())
    >>> array.to_pylist(), faults
    ([7, None], {1: "int64: 'eight'"})

    ```
    """
    import pyarrow as pa

    if pa.types.is_string(kind):
        values = [one if one is None or isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in values]
    try:
        return pa.array(values, kind), {}
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        faults = {}
        for position, one in enumerate(values):
            try:
                pa.array([one], kind)
            except (pa.ArrowException, TypeError, ValueError, OverflowError):
                faults[position] = f"{kind}: {shown(one, 60)}"
        return pa.array([None if position in faults else one for position, one in enumerate(values)], kind), faults


__all__ = ["MANIFEST", "BlockWorker", "Counts", "Job", "OutputFolder", "fit", "prediction_columns"]
