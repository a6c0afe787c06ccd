"""Settings that follow from the data of a classifier."""

import json

import pytest
from datasets import Dataset

from rnn_hf.data.corpus import Corpus, DataArguments, load_corpus
from rnn_hf.data.unlabelled import load_unlabelled
from rnn_hf.training.arguments import ConfigArguments, RnnTrainingArguments
from rnn_hf.training.options import parse_arguments
from rnn_hf.training.presets import apply_preset, choose_settings

TASK = "text-classification"


@pytest.fixture
def corpus(tmp_path):
    rows = [{"text": f"it is {number} o'clock", "label": "ab"[number % 2]} for number in range(40)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_corpus(DataArguments(train_file=str(tmp_path / "train.jsonl")), TASK)


@pytest.mark.parametrize(
    ("num_texts", "num_characters", "num_labels", "size", "batch_size", "epochs"),
    [
        (3_000, 100, 2, 128, 32, 6),
        (4_500, 60, 22, 128, 32, 20),
        (10_000, 58, 77, 128, 64, 6),
        (8_100, 126, 2, 128, 64, 6),
        (10_000, 60, 300, 128, 64, 10),
        (150_000, 35, 2, 128, 128, 2),
        (1_600, 2_200, 5, 64, 16, 2),
        (10_000, 1_460, 20, 64, 64, 4),
        (6_000, 650, 1_000, 128, 32, 6),
        (None, 100, 2, 128, 128, 2),
        (1, 0.0, 1, 128, 16, 6),
    ],
)
def test_data_say_sizes_batch_and_passes(num_texts, num_characters, num_labels, size, batch_size, epochs):
    settings = choose_settings(num_texts, num_characters, num_labels)
    assert settings["hidden_size"] == size
    assert settings["per_device_train_batch_size"] == batch_size
    assert settings["num_train_epochs"] == epochs
    is_quick = (num_texts is None or num_texts >= 9_000) and num_labels <= 256
    assert ("embedding_dropout" in settings) == is_quick
    assert settings["char_num_filters"] == (size // 4 if is_quick or size == 64 else size // 2)


def test_what_is_given_stays(corpus):
    config, training = ConfigArguments(hidden_size=7), RnnTrainingArguments("out", learning_rate=0.5)
    new_config, new_training, chosen = apply_preset(corpus, config, training)
    assert (new_config.hidden_size, new_training.learning_rate) == (7, 0.5)
    assert not chosen.keys() & {"hidden_size", "learning_rate"}
    assert new_config.embedding_size == chosen["embedding_size"] == 128
    assert new_training.load_best_model_at_end is False
    assert (config.embedding_size, training.load_best_model_at_end) == (None, True)


def test_a_default_that_is_given_stays(corpus):
    words = ["--output_dir", "out", "--num_train_epochs", "10", "--per_device_train_batch_size=32"]
    _, _, config, training = parse_arguments(TASK, "", words)
    _, training, chosen = apply_preset(corpus, config, training)
    assert training.num_train_epochs == 10
    assert not chosen.keys() & {"num_train_epochs", "per_device_train_batch_size", "load_best_model_at_end"}
    assert training.early_stopping_patience == 3


def test_a_tagger_uses_all_passes(tmp_path):
    rows = [{"tokens": ["in", "Rome"], "tags": ["O", "B-LOC"]}] * 40
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = load_corpus(DataArguments(train_file=str(tmp_path / "train.jsonl")), "token-classification")
    chosen = apply_preset(corpus, ConfigArguments(), RnnTrainingArguments("out"))[2]
    assert chosen == {
        "hidden_size": 128,
        "subword_pooling": "mean",
        "use_crf": True,
        "per_device_train_batch_size": 16,
        "early_stopping_patience": 0,
        "load_best_model_at_end": False,
    }
    given = RnnTrainingArguments("out", early_stopping_patience=5, per_device_train_batch_size=8)
    assert apply_preset(corpus, ConfigArguments(hidden_size=9, subword_pooling="none", use_crf=False), given)[2] == {}
    corpus.num_rows["train"] = 5_000
    chosen = apply_preset(corpus, ConfigArguments(), RnnTrainingArguments("out", learning_rate=0.5))[2]
    assert chosen == {
        "subword_pooling": "mean",
        "early_stopping_patience": 0,
        "use_crf": True,
        "lexical_learning_rate": 0.5,
    }


def test_of_many_sentences_a_batch_has_as_many_tokens_as_32_of_them(tmp_path, streaming):
    rows = [{"tokens": ["in", "Rome"] * (1 + row % 9), "tags": ["O", "B-LOC"] * (1 + row % 9)} for row in range(90)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = DataArguments(train_file=str(tmp_path / "train.jsonl"), streaming=streaming)
    corpus = load_corpus(data, "token-classification")
    corpus.num_rows["train"] = 8_000

    def batch(**options):
        training = apply_preset(corpus, ConfigArguments(), RnnTrainingArguments("out", **options))[1]
        return training.max_tokens_per_batch, training.per_device_train_batch_size

    # Of 10 words on average, each with 1.25 tokens: 400 tokens, as a multiple of 64.
    assert batch() == ((None, 32) if streaming else (384, 128))
    assert batch(per_device_train_batch_size=8) == (None, 8)
    assert batch(max_tokens_per_batch=999) == (999, 32)
    assert batch(train_sampling_strategy="group_by_length") == (None, 32)
    corpus.num_rows["train"] = 7_999
    assert batch() == (None, 32)


def test_batches_with_words_without_labels_are_of_examples(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"tokens": ["in", "Rome"], "tags": ["O", "B-LOC"]}\n' * 40)
    (tmp_path / "more.jsonl").write_text('{"tokens": ["in", "Rome"]}\n' * 40)
    files = {"train_file": str(tmp_path / "train.jsonl"), "unlabelled_file": str(tmp_path / "more.jsonl")}
    corpus = load_corpus(DataArguments(**files), "token-classification")
    corpus.num_rows["train"] = 8_000
    mixed, taught = (
        apply_preset(corpus, ConfigArguments(), RnnTrainingArguments("out", **options))[1]
        for options in ({}, {"teacher": ["x"]})
    )
    assert (mixed.max_tokens_per_batch, mixed.per_device_train_batch_size) == (None, 32)
    assert (taught.max_tokens_per_batch, taught.per_device_train_batch_size) == (64, 128)


@pytest.mark.parametrize(
    ("names", "options", "smoothing", "tells"),
    [
        (["O", "B-X", "I-X"], {}, 0, True),
        (["O", "B-X", "I-X"], {"use_crf": False}, 0, False),
        (["O", "B-X", "I-X"], {}, 0.1, False),
        (["O", "B-X"], {}, 0, False),
        (["O", "B-X", "S-X"], {}, 0, False),
        (["NOUN", "VERB"], {}, 0, False),
        (["O", *(f"{mark}-{number}" for mark in "BI" for number in range(16))], {}, 0, False),  # 65 with ends
    ],
)
def test_the_field_of_spans_tells_where_they_end(names, options, smoothing, tells):
    split = Dataset.from_dict({"tokens": [["in", "Rome"]], "tags": [["O", "O"]]})
    corpus = Corpus("token-classification", {"train": split}, "tokens", "tags", None, names, {"train": 500})
    training = RnnTrainingArguments("out", label_smoothing_factor=smoothing)
    assert ("crf_tag_scheme" in apply_preset(corpus, ConfigArguments(**options), training)[2]) is tells


@pytest.mark.parametrize(
    ("num_rows", "num_labels", "smoothing", "has_crf"),
    [(5_000, 64, 0, True), (5_000, 65, 0, False), (500, 65, 0, True), (5_000, 2, 0.1, False), (500, 2, 0.1, False)],
)
def test_a_tagger_scores_whole_sequences_of_not_too_many_labels(num_rows, num_labels, smoothing, has_crf):
    split = Dataset.from_dict({"tokens": [["in", "Rome"]], "tags": [["a", "b"]]})
    names = [f"label {number}" for number in range(num_labels)]
    rows = {"train": num_rows}
    corpus = Corpus("token-classification", {"train": split}, "tokens", "tags", None, names, rows)
    training = RnnTrainingArguments("out", label_smoothing_factor=smoothing)
    assert ("use_crf" in apply_preset(corpus, ConfigArguments(), training)[2]) is has_crf


def test_a_file_of_options_gives_them(corpus, tmp_path):
    (tmp_path / "options.yaml").write_text("learning_rate: 0.002\n")
    _, _, config, training = parse_arguments(TASK, "", ["--output_dir", "o", "--config", f"{tmp_path}/options.yaml"])
    assert "learning_rate" not in apply_preset(corpus, config, training)[2]


def test_texts_without_labels_count_where_a_teacher_labels_them(corpus, tmp_path):
    (tmp_path / "more.txt").write_text("it is late\n" * 9_000)
    corpus.unlabelled = load_unlabelled(DataArguments(unlabelled_file=str(tmp_path / "more.txt")), TASK)
    alone, taught = RnnTrainingArguments("out"), RnnTrainingArguments("out", teacher=["bert"])
    sizes = [apply_preset(corpus, ConfigArguments(), one)[1].per_device_train_batch_size for one in (alone, taught)]
    assert sizes == [16, 64]


def test_sizes_of_an_encoder_stay(corpus):
    _, _, chosen = apply_preset(corpus, ConfigArguments(), RnnTrainingArguments("out"), chooses_sizes=False)
    assert not chosen.keys() & {"hidden_size", "embedding_size", "char_num_filters"}
    assert "num_train_epochs" in chosen
