"""Texts to pretrain on: formats, what is held out, what a language model reads of them."""

import json

import pytest

from rnn_hf import train_tokenizer
from rnn_hf.data.text_corpus import TextArguments, encode_for_language_model, load_texts


@pytest.fixture
def write(tmp_path):
    """Write a file and give its name."""

    def run(name: str, text: str) -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return run


FILES = {
    "a.txt": "a b\nc d e\n",
    "a.jsonl": '{"text": "a b", "label": 1}\n{"text": "c d e", "label": 0}\n',
    "a.csv": 'text,label\n"a b",x\nc d e,y\n',
    "a.train": "__label__x a b\n__label__y c d e\n",
}
WORDS = {"a.conll": "a X\nb Y\n\nc X\nd Y\ne X\n\n", "b.txt": "a B-X\nb O\n\nc B-X\nd I-X\ne O\n\n"}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_texts_of_any_format(write, name, streaming):
    arguments = TextArguments(train_file=write(name, FILES[name]), streaming=streaming)
    corpus, num_words = load_texts(arguments, holds_out=False)
    assert list(corpus.inputs("train")) == ["a b", "c d e"]
    assert (corpus.num_rows, num_words, corpus.has_words) == ({"train": 2}, {"train": 5}, False)


@pytest.mark.parametrize("name", WORDS)
def test_words_of_conll_files(write, name):
    corpus, num_words = load_texts(TextArguments(train_file=write(name, WORDS[name])), holds_out=False)
    assert list(corpus.inputs("train")) == [["a", "b"], ["c", "d", "e"]]
    assert (num_words, corpus.has_words) == ({"train": 5}, True)


def test_words_of_a_named_column(write):
    file = write("a.jsonl", json.dumps({"words": ["a b", "c"]}) + "\n")
    corpus, num_words = load_texts(TextArguments(train_file=file, tokens_column="words"), holds_out=False)
    assert list(corpus.inputs("train")) == [["a b", "c"]]
    assert num_words == {"train": 2}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(("num_rows", "held"), [(2, [1]), (20, [9, 19]), (25, [9, 19])])
def test_every_tenth_row_is_held_out(write, num_rows, held, streaming):
    file = write("a.txt", "".join(f"{row}\n" for row in range(num_rows)))
    corpus, _ = load_texts(TextArguments(train_file=file, streaming=streaming))
    assert list(corpus.inputs("validation")) == list(map(str, held))
    assert list(corpus.inputs("train")) == [str(row) for row in range(num_rows) if row not in held]
    assert corpus.num_rows == {"train": num_rows - len(held), "validation": len(held)}


def test_words_of_texts_are_those_of_raw_text(write):
    _, num_words = load_texts(TextArguments(train_file=write("a.txt", "It's me.\n晴れです。\n")), holds_out=False)
    assert num_words == {"train": 5 + 5}


def test_what_is_given_is_not_held_out(write):
    arguments = TextArguments(train_file=write("a.txt", "a\nb\n"), validation_file=write("b.txt", "c\n"))
    corpus, num_words = load_texts(arguments)
    assert (corpus.num_rows, num_words) == ({"train": 2, "validation": 1},) * 2
    assert corpus.fingerprints.keys() == {"train", "validation"}


@pytest.mark.parametrize("streaming", [False, True])
def test_a_language_model_predicts_all_but_the_first_token(write, streaming):
    corpus, _ = load_texts(TextArguments(train_file=write("a.txt", "a b\nb\n" * 10), streaming=streaming))
    tokenizer = train_tokenizer(corpus.inputs("train"), kind="word")
    encoded = encode_for_language_model(corpus, tokenizer)
    assert len(encoded["validation"]) == 2
    for row in (*encoded["train"], *encoded["validation"]):
        assert row["input_ids"][-1] == tokenizer.eos_token_id
        assert row["labels"] == [-100, *row["input_ids"][1:]]


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({}, "Name the texts with --train_file"),
        ({"train_file": "a.txt"}, "There is no file a.txt"),
        ({"train_file": "{one}", "chunk_length": 0}, "--chunk_length must be at least 1, got 0"),
        ({"train_file": "{one}"}, "has too few texts to hold some out: 1"),
        ({"train_file": "{one}", "validation_file": "{words}"}, "must both hold texts, or both sentences of words"),
        ({"train_file": "{empty}"}, "holds no text"),
    ],
)
def test_mistakes(write, options, fault):
    names = {"one": write("one.txt", "a\n"), "words": write("w.conll", WORDS["a.conll"]), "empty": write("e.txt", "\n")}
    options = {key: value.format(**names) if isinstance(value, str) else value for key, value in options.items()}
    with pytest.raises(ValueError, match=fault):
        load_texts(TextArguments(**options))
