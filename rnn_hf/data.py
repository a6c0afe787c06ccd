"""Load a labelled corpus, check it, and encode it for a classifier or a tagger."""

import contextlib
import glob
import json
import math
import os.path
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import datasets
from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from .tokenization import encode_texts, encode_words

logger = logging.get_logger(__name__)

Task = Literal["text-classification", "token-classification"]

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

_SPLIT_NAMES = {"train": ["train"], "validation": ["validation", "valid", "dev", "val"], "test": ["test"]}
_SPLIT_SEED = 42
_STREAM_STRIDE = 10
_BATCH_SIZE = 1000


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
        default=None, metadata={"help": "Validation data. Without it, a tenth of the training data is held out."}
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


@dataclass
class Corpus:
    """A checked corpus: its splits, and what its labels are.

    Args:
        task (`str`): `"text-classification"` or `"token-classification"`.
        splits (`dict[str, Dataset | IterableDataset]`): Among `train`, `validation`, `test`.
        input_column (`str`): Column of the texts or the words.
        label_column (`str`): Column of the labels or the tags.
        problem_type (`str`): As in the configuration.
        label_names (`list[str]`): Names in the order of their ids; one placeholder for a regression.
        num_rows (`dict[str, int]`): Examples of each split.
    """

    task: Task
    splits: dict[str, Dataset | IterableDataset]
    input_column: str
    label_column: str
    problem_type: Any
    label_names: list[str]
    num_rows: dict[str, int]

    def inputs(self, split: str) -> Iterator[Any]:
        """Yield the texts, or the lists of words, of a split."""
        for batch in self.splits[split].select_columns([self.input_column]).iter(batch_size=_BATCH_SIZE):
            yield from batch[self.input_column]

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, max_length: int | None = None
    ) -> dict[str, Dataset | IterableDataset]:
        """Turn texts into `input_ids` and labels into `labels`.

        A tagger's word has its label at its first token; its other tokens and special tokens have -100. Of a
        stream, what is not training data is read into memory, so that several processes can share it out exactly.

        Args:
            tokenizer (`PreTrainedTokenizerBase`): The tokenizer.
            max_length (`int`, *optional*): Where to cut texts; a tagger reads all words.

        Returns:
            `dict[str, Dataset | IterableDataset]`: splits with the columns `input_ids` and `labels`.
        """
        label_ids = {name: index for index, name in enumerate(self.label_names)}
        encoded = {}
        for name, split in self.splits.items():
            feature = (split.features or {}).get(self.label_column)
            encode: Callable[..., dict[str, list]]
            if self.task == "text-classification":
                encode = partial(_encode_text_batch, max_length=max_length, problem_type=self.problem_type)
            else:
                encode = _encode_word_batch
            options: dict[str, Any] = {"desc": f"Encoding {name}"} if isinstance(split, Dataset) else {}
            encoded[name] = split.map(
                encode,
                batched=True,
                input_columns=[self.input_column, self.label_column],
                remove_columns=_column_names(split),
                fn_kwargs={"tokenizer": tokenizer, "feature": feature, "label_ids": label_ids},
                **options,
            )
            if name != "train" and not isinstance(split, Dataset):
                encoded[name] = Dataset.from_list(list(encoded[name]))
        return encoded


def _encode_text_batch(
    texts: list[str],
    labels: list[Any],
    tokenizer: PreTrainedTokenizerBase,
    feature: Any,
    label_ids: dict[str, int],
    max_length: int | None,
    problem_type: str,
) -> dict[str, list]:
    return {
        "input_ids": encode_texts(tokenizer, texts, max_length),
        "labels": [_label_id(label, feature, problem_type, label_ids) for label in labels],
    }


