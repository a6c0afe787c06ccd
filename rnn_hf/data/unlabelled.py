"""Read texts, or sentences of words, without labels, in any format of the data."""

import dataclasses
import glob
import hashlib
import math
import os
from typing import Any

import datasets
from transformers import PreTrainedTokenizerBase

from ..formats.arguments import DataArguments, Task, columns, source_name
from ..formats.columns import choose_column
from ..formats.loading import (
    CONLLU_COLUMNS,
    Split,
    column_names,
    first_line,
    format_of,
    load_splits,
    quiet,
    reading_fault,
)
from ..formats.sniffing import content_format
from ..formats.span_files import find_span_file
from ..text.encoding import encode_texts, encode_words, max_length_of
from ..utils.messages import listed, shown
from .augmentation import fill_masks
from .tag_names import usual_columns

_BATCH_SIZE = 1000
_NO_TEXT = "{} holds no text: give --unlabelled_file one that does, or leave it out."


@dataclasses.dataclass
class Unlabelled:
    """Texts or sentences that have no labels, checked.

    Args:
        split (`Split`): Rows with one column, `text` or `tokens`.
        num_rows (`int`): How many there are.
        fingerprint (`str`): Digest of their content.
        origin (`str`): Where they come from, for messages.
    """

    split: Split
    num_rows: int
    fingerprint: str
    origin: str

    @property
    def column(self) -> str:
        """`str`: the name of the column."""
        return column_names(self.split)[0]


def load_unlabelled(arguments: DataArguments, task: Task) -> Unlabelled:
    r"""Load the texts of `unlabelled_file`, or for a tagger its sentences of words. Labels in it are not read.

    A file whose name and content tell no format has a text a line; a tagger's words stand between blanks there.

    Args:
        arguments ([`DataArguments`]): Checked options. The columns are those of the training data.
        task (`str`): `"text-classification"` or `"token-classification"`.

    Returns:
        [`Unlabelled`], without rows that are empty.

    Raises:
        ValueError: There is no such file, it holds no text, or a row that is none; files of several formats.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf.data.unlabelled import DataArguments, load_unlabelled
    >>> with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
    ...     _ = file.write("a good film\n\na bad one\n")
    ...     file.flush()
    ...     unlabelled = load_unlabelled(DataArguments(unlabelled_file=file.name), "text-classification")
    ...     unlabelled.num_rows, list(unlabelled.split)
    (2, [{'text': 'a good film'}, {'text': 'a bad one'}])

    ```
    """
    file = arguments.unlabelled_file
    assert file is not None
    origin = source_name(file)
    found = _format(file, task)
    if found == "lines":
        split = _load_lines(file, arguments, task)
    else:
        options: dict[str, Any] = dict.fromkeys(
            ("dataset_name", "dataset_config_name", "validation_file", "test_file", "label_columns")
        )
        options |= {"train_file": file, "dataset_format": found}
        trained = arguments.train_file
        if trained is not None and found != (arguments.dataset_format or _format(trained, task)):
            options["dataset_kwargs"] = "{}"  # what the training data's format takes
        own = dataclasses.replace(arguments, **options)
        split = _one_column(load_splits(own, task)[0]["train"], arguments, task, origin)
    column = "text" if task == "text-classification" else "tokens"
    num_rows, num_empty, fingerprint = _check(split, column, origin)
    if num_empty:
        split = split.filter(_is_full, input_columns=[column])
    return Unlabelled(split, num_rows, fingerprint, origin)


def encode_unlabelled(
    split: Split,
    tokenizer: PreTrainedTokenizerBase,
    problem_type: str,
    num_labels: int,
    max_length: int | None = None,
) -> Split:
    """Turn texts or words into `input_ids`, with `labels` that losses leave out.

    Args:
        split (`Split`): Rows with one column, `text` or `tokens`.
        tokenizer (`PreTrainedTokenizerBase`): The tokenizer.
        problem_type (`str`): As in the configuration.
        num_labels (`int`): Number of labels.
        max_length (`int`, *optional*): Where to cut texts; where the tokenizer says, without it.

    Returns:
        `Split`: with the columns of encoded training data. A missing label is -100, a missing number of a regression
        or of several labels a text NaN.

    Example:
    ```python
    >>> from datasets import Dataset
    >>> from rnn_hf import train_tokenizer
    >>> from rnn_hf.data.unlabelled import encode_unlabelled
    >>> texts = Dataset.from_dict({"text": ["a b"]})
    >>> tokenizer = train_tokenizer(texts["text"], kind="word", min_frequency=1)
    >>> encode_unlabelled(texts, tokenizer, "single_label_classification", 2)[0]
    {'input_ids': [3, 4, 2], 'labels': -100}

    ```
    """
    (column,) = column_names(split)
    missing: Any = -100
    if problem_type == "regression":
        missing = math.nan
    elif problem_type == "multi_label_classification":
        missing = [math.nan] * num_labels
    arguments = {"tokenizer": tokenizer, "missing": missing}
    if column == "text":
        arguments["max_length"] = max_length_of(tokenizer) if max_length is None else max_length
    options: dict[str, Any] = {"input_columns": [column], "remove_columns": [column], "fn_kwargs": arguments}
    if isinstance(split, datasets.Dataset):
        options["desc"] = "Encoding texts without labels"
    return split.map(_encode_texts if column == "text" else _encode_sentences, batched=True, **options)


