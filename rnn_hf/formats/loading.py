"""Read the splits of a corpus from the hub or from local files, in any of the formats of the datasets library."""

import contextlib
import dataclasses
import glob
import inspect
import logging
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import datasets
from datasets import Dataset, IterableDataset
from datasets.packaged_modules.arrow.arrow import ArrowConfig
from datasets.packaged_modules.csv.csv import CsvConfig
from datasets.packaged_modules.json.json import JsonConfig
from datasets.packaged_modules.parquet.parquet import ParquetConfig
from datasets.packaged_modules.text.text import TextConfig
from transformers.utils import logging as transformers_logging

from ..utils.display import json_line, shorten
from ..utils.messages import listed, shown
from ..utils.secrets import mask_options
from .arguments import DataArguments, Task, builder_options, source_name
from .class_folders import class_folders, load_class_folders
from .columns import USUAL_NAMES
from .conll import CONLLU_COLUMNS, CSV_OPTIONS, OPTIONS, PLACES, Layout, LayoutError, load_conll
from .conll_columns import SENTENCE_NAMES, TAG_NAMES, WORD_NAMES
from .fasttext import is_fasttext, part_rows
from .faults import first_line, json_fault
from .sentence_cells import find_cells, split_cells, table_cells
from .sniffing import content_format, first_line_hint
from .span_splits import load_span_split
from .tables import WORKBOOKS, TableError, check_tables, find_separator, open_text, unreadable, workbook_fault

logger = transformers_logging.get_logger(__name__)

Split: TypeAlias = Dataset | IterableDataset

# Builder of the datasets library and its options, for each format and for each file name's ending.
_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    # Without keep_default_na, the text "NA" or "null" would turn into a missing value.
    "csv": ("csv", {"keep_default_na": False}),
    "tsv": ("csv", {"sep": "\t", "keep_default_na": False}),
    "json": ("json", {}),
    "parquet": ("parquet", {}),
    "arrow": ("arrow", {}),
    "fasttext": ("text", {"encoding": "utf-8-sig"}),
    # These have readers of their own.
    "conll": ("conll", {}),
    "conllu": ("conll", {}),
}
_ENDINGS = {f".{name}": name for name in _FORMATS} | {".jsonl": "json", ".ndjson": "json", ".iob2": "conll"}
_COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst", ".lz4")
_BUILDER_CONFIGS: dict[str, Any] = {
    "csv": CsvConfig,
    "json": JsonConfig,
    "parquet": ParquetConfig,
    "arrow": ArrowConfig,
    "text": TextConfig,
}
# Options of the csv builder that say how values other than texts are written, and how columns come about.
_TYPED = ("features", "decimal", "thousands", "true_values", "false_values", "converters", "index_col", "usecols")

# Rows that are looked at for cells that hold sentences.
_NUM_LOOKED_AT = 100

SPLIT_NAMES = {"train": ["train"], "validation": ["validation", "valid", "dev", "val"], "test": ["test"]}


def load_splits(arguments: DataArguments, task: Task | None = None) -> tuple[dict[str, Split], dict[str, str]]:
    r"""Load what is there.

    Args:
        arguments ([`DataArguments`]): Checked options.
        task (`str`, *optional*): Taggers read files of annotated spans too, and a word from each row of CSV and TSV.

    Returns:
        The splits among `train`, `validation` and `test`, and a description of each one's origin, for messages.

    Raises:
        ValueError: There is no such file or dataset, or it cannot be read; with its name and what to do.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf.formats.loading import DataArguments, load_splits
    >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
    ...     _ = file.write("text,label\na,b\n")
    ...     file.flush()
    ...     splits, origins = load_splits(DataArguments(train_file=file.name))
    >>> splits["train"][0], list(origins)
    ({'text': 'a', 'label': 'b'}, ['train'])

    ```
    """
    options = builder_options(arguments)
    if arguments.dataset_name is not None:
        return _load_named(arguments, arguments.dataset_name, options)
    files = {name: getattr(arguments, f"{name}_file") for name in SPLIT_NAMES}
    files = {name: file for name, file in files.items() if file is not None}
    splits: dict[str, Split] = {}
    layout: Layout | None = None
    for name, file in files.items():
        spans = load_span_split(file, arguments) if task == "token-classification" else None
        if spans is not None:
            splits[name] = spans
            continue
        if task != "token-classification" and arguments.dataset_format is None and class_folders(file):
            splits[name] = _load_folders(file, arguments, options)
            continue
        file_format = _format_of(file, arguments, task)
        is_table = file_format in ("csv", "tsv") and task == "token-classification"
        own = options | _separator_of_words(file, file_format, arguments, options) if is_table else options
        cells = _cells_of_table(file, file_format, arguments, own) if is_table else None
        if cells is None and (is_table or file_format in ("conll", "conllu")):
            splits[name], layout = _load_words(file, file_format, arguments, own, layout)
            continue
        splits[name] = _load_file(name, file, file_format, arguments, own)
        if task == "token-classification" and cells is None:
            cells = find_cells(list(splits[name].take(_NUM_LOOKED_AT)), arguments)
        if cells is not None:
            splits[name] = split_cells(splits[name], cells, arguments, source_name(file))
    return splits, {name: source_name(file) for name, file in files.items()}


