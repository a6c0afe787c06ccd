"""Columns of auxiliary labels are found in files of every format, and others are not taken for them."""

import csv
import io
import json
import random

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from tagged_files import load, read, write

from rnn_hf import train_tokenizer
from rnn_hf.data.auxiliary import auxiliary_labels
from rnn_hf.data.report import report_on
from rnn_hf.data.report_table import print_report

POS = ["ADP", "DET", "NOUN", "VERB"]


def make_sentences(num: int = 30) -> list[list[tuple[str, str, str]]]:
    """Words with a part of speech and a tag that depends on it."""
    chance = random.Random(0)
    sentences = []
    for _ in range(num):
        row = []
        for _ in range(chance.randint(3, 7)):
            pos = chance.choice(POS)
            tag = "B-X" if pos == "NOUN" and chance.random() < 0.7 else "O"
            row.append((f"{pos.lower()}{chance.randint(1, 9)}", pos, tag))
        sentences.append(row)
    return sentences


SENTENCES = make_sentences()
WORDS, TAGGED, TAGS = ([[word[index] for word in row] for row in SENTENCES] for index in range(3))
INDICES = [[str(index + 1) for index in range(len(row))] for row in SENTENCES]


def dataset(**columns) -> Dataset:
    return Dataset.from_dict({"tokens": WORDS, "tags": TAGS} | columns)


def found(split) -> str | None:
    return auxiliary_labels(split, "a.jsonl", "tokens", "tags", "auto")[0]


def lines(*columns, separator: str = " ") -> str:
    rows = zip(*columns, strict=True)
    return "\n".join("".join(separator.join(cells) + "\n" for cells in zip(*row, strict=True)) for row in rows)


def conllu(words, tags) -> str:
    blank = [["_"] * len(row) for row in words]
    return lines(INDICES, words, words, TAGGED, tags, blank, INDICES, blank, blank, blank, separator="\t")


def table(header, rows) -> str:
    file = io.StringIO()
    csv.writer(file).writerows([header, *rows])
    return file.getvalue()


def words_as_rows() -> str:
    rows = ((number, *word) for number, row in enumerate(SENTENCES) for word in row)
    return table(("sentence_id", "word", "pos", "tag"), rows)


def sentences_as_rows(join) -> str:
    rows = zip(range(len(WORDS)), *([join(one) for one in column] for column in (WORDS, TAGGED, TAGS)), strict=True)
    return table(("id", "sentence", "pos", "tags"), rows)


def json_rows(**columns) -> str:
    return "".join(
        json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in zip(*columns.values(), strict=True)
    )


