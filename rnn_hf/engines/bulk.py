"""Predict on files of any number and size, and write the rows with their predictions to a folder."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm
from transformers.utils import logging

from ..formats.arguments import source_name
from ..formats.columns import choose_column
from ..formats.row_writers import add_features, free_name
from ..inference.bfloat16 import choose_precision
from ..inference.download import find_folder
from ..inference.loading import load_config
from ..inference.model_files import weight_files
from ..utils.messages import listed, shown
from ..utils.secrets import mask_options
from .batch_predictor import GRAPHS, BatchPredictor, arrow_type, output_kinds
from .blocks import Block, BlockReader, plan_blocks
from .parts import MANIFEST, Counts, Job, OutputFolder, prediction_columns
from .processes import run_processes
from .ray_data import run_ray
from .sources import Source, find_sources

logger = logging.get_logger(__name__)

Engine = Literal["processes", "ray"]
ROWS_PER_FILE = 16384
# What a column of the output holds, where it differs from the prediction: JSON, and the first number.
_OUTPUT_KINDS = {"named numbers": "text", "numbers": "number"}


def predict_files(
    predictor: BatchPredictor,
    input: str,
    output_dir: str,
    *,
    input_format: str | None = None,
    output_format: Literal["parquet", "jsonl"] | None = None,
    engine: Engine = "processes",
    num_workers: int | None = None,
    rows_per_file: int = ROWS_PER_FILE,
    dataset_kwargs: dict[str, Any] | None = None,
) -> Counts:
    """Predict on files, and write their rows with the predictions to numbered files, in the order of the rows.

    Each file is written whole or not at all. If the run ends early, for whatever reason, the same call goes on where it
    was. Memory does not grow with the number of rows.

    Args:
        predictor ([`BatchPredictor`]): What predicts. `column` and `is_split_into_words` are found out, and precision
            `"auto"` is settled for all workers; a run that is taken up keeps what it had.
        input (`str`): See [`~rnn_hf.engines.sources.find_sources`].
        output_dir (`str`): A new folder, or that of a run that ended early; local, or an address of fsspec.
        input_format (`str`, *optional*): One of [`~rnn_hf.engines.sources.FORMATS`].
        output_format (`str`, *optional*): That of the input without it: Parquet, or JSON lines.
        engine (`str`): `"processes"` of this machine, or `"ray"`, which needs `pip install "rnn_hf[ray]"`.
        num_workers (`int`, *optional*): How many workers, with a core each; without it as many as there are cores, or
            one on another device than the cpu.
        rows_per_file (`int`): Most rows in a file of the output.
        dataset_kwargs (`dict`, *optional*): How the input is written, as in `--dataset_kwargs`.

    Returns:
        [`Counts`]: the rows that this call predicted on, and how many have an error.

    Raises:
        ValueError: The model, the input or the output cannot be used, or the folder holds the output of another run.
    """
    options = dataset_kwargs or {}
    folder = find_folder(predictor.model, predictor.revision, weights=predictor.backend == "torch")
    config = load_config(str(folder))
    tags = "RnnForTokenClassification" in (config.architectures or [])
    name = source_name(input)
    sources = find_sources(input, input_format)
    blocks = plan_blocks(sources, rows_per_file, options, predictor.column or "text")
    columns = list(dict.fromkeys(column for source in sources for column in source.columns))
    column = _input_column(predictor.column, columns, tags, name)
    for source in sources:
        if column not in source.columns:
            raise ValueError(f"{source.name} has no column {shown(column)}, only: {listed(source.columns)}.")
    reads_words = tags and _holds_lists(_first_rows(sources, blocks)[0], column)
    model = os.path.abspath(predictor.model) if os.path.isdir(predictor.model) else predictor.model
    predictor = replace(predictor, model=model, column=column, is_split_into_words=reads_words, all_scores=True)
    kinds = prediction_columns(output_kinds(config, tags, reads_words, all_scores=True) | {"error": "text"})
    added = {one: free_name(one, columns) for one in kinds}
    if renamed := [f"{shown(one)} is {shown(free)}" for one, free in added.items() if one != free]:
        logger.warning(f"{name} has columns of these names: the new column {', '.join(renamed)}.")
    output_format = output_format or ("parquet" if sources[0].format == "parquet" else "jsonl")
    output = OutputFolder(output_dir, output_format)
    recorded = _recorded_settings(output)
    if predictor.precision == "auto":
        # A run that is taken up stays as it was, whatever is timed now.
        precision = (recorded or {}).get("precision") or choose_precision("auto", config, predictor.device)
        predictor = replace(predictor, precision=precision)
    settings = _settings(predictor, folder) | {
        "input": [[source.name, source.fingerprint] for source in sources],
        "dataset_kwargs": mask_options(options),
        "output_format": output_format,
        "rows_per_file": rows_per_file,
    }
    if recorded is None:
        _write_manifest(output, settings, {"finished": False})
    elif other := [one for one in settings if recorded.get(one) != settings[one]]:
        raise ValueError(
            f"--output_dir {output.name} holds predictions of another run, which differs in {listed(other)}: name a "
            "new folder."
        )
    job = Job(predictor, sources, blocks, output.address, output_format, column, added)
    job.is_regression = config.problem_type == "regression"
    if output_format == "parquet":
        kinds = {added[one]: _OUTPUT_KINDS.get(kind, kind) for one, kind in kinds.items()}
        job.schemas = _schemas(sources, blocks, kinds)
    done = output.finished()
    numbers = [number for number in range(len(blocks)) if number not in done]
    num_rows, rows_left = (sum(blocks[one].num_rows for one in some) for some in (range(len(blocks)), numbers))
    counts = Counts()
    with tqdm(total=num_rows, initial=num_rows - rows_left, unit=" rows", mininterval=1) as bar:
        for _, one in _run(job, numbers, engine, num_workers):
            counts = Counts(counts.rows + one.rows, counts.errors + one.errors)
            bar.update(one.rows)
    output.remove_leftovers()
    finished = {"finished": True, "num_files": len(blocks), "num_rows": num_rows}
    _write_manifest(output, settings, finished)
    return counts


def _run(job: Job, numbers: list[int], engine: Engine, num_workers: int | None) -> Iterator[tuple[int, Counts]]:
    if not numbers:
        return iter(())
    if engine == "ray":
        return run_ray(job, numbers, num_workers)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    usual = cores if job.predictor.device == "cpu" else 1
    return run_processes(job, numbers, min(num_workers or usual, len(numbers)))


def _input_column(given: str | None, columns: list[str], tags: bool, name: str) -> str:
    if tags and given is None and "tokens" in columns:
        return "tokens"
    column = choose_column("text_column", given or "text", columns, name)
    if column not in columns:
        option = "--tokens_column or --text_column" if tags else "--text_column"
        raise ValueError(
            f"{name} has no column {shown(column)}, only: {listed(columns)}. Name the right one with {option}."
        )
    return column


def _first_rows(sources: list[Source], blocks: list[Block]) -> list[Any]:
    """Read some rows of each source that has any."""
    reader = BlockReader(sources)
    return [next(reader.read(block)).rows for block in blocks if block.first_row == 0]


def _holds_lists(rows: Any, column: str) -> bool:
    values = [row.get(column) for row in rows] if isinstance(rows, list) else rows[column].to_pylist()
    return isinstance(next((value for value in values if value is not None), None), list)


def _settings(predictor: BatchPredictor, folder: Path) -> dict[str, Any]:
    """Name all that predictions depend on."""
    digest = hashlib.sha256()
    graph = GRAPHS.get(predictor.backend)
    names = ("config.json", "tokenizer.json", "tokenizer_config.json")
    for path in [*(folder / name for name in names), *([folder / graph] if graph else weight_files(folder))]:
        if path.is_file():
            digest.update(path.read_bytes())
    settings = ("backend", "device", "precision", "column", "batch_size", "max_tokens_per_batch", "rejection_threshold")
    return {"model": digest.hexdigest()} | {one: getattr(predictor, one) for one in settings}


def _recorded_settings(output: OutputFolder) -> dict[str, Any] | None:
    """Read the settings of the run whose output a folder has; `None` of a new folder."""
    text = output.read(MANIFEST)
    if text is None:
        if [one for one in output.names() if not one.startswith(".")]:
            raise ValueError(
                f"--output_dir {output.name} is not empty, and holds no {MANIFEST} of a run before: name a new folder."
            )
        return None
    try:
        return dict(json.loads(text)["settings"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"--output_dir {output.name}: its {MANIFEST} cannot be read: name a new folder.") from None


def _write_manifest(output: OutputFolder, settings: dict[str, Any], state: dict[str, Any]) -> None:
    with output.replacing(MANIFEST, "w") as file:
        file.write(json.dumps(state | {"settings": settings}, indent=2, ensure_ascii=False) + "\n")


def _schemas(sources: list[Source], blocks: list[Block], kinds: dict[str, str]) -> list[Any]:
    """Return the types of the output's columns, for each source: of text those of its first rows."""
    import pyarrow as pa

    schemas = [source.schema for source in sources]
    if schemas[0] is None:
        # One for all, so that the files of the output go together.
        found = pa.unify_schemas(
            [_schema_of(rows) for rows in _first_rows(sources, blocks)], promote_options="permissive"
        )
        schemas = [found] * len(sources)
    result = []
    for schema in schemas:
        for name, kind in kinds.items():
            schema = schema.append(pa.field(name, arrow_type(kind)))
        result.append(schema.with_metadata(add_features(schema.metadata, kinds)))
    return result


def _schema_of(rows: list[dict[str, Any]]) -> Any:
    """Tell the types of columns; of those with values of several types, or none, texts."""
    import pyarrow as pa

    fields = []
    for name in dict.fromkeys(name for row in rows for name in row):
        try:
            kind = pa.array([row.get(name) for row in rows]).type
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            kind = pa.string()
        fields.append(pa.field(name, pa.string() if pa.types.is_null(kind) else kind))
    return pa.schema(fields)


__all__ = ["ROWS_PER_FILE", "Engine", "predict_files"]
