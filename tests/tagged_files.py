"""Files of tagged words: written, and read as a tagger's corpus."""

from pathlib import Path

import pytest

from rnn_hf import train_tokenizer
from rnn_hf.data.corpus import DataArguments, load_corpus

TAG = "token-classification"


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def load(file: str, needed=("train", "validation"), label_names=None, **arguments):
    if "train" in needed:
        arguments = {"train_file": file, "validation_file": file, **arguments}
    return load_corpus(DataArguments(**arguments), TAG, None, label_names, needed)


def read(corpus, split: str = "train") -> list[list[tuple[str, str]]]:
    """Words with their labels."""
    sentences = list(corpus.inputs(split))
    tokenizer = train_tokenizer(sentences, "word", min_frequency=1, is_split_into_words=True)
    rows = corpus.encode(tokenizer)[split]
    names = corpus.label_names + corpus.unseen_names
    tags = [[names[label] for label in row["labels"] if label >= 0] for row in rows]
    return [list(zip(words, one, strict=True)) for words, one in zip(sentences, tags, strict=True)]


def refusal(file: str, **arguments) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        load(file, **arguments)
    return str(error.value)