def _encode_word_batch(
    sentences: list[list[str]],
    tags: list[list[Any]],
    tokenizer: PreTrainedTokenizerBase,
    feature: Any,
    label_ids: dict[str, int],
) -> dict[str, list]:
    all_ids, all_firsts = encode_words(tokenizer, sentences)
    labels = []
    for ids, firsts, sentence_tags in zip(all_ids, all_firsts, tags, strict=True):
        aligned = [-100] * len(ids)
        for place, tag in zip(firsts, sentence_tags, strict=True):
            aligned[place] = label_ids[_name(tag, feature)]
        labels.append(aligned)
    return {"input_ids": all_ids, "labels": labels}


def load_corpus(
    arguments: DataArguments,
    task: Task,
    problem_type: str | None = None,
    label_names: list[str] | None = None,
    needed: tuple[str, ...] = ("train", "validation"),
) -> Corpus:
    r"""Load the splits of a corpus, make those that are missing, and check every row.

    Args:
        arguments ([`DataArguments`]): What to load.
        task (`str`): `"text-classification"` or `"token-classification"`.
        problem_type (`str`, *optional*):
            As in the configuration. Without it: floats are a regression, lists several labels at once.
        label_names (`list[str]`, *optional*):
            The labels there may be, of a trained model. Without it they are read from `ClassLabel` columns, or
            collected from the training data and sorted.
        needed (`tuple[str]`): Splits without which there is nothing to do.

    Returns:
        [`Corpus`]

    Raises:
        ValueError: With the place and the value: a missing file, column, split or row; an empty or non-string
            text; tags and words of different number; a label that is missing or not in the training data; a
            file of another format than its name says; a hub dataset that cannot be reached.

    Example:
    ```python
    >>> import json, tempfile
    >>> from rnn_hf.data import DataArguments, load_corpus
    >>> with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
    ...     for label in ["ham", "spam"] * 10:
    ...         _ = file.write(json.dumps({"text": f"this is {label}", "label": label}) + "\n")
    ...     file.flush()
    ...     corpus = load_corpus(DataArguments(train_file=file.name), "text-classification")
    >>> corpus.label_names, corpus.num_rows
    (['ham', 'spam'], {'train': 16, 'validation': 2, 'test': 2})

    ```
    """
    splits, origins = _load_splits(arguments)
    input_column, label_column = _columns(arguments, task, splits)
    splits = _without_unlabelled_test(splits, label_column, origins)
    if arguments.max_train_samples is not None and "train" in splits:
        splits["train"] = splits["train"].take(arguments.max_train_samples)

    known = label_names
    num_rows = {}
    for name in sorted(splits, key=list(_SPLIT_NAMES).index):
        check = _Check(task, arguments, origins[name], input_column, label_column, problem_type, known)
        num_rows[name] = check.read(splits[name])
        problem_type = check.problem_type
        known = check.label_names()
    splits, num_rows = _make_missing_splits(splits, num_rows, needed, origins)
    for name in needed:
        if name not in splits:
            raise ValueError(f"There is no {name} data: give --{name}_file, or a dataset with a {name!r} split.")
    if problem_type == "single_label_classification" and task == "text-classification" and known and len(known) < 2:
        origin = next(iter(origins.values()))
        raise ValueError(f"{origin} knows one label only, {known[0]!r}; a classifier needs at least two.")
    assert known is not None
    assert problem_type is not None
    return Corpus(task, splits, input_column, label_column, problem_type, known, num_rows)