def _load_folders(folder: str, arguments: DataArguments, options: dict[str, Any]) -> Split:
    if other := [option for option in options if option != "encoding"]:
        raise ValueError(f"--dataset_kwargs {listed(other)}: folders of texts are read with encoding only.")
    split = load_class_folders(folder, options.get("encoding"))
    return split.to_iterable_dataset() if arguments.streaming else split


def _load_named(
    arguments: DataArguments, name: str, options: dict[str, Any]
) -> tuple[dict[str, Split], dict[str, str]]:
    try:
        if inner := [one for one in ("", "train") if class_folders(os.path.join(name, one))]:
            shown_name = source_name(os.path.join(name, inner[0]) if inner[0] else name)
            raise TableError(
                f"{source_name(name)} has a folder for each label: say --train_file {shown_name} in place of "
                f"--dataset_name{', and --test_file for the folder of the test' if inner[0] else ''}."
            )
        with quiet():
            if os.path.isdir(name):
                options = _options_of_folder(name, arguments, options)
            loaded = datasets.load_dataset(
                name, arguments.dataset_config_name, streaming=arguments.streaming, **options
            )
            if arguments.streaming:
                for split in loaded.values():
                    next(iter(split), None)
    except TableError:
        raise
    except Exception as error:
        if isinstance(error, PermissionError):
            raise ValueError(
                f"The cache folder of datasets, {datasets.config.HF_DATASETS_CACHE}, cannot be written to ({error}). "
                "Make it writable, or set HF_HOME to another folder."
            ) from error
        raise ValueError(
            f"The dataset {shown(source_name(name))} could not be loaded: {first_line(error, options)} Check its id "
            "and the network, or read local files with --train_file."
        ) from error
    splits, origins = {}, {}
    for split, alternatives in SPLIT_NAMES.items():
        for alternative in alternatives:
            if alternative in loaded:
                splits[split], origins[split] = loaded[alternative], f"{source_name(name)}, split {alternative!r}"
                break
    if not splits:
        raise ValueError(f"The dataset {shown(name)} has no split named train, only: {listed(list(loaded))}.")
    return splits, origins


def _options_of_folder(name: str, arguments: DataArguments, options: dict[str, Any]) -> dict[str, Any]:
    """Check the CSV files of a folder, and let them be read as they are written, unless it says how."""
    builder = datasets.load_dataset_builder(name, arguments.dataset_config_name, **options)
    if not isinstance(builder.config, CsvConfig) or builder.info.features is not None:
        return options
    defaults = {"keep_default_na": False, "sep": builder.config.sep}
    patterns = [f"{glob.escape(name)}/**/*.{ending}" for ending in ("csv", "tsv")]
    files = [path for pattern in patterns for path in sorted(glob.glob(pattern, recursive=True))]
    check_tables(files, source_name(name), defaults | options, arguments)
    if any(one in options for one in _TYPED):
        return defaults | options
    loaded = datasets.load_dataset(name, arguments.dataset_config_name, streaming=True, **(defaults | options))
    names = {column: datasets.Value("string") for split in loaded.values() for column in column_names(split)}
    return defaults | {"features": datasets.Features(names)} | options


def _format_of(file: str, arguments: DataArguments, task: Task | None) -> str:
    shown_file = source_name(file)
    paths = _local_paths(file)
    name = arguments.dataset_format or format_of(file)
    if name is None and paths and (name := content_format(paths[0], task)):
        logger.warning(f"{shown_file} is read as {name}, as its first lines show; --dataset_format names another.")
    if name is None and _ending(file) in WORKBOOKS:
        raise ValueError(workbook_fault(shown_file))
    if name is None:
        raise ValueError(
            f"The name of {shown_file} does not tell its format. Say it with --dataset_format: "
            f"{listed(list(_FORMATS))}.{first_line_hint(paths[0]) if paths else ''}"
        )
    return name


