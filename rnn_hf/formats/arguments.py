"""The options that name a corpus, and what makes no sense among them."""

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

from ..utils.display import printable, shorten
from ..utils.messages import listed, shown
from ..utils.secrets import find_secrets, mask

Task = Literal["text-classification", "token-classification", "language-modeling"]
# What the models of a task are called.
MODELS_OF: dict[Task, str] = {
    "text-classification": "classifiers",
    "token-classification": "taggers",
    "language-modeling": "language models",
}

MOST_LABEL_CHARACTERS = 1000
_MOST_TOKENS = 10**9
# Options of `datasets.load_dataset` that follow from options of ours.
_RESERVED = {
    "path": "--dataset_name or --dataset_format",
    "name": "--dataset_config_name",
    "data_files": "--train_file and its companions",
    "split": "--train_file and its companions",
    "streaming": "--streaming",
}


@dataclass
class DataArguments:
    """Where the corpus is and which columns to read; the fields are options of the commands."""

    _argument_group_name = "data"

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
    unlabelled_file: str | None = field(
        default=None,
        metadata={
            "help": "Texts, or sentences of words, without labels, to learn from beside the training data: a file or "
            "pattern, in any of the formats or with a text a line."
        },
    )
    dataset_format: Literal["csv", "tsv", "json", "parquet", "arrow", "fasttext", "conll", "conllu"] | None = field(
        default=None,
        metadata={
            "help": "Format of the files, where their names do not tell. conll: a line a word, its columns split at "
            "tabs or spaces, an empty line after each sentence."
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
    text_column: str = field(default="text", metadata={"help": "Column of the texts.", "task": "text-classification"})
    label_column: str = field(
        default="label", metadata={"help": "Column of the labels.", "task": "text-classification"}
    )
    tokens_column: str | None = field(
        default=None,
        metadata={
            "help": "Column of the words. (default: tokens, in CoNLL-U form)",
            "task": "token-classification",
        },
    )
    tags_column: str | None = field(
        default=None,
        metadata={"help": "Column of the tags. (default: tags, in CoNLL-U upos)", "task": "token-classification"},
    )
    auxiliary_tags_column: str = field(
        default="auto",
        metadata={
            "help": "Column with auxiliary labels, which the model also learns in training and does not need "
            "afterwards: parts of speech for chunks, or xpos for upos. auto: found in the training data, if there is "
            "one, else the ends of spans unless --crf_tag_scheme tells them; none: without.",
            "task": "token-classification",
        },
    )
    label_columns: list[str] | None = field(
        default=None,
        metadata={
            "help": "Columns that hold 0 or 1, whether a text has the label that the column is named after.",
            "task": "text-classification",
        },
    )
    label_separator: str | None = field(
        default=None,
        metadata={
            "help": "What stands between several labels in one text, such as '#' or ';'.",
            "task": "text-classification",
        },
    )
    label_names: list[str] | None = field(
        default=None,
        metadata={"help": "Names of the integer labels 0, 1, 2, ... in the data; or a file with one name a line."},
    )
    tag_scheme: Literal["auto", "none", "io", "iob1", "iob2", "ioe1", "ioe2", "iobes", "bilou", "bmes"] = field(
        default="auto",
        metadata={
            "help": "How tags mark spans. auto: found out from the training data. Tags of any scheme are brought to "
            "IOB2, which the model predicts; io: equal tags in a row are a span; none leaves them as they are.",
            "task": "token-classification",
        },
    )
    additional_labels: list[str] | None = field(
        default=None,
        metadata={"help": "Labels that the model shall know though the training data lacks them, such as I-LST."},
    )
    unseen_labels: Literal["refuse", "count"] = field(
        default="refuse",
        metadata={
            "help": "What to do with validation and test labels that the training data lacks: refuse them, or count "
            "each of their rows or words as an error."
        },
    )
    max_train_samples: int | None = field(
        default=None, metadata={"help": "Use only the first examples of the training data, for a quick try."}
    )
    max_seq_length: int | None = field(
        default=None,
        metadata={
            "help": "Cut texts after so many tokens. Without it, texts are not cut.",
            "task": "text-classification",
        },
    )
    allow_empty_text: bool = field(
        default=False, metadata={"help": "Accept empty texts (and sentences without words) instead of stopping."}
    )


def check_data_arguments(arguments: DataArguments, task: Task) -> None:
    """Refuse options that make no sense, before any file is read.

    Args:
        arguments ([`DataArguments`]): The options.
        task (`str`): `"text-classification"` or `"token-classification"`.

    Raises:
        ValueError: A value of a wrong type or out of range, an option of the other task, options that contradict each
            other. The message names the option, and what would be right.

    Example:
    ```python
    >>> from rnn_hf.formats.arguments import DataArguments, check_data_arguments
    >>> check_data_arguments(DataArguments(train_file="a.conllu", max_seq_length=100), "token-classification")
    Traceback (most recent call last):
    ...
    ValueError: --max_seq_length is for classifiers: a tagger reads all words. Leave it out.

    ```
    """
    _check_types(arguments)
    _check_task(arguments, task)
    builder_options(arguments)
    names_files = any(getattr(arguments, name) for name in ("train_file", "validation_file", "test_file"))
    if names_files == (arguments.dataset_name is not None):
        raise ValueError("Name the data either with --dataset_name, or with --train_file and its companions.")
    if arguments.dataset_config_name is not None and arguments.dataset_name is None:
        raise ValueError("--dataset_config_name is for a dataset on the hub, beside --dataset_name: leave it out.")
    if arguments.dataset_format is not None and arguments.dataset_name is not None:
        raise ValueError(
            "--dataset_format is for the files of --train_file and its companions: leave it out beside --dataset_name."
        )
    for name in ("max_train_samples", "max_seq_length"):
        value = getattr(arguments, name)
        if value is not None and not 1 <= value < _MOST_TOKENS:
            raise ValueError(f"--{name} must be from 1 to {_MOST_TOKENS - 1:,}, got {value}: leave it out to read all.")
    _check_additional_labels(arguments.additional_labels or [])
    _check_label_options(arguments)


def builder_options(arguments: DataArguments) -> dict[str, Any]:
    """Read the options of the datasets builder.

    Args:
        arguments ([`DataArguments`]): `dataset_kwargs` is read, which may be a mapping too.

    Raises:
        ValueError: It is no JSON object, or sets what other options set. Secrets in it are not shown.

    Example:
    ```python
    >>> from rnn_hf.formats.arguments import DataArguments, builder_options
    >>> builder_options(DataArguments(dataset_kwargs='{"sep": ";"}'))
    {'sep': ';'}

    ```
    """
    given: Any = arguments.dataset_kwargs
    text = shorten(printable(mask(str(given), find_secrets((), given if isinstance(given, dict) else {}))), 200)
    try:
        # A configuration file may hold a mapping in place of the JSON text.
        options = json.loads(given) if isinstance(given, str) else given
    except (ValueError, RecursionError) as error:
        raise ValueError(f"--dataset_kwargs is not valid JSON ({error}): {text}") from error
    if not isinstance(options, dict):
        raise ValueError(f"--dataset_kwargs must be a JSON object, got {text}.")
    for name, instead in _RESERVED.items():
        if name in options:
            raise ValueError(f"--dataset_kwargs cannot set {name!r}: use {instead}.")
    return options


def source_name(name: str) -> str:
    r"""Show the name or the address of data: without credentials, harmless to a terminal.

    Args:
        name (`str`): A file's name, a pattern, an address, or the id of a dataset.

    Example:
    ```python
    >>> from rnn_hf.formats.arguments import source_name
    >>> print(source_name("https://me:secret@host/a.csv?token=1234"), source_name("a\x1b.csv"))
    https://…@host/a.csv?… a\x1b.csv

    ```
    """
    return shorten(printable(mask(name)), 500)


def columns(arguments: DataArguments, task: Task, is_conllu: bool = False) -> dict[str, str]:
    """Return the columns of a task's inputs and labels, by the options that name them.

    Args:
        arguments ([`DataArguments`]): The options.
        task (`str`): `"text-classification"` or `"token-classification"`.
        is_conllu (`bool`): Whether the data has the columns of CoNLL-U.

    Example:
    ```python
    >>> from rnn_hf.formats.arguments import DataArguments, columns
    >>> columns(DataArguments(label_column="stars"), "text-classification")
    {'text_column': 'text', 'label_column': 'stars'}

    ```
    """
    if task == "text-classification":
        return {"text_column": arguments.text_column, "label_column": arguments.label_column}
    return {
        "tokens_column": arguments.tokens_column or ("form" if is_conllu else "tokens"),
        "tags_column": arguments.tags_column or ("upos" if is_conllu else "tags"),
    }


def named_auxiliary(arguments: DataArguments) -> str | None:
    """Return the column of auxiliary labels that the options name, if they name one.

    Args:
        arguments ([`DataArguments`]): The options.

    Example:
    ```python
    >>> from rnn_hf.formats.arguments import DataArguments, named_auxiliary
    >>> named_auxiliary(DataArguments()), named_auxiliary(DataArguments(auxiliary_tags_column="pos"))
    (None, 'pos')

    ```
    """
    return None if arguments.auxiliary_tags_column in ("auto", "none") else arguments.auxiliary_tags_column


def check_label_name(name: str) -> str | None:
    """Say what is wrong with a label's name, if anything.

    Example:
    ```python
    >>> from rnn_hf.formats.arguments import check_label_name
    >>> check_label_name("ham"), check_label_name(" ")
    (None, 'is empty')

    ```
    """
    if not name.strip():
        return "is empty"
    if len(name) > MOST_LABEL_CHARACTERS:
        return f"has {len(name):,} characters, and is a text rather than a label"
    return None


def _check_types(arguments: DataArguments) -> None:
    """Check what a file of options may hold, which the command line's parser does not see."""
    hints = typing.get_type_hints(DataArguments) | {"dataset_kwargs": str | dict}
    for one in dataclasses.fields(arguments):
        value = getattr(arguments, one.name)
        if not _fits(value, hints[one.name]) or value == "":
            said = mask(shown(value), find_secrets((), {one.name: value}))
            raise ValueError(f"--{one.name} must be {_described(hints[one.name])}, got {said}.")


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if origin is list:
        return isinstance(value, list) and all(_fits(one, inner[0]) for one in value)
    return isinstance(value, hint) and (hint is not int or not isinstance(value, bool))


def _described(hint: Any) -> str:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _described(inner[0])
    if origin is Literal:
        return f"one of {listed(inner)}"
    names = {bool: "true or false", int: "a whole number", list: "a list of texts, each in quotes"}
    return names.get(origin or hint, "a text, not empty, and in quotes where it looks like something else")


def _check_task(arguments: DataArguments, task: Task) -> None:
    of_the_other = {
        "text-classification": {
            "tokens_column": "for taggers; name the column of a classifier's texts with --text_column",
            "tags_column": "for taggers; name the column of a classifier's labels with --label_column",
            "auxiliary_tags_column": "for taggers: texts have no tags",
            "tag_scheme": "for taggers: texts have no tags",
        },
        "token-classification": {
            "text_column": "for classifiers; name the column of a tagger's words with --tokens_column",
            "label_column": "for classifiers; name the column of a tagger's tags with --tags_column",
            "label_columns": "for classifiers: a tagger has one tag a word",
            "label_separator": "for classifiers: a tagger has one tag a word",
            "max_seq_length": "for classifiers: a tagger reads all words",
        },
    }
    defaults = {one.name: one.default for one in dataclasses.fields(arguments)}
    for name, reason in of_the_other[task].items():
        if getattr(arguments, name) != defaults[name]:
            raise ValueError(f"--{name} is {reason}. Leave it out.")
    (input_option, input_column), *others = columns(arguments, task).items()
    for option, column in [*others, ("auxiliary_tags_column", named_auxiliary(arguments))]:
        if column == input_column:
            raise ValueError(f"--{input_option} and --{option} both name the column {shown(column)}: they must differ.")


def _check_label_options(arguments: DataArguments) -> None:
    columns = arguments.label_columns
    if columns is None:
        return
    for name in ("label_separator", "label_names"):
        if getattr(arguments, name) is not None:
            raise ValueError(f"--label_columns names the labels, and --{name} has no effect beside it: leave it out.")
    for column in columns:
        if columns.count(column) > 1 or column == arguments.text_column:
            raise ValueError(f"--label_columns: {shown(column)} is named twice, or is the column of the texts.")


def _check_additional_labels(names: list[str]) -> None:
    for name in names:
        problem = check_label_name(name)
        try:
            name.encode()
        except UnicodeEncodeError:
            problem = "is not valid UTF-8"
        if names.count(name) > 1:
            problem = "is named twice"
        if problem is not None:
            raise ValueError(f"--additional_labels: {shown(name)} {problem}.")


__all__ = [
    "MODELS_OF",
    "MOST_LABEL_CHARACTERS",
    "DataArguments",
    "Task",
    "builder_options",
    "check_data_arguments",
    "check_label_name",
    "columns",
    "named_auxiliary",
    "source_name",
]
