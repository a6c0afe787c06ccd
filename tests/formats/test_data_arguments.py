"""Options of the data that make no sense are refused before any file is read."""

import json
import os
from pathlib import Path

import pytest

from rnn_hf.data.corpus import DataArguments, load_corpus
from rnn_hf.formats.arguments import source_name

CLASSIFY, TAG = "text-classification", "token-classification"
NOWHERE = {"train_file": "nowhere.csv"}


def refusal(task=CLASSIFY, problem_type=None, label_names=None, **arguments) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        load_corpus(DataArguments(**arguments), task, problem_type, label_names)
    return str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_train_samples": 0}, "--max_train_samples must be from 1 to 999,999,999, got 0: leave it out to read"),
        ({"max_train_samples": -5}, "--max_train_samples must be from 1 to 999,999,999, got -5"),
        ({"max_train_samples": 2.5}, "--max_train_samples must be a whole number, got 2.5."),
        ({"max_train_samples": "all"}, "--max_train_samples must be a whole number, got 'all'."),
        ({"max_train_samples": True}, "--max_train_samples must be a whole number, got True."),
        ({"max_train_samples": 10**30}, "--max_train_samples must be from 1 to"),
        ({"max_seq_length": 0}, "--max_seq_length must be from 1 to 999,999,999, got 0: leave it out to read"),
        ({"max_seq_length": -1}, "--max_seq_length must be from 1 to"),
        ({"max_seq_length": 10**10}, "--max_seq_length must be from 1 to"),
        ({"streaming": "yes"}, "--streaming must be true or false, got 'yes'."),
        ({"allow_empty_text": 1}, "--allow_empty_text must be true or false, got 1."),
        ({"unseen_labels": "ignore"}, "--unseen_labels must be one of 'refuse', 'count', got 'ignore'."),
        ({"unseen_labels": None}, "--unseen_labels must be one of 'refuse', 'count', got None."),
        ({"dataset_format": "xml"}, "--dataset_format must be one of 'csv', 'tsv', 'json'"),
        ({"train_file": ["a.csv", "b.csv"]}, "--train_file must be a text, not empty, and in quotes"),
        ({"train_file": ""}, "--train_file must be a text, not empty"),
        ({"text_column": 3}, "--text_column must be a text"),
        ({"text_column": None}, "--text_column must be a text"),
        ({"additional_labels": [1]}, "--additional_labels must be a list of texts, each in quotes, got [1]."),
        ({"additional_labels": [False, True]}, "--additional_labels must be a list of texts, each in quotes"),
        ({"additional_labels": "a"}, "--additional_labels must be a list of texts"),
        ({"additional_labels": ["a", "b", "a"]}, "--additional_labels: 'a' is named twice."),
        ({"additional_labels": ["a", " "]}, "--additional_labels: ' ' is empty."),
        ({"additional_labels": ["x" * 1001]}, "has 1,001 characters, and is a text rather than a label."),
        ({"additional_labels": ["\ud800"]}, r"--additional_labels: '\ud800' is not valid UTF-8."),
        ({"additional_labels": ["a"], "problem_type": "regression"}, "--additional_labels is for classes; a regr"),
        ({"additional_labels": ["a"], "label_names": ["a", "b"]}, "--additional_labels is for training: a"),
        ({"unseen_labels": "count", "problem_type": "regression"}, "--unseen_labels count is for one label a text"),
        ({"dataset_config_name": "en"}, "--dataset_config_name is for a dataset on the hub, beside --dataset_name"),
        ({"label_column": "text"}, "--text_column and --label_column both name the column 'text': they must differ."),
        ({"tokens_column": "words"}, "--tokens_column is for taggers; name the column of a classifier's texts with"),
        ({"tags_column": "ner"}, "--tags_column is for taggers; name the column of a classifier's labels with"),
        ({"auxiliary_tags_column": "pos"}, "--auxiliary_tags_column is for taggers: texts have no tags. Leave it out."),
        ({"dataset_kwargs": "{sep: ';'}"}, "--dataset_kwargs is not valid JSON (Expecting property name"),
        ({"dataset_kwargs": "[" * 100_000}, "--dataset_kwargs is not valid JSON"),
        ({"dataset_kwargs": "[1]"}, "--dataset_kwargs must be a JSON object, got [1]."),
        ({"dataset_kwargs": '"sep"'}, '--dataset_kwargs must be a JSON object, got "sep".'),
        ({"dataset_kwargs": "3"}, "--dataset_kwargs must be a JSON object, got 3."),
        ({"dataset_kwargs": "null"}, "--dataset_kwargs must be a JSON object, got null."),
        ({"dataset_kwargs": 3}, "--dataset_kwargs must be a text"),
        ({"dataset_kwargs": '{"split": "train"}'}, "--dataset_kwargs cannot set 'split': use --train_file and"),
        ({"dataset_kwargs": {"streaming": True}}, "--dataset_kwargs cannot set 'streaming': use --streaming."),
        ({"dataset_kwargs": '{"path": "text"}'}, "--dataset_kwargs cannot set 'path': use --dataset_name or"),
        ({"train_file": None}, "Name the data either with --dataset_name, or with --train_file and its companions."),
        ({"dataset_name": "imdb"}, "Name the data either with --dataset_name, or with --train_file and"),
        (
            {"train_file": None, "dataset_name": "imdb", "dataset_format": "csv"},
            "--dataset_format is for the files of --train_file and its companions: leave it out beside --dataset_name.",
        ),
    ],
)  # fmt: skip
def test_refused_for_classifiers(arguments, message):
    said = refusal(**NOWHERE | arguments)
    assert said.startswith(message) or message in said.partition(": ")[2]
    assert len(said) < 500


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_seq_length": 100}, "--max_seq_length is for classifiers: a tagger reads all words. Leave it out."),
        ({"text_column": "x"}, "--text_column is for classifiers; name the column of a tagger's words with"),
        ({"label_column": "x"}, "--label_column is for classifiers; name the column of a tagger's tags with"),
        ({"tags_column": "tokens"}, "--tokens_column and --tags_column both name the column 'tokens'"),
        ({"tokens_column": "a", "auxiliary_tags_column": "a"}, "--tokens_column and --auxiliary_tags_column both name"),
    ],
)
def test_refused_for_taggers(arguments, message):
    assert refusal(TAG, **NOWHERE | arguments).startswith(message)


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
class TestBuilderOptions:
    @pytest.fixture
    def file(self, tmp_path) -> str:
        (tmp_path / "a.csv").write_text("text,label\none,a\ntwo,b\n")
        return str(tmp_path / "a.csv")

    @pytest.mark.parametrize(
        ("options", "unknown"), [({"separator": ";"}, "'separator'"), ({"a": 1, "sep": ",", "b": 2}, "'a', 'b'")]
    )
    def test_unknown_ones_are_named(self, file, options, unknown, streaming):
        message = refusal(train_file=file, dataset_kwargs=json.dumps(options), streaming=streaming)
        assert message.startswith(f"--dataset_kwargs: reading csv has no option {unknown}. It has 'sep', 'delimiter',")

    @pytest.mark.parametrize("options", ['{"sep": 5}', '{"column_names": "text"}', '{"encoding": "utf-99"}'])
    def test_what_cannot_be_read_with_them_names_them(self, file, options, streaming):
        message = refusal(train_file=file, dataset_kwargs=options, streaming=streaming)
        assert message.startswith(f"{file} could not be read as csv with --dataset_kwargs {options}: ")

    def test_number_of_64_bits_and_more(self, file, streaming):
        Path(file).write_text(f"text,label\none,1\ntwo,{10**30}\n")
        assert "a whole number in it has more than 64 bits; write such numbers in quotes" in refusal(
            train_file=file, streaming=streaming
        )


