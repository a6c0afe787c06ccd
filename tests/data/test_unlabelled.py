"""Texts and sentences without labels, in any format."""

import json

import pytest

from rnn_hf import train_tokenizer
from rnn_hf.data.corpus import load_corpus
from rnn_hf.data.unlabelled import encode_unlabelled, load_unlabelled
from rnn_hf.formats.arguments import DataArguments

TEXTS = ["a good film", "a bad one", "so so"]
SENTENCES = [text.split() for text in TEXTS]
FILES = {
    "a.txt": "a good film\n\na bad one\nso so\n",
    "a.csv": "id,text,label\n1,a good film,x\n2,a bad one,\n3,so so,y\n",
    "a.tsv": "sentence\ta\na good film\t1\na bad one\t2\nso so\t3\n",
    "a.jsonl": "".join(json.dumps({"text": text, "label": None}) + "\n" for text in TEXTS),
    "b.txt": "__label__x a good film\n__label__y a bad one\n__label__x so so\n",
}
SENTENCE_FILES = {
    "a.txt": "a good  film\n\na bad one\nso so\n",
    "a.conll": "".join("".join(f"{word} O\n" for word in words) + "\n" for words in SENTENCES),
    "a.jsonl": "".join(json.dumps({"tokens": words}) + "\n" for words in [*SENTENCES, []]),
    "spans.jsonl": "".join(json.dumps({"text": text, "label": [[0, 1, "X"]]}) + "\n" for text in TEXTS),
}


def load(folder, name, content, task="text-classification", **options):
    (folder / name).write_text(content, encoding="utf-8")
    return load_unlabelled(DataArguments(unlabelled_file=str(folder / name), **options), task)


@pytest.mark.parametrize("name", FILES)
def test_texts(tmp_path, name, streaming):
    unlabelled = load(tmp_path, name, FILES[name], streaming=streaming)
    assert list(unlabelled.split) == [{"text": text} for text in TEXTS]
    assert (unlabelled.num_rows, unlabelled.column) == (3, "text")


@pytest.mark.parametrize("name", SENTENCE_FILES)
def test_sentences(tmp_path, name, streaming):
    unlabelled = load(tmp_path, name, SENTENCE_FILES[name], "token-classification", streaming=streaming)
    assert list(unlabelled.split) == [{"tokens": words} for words in SENTENCES]
    assert unlabelled.num_rows == 3


def test_a_folder_of_texts_has_labels_that_are_not_read(tmp_path):
    for label, text in zip("xyz", TEXTS, strict=True):
        (tmp_path / "all" / label).mkdir(parents=True)
        (tmp_path / "all" / label / "1.txt").write_text(text, encoding="utf-8")
    unlabelled = load_unlabelled(DataArguments(unlabelled_file=str(tmp_path / "all")), "text-classification")
    assert list(unlabelled.split) == [{"text": text} for text in TEXTS]


def test_a_pattern_names_several_files_of_one_format(tmp_path):
    load(tmp_path, "b.txt", "b\n")
    load(tmp_path, "a.txt", "a\n")
    unlabelled = load_unlabelled(DataArguments(unlabelled_file=str(tmp_path / "*.txt")), "text-classification")
    assert list(unlabelled.split) == [{"text": "a"}, {"text": "b"}]
    load(tmp_path, "c.csv", FILES["a.csv"])
    with pytest.raises(ValueError, match=r"c\.csv as csv and \S*a\.txt as lines: name one"):
        load_unlabelled(DataArguments(unlabelled_file=str(tmp_path / "*")), "text-classification")


@pytest.mark.parametrize("dataset_format", [None, "conll"])
def test_options_of_another_format_are_left_out(tmp_path, dataset_format):
    trained = tmp_path / "train.conll"
    trained.write_text("a X 1\nb Y 2\n\n", encoding="utf-8")
    others = {"more.jsonl": '{"tokens": ["c", "d"]}\n', "more.conll": "c X 1\nd Y 2\n\n"}
    for name, content in others.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        arguments = DataArguments(
            train_file=str(trained),
            unlabelled_file=str(tmp_path / name),
            dataset_format=dataset_format,
            dataset_kwargs='{"column_names": ["tokens", "pos", "tags"]}',
        )
        assert list(load_unlabelled(arguments, "token-classification").split) == [{"tokens": ["c", "d"]}]


def test_other_texts_have_another_fingerprint(tmp_path):
    prints = {load(tmp_path, "a.txt", text).fingerprint for text in ("a\nb\n", "a\n\nb\n", "b\na\n")}
    assert len(prints) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "\n \n", "a.txt holds no text: give --unlabelled_file one that does"),
        ("a.txt", "", "a.txt holds no text"),
        ("a.jsonl", '{"text": "a"}\n{"text": 1}\n', "row 2: there must be a text, got 1|could not be read as json"),
        ("a.jsonl", '{"text": "a"}\n{"text": null}\n', "row 2: there must be a text, got None"),
        ("a.csv", "one,two\na,b\n", "has no column 'text', only: 'one', 'two'. Name the right one with --text_column"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, name, content, message, streaming):
    with pytest.raises(ValueError, match=message):
        load(tmp_path, name, content, streaming=streaming)


def test_a_missing_file_is_named():
    with pytest.raises(ValueError, match=r"There is no file nowhere\.txt"):
        load_unlabelled(DataArguments(unlabelled_file="nowhere.txt"), "text-classification")


def test_they_come_with_the_corpus(tmp_path, streaming):
    rows = [{"text": f"text {index}", "label": "ab"[index % 2]} for index in range(20)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "more.txt").write_text("another text\n", encoding="utf-8")
    options = {"unlabelled_file": str(tmp_path / "more.txt"), "streaming": streaming}
    arguments = DataArguments(train_file=str(tmp_path / "train.jsonl"), **options)
    corpus = load_corpus(arguments, "text-classification")
    assert corpus.num_rows["train"] == 16
    assert list(corpus.training_inputs())[-2:] == [list(corpus.inputs("train"))[-1], "another text"]
    with pytest.raises(ValueError, match="--unlabelled_file is for training"):
        load_corpus(arguments, "text-classification", label_names=["a", "b"], needed=("train",))


@pytest.mark.parametrize(
    ("problem_type", "missing"),
    [
        ("single_label_classification", "-100"),
        ("multi_label_classification", "[nan, nan]"),
        ("regression", "nan"),
    ],
)
def test_encoded_rows_have_labels_that_count_for_nothing(tmp_path, problem_type, missing, streaming):
    tokenizer = train_tokenizer(TEXTS, kind="word", min_frequency=1)
    unlabelled = load(tmp_path, "a.txt", FILES["a.txt"], streaming=streaming)
    rows = list(encode_unlabelled(unlabelled.split, tokenizer, problem_type, 2, max_length=2))
    assert [row["input_ids"] for row in rows] == [[tokenizer(text).input_ids[0], 2] for text in TEXTS]
    assert str(rows[0]["labels"]) == missing


def test_encoded_sentences_have_a_label_for_each_token(tmp_path, streaming):
    tokenizer = train_tokenizer(SENTENCES, kind="word", min_frequency=1, is_split_into_words=True)
    unlabelled = load(tmp_path, "a.txt", FILES["a.txt"], "token-classification", streaming=streaming)
    rows = list(encode_unlabelled(unlabelled.split, tokenizer, "single_label_classification", 2))
    assert rows[2] == {"input_ids": tokenizer("so so").input_ids, "labels": [-100] * 3, "word_positions": [0, 1]}
