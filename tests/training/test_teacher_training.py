"""Fine-tuning a little transformer with the stock Trainer: a stock checkpoint comes out."""

import json

import pytest
import torch
from transformers import AutoModelForTokenClassification, BertConfig, BertModel, pipeline

from rnn_hf import train_tokenizer
from rnn_hf.commands.train_teacher import main
from rnn_hf.training.teacher_training import (
    DataArguments,
    TeacherTrainingArguments,
    choose_settings,
    choose_task,
)

OPTIONS = [
    "--num_train_epochs", "8", "--learning_rate", "5e-3", "--per_device_train_batch_size", "8",
    "--disable_tqdm", "true",
]  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory, sentences) -> str:
    """A little BERT without a head, which reads 12 tokens."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("base")
    tokenizer = train_tokenizer(sentences, kind="wordpiece", vocab_size=60, is_split_into_words=True)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=12, **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def write(path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_a_classifier(base, sentences, tmp_path, capsys):
    rows = [{"text": " ".join(words), "label": "yes" if len(words[0]) > 3 else "no"} for words in sentences]
    main([base, "--train_file", write(tmp_path / "a.jsonl", rows), "--output_dir", str(tmp_path / "out"), *OPTIONS])
    assert "BertForSequenceClassification" in capsys.readouterr().out
    results = json.loads((tmp_path / "out/all_results.json").read_text())
    assert results["test_accuracy"] >= 0.8
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }
    assert not list((tmp_path / "out").glob("checkpoint-*"))
    assert not list((tmp_path / "out").glob("*.bin"))
    classify = pipeline("text-classification", model=str(tmp_path / "out"))
    assert classify("good film")[0]["label"] == "yes"


def test_a_tagger_of_sentences_that_are_too_long_for_it(base, sentences, tmp_path):
    rows = [
        {"words": words * 2, "ner": ["B-X" if word == "film" else "O" for word in words * 2]} for words in sentences
    ]
    file = write(tmp_path / "a.jsonl", rows)
    main([base, "--train_file", file, "--output_dir", str(tmp_path / "out"), *OPTIONS])
    assert json.loads((tmp_path / "out/all_results.json").read_text())["test_f1"] > 0.5
    model = AutoModelForTokenClassification.from_pretrained(tmp_path / "out")
    assert model.config.id2label == {0: "B-X", 1: "O"}


@pytest.mark.parametrize("label", [["good", "film"], 1.5])
def test_several_labels_and_numbers(base, sentences, tmp_path, label):
    rows = [
        {"text": " ".join(words), "label": [w for w in label if w in words] if isinstance(label, list) else label}
        for words in sentences
    ]
    file = write(tmp_path / "a.jsonl", rows)
    main([base, "--train_file", file, "--output_dir", str(tmp_path / "out"), *OPTIONS[2:], "--max_steps", "2"])
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["problem_type"] == ("multi_label_classification" if isinstance(label, list) else "regression")


def test_rate_and_passes_follow_from_model_and_data_unless_they_are_given(base, sentences, tmp_path):
    rows = [{"text": " ".join(words), "label": words[0]} for words in sentences]
    file = write(tmp_path / "a.jsonl", rows)
    main([base, "--train_file", file, "--output_dir", str(tmp_path / "out"), "--disable_tqdm", "true"])
    arguments = json.loads((tmp_path / "out/training_args.json").read_text())
    assert (arguments["learning_rate"], arguments["num_train_epochs"]) == (3e-4, 12)
    options = ["--num_train_epochs", "1", "--disable_tqdm", "true"]
    main([base, "--train_file", file, "--output_dir", str(tmp_path / "out"), *options])
    arguments = json.loads((tmp_path / "out/training_args.json").read_text())
    assert (arguments["learning_rate"], arguments["num_train_epochs"]) == (3e-4, 1)


def test_few_rows_are_read_often_and_wide_models_learn_slowly():
    epochs = [choose_settings(num_rows, 768)["num_train_epochs"] for num_rows in (None, 100, 7_000, 100_000)]
    rates = [choose_settings(None, size)["learning_rate"] for size in (None, 128, 384, 768, 1024)]
    assert epochs == [3, 12, 6, 3]
    assert rates == pytest.approx([5e-5, 3e-4, 2e-4, 5e-5, 2.8e-5])


def test_without_checkpoints_no_best_one_is_loaded(tmp_path):
    args = TeacherTrainingArguments(str(tmp_path), save_strategy="no")
    assert args.load_best_model_at_end is False
    assert TeacherTrainingArguments(str(tmp_path)).load_best_model_at_end is True


@pytest.mark.parametrize(
    ("name", "content", "task"),
    [
        ("a.csv", "text,label\na,b\n", "text-classification"),
        ("a.jsonl", '{"words": ["a"], "ner": ["O"]}\n', "token-classification"),
        ("a.conll", "a O\nb O\n\nc O\n", "token-classification"),
        ("a.txt", "a B-X\nb O\n\nc O\nd O\n", "token-classification"),
        ("a.jsonl", '{"text": "a", "label": "b"}\n', "text-classification"),
        ("a.jsonl", '{"text": "Anna", "label": [[0, 4, "PER"]]}\n', "token-classification"),
    ],
)
def test_the_task_is_seen_from_the_data(tmp_path, name, content, task):
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert choose_task(DataArguments(train_file=str(tmp_path / name))) == task


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nowhere/at_all"], "The transformer nowhere/at_all could not be loaded"),
        ([".", "--unlabelled_file", "a.txt"], "--unlabelled_file is for the student"),
        ([".", "--push_to_hub"], "upload the teacher's folder with hf upload"),
        ([".", "--task", "token-classification", "--problem_type", "regression"], "--problem_type is for classifiers"),
    ],
)
def test_what_is_wrong_is_said(sentences, tmp_path, options, message, capsys):
    rows = [{"text": " ".join(words), "label": words[0]} for words in sentences]
    file = write(tmp_path / "a.jsonl", rows)
    with pytest.raises(SystemExit):
        main([*options, "--train_file", file, "--output_dir", str(tmp_path / "out")])
    assert message in capsys.readouterr().err
