"""Validation and test data that are held out of the training data."""

import json
from collections import Counter

import pytest
from datasets import Dataset

from rnn_hf.data.corpus import DataArguments, load_corpus
from rnn_hf.data.hold_out import hold_out

CLASSIFY = "text-classification"


def load(path, labels, streaming=False):
    rows = [{"text": f"text {row}", "label": label} for row, label in enumerate(labels)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return load_corpus(DataArguments(train_file=str(path), streaming=streaming), CLASSIFY)


def labels_of(corpus):
    return {name: [row["label"] for row in split] for name, split in corpus.splits.items()}


@pytest.mark.parametrize("offset", range(12))
def test_single_rows_stay_in_training(tmp_path, messages, streaming, offset):
    labels = list("ab" * 15)
    for number in range(4):
        labels.insert((offset + 10 * number) % len(labels), f"single {number}")
    corpus = load(tmp_path / "a.jsonl", labels, streaming)
    found = labels_of(corpus)
    assert set(found["train"]) == set(labels)
    assert not any(label.startswith("single") for name in ("validation", "test") for label in found[name])
    assert {name: len(part) for name, part in found.items()} == corpus.num_rows
    assert Counter(label for part in found.values() for label in part) == Counter(labels)
    assert min(corpus.num_rows.values()) > 0
    said = "'single 0' 1, 'single 1' 1, 'single 2' 1, 'single 3' 1. A label's only row stays in the training data."
    assert len([message for message in messages() if message.endswith(said)]) == 1


def test_each_label_stays_in_training(tmp_path):
    labels = [f"label {row // 2}" for row in range(60)]
    found = labels_of(load(tmp_path / "a.jsonl", labels))
    assert set(found["train"]) == set(labels)
    assert (len(found["test"]), len(found["validation"])) == (6, 6)


def test_other_rows_are_those_that_the_seed_draws():
    train = Dataset.from_dict({"label": list("ab" * 50), "row": list(range(100))})
    num_rows, counts = {"train": 100, "test": 100}, {"a": 50, "b": 50}
    splits, _ = hold_out({"train": train, "test": train}, num_rows, "a.csv", "label", counts)
    parts = train.train_test_split(test_size=10, seed=42)
    assert splits["validation"]["row"][:] == parts["test"]["row"][:]
    assert splits["train"]["row"][:] == parts["train"]["row"][:]


def test_nothing_is_said_of_frequent_labels(tmp_path, messages):
    load(tmp_path / "a.jsonl", list("abc" * 5))
    assert not any("fewer than" in message for message in messages())


def test_where_all_rows_have_labels_of_their_own(tmp_path, streaming):
    labels = [f"label {row}" for row in range(12)]
    if streaming:
        with pytest.raises(ValueError, match="has one row only of each label: give --test_file"):
            load(tmp_path / "a.jsonl", labels, streaming)
    else:
        assert load(tmp_path / "a.jsonl", labels).num_rows == {"train": 10, "validation": 1, "test": 1}
