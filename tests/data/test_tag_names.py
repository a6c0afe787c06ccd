"""Tags that are numbers get names, and columns with usual names are found."""

import json
from pathlib import Path

import pytest

from rnn_hf import train_tokenizer
from rnn_hf.data.corpus import DataArguments, load_corpus
from rnn_hf.formats.label_texts import read_label_names

TAG = "token-classification"
NAMES = ["O", "B-PER", "I-PER", "B-LOC"]
ROWS = [{"tokens": ["Anna", "Lee", "in", "Oslo"], "ner_tags": [1, 2, 0, 3]}, {"tokens": ["Bye"], "ner_tags": [0]}]


def save(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def load(file: str, **arguments):
    return load_corpus(DataArguments(train_file=file, validation_file=file, **arguments), TAG)


def tags_of(corpus) -> list[list[str]]:
    tokenizer = train_tokenizer(corpus.inputs("train"), "word", min_frequency=1, is_split_into_words=True)
    rows = corpus.encode(tokenizer)["train"]
    return [[corpus.label_names[label] for label in row["labels"] if label >= 0] for row in rows]


class TestNames:
    @pytest.mark.parametrize("as_file", [False, True])
    def test_names_are_given_in_the_order_of_the_numbers(self, tmp_path, as_file, streaming):
        (tmp_path / "names.txt").write_text("\ufeff" + "\n".join(NAMES) + "\n", encoding="utf-8")
        names = [str(tmp_path / "names.txt")] if as_file else NAMES
        corpus = load(save(tmp_path / "a.jsonl", ROWS), tags_column="ner_tags", label_names=names, streaming=streaming)
        assert tags_of(corpus) == [["B-PER", "I-PER", "O", "B-LOC"], ["O"]]
        assert corpus.label_names == NAMES
        assert corpus.tag_scheme == "IOB2"

    def test_other_schemes_are_converted(self, tmp_path, streaming):
        file = save(tmp_path / "a.jsonl", ROWS)
        names = ["O", "B-PER", "L-PER", "U-LOC"]
        corpus = load(file, tags_column="ner_tags", label_names=names, streaming=streaming)
        assert tags_of(corpus) == [["B-PER", "I-PER", "O", "B-LOC"], ["O"]]
        assert corpus.tag_scheme == "BILOU"

    def test_without_names_it_is_said_what_to_give(self, tmp_path, messages, streaming):
        file = save(tmp_path / "a.jsonl", ROWS)
        corpus = load(file, tags_column="ner_tags", streaming=streaming)
        assert corpus.label_names == ["0", "1", "2", "3"]
        assert messages()[0].startswith(
            f"{file}: column 'ner_tags' holds numbers without names, which are taken for tags"
        )
        assert "--label_names O B-PER I-PER" in messages()[0]

    @pytest.mark.parametrize(
        ("tags", "said"),
        [
            ([4], "row 1: column 'tags' holds 4, but --label_names names 0 to 3"),
            (["O"], "must hold whole numbers"),
        ],
    )
    def test_what_does_not_fit(self, tmp_path, tags, said, streaming):
        file = save(tmp_path / "a.jsonl", [{"tokens": ["a"], "tags": tags}])
        with pytest.raises(ValueError, match=said):
            load(file, label_names=NAMES, streaming=streaming)

    def test_names_that_are_none(self, tmp_path):
        with pytest.raises(ValueError, match=r"--label_names: 'O' is named twice\."):
            read_label_names(["O", "O"])
        with pytest.raises(ValueError, match=r"--label_names: nowhere\.txt is no file\. Name two"):
            read_label_names(["nowhere.txt"])


class TestColumns:
    @pytest.mark.parametrize(("words", "tags"), [("words", "ner"), ("tokens", "labels"), ("tokens", "ner_tags")])
    def test_usual_names_are_found_and_said(self, tmp_path, messages, words, tags, streaming):
        file = save(tmp_path / "a.jsonl", [{"id": "1", words: ["Anna", "left"], tags: ["B-PER", "O"]}])
        corpus = load(file, streaming=streaming)
        assert (corpus.input_column, corpus.label_column) == (words, tags)
        assert tags_of(corpus) == [["B-PER", "O"]]
        assert f"column {tags!r} is taken for the tags" in "".join(messages())

    def test_two_that_may_be_meant_are_not_chosen_from(self, tmp_path, streaming):
        row = {"tokens": ["a"], "pos_tags": ["N"], "ner_tags": ["O"]}
        with pytest.raises(ValueError, match=r"no column 'tags', only: .* Name the right one with --tags_column"):
            load(save(tmp_path / "a.jsonl", [row]), streaming=streaming)
