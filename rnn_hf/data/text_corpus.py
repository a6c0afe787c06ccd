"""Load texts without labels as a corpus to pretrain on, and encode them for a language model."""

import glob
import os
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ..formats.arguments import DataArguments, Task
from ..formats.loading import Split, column_names, format_of
from ..formats.sniffing import content_format
from ..text.encoding import encode_texts, encode_words
from ..text.words import split_words
from .corpus import Corpus
from .unlabelled import Unlabelled, load_unlabelled

logger = logging.get_logger(__name__)

# Every how manieth row is held out for validation at least, and how many rows at most.
_STRIDE = 10
_MOST_HELD_OUT = 5000


@dataclass
class TextArguments:
    """Where the texts are, and how they are read; the fields are options of `rnn-hf pretrain`."""

    _argument_group_name = "data"

    train_file: str | None = field(
        default=None,
        metadata={
            "help": "Texts, or sentences of words: a local file or pattern, in any format of the data; else a text a "
            "line. Labels are not read."
        },
    )
    validation_file: str | None = field(
        default=None,
        metadata={
            "help": "Texts for the perplexity. Without it, a tenth of the training data is held out, at most 5,000 "
            "rows, unless --eval_strategy no says that the model be trained on all."
        },
    )
    dataset_kwargs: str = field(default="{}", metadata={"help": "Options of the datasets builder as JSON."})
    streaming: bool = field(
        default=False, metadata={"help": "Read the data as it comes, for corpora larger than the disk or the memory."}
    )
    text_column: str = field(default="text", metadata={"help": "Column of the texts."})
    tokens_column: str | None = field(
        default=None,
        metadata={"help": "Column of the words, for a tagger's encoder. (default: tokens, of CoNLL files)"},
    )
    chunk_length: int = field(
        default=256,
        metadata={
            "help": "Most tokens of a text that are read at once. Longer texts are read in chunks: states are carried "
            "from one to the next, and gradients end there."
        },
    )


def load_texts(arguments: TextArguments, *, holds_out: bool = True) -> tuple[Corpus, dict[str, int]]:
    r"""Load the texts, or sentences of words, of the training and the validation data.

    Args:
        arguments ([`TextArguments`]): What to load.
        holds_out (`bool`): Whether to hold out validation data where there is none.

    Returns:
        [`Corpus`] without labels, and the number of words of each split; those of texts as [`~words.split_words`]
        finds them, marks of punctuation among them.

    Raises:
        ValueError: As [`~unlabelled.load_unlabelled`]; options that make no sense, or too few texts to hold some out.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf.data.text_corpus import TextArguments, load_texts
    >>> with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
    ...     _ = file.write("a b c\n" * 20)
    ...     file.flush()
    ...     corpus, num_words = load_texts(TextArguments(train_file=file.name))
    >>> corpus.num_rows, num_words
    ({'train': 18, 'validation': 2}, {'train': 54, 'validation': 6})

    ```
    """
    if arguments.train_file is None:
        raise ValueError("Name the texts with --train_file.")
    if arguments.chunk_length < 1:
        raise ValueError(f"--chunk_length must be at least 1, got {arguments.chunk_length}.")
    files = {"train": arguments.train_file, "validation": arguments.validation_file}
    splits: dict[str, Split] = {}
    num_rows, fingerprints, origins = {}, {}, {}
    for name, file in files.items():
        if file is not None:
            found = _load(arguments, name, file)
            splits[name], num_rows[name], origins[name] = found.split, found.num_rows, found.origin
            fingerprints[name] = f"{found.num_rows:,} rows, {found.fingerprint}"
    (column, *others) = dict.fromkeys(column_names(split)[0] for split in splits.values())
    if others:
        raise ValueError("--train_file and --validation_file must both hold texts, or both sentences of words.")
    if holds_out and "validation" not in splits:
        splits, num_rows = _hold_out(splits["train"], num_rows["train"], origins["train"])
    corpus = Corpus(
        "language-modeling", splits, column, "", None, [], num_rows, fingerprints=fingerprints, origins=origins
    )
    return corpus, {name: sum(map(_num_words, corpus.inputs(name))) for name in splits}


