"""Read the splits of a corpus from the hub or from local files, in any of the formats of the datasets library."""

import contextlib
import glob
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import datasets
from datasets import Dataset, IterableDataset

Split: TypeAlias = Dataset | IterableDataset

CONLLU_COLUMNS = ["id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc"]

# Builder of the datasets library and its options, for each format and for each file name's ending.
_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    # Without keep_default_na, the text "NA" or "null" would turn into a missing value.
    "csv": ("csv", {"keep_default_na": False}),
    "tsv": ("csv", {"sep": "\t", "keep_default_na": False}),
    "json": ("json", {}),
    "parquet": ("parquet", {}),
    "arrow": ("arrow", {}),
    "conll": ("conll", {"column_names": ["tokens", "tags"]}),
    "conllu": ("conll", {"column_names": CONLLU_COLUMNS, "delimiter": "\t", "comment_prefix": "#"}),
}
_ENDINGS = {f".{name}": name for name in _FORMATS} | {".jsonl": "json", ".ndjson": "json", ".iob2": "conll"}

SPLIT_NAMES = {"train": ["train"], "validation": ["validation", "valid", "dev", "val"], "test": ["test"]}


@dataclass
class DataArguments:
    """Where the corpus is and which columns to read; the fields are the options of the training scripts."""

    dataset_name: str | None = field(
        default=None, metadata={"help": "Id of a dataset on the Hugging Face hub, or a folder with one."}
    )
    dataset_config_name: str | None = field(
        default=None, metadata={"help": "Configuration of the hub dataset, where it has several."}
    )
    train_file: str | None = field(default=None, metadata={"help": "Training data: a local file or pattern."})
    validation_file: str | None = field(
        default=None,
        metadata={
            "help": "Validation data. Without it, a tenth of the training data is held out, unless --eval_strategy no "
            "says that the model be trained on all."
        },
    )
    test_file: str | None = field(
        default=None,
        metadata={"help": "Test data. Where validation data is missing too, another tenth is held out for it."},
    )
    dataset_format: Literal["csv", "tsv", "json", "parquet", "arrow", "conll", "conllu"] | None = field(
        default=None,
        metadata={
            "help": "Format of the files, where their names do not tell. conll: a line a word, its columns split at "
            "white space, an empty line after each sentence."
        },
    )
    dataset_kwargs: str = field(
        default="{}",
        metadata={
            "help": 'Options of the datasets builder as JSON, such as \'{"sep": ";", "quoting": 3}\' for csv or '
            '\'{"column_names": ["tokens", "pos", "tags"]}\' for conll.'
        },
    )
    streaming: bool = field(
        default=False, metadata={"help": "Read the data as it comes, for corpora larger than the disk or the memory."}
    )
    text_column: str = field(default="text", metadata={"help": "Column of the texts (classifier)."})
    label_column: str = field(default="label", metadata={"help": "Column of the labels (classifier)."})
    tokens_column: str | None = field(
        default=None, metadata={"help": "Column of the words (tagger): 'tokens', or 'form' in CoNLL-U."}
    )
    tags_column: str | None = field(
        default=None, metadata={"help": "Column of the tags (tagger): 'tags', or 'upos' in CoNLL-U."}
    )
    auxiliary_tags_column: str | None = field(
        default=None,
        metadata={
            "help": "Column with tags of a second kind, which the model learns beside in training and does not need "
            "afterwards: parts of speech for chunks, or xpos for upos (tagger)."
        },
    )
    additional_labels: list[str] | None = field(
        default=None,
        metadata={"help": "Labels that the model shall know though the training data lacks them, such as I-LST."},
    )
    max_train_samples: int | None = field(
        default=None, metadata={"help": "Use only the first examples of the training data, for a quick try."}
    )
    max_seq_length: int | None = field(
        default=None,
        metadata={"help": "Cut texts after so many tokens (classifier). Without it, texts are read whole."},
    )
    allow_empty_text: bool = field(
        default=False, metadata={"help": "Accept empty texts (and sentences without words) instead of stopping."}
    )


def load_splits(arguments: DataArguments) -> tuple[dict[str, Split], dict[str, str]]:
    """Load what is there, as `train`, `validation` and `test`, with a description of each split's origin."""
    options: Any = arguments.dataset_kwargs
    try:
        # A configuration file may hold a mapping in place of the JSON text.
        options = json.loads(options) if isinstance(options, str) else options
    except json.JSONDecodeError as error:
        raise ValueError(f"--dataset_kwargs is not valid JSON ({error}): {arguments.dataset_kwargs}") from error
    if not isinstance(options, dict):
        raise ValueError(f"--dataset_kwargs must be a JSON object, got {arguments.dataset_kwargs}.")
    files = {name: getattr(arguments, f"{name}_file") for name in SPLIT_NAMES}
    files = {name: file for name, file in files.items() if file is not None}
    if bool(files) == (arguments.dataset_name is not None):
        raise ValueError("Name the data either with --dataset_name, or with --train_file and its companions.")
    if arguments.dataset_name is not None:
        return _load_named(arguments, options)
    splits = {name: _load_file(name, file, arguments, options) for name, file in files.items()}
    return splits, files