class _Check:
    """Read a split once: check each row, find out what the labels are, collect their names."""

    def __init__(
        self,
        task: Task,
        arguments: DataArguments,
        origin: str,
        input_column: str,
        label_column: str,
        problem_type: str | None,
        known: list[str] | None,
    ):
        self.task = task
        self.origin = origin
        self.allow_empty_text = arguments.allow_empty_text
        self.input_column = input_column
        self.label_column = label_column
        self.problem_type = problem_type
        self.known = known
        self.found: set[str] = set()
        self.from_feature: list[str] | None = None

    def read(self, split: Dataset | IterableDataset) -> int:
        feature = (split.features or {}).get(self.label_column)
        class_label = _class_label(feature)
        if class_label is not None and self.known is None:
            self.from_feature = list(class_label.names)
        row = 0
        for batch in self._batches(split):
            for text, label in zip(batch[self.input_column], batch[self.label_column], strict=True):
                row += 1
                if self.task == "text-classification":
                    self._check_text(row, text)
                    self._check_label(row, label, feature)
                else:
                    self._check_words(row, text, label, feature)
        if row == 0:
            raise ValueError(f"{self.origin} has no rows.")
        if not self.label_names():
            raise ValueError(f"{self.origin} has no label in any row of column {self.label_column!r}.")
        return row

    def _batches(self, split: Dataset | IterableDataset) -> Iterator[Any]:
        batches = split.select_columns([self.input_column, self.label_column]).iter(batch_size=_BATCH_SIZE)
        try:
            yield from batches
        except Exception as error:
            raise ValueError(f"{self.origin} could not be read to its end: {_first_line(error)}") from error

    def label_names(self) -> list[str]:
        if self.known is not None:
            return self.known
        if self.problem_type == "regression":
            return ["LABEL_0"]
        if self.from_feature is not None:
            return self.from_feature
        numeric = all(name.lstrip("-").isdigit() for name in self.found)
        return sorted(self.found, key=int) if numeric else sorted(self.found)

    def _refuse(self, row: int, message: str) -> None:
        raise ValueError(f"{self.origin}, row {row}: {message}")

    def _check_text(self, row: int, text: Any) -> None:
        if not isinstance(text, str):
            self._refuse(row, f"column {self.input_column!r} must hold a text, got {text!r}.")
        if not text.strip() and not self.allow_empty_text:
            self._refuse(
                row,
                f"the text in column {self.input_column!r} is empty: {text!r}. Remove the row, or accept empty texts "
                "with --allow_empty_text.",
            )

    def _check_label(self, row: int, label: Any, feature: Any) -> None:
        if _is_missing(label):
            self._refuse_missing(row, label)
        if self.problem_type is None:
            if isinstance(label, list):
                self.problem_type = "multi_label_classification"
            elif isinstance(label, float):
                self.problem_type = "regression"
            else:
                self.problem_type = "single_label_classification"
        if self.problem_type == "regression":
            if isinstance(label, bool) or not isinstance(label, int | float):
                self._refuse(row, f"column {self.label_column!r} must hold a number, got {label!r}.")
            return
        if isinstance(label, list) != (self.problem_type == "multi_label_classification"):
            wanted = "a list of labels" if self.problem_type == "multi_label_classification" else "one label"
            self._refuse(row, f"column {self.label_column!r} must hold {wanted}, got {label!r}.")
        for one in label if isinstance(label, list) else [label]:
            self._check_name(row, one, feature)

    def _check_words(self, row: int, words: Any, tags: Any, feature: Any) -> None:
        self.problem_type = "single_label_classification"
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            self._refuse(row, f"column {self.input_column!r} must hold a list of words, got {words!r}.")
        if not words and not self.allow_empty_text:
            self._refuse(
                row,
                f"column {self.input_column!r} holds no word. Remove the row, or accept it with --allow_empty_text.",
            )
        if not isinstance(tags, list):
            self._refuse(row, f"column {self.label_column!r} must hold a list of tags, got {tags!r}.")
        if len(words) != len(tags):
            self._refuse(
                row,
                f"{len(words)} words in column {self.input_column!r}, but {len(tags)} tags in column "
                f"{self.label_column!r}: {words!r}, {tags!r}.",
            )
        for word, tag in zip(words, tags, strict=True):
            if tag is None or tag == "":
                self._refuse(row, f"the word {word!r} has no tag in column {self.label_column!r}.")
            self._check_name(row, tag, feature)

    def _refuse_missing(self, row: int, label: Any) -> None:
        self._refuse(row, f"column {self.label_column!r} holds no label: {label!r}. Give it one, or remove the row.")

    def _check_name(self, row: int, label: Any, feature: Any) -> None:
        class_label = _class_label(feature)
        if _is_missing(label) or (class_label is not None and not 0 <= label < class_label.num_classes):
            self._refuse_missing(row, label)
        if not isinstance(label, str | int | float):
            self._refuse(row, f"a label in column {self.label_column!r} must be a text or a number, got {label!r}.")
        name = _name(label, feature)
        if self.known is None:
            self.found.add(name)
        elif name not in self.known:
            self._refuse(
                row,
                f"the label {name!r} in column {self.label_column!r} is not among those of the training data: "
                f"{_listed(self.known)}.",
            )