def encode_for_language_model(corpus: Corpus, tokenizer: PreTrainedTokenizerBase) -> dict[str, Split]:
    """Turn texts into `input_ids`, and into `labels` that are the same but for the first, which nothing predicts.

    Args:
        corpus ([`Corpus`]): As [`load_texts`] gives it.
        tokenizer (`PreTrainedTokenizerBase`): The tokenizer.

    Returns:
        `dict[str, Split]`: encoded splits; validation data is read into memory.

    Example:
    ```python
    >>> from datasets import Dataset
    >>> from rnn_hf import train_tokenizer
    >>> from rnn_hf.data.corpus import Corpus
    >>> from rnn_hf.data.text_corpus import encode_for_language_model
    >>> texts = Dataset.from_dict({"text": ["a b"]})
    >>> tokenizer = train_tokenizer(texts["text"], kind="word", min_frequency=1)
    >>> corpus = Corpus("language-modeling", {"train": texts}, "text", "", None, [], {"train": 1})
    >>> encode_for_language_model(corpus, tokenizer)["train"][0]
    {'input_ids': [3, 4, 2], 'labels': [-100, 4, 2]}

    ```
    """
    options: dict[str, Any] = {
        "batched": True,
        "input_columns": [corpus.input_column],
        "remove_columns": [corpus.input_column],
        "fn_kwargs": {"tokenizer": tokenizer},
    }
    encoded = {}
    for name, split in corpus.splits.items():
        described = {"desc": f"Encoding {name}"} if isinstance(split, Dataset) else {}
        encoded[name] = split.map(_encode, **options, **described)
    if "validation" in encoded and not isinstance(encoded["validation"], Dataset):
        encoded["validation"] = Dataset.from_list(list(encoded["validation"]))
    return encoded


def _load(arguments: TextArguments, split: str, file: str) -> Unlabelled:
    """Read a file as texts, or as sentences of words where a column of words is named or its format has such."""
    options = ("dataset_kwargs", "streaming", "text_column", "tokens_column")
    data = DataArguments(unlabelled_file=file, **{name: getattr(arguments, name) for name in options})
    task: Task = "text-classification"
    if arguments.tokens_column is not None or _has_words(file):
        task = "token-classification"
    try:
        return load_unlabelled(data, task)
    except ValueError as error:
        raise ValueError(str(error).replace("--unlabelled_file", f"--{split}_file")) from error


def _has_words(file: str) -> bool:
    """Tell whether a file, or the first of a pattern, has a line a word."""
    path = next(iter(sorted(glob.glob(file, recursive=True))), file)
    name = format_of(file)
    if name is None and os.path.isfile(path):
        name = content_format(path, "token-classification", needs_spans=True)
    return name in ("conll", "conllu")


def _hold_out(train: Split, num_rows: int, origin: str) -> tuple[dict[str, Split], dict[str, int]]:
    """Hold out every tenth text, or fewer of a large corpus."""
    if num_rows < 2:
        raise ValueError(f"{origin} has too few texts to hold some out: {num_rows}. Take --eval_strategy no.")
    stride = min(max(_STRIDE, -(-num_rows // _MOST_HELD_OUT)), num_rows)
    size = num_rows // stride
    if isinstance(train, Dataset):
        held = range(stride - 1, num_rows, stride)
        kept = [row for row in range(num_rows) if row % stride != stride - 1]
        splits: dict[str, Split] = {"train": train.select(kept), "validation": train.select(held)}
    else:
        splits = {
            "train": train.filter(_is_kept, with_indices=True, fn_kwargs={"stride": stride}),
            "validation": train.filter(_is_held_out, with_indices=True, fn_kwargs={"stride": stride}),
        }
    logger.warning(f"No validation data given: {size:,} rows of {origin} are held out for it, every {stride}th.")
    return splits, {"train": num_rows - size, "validation": size}


def _is_held_out(row: dict[str, Any], index: int, *, stride: int) -> bool:
    return index % stride == stride - 1


def _is_kept(row: dict[str, Any], index: int, *, stride: int) -> bool:
    return index % stride != stride - 1


def _num_words(one: str | list[str]) -> int:
    return len(split_words(one)) if isinstance(one, str) else len(one)


def _encode(inputs: list[Any], tokenizer: PreTrainedTokenizerBase) -> dict[str, list]:
    ids = encode_texts(tokenizer, inputs) if isinstance(inputs[0], str) else encode_words(tokenizer, inputs)[0]
    return {"input_ids": ids, "labels": [[-100, *one[1:]] for one in ids]}


__all__ = ["TextArguments", "encode_for_language_model", "load_texts"]