def _encode_texts(
    texts: list[str], tokenizer: PreTrainedTokenizerBase, missing: Any, max_length: int | None
) -> dict[str, list]:
    texts = fill_masks(texts, tokenizer)
    return {"input_ids": encode_texts(tokenizer, texts, max_length), "labels": [missing] * len(texts)}


def _encode_sentences(sentences: list[list[str]], tokenizer: PreTrainedTokenizerBase, missing: int) -> dict[str, list]:
    all_ids, all_firsts = encode_words(tokenizer, fill_masks(sentences, tokenizer))
    labels = [[missing] * len(ids) for ids in all_ids]
    return {"input_ids": all_ids, "labels": labels, "word_positions": all_firsts}


def _format(file: str, task: Task) -> str | None:
    """Tell the format of all files by their names, or by the content of the first: `"lines"` where nothing tells one.

    `None` leaves it to the loading of folders and of annotated texts.
    """
    if os.path.isdir(file) or (task == "token-classification" and find_span_file(file) is not None):
        return None
    paths = [file] if "://" in file or os.path.exists(file) else sorted(glob.glob(file, recursive=True))
    if not paths:
        raise ValueError(f"There is no file {source_name(file)}.")
    formats = {path: format_of(path) or content_format(path, task) or "lines" for path in paths}
    if len(set(formats.values())) > 1:
        first = {name: source_name(path) for path, name in reversed(formats.items())}
        read = " and ".join(f"{path} as {name}" for name, path in sorted(first.items()))
        raise ValueError(f"--unlabelled_file {source_name(file)} has files of several formats, {read}: name one.")
    return formats[paths[0]]


def _load_lines(file: str, arguments: DataArguments, task: Task) -> Split:
    try:
        with quiet():
            named = glob.escape(file) if os.path.exists(file) else file
            split = datasets.load_dataset("text", data_files=named, split="train", streaming=arguments.streaming)
            if arguments.streaming:
                next(iter(split), None)
    except Exception as error:
        if "Please pass `features`" in first_line(error):
            raise ValueError(_NO_TEXT.format(source_name(file))) from error
        raise ValueError(f"{source_name(file)} could not be read as text: {first_line(error)}") from error
    if task == "text-classification":
        return split
    return split.map(_split_words, batched=True, input_columns=["text"], remove_columns=["text"])


def _split_words(texts: list[str]) -> dict[str, list[list[str]]]:
    return {"tokens": [text.split() for text in texts]}


def _one_column(split: Split, arguments: DataArguments, task: Task, origin: str) -> Split:
    names = column_names(split)
    wanted = columns(arguments, task, names == CONLLU_COLUMNS)
    option = next(iter(wanted))
    if task == "text-classification":
        column, name = choose_column(option, wanted[option], names, origin), "text"
    else:
        column, name = usual_columns(arguments, wanted, names, origin)[option], "tokens"
    if column not in names:
        raise ValueError(
            f"{origin} has no column {shown(column)}, only: {listed(names)}. Name the right one with --{option}."
        )
    split = split.select_columns([column])
    return split if column == name else split.rename_column(column, name)


def _check(split: Split, column: str, origin: str) -> tuple[int, int, str]:
    """Check all rows; return the number of full and of empty ones, and a digest."""
    digest = hashlib.blake2b(digest_size=6)
    num_rows, num_empty = 0, 0
    try:
        for batch in split.iter(batch_size=_BATCH_SIZE):
            for value in batch[column]:
                _check_row(value, column, f"{origin}, row {num_rows + num_empty + 1}")
                if _is_full(value):
                    digest.update(f"{value!r}\n".encode())
                    num_rows += 1
                else:
                    num_empty += 1
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"{origin} could not be read to its end: {reading_fault(error, origin)}") from error
    if num_rows == 0:
        raise ValueError(_NO_TEXT.format(origin))
    return num_rows, num_empty, digest.hexdigest()


def _check_row(value: Any, column: str, where: str) -> None:
    if column == "text" and not isinstance(value, str):
        raise ValueError(f"{where}: there must be a text, got {shown(value)}.")
    if column == "tokens" and not (isinstance(value, list) and all(isinstance(word, str) for word in value)):
        raise ValueError(f"{where}: there must be a list of words, got {shown(value)}.")
    try:
        (value if column == "text" else "".join(value)).encode()
    except UnicodeEncodeError:
        raise ValueError(f"{where}: a lone surrogate, which is no character: {shown(value)}.") from None


def _is_full(value: str | list[str]) -> bool:
    return bool(value.strip() if isinstance(value, str) else value)


__all__ = ["Unlabelled", "encode_unlabelled", "load_unlabelled"]