def _load_splits(arguments: DataArguments) -> tuple[dict[str, Dataset | IterableDataset], dict[str, str]]:
    """Load what is there, as `train`, `validation` and `test`, with a description of each split's origin."""
    try:
        options = json.loads(arguments.dataset_kwargs)
    except json.JSONDecodeError as error:
        raise ValueError(f"--dataset_kwargs is not valid JSON ({error}): {arguments.dataset_kwargs}") from error
    if not isinstance(options, dict):
        raise ValueError(f"--dataset_kwargs must be a JSON object, got {arguments.dataset_kwargs}.")
    files = {name: getattr(arguments, f"{name}_file") for name in _SPLIT_NAMES}
    files = {name: file for name, file in files.items() if file is not None}
    if bool(files) == (arguments.dataset_name is not None):
        raise ValueError("Name the data either with --dataset_name, or with --train_file and its companions.")
    if arguments.dataset_name is not None:
        return _load_named(arguments, options)
    splits = {name: _load_file(name, file, arguments, options) for name, file in files.items()}
    return splits, files


def _load_named(
    arguments: DataArguments, options: dict[str, Any]
) -> tuple[dict[str, Dataset | IterableDataset], dict[str, str]]:
    name = arguments.dataset_name
    try:
        loaded = datasets.load_dataset(name, arguments.dataset_config_name, streaming=arguments.streaming, **options)
        if arguments.streaming:
            for split in loaded.values():
                next(iter(split), None)
    except Exception as error:
        raise ValueError(
            f"The dataset {name!r} could not be loaded: {_first_line(error)} Check its id and the network, or read "
            "local files with --train_file."
        ) from error
    splits, origins = {}, {}
    for split, alternatives in _SPLIT_NAMES.items():
        for alternative in alternatives:
            if alternative in loaded:
                splits[split], origins[split] = loaded[alternative], f"{name}, split {alternative!r}"
                break
    if not splits:
        raise ValueError(f"The dataset {name!r} has no split named train, only: {_listed(list(loaded))}.")
    return splits, origins