class TestSecrets:
    """Tokens and passwords of addresses and options never stand in a message."""

    @pytest.mark.parametrize("options", ['{"token": "abcd-1234"', '{"token": "abcd-1234", 1}', '["token=abcd-1234"]'])
    def test_in_broken_options(self, options):
        message = refusal(**NOWHERE, dataset_kwargs=options)
        assert message.startswith("--dataset_kwargs")
        assert "abcd-1234" not in message

    def test_in_options(self, tmp_path):
        (tmp_path / "a.parquet").write_bytes(b"\xff\xff")
        options = {"token": "abcd-1234", "storage_options": {"password": "efgh-5678"}}
        message = refusal(train_file=str(tmp_path / "a.parquet"), dataset_kwargs=json.dumps(options))
        assert "could not be read as parquet with --dataset_kwargs" in message
        assert "abcd-1234" not in message
        assert "efgh-5678" not in message

    @pytest.mark.parametrize(
        "address",
        [
            "s3://key:hush-1234@bucket/a.csv",
            "foo://key:hush-1234@host/a.csv?token=hush-1234",
            "foo://h/a?sig=hush-1234",
        ],
    )
    def test_in_addresses(self, address):
        message = refusal(train_file=address)
        assert message.startswith((f"{source_name(address)} could not", "The name of foo://h/a?… does not tell"))
        assert "hush" not in message


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
def test_address_that_cannot_be_reached(streaming):
    message = refusal(train_file="http://127.0.0.1:1/a.csv?token=hush", streaming=streaming)
    assert message == "http://127.0.0.1:1/a.csv?… has no rows, or could not be reached. Check the address."


class TestFileNames:
    @pytest.mark.parametrize("name", ["a" * 5000 + ".csv", "\0.csv", "~/nowhere.csv", "nowhere/*.csv", "[.csv"])
    def test_no_such_file(self, name):
        message = refusal(train_file=name)
        assert message.startswith("There is no file ")
        assert len(message) < 600

    def test_pipe_in_place_of_a_file(self, tmp_path):
        os.mkfifo(tmp_path / "a.csv")
        message = refusal(train_file=str(tmp_path / "a.csv"))
        assert message == f"{tmp_path / 'a.csv'} is no regular file: save what it gives to one, and name that."

    @pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
    def test_file_that_may_not_be_read(self, tmp_path):
        (tmp_path / "a.csv").touch(mode=0)
        assert refusal(train_file=str(tmp_path / "a.csv")).endswith("a.csv cannot be read: Permission denied.")

    def test_file_whose_name_a_terminal_would_obey(self, tmp_path):
        name = tmp_path / "\x1b[2J.csv"
        name.write_text("text,label\n,a\n")
        assert refusal(train_file=str(name)).startswith(f"{tmp_path}/\\x1b[2J.csv, row 1: the text in column 'text'")

    @pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.xz"])
    def test_ending_of_a_compression_hides_no_format(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"\x1f\x8bgarbage")
        assert f"{name} could not be read as " in refusal(train_file=str(tmp_path / name))