NUMBERS = [[7 * POS.index(pos) for pos in row] for row in TAGGED]
FILES = {
    "a.conll": (lines(WORDS, TAGGED, TAGS), "column_2", {}),
    "indices.conll": (lines(INDICES, WORDS, TAGGED, TAGS), "column_3", {}),
    "a.conllu": (conllu(WORDS, TAGS), "upos", {"tags_column": "xpos"}),
    "words.csv": (words_as_rows(), "pos", {}),
    "cells.csv": (sentences_as_rows(" ".join), "pos", {}),
    "lists.csv": (sentences_as_rows(str), "pos", {}),
    "a.jsonl": (json_rows(id=range(len(WORDS)), tokens=WORDS, pos_tags=TAGGED, tags=TAGS), "pos_tags", {}),
    "numbers.jsonl": (json_rows(tokens=WORDS, pos_tags=NUMBERS, tags=TAGS), "pos_tags", {}),
    "texts.jsonl": (
        json_rows(**{name: map(" ".join, cells) for name, cells in (("text", WORDS), ("pos", TAGGED), ("tags", TAGS))}),
        "pos",
        {},
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_every_format(tmp_path, name, streaming):
    content, column, options = FILES[name]
    file = write(tmp_path / name, content)
    corpus = load(file, streaming=streaming, **options)
    assert corpus.auxiliary_column == column
    named = load(file, streaming=streaming, auxiliary_tags_column=column, **options)
    assert corpus.auxiliary_names == named.auxiliary_names
    assert len(corpus.auxiliary_names) == len(POS)
    assert read(corpus) == read(named)
    assert load(file, streaming=streaming, auxiliary_tags_column="none", **options).auxiliary_column is None


def test_names_of_numbers(tmp_path):
    """As in datasets of the hub, where columns of numbers have names for them."""
    chunks = [["I-NP" if pos in ("DET", "NOUN") else "O" for pos in row] for row in TAGGED]
    features = {"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=["O", "B-X"]))}
    features |= {"chunk_tags": List(ClassLabel(names=["O", "I-NP"])), "pos_tags": List(ClassLabel(names=["?", *POS]))}
    columns = {"tokens": WORDS, "ner_tags": TAGS, "chunk_tags": chunks, "pos_tags": TAGGED}
    split = Dataset.from_dict(columns, features=Features(features))
    for name in ("train", "validation"):
        split.to_parquet(tmp_path / "data" / f"{name}.parquet")
    corpus = load(None, validation_file=None, dataset_name=str(tmp_path / "data"), tags_column="ner_tags")
    assert (corpus.auxiliary_column, corpus.auxiliary_names) == ("pos_tags", ["?", *POS])


def test_other_splits_need_no_such_column(tmp_path, streaming):
    train = write(tmp_path / "train.jsonl", json_rows(tokens=WORDS, pos=TAGGED, tags=TAGS))
    others = write(tmp_path / "others.jsonl", json_rows(tokens=WORDS, tags=TAGS))
    corpus = load(train, validation_file=others, test_file=others, streaming=streaming)
    encoded = corpus.encode(train_tokenizer(WORDS, "word", is_split_into_words=True))
    assert corpus.auxiliary_column == "pos"
    assert {name: "auxiliary_tags" in next(iter(split)) for name, split in encoded.items()} == {
        "train": True, "validation": False, "test": False
    }  # fmt: skip


def test_a_part_that_is_held_out(tmp_path):
    corpus = load(write(tmp_path / "a.conll", lines(WORDS, TAGGED, TAGS)), validation_file=None)
    assert corpus.auxiliary_column == "column_2"
    assert corpus.num_rows["validation"] > 0


@pytest.mark.parametrize(
    "column",
    [
        INDICES,
        [[5 * index + 3 for index in range(len(row))] for row in WORDS],  # where words begin
        [[str(max(index - 1, 0)) for index in range(len(row))] for row in WORDS],  # heads
        WORDS,
        [["_"] * len(row) for row in WORDS],
        [[f"document {number // 10}"] * len(row) for number, row in enumerate(WORDS)],
        TAGS,
        [[{"O": "0", "B-X": "1"}[tag] for tag in row] for row in TAGS],
        [[random.Random(f"{word}{index}").choice("ab") for index, word in enumerate(row)] for row in WORDS],  # chance
        [[float(POS.index(pos)) for pos in row] for row in TAGGED],
        [*TAGGED[:-1], TAGGED[-1][:-1]],
        [*TAGGED[:-1], ["", *TAGGED[-1][1:]]],
        [*TAGGED[:-1], [None, *TAGGED[-1][1:]]],
        [*TAGGED[:-1], None],
        [" ".join(row) for row in TAGGED],
        [pos[0] for pos in TAGGED],
    ],
)  # fmt: skip
def test_what_is_none_of_tags(column):
    split = dataset(other=column)
    assert found(split) is None
    assert found(split.to_iterable_dataset()) is None


def test_names_that_some_numbers_lack():
    feature = List(ClassLabel(names=POS))
    numbers = [[POS.index(pos) for pos in row] for row in TAGGED]
    assert found(dataset(pos=numbers).cast_column("pos", feature)) == "pos"
    numbers[-1][-1] = -1
    assert found(dataset(pos=numbers).cast_column("pos", feature)) is None


def test_the_column_that_tells_most():
    coarse = [["N" if pos == "NOUN" else "other" for pos in row] for row in TAGGED]
    dull = [["V" if pos == "VERB" else "other" for pos in row] for row in TAGGED]
    assert found(dataset(dull=dull, coarse=coarse)) == "coarse"
    assert found(dataset(coarse=coarse, dull=dull)) == "coarse"


def test_late_rows_count():
    """A column is none of tags if a late row says so, and labels of late rows have names."""
    many = 40
    words, pos, tags = ([*rows * many, ["end"]] for rows in (WORDS, TAGGED, TAGS))
    columns = {"tokens": words, "tags": [*tags[:-1], ["O"]]}
    late = Dataset.from_dict(columns | {"pos": [*pos[:-1], ["LATE"]]})
    assert auxiliary_labels(late, "a.jsonl", "tokens", "tags", "auto")[1] == sorted([*POS, "LATE"])
    assert found(Dataset.from_dict(columns | {"pos": [*pos[:-1], []]})) is None


def test_the_report_names_it(tmp_path, capsys):
    corpus = load(write(tmp_path / "a.conll", lines(WORDS, TAGGED, TAGS)))
    print_report(report_on(corpus))
    assert "Auxiliary labels, for training alone: 4 in 'column_2' (--auxiliary_tags_column)." in capsys.readouterr().out


def test_a_trained_model_needs_none(tmp_path):
    file = write(tmp_path / "a.conll", lines(WORDS, TAGGED, TAGS))
    corpus = load(file, needed=("validation",), label_names=["B-X", "O"], validation_file=file)
    assert corpus.auxiliary_column is None


SPANS = [["B-X", "I-X", "O", "B-Y"], ["O", "B-X", "B-X"]]
ENDS = ["B-X", "S-X", "B-Y", "S-Y", "I-X", "E-X", "O"]


def load_spans(tmp_path, tags=None, **options):
    words = [["ab", "c", "de", "f"], ["ab", "ab", "de"]]
    file = write(tmp_path / "a.jsonl", json_rows(tokens=words, tags=tags or SPANS))
    corpus = load(file, validation_file=file, **options)
    return corpus, corpus.encode(train_tokenizer(words, "word", is_split_into_words=True))


def test_without_a_column_they_are_the_ends_of_spans(tmp_path, streaming, capsys):
    corpus, encoded = load_spans(tmp_path, streaming=streaming)
    assert (corpus.auxiliary_column, corpus.auxiliary_names) == (None, ENDS)
    names = [[ENDS[index] for index in row["auxiliary_tags"] if index != -100] for row in encoded["train"]]
    assert names == [["B-X", "E-X", "O", "S-Y"], ["O", "S-X", "S-X"]]
    assert "auxiliary_tags" not in next(iter(encoded["validation"]))
    print_report(report_on(corpus))
    shown = " ".join(capsys.readouterr().out.split())
    assert "Auxiliary labels, for training alone: 7 with the ends of spans (--auxiliary_tags_column)." in shown


@pytest.mark.parametrize("tags", [[["N", "V", "N", "X"], ["N", "V", "N"]], [["O", "B-X", "O", "O"], ["O", "B-Y", "O"]]])
def test_spans_of_one_word_have_no_ends(tmp_path, tags):
    corpus, encoded = load_spans(tmp_path, tags)
    assert corpus.auxiliary_names == []
    assert "auxiliary_tags" not in next(iter(encoded["train"]))


@pytest.mark.parametrize("tags", [SPANS, [["N", "V", "N", "X"], ["N", "V", "N"]]])
def test_the_labels_may_be_named_as_auxiliary_labels(tmp_path, tags, streaming):
    corpus, encoded = load_spans(tmp_path, tags, streaming=streaming, auxiliary_tags_column="tags")
    assert corpus.auxiliary_names == corpus.label_names
    assert all(row["auxiliary_tags"] == row["labels"] for row in encoded["train"])


def test_the_ends_of_spans_can_be_left_out(tmp_path):
    assert load_spans(tmp_path, auxiliary_tags_column="none")[0].auxiliary_names == []