def _separator_of_words(file: str, name: str, arguments: DataArguments, options: dict[str, Any]) -> dict[str, Any]:
    said = [one for one in (arguments.tokens_column, arguments.tags_column) if one is not None]
    seen = {"sep": "\t" if name == "tsv" else ","} | options
    return _separator(_local_paths(file), source_name(file), seen, [*said, *WORD_NAMES, *TAG_NAMES, *SENTENCE_NAMES])


def _cells_of_table(file: str, name: str, arguments: DataArguments, options: dict[str, Any]) -> tuple[str, str] | None:
    seen = {"sep": "\t" if name == "tsv" else ","} | options
    return next((table_cells(path, seen, arguments) for path in _local_paths(file)), None)


def _load_words(
    file: str,
    name: str,
    arguments: DataArguments,
    options: dict[str, Any],
    layout: Layout | None,
) -> tuple[Split, Layout]:
    """Load a file with a line or a row a word."""
    shown_file = source_name(file)
    known = OPTIONS + (CSV_OPTIONS if name in ("csv", "tsv") else [])
    if unknown := [option for option in options if option not in (*known, *PLACES)]:
        raise ValueError(
            f"--dataset_kwargs: reading {name} has no option {listed(unknown)}. It has {listed(known, most=50)}."
        )
    own: dict[str, Any] = {"sep": ","} if name == "csv" else {}
    paths = _local_paths(file)
    if name in ("csv", "tsv") and ({*CSV_OPTIONS, "delimiter"} & options.keys()):
        own["sep"] = options.get("sep") or options.get("delimiter") or ("," if name == "csv" else "\t")
        options = {name: value for name, value in options.items() if name != "delimiter"}
    named = {"tokens_column": arguments.tokens_column, "tags_column": arguments.tags_column}
    try:
        with quiet():
            return load_conll(
                glob.escape(file) if os.path.isfile(file) else file,
                shown_file,
                options | own | named,
                arguments.streaming,
                is_conllu=name == "conllu",
                like=layout,
            )
    except LayoutError:
        raise
    except Exception as error:
        if isinstance(error.__cause__, LayoutError):
            raise error.__cause__ from error
        if fault := unreadable(paths, shown_file, options.get("encoding"), error):
            raise ValueError(fault) from error
        with_options = f" with --dataset_kwargs {_masked(options)}" if options else ""
        raise ValueError(
            f"{shown_file} could not be read as {name}{with_options}: {first_line(error, options)} If it is something "
            "else, say so with --dataset_format; how it is written can be said with --dataset_kwargs."
        ) from error


def _load_file(split_name: str, file: str, name: str, arguments: DataArguments, options: dict[str, Any]) -> Split:
    shown_file = source_name(file)
    paths = _local_paths(file)
    builder, defaults = _FORMATS[name]
    _check_builder_options(options, builder, name)
    if builder == "csv":
        wanted = [arguments.text_column, arguments.label_column, *(arguments.label_columns or ())]
        known = [*wanted, *USUAL_NAMES["text_column"], *USUAL_NAMES["label_column"]]
        options = options | _separator(paths, shown_file, defaults | options, known)
        check_tables(paths, shown_file, defaults | options, arguments)
    load: Callable[..., Any] = partial(
        datasets.load_dataset,
        builder,
        data_files={split_name: glob.escape(file) if os.path.isfile(file) else file},
        split=split_name,
        **(defaults | options),
    )
    try:
        with quiet():
            if builder == "csv" and not any(name in options for name in _TYPED):
                # Read as they are written: 0110 and 1.10 may be labels, and 007 a text.
                names = column_names(load(streaming=True))
                load = partial(load, features=datasets.Features({name: datasets.Value("string") for name in names}))
            split = load(streaming=arguments.streaming)
            if arguments.streaming:
                next(iter(split))
    except Exception as error:
        # On a file without rows each builder fails in words of its own.
        if paths and (all(map(_is_blank, paths)) or _is_empty(load)):
            raise ValueError(f"{shown_file} has no rows.") from error
        if not paths and (isinstance(error, StopIteration) or "Please pass `features`" in first_line(error)):
            raise ValueError(f"{shown_file} has no rows, or could not be reached. Check the address.") from error
        if fault := unreadable(paths, shown_file, options.get("encoding"), error):
            raise ValueError(fault) from error
        fault = json_fault(paths) if name == "json" and "field" not in options else None
        fault = fault or first_line(error, options)
        with_options = f" with --dataset_kwargs {_masked(options)}" if options else ""
        raise ValueError(
            f"{shown_file} could not be read as {name}{with_options}: {fault} If it is something else, "
            "say so with --dataset_format; how it is written can be said with --dataset_kwargs."
        ) from error
    if name == "fasttext":
        split = part_rows(split)
    return split