def _load_file(
    split_name: str, file: str, arguments: DataArguments, options: dict[str, Any]
) -> Dataset | IterableDataset:
    is_file = Path(file).is_file()
    if "://" not in file and not is_file and not any(map(os.path.isfile, glob.iglob(file, recursive=True))):
        raise ValueError(f"There is no file {file}.")
    name = arguments.dataset_format or _ENDINGS.get(Path(file).suffix.lower())
    if name is None:
        raise ValueError(
            f"The name of {file} does not tell its format. Say it with --dataset_format: {_listed(list(_FORMATS))}."
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
            f"{file} could not be read as {name}: {_first_line(error)} If it is something else, say so with "
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


def _columns(arguments: DataArguments, task: Task, splits: dict[str, Dataset | IterableDataset]) -> tuple[str, str]:
    first = next(iter(splits.values()))
    if task == "text-classification":
        wanted = {"text_column": arguments.text_column, "label_column": arguments.label_column}
    else:
        conllu = _column_names(first) == CONLLU_COLUMNS
        wanted = {
            "tokens_column": arguments.tokens_column or ("form" if conllu else "tokens"),
            "tags_column": arguments.tags_column or ("upos" if conllu else "tags"),
        }
    for name, split in splits.items():
        for option, column in wanted.items():
            if column not in _column_names(split):
                raise ValueError(
                    f"The {name} data has no column {column!r}, only: {_listed(_column_names(split))}. "
                    f"Name the right one with --{option}."
                )
    input_column, label_column = wanted.values()
    return input_column, label_column


def _without_unlabelled_test(
    splits: dict[str, Dataset | IterableDataset], label_column: str, origins: dict[str, str]
) -> dict[str, Dataset | IterableDataset]:
    """Leave out a test split whose labels were withheld, as shared tasks on the hub do (-1)."""
    if "test" in splits and "train" in splits:
        test = splits["test"]
        rows: Iterator[dict[str, Any]] = iter(test)
        first = next(rows, {}).get(label_column)
        if first == -1 and _class_label((test.features or {}).get(label_column)) is not None:
            logger.warning(f"{origins['test']} has no labels; it is left out.")
            return {name: split for name, split in splits.items() if name != "test"}
    return splits


def _make_missing_splits(
    splits: dict[str, Dataset | IterableDataset],
    num_rows: dict[str, int],
    needed: tuple[str, ...],
    origins: dict[str, str],
) -> tuple[dict[str, Dataset | IterableDataset], dict[str, int]]:
    """Hold out a tenth of the training data for validation, and another for a test where there is neither."""
    if "train" not in splits or "validation" in splits or "validation" not in needed:
        return splits, num_rows
    splits, num_rows = dict(splits), dict(num_rows)
    missing = ["validation"] if "test" in splits else ["test", "validation"]
    held_out = max(1, round(num_rows["train"] / _STREAM_STRIDE))
    if num_rows["train"] < len(missing) * held_out + 1:
        raise ValueError(f"{origins['train']} has too few rows to hold some out: {num_rows['train']}.")
    for place, name in enumerate(missing):
        train = splits["train"]
        if isinstance(train, Dataset):
            parts = train.train_test_split(test_size=held_out, seed=_SPLIT_SEED)
            splits["train"], splits[name] = parts["train"], parts["test"]
            how = f"chosen with seed {_SPLIT_SEED}"
        else:
            stride = _STREAM_STRIDE - place
            splits[name] = train.filter(lambda _, row, n=stride: row % n == 0, with_indices=True)
            splits["train"] = train.filter(lambda _, row, n=stride: row % n != 0, with_indices=True)
            held_out = math.ceil(num_rows["train"] / stride)
            how = f"every {stride}th"
        num_rows["train"] -= held_out
        num_rows[name] = held_out
        logger.warning(f"No {name} data given: {held_out} rows of {origins['train']} are held out for it, {how}.")
    order = [name for name in _SPLIT_NAMES if name in splits]
    return {name: splits[name] for name in order}, {name: num_rows[name] for name in order}


def _column_names(split: Dataset | IterableDataset) -> list[str]:
    # A stream does not always know its columns before its first row.
    return list(split.column_names or next(iter(split), {}))


def _is_missing(label: Any) -> bool:
    return label is None or label == "" or (isinstance(label, float) and math.isnan(label))


def _class_label(feature: Any) -> datasets.ClassLabel | None:
    inner = getattr(feature, "feature", feature)
    return inner if isinstance(inner, datasets.ClassLabel) else None


def _name(label: Any, feature: Any) -> str:
    class_label = _class_label(feature)
    return class_label.int2str(label) if class_label is not None else str(label)


def _label_id(label: Any, feature: Any, problem_type: str, label_ids: dict[str, int]) -> Any:
    if problem_type == "regression":
        return float(label)
    if problem_type == "multi_label_classification":
        present = {label_ids[_name(one, feature)] for one in label}
        return [float(index in present) for index in range(len(label_ids))]
    return label_ids[_name(label, feature)]


def _listed(names: list[str], most: int = 20) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (f", … ({len(names)} in all)" if len(names) > most else "")


def _first_line(error: BaseException) -> str:
    if isinstance(error, datasets.exceptions.DatasetGenerationError):
        # Its own message says only that there was an error.
        error = error.__cause__ or error.__context__ or error
    if isinstance(error, datasets.table.CastError):
        line = f"its rows differ in their columns; at some point {error.details()}"
    else:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line if line.endswith(".") else line + "."


__all__ = ["Corpus", "DataArguments", "Task", "load_corpus"]