def _load_named(arguments: DataArguments, options: dict[str, Any]) -> tuple[dict[str, Split], dict[str, str]]:
    name = arguments.dataset_name
    try:
        loaded = datasets.load_dataset(name, arguments.dataset_config_name, streaming=arguments.streaming, **options)
        if arguments.streaming:
            for split in loaded.values():
                next(iter(split), None)
    except Exception as error:
        raise ValueError(
            f"The dataset {name!r} could not be loaded: {first_line(error)} Check its id and the network, or read "
            "local files with --train_file."
        ) from error
    splits, origins = {}, {}
    for split, alternatives in SPLIT_NAMES.items():
        for alternative in alternatives:
            if alternative in loaded:
                splits[split], origins[split] = loaded[alternative], f"{name}, split {alternative!r}"
                break
    if not splits:
        raise ValueError(f"The dataset {name!r} has no split named train, only: {listed(list(loaded))}.")
    return splits, origins


def _load_file(split_name: str, file: str, arguments: DataArguments, options: dict[str, Any]) -> Split:
    is_file = Path(file).is_file()
    if "://" not in file and not is_file and not any(map(os.path.isfile, glob.iglob(file, recursive=True))):
        raise ValueError(f"There is no file {file}.")
    name = arguments.dataset_format or _ENDINGS.get(Path(file).suffix.lower())
    if name is None:
        raise ValueError(
            f"The name of {file} does not tell its format. Say it with --dataset_format: {listed(list(_FORMATS))}."
        )
    builder, defaults = _FORMATS[name]
    load = partial(
        datasets.load_dataset,
        builder,
        data_files={split_name: glob.escape(file) if is_file else file},
        split=split_name,
        **(defaults | options),
    )
    try:
        split = load(streaming=arguments.streaming)
        if arguments.streaming:
            next(iter(split))
    except Exception as error:
        # On a file without rows each builder fails in words of its own.
        if (is_file and _is_blank(Path(file))) or _is_empty(load):
            raise ValueError(f"{file} has no rows.") from error
        raise ValueError(
            f"{file} could not be read as {name}: {first_line(error)} If it is something else, say so with "
            "--dataset_format; how it is written can be said with --dataset_kwargs."
        ) from error
    if name == "conllu":
        progress = {} if arguments.streaming else {"desc": f"Reading {split_name} words"}
        split = split.map(_drop_extra_conllu_rows, features=split.features, **progress)
    return split


def _is_blank(file: Path) -> bool:
    with file.open("rb") as lines:
        return not any(line.strip() for line in lines)


def _is_empty(load: Callable[..., IterableDataset]) -> bool:
    with contextlib.suppress(Exception):
        return next(iter(load(streaming=True)), None) is None
    return False


def _drop_extra_conllu_rows(sentence: dict[str, list[str]]) -> dict[str, list[str]]:
    """Leave out CoNLL-U's multiword tokens (`1-2`) and empty nodes (`2.1`), which are no words of the tree."""
    keep = [index.isdigit() for index in sentence["id"]]
    return {
        column: [value for value, kept in zip(values, keep, strict=True) if kept] for column, values in sentence.items()
    }


def column_names(split: Split) -> list[str]:
    """Return the names of a split's columns."""
    # A stream does not always know its columns before its first row.
    return list(split.column_names or next(iter(split), {}))


def listed(names: list[str], most: int = 20) -> str:
    """Write names in a row, for a message."""
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (f", … ({len(names)} in all)" if len(names) > most else "")


def first_line(error: BaseException) -> str:
    """Return what an error says in its first line, as a sentence."""
    if isinstance(error, datasets.exceptions.DatasetGenerationError):
        # Its own message says only that there was an error.
        error = error.__cause__ or error.__context__ or error
    if isinstance(error, datasets.table.CastError):
        line = f"its rows differ in their columns; at some point {error.details()}"
    else:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line if line.endswith(".") else line + "."


__all__ = [
    "CONLLU_COLUMNS",
    "SPLIT_NAMES",
    "DataArguments",
    "Split",
    "column_names",
    "first_line",
    "listed",
    "load_splits",
]