def _separator(paths: list[str], shown_file: str, options: dict[str, Any], wanted: list[str]) -> dict[str, str]:
    """Find the separator of tables that have another one than their names tell."""
    if options.get("delimiter") or not paths:
        return {}
    found = find_separator(paths[0], options, wanted)
    if found is None:
        return {}
    logger.warning(f"{shown_file}: {shown(found)} separates columns, as the first line shows.")
    return {"sep": found}


def format_of(file: str) -> str | None:
    """Tell the format of a file by its name, or by its first line where that is fastText's.

    Args:
        file (`str`): A file's name, a pattern or an address.

    Returns:
        `str`, *optional*: one of the values of `--dataset_format`.

    Example:
    ```python
    >>> from rnn_hf.formats.loading import format_of
    >>> format_of("a.jsonl"), format_of("a.csv.gz"), format_of("a.txt")
    ('json', 'csv', None)

    ```
    """
    name = _ENDINGS.get(_ending(file))
    if name is None and os.path.isfile(file):
        with contextlib.suppress(OSError, UnicodeDecodeError, EOFError), open_text(file) as lines:
            if is_fasttext(next((line for line in lines if line.strip()), "")):
                return "fasttext"
    return name


def _masked(options: dict[str, Any]) -> str:
    return shorten(json_line(mask_options(options)), 200)


def _local_paths(file: str) -> list[str]:
    """Find the local files that a name or a pattern means; none for an address."""
    if "://" in file:
        return []
    paths = [file]
    if not os.path.exists(file):
        # A null character, or a name that is too long, is no pattern either.
        with contextlib.suppress(OSError, ValueError):
            paths = sorted(filter(os.path.isfile, glob.iglob(file, recursive=True)))
        if not paths or paths == [file]:
            raise ValueError(f"There is no file {source_name(file)}.")
    elif os.path.isdir(file):
        raise ValueError(
            f"{source_name(file)} is a folder: name a file in it, or a pattern such as {source_name(file)}/*.csv, or "
            "give a folder with a file for each split as --dataset_name."
        )
    elif not os.path.isfile(file):
        raise ValueError(f"{source_name(file)} is no regular file: save what it gives to one, and name that.")
    for path in paths:
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise ValueError(f"{source_name(path)} cannot be read: {error.strerror}.") from error
    return paths


def _ending(file: str) -> str:
    """Return what the name of a file or the path of an address ends with, before the ending of a compression."""
    path = Path(re.split(r"[?#]|::", file)[0] if "://" in file else file)  # :: names the archive that a file is in
    return Path(path.stem if path.suffix.lower() in _COMPRESSIONS else path.name).suffix.lower()


def _check_builder_options(options: dict[str, Any], builder: str, name: str) -> None:
    fixed = {"name", "version", "data_dir", "data_files", "description"}
    own = [one.name for one in dataclasses.fields(_BUILDER_CONFIGS[builder]) if one.name not in fixed]
    general = set(inspect.signature(datasets.load_dataset).parameters) - fixed
    unknown = [option for option in options if option not in own and option not in general]
    if unknown == ["dtype"] and builder == "csv":
        raise ValueError(
            "--dataset_kwargs: dtype is not needed: all columns of a CSV file are read as they are written. Leave it "
            "out."
        )
    if unknown:
        raise ValueError(
            f"--dataset_kwargs: reading {name} has no option {listed(unknown)}. It has {listed(own, most=50)}."
        )


def _is_blank(file: str) -> bool:
    with open(file, "rb") as lines:
        return not any(line.strip() for line in lines)


def _is_empty(load: Callable[..., IterableDataset]) -> bool:
    with contextlib.suppress(Exception), quiet():
        return next(iter(load(streaming=True)), None) is None
    return False


def column_names(split: Split) -> list[str]:
    """Return the names of a split's columns."""
    # A stream does not always know its columns before its first row.
    return list(split.column_names or next(iter(split), {}))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the datasets library from logging what it raises as well."""
    level = datasets.utils.logging.get_verbosity()
    datasets.utils.logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        datasets.utils.logging.set_verbosity(level)


def reading_fault(error: BaseException, origin: str) -> str:
    """Say why a split could not be read to its end, with the line where it is JSON lines."""
    is_json = os.path.isfile(origin) and _ENDINGS.get(_ending(origin)) == "json"
    return (json_fault([origin]) if is_json else None) or first_line(error)


__all__ = [
    "CONLLU_COLUMNS",
    "SPLIT_NAMES",
    "DataArguments",
    "Split",
    "column_names",
    "first_line",
    "format_of",
    "load_splits",
    "quiet",
    "reading_fault",
]
