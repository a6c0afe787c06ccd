"""Default models beside linear models, on little corpora."""

import json

import pytest

from rnn_hf.benchmarks.accuracy import _word_features
from rnn_hf.commands.benchmark import main

TINY = [
    *("--hidden_size", "8", "--embedding_size", "8", "--char_num_filters", "4", "--num_train_epochs", "1"),
    *("--vocab_size", "300", "--disable_tqdm", "true"),
]


def write(path, rows) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def rows_of(folder, *options: str) -> list[dict]:
    main(["accuracy", *options, *TINY, "--json", str(folder / "rows.json")])
    return json.loads((folder / "rows.json").read_text(encoding="utf-8"))


def test_classifiers(news_articles, tmp_path, capsys):
    rows = [{"text": text, "label": topic} for text, topic in news_articles]
    train, test = write(tmp_path / "train.jsonl", rows * 2), write(tmp_path / "test.jsonl", rows)
    words, both, ours = rows_of(tmp_path, "--train_file", train, "--test_file", test)
    assert [words["model"], both["model"], ours["model"]] == [
        "TF-IDF of words, LinearSVC", "the same and characters", "rnn_hf",
    ]  # fmt: skip
    for row in (words, both):
        assert row["accuracy, %"] == row["f1, %"] == 100  # it has seen them
    assert 0 <= ours["accuracy, %"] <= 100
    assert all(row[column] > 0 for row in (words, both, ours) for column in ("training, s", "MB", "words/s"))


def test_taggers(japanese_sentences, tmp_path, caplog):
    pytest.importorskip("pycrfsuite")
    rows = [{"tokens": [w[0] for w in words], "tags": [w[2] for w in words]} for words in japanese_sentences]
    train, test = write(tmp_path / "train.jsonl", rows), write(tmp_path / "test.jsonl", rows[:20])
    task = ["--task", "token-classification"]
    crf, ours = rows_of(tmp_path, *task, "--train_file", train, "--test_file", test, "--bf16", "true")
    assert "conditional random field, bfloat16" in caplog.text  # as the training command would
    assert [crf["model"], ours["model"]] == ["linear-chain CRF", "rnn_hf"]
    assert crf["accuracy, %"] > 99
    assert all(row[column] > 0 for row in (crf, ours) for column in ("training, s", "MB", "words/s"))


@pytest.mark.parametrize(("label", "options"), [(0.5, []), (["a"], [])])
def test_other_problems_are_refused(label, options, tmp_path, capsys):
    file = write(tmp_path / "train.jsonl", [{"text": f"a {number}", "label": label} for number in range(20)])
    with pytest.raises(SystemExit):
        rows_of(tmp_path, "--train_file", file, "--test_file", file)
    assert "accuracy needs one label for each text or word" in capsys.readouterr().err


def test_features_of_words():
    of_the_first, of_the_second = _word_features(["McDonald2024", "ran"])
    assert {"mcdonald2024", "shape=AaAa0", "word=McDonald2024", "<mcdon", "24>"} <= set(of_the_first)
    assert {"-1:none", "1:ran", "1:shape=a", "1:an>", "2:none", "mcdonald2024 ran"} <= set(of_the_first)
    assert {"-1:mcdonald2024", "1:none", "mcdonald2024 ran"} <= set(of_the_second)
