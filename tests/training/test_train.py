"""Training with the stock Trainer, on tiny models and real sentences."""

import copy
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
    pipeline,
)

from rnn_hf import DataCollatorWithPacking
from rnn_hf.data.collator import TokenBudgetDataset
from rnn_hf.data.corpus import DataArguments, load_corpus
from rnn_hf.evaluation.task_metrics import preprocess_logits_for_metrics
from rnn_hf.training import data_loaders
from rnn_hf.training.batching import TokenBatchSampler
from rnn_hf.training.evaluate import evaluate_checkpoint
from rnn_hf.training.options import parse_arguments
from rnn_hf.training.train import train

ROOT = Path(__file__).parents[2]
TINY = ["--hidden_size", "12", "--embedding_size", "8", "--vocab_size", "300", "--disable_tqdm", "true"]
# Plain gradient descent without dropout, so that runs which differ in batching only can be compared.
COMPARABLE = [
    *TINY, "--optim", "sgd", "--learning_rate", "0.5", "--lr_scheduler_type", "constant", "--warmup_steps", "0",
    "--weight_decay", "0", "--word_dropout", "0", "--embedding_dropout", "0", "--classifier_dropout", "0",
    "--max_steps", "6", "--save_strategy", "no", "--eval_strategy", "no",
]  # fmt: skip


def write_jsonl(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def tagged(japanese_sentences, tmp_path_factory) -> dict[str, str]:
    """Files of 96, 20 and 20 sentences with parts of speech."""
    folder = tmp_path_factory.mktemp("tagged")
    rows = [{"tokens": [w[0] for w in words], "tags": [w[2] for w in words]} for words in japanese_sentences]
    rows = [row for row in rows if "感動詞" not in row["tags"]]
    return {
        "train": write_jsonl(folder / "train.jsonl", rows[:96]),
        "validation": write_jsonl(folder / "validation.jsonl", rows[96:116]),
        "test": write_jsonl(folder / "test.jsonl", rows[116:136]),
    }


@pytest.fixture(scope="module")
def labelled(news_articles, tmp_path_factory) -> str:
    """A file of 40 news articles, cut to 300 characters, with topics."""
    folder = tmp_path_factory.mktemp("labelled")
    return write_jsonl(folder / "news.jsonl", [{"text": t[:300], "label": topic} for t, topic in news_articles])


def tagger_arguments(tagged: dict[str, str], output_dir: Path, *options: str) -> list[str]:
    """Name the files; lexical features, which take seconds to solve, only where options say something of them."""
    files = [f"--{name}_file={file}" for name, file in tagged.items()]
    says_more = any("lexical" in option or option == "--model_name_or_path" for option in options)
    plain = [] if says_more else ["--num_lexical_features", "0"]
    return [*files, "--output_dir", str(output_dir), *(options or TINY), *plain]


def train_tagger(tagged: dict[str, str], output_dir: Path, *options: str) -> dict[str, float]:
    return train("token-classification", *parse_arguments("token-classification", "", tagger_arguments(
        tagged, output_dir, *options)))  # fmt: skip


def train_classifier(file: str, output_dir: Path, *options: str) -> dict[str, float]:
    arguments = ["--train_file", file, "--output_dir", str(output_dir), *TINY, "--num_train_epochs", "1", *options]
    return train("text-classification", *parse_arguments("text-classification", "", arguments))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_same_weights(one: Path, other: Path, tolerance: float = 0.0) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=0, atol=tolerance, msg=name)


def run_script(name: str, *arguments: str, processes: int = 1, **options) -> subprocess.CompletedProcess:
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--master_port", "0"]
        command += ["--rdzv_backend", "c10d", "--rdzv_endpoint", "127.0.0.1:0"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [*command, str(ROOT / "scripts" / name), *arguments],
        env=environment, capture_output=True, text=True, check=False, timeout=240, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tagged, tmp_path_factory) -> tuple[dict[str, float], Path]:
    """A tagger after four epochs: its results and its folder."""
    output_dir = tmp_path_factory.mktemp("trained")
    options = [*TINY, "--num_train_epochs", "4", "--learning_rate", "0.01"]
    return train_tagger(tagged, output_dir, *options), output_dir


class TestOutputFolder:
    def test_holds_model_tokenizer_and_results(self, trained):
        metrics, folder = trained
        for name in ("config.json", "model.safetensors", "tokenizer.json", "all_results.json", "training_args.json",
                     "run.json", "README.md", "training_curve.png", "modeling_rnn.py"):  # fmt: skip
            assert (folder / name).is_file(), name
        results = json.loads((folder / "all_results.json").read_text())
        assert results == metrics
        assert {"eval_accuracy", "eval_f1", "test_accuracy", "test_f1", "train_runtime"} <= results.keys()

    def test_holds_no_pickle_outside_the_trainer_s_checkpoints(self, trained):
        _, folder = trained
        suffixes = {".json", ".md", ".png", ".py", ".safetensors"}
        assert {path.suffix for path in folder.iterdir() if path.is_file()} == suffixes

    def test_all_files_may_be_read_by_whom_any_new_file_may(self, trained):
        mask = os.umask(0)
        os.umask(mask)
        files = [path for path in trained[1].rglob("*") if path.is_file()]
        assert {path.suffix for path in files} >= {".json", ".md", ".png", ".py", ".safetensors"}
        assert [path for path in files if path.stat().st_mode & 0o777 != 0o666 & ~mask] == []

    def test_learns(self, trained):
        assert trained[0]["test_accuracy"] > 0.5  # a noun for every word would give 0.46

    def test_loads_with_one_line_and_runs_in_a_pipeline(self, trained):
        _, folder = trained
        tag = pipeline("token-classification", model=str(folder), aggregation_strategy="none", ignore_labels=[])
        (words,) = tag([["東京", "で", "会う"]], is_split_into_words=True)
        assert {word["entity"] for word in words} <= set(tag.model.config.id2label.values())

    def test_keeps_the_best_model_on_validation(self, trained):
        metrics, folder = trained
        history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
        assert metrics["eval_accuracy"] == pytest.approx(max(entry.get("eval_accuracy", 0) for entry in history))

    def test_evaluating_the_checkpoint_gives_the_same_scores(self, trained, tagged, tmp_path):
        metrics, folder = trained
        again = evaluate_checkpoint(str(folder), DataArguments(test_file=tagged["test"]), output_dir=str(tmp_path))
        assert again["test_accuracy"] == metrics["test_accuracy"]
        assert again["test_f1"] == metrics["test_f1"]

    def test_predict_script_prints_a_tag_a_word(self, trained, tmp_path):
        sentences = tmp_path / "sentences.txt"
        sentences.write_text("東京 で 会う\n\n本\n", encoding="utf-8")
        result = run_script("predict.py", str(trained[1]), str(sentences), "--output_format", "jsonl")
        assert result.returncode == 0, result.stderr
        rows = [json.loads(line) for line in result.stdout.splitlines()]
        assert [row["tokens"] for row in rows] == [["東京", "で", "会う"], [], ["本"]]
        assert [len(row["tags"]) for row in rows] == [3, 0, 1]

    def test_evaluate_script_prints_the_scores(self, trained, tagged, tmp_path):
        result = run_script(
            "evaluate_checkpoint.py", str(trained[1]), "--test_file", tagged["test"], "--output_dir", str(tmp_path)
        )
        assert result.returncode == 0, result.stderr
        assert f"{trained[0]['test_accuracy']:.4f}" in result.stdout

    def test_a_second_run_does_not_mix_with_the_first(self, trained, tagged):
        with pytest.raises(ValueError, match=r"holds checkpoints of an earlier run.*--resume_from_checkpoint true"):
            train_tagger(tagged, trained[1])

    def test_fine_tuning_the_same_labels_keeps_the_head(self, trained, tagged, tmp_path):
        _, folder = trained
        train_tagger(
            tagged, tmp_path, "--model_name_or_path", str(folder), "--learning_rate", "0", "--num_train_epochs", "1",
            "--disable_tqdm", "true",
        )  # fmt: skip
        assert_same_weights(folder, tmp_path)

    def test_fine_tuning_on_new_labels_keeps_the_encoder(self, trained, japanese_sentences, tmp_path):
        _, folder = trained
        rows = [{"tokens": [w[0] for w in words], "tags": [w[1] for w in words]} for words in japanese_sentences[:40]]
        file = write_jsonl(tmp_path / "scripts.jsonl", rows)
        options = ["--model_name_or_path", str(folder), "--learning_rate", "0", "--num_train_epochs", "1"]
        train_tagger({"train": file}, tmp_path / "new", *options, "--disable_tqdm", "true")
        old, new = weights(folder), weights(tmp_path / "new")
        assert all(torch.equal(old[name], new[name]) for name in old if name.startswith("model."))
        model = AutoModelForTokenClassification.from_pretrained(tmp_path / "new")
        assert "KATAK" in model.config.label2id

    def test_fine_tuning_cannot_change_the_architecture(self, trained, tagged, tmp_path):
        with pytest.raises(ValueError, match=r"--hidden_size 13 does not fit .* where it is 12"):
            train_tagger(tagged, tmp_path, "--model_name_or_path", str(trained[1]), "--hidden_size", "13")


class TestTasks:
    def test_one_label(self, labelled, tmp_path):
        metrics = train_classifier(labelled, tmp_path)
        assert {"test_accuracy", "test_f1"} <= metrics.keys()
        classify = pipeline("text-classification", model=str(tmp_path))
        assert classify("")[0]["label"] in {"business", "entertainment", "politics", "sports", "tech"}

    def test_several_labels(self, news_articles, tmp_path):
        rows = [{"text": text[:200], "label": [topic, "long"][: 1 + len(text) % 2]} for text, topic in news_articles]
        metrics = train_classifier(write_jsonl(tmp_path / "multi.jsonl", rows), tmp_path / "model")
        assert {"test_f1", "test_f1_micro", "test_exact_match"} <= metrics.keys()
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
        assert model.config.problem_type == "multi_label_classification"

    def test_a_number(self, news_articles, tmp_path):
        rows = [{"text": text[:200], "label": len(text) / 1000} for text, _ in news_articles]
        metrics = train_classifier(write_jsonl(tmp_path / "numbers.jsonl", rows), tmp_path / "model")
        assert {"test_mse", "test_r2"} <= metrics.keys()
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
        assert model.config.problem_type == "regression"
        assert model.config.num_labels == 1

    def test_spans(self, japanese_sentences, tmp_path):
        rows = [{"tokens": [w[0] for w in words], "tags": [w[-1] for w in words]} for words in japanese_sentences[:60]]
        rows += [{"tokens": ["x"] * 17, "tags": sorted({w[-1] for words in japanese_sentences for w in words})}]
        file = write_jsonl(tmp_path / "entities.jsonl", rows)
        metrics = train_tagger({"train": file}, tmp_path / "model", *TINY, "--num_train_epochs", "1")
        assert {"test_f1", "test_precision", "test_recall", "test_accuracy"} <= metrics.keys()


@pytest.fixture(scope="module")
def entities(japanese_sentences, tmp_path_factory) -> dict[str, str]:
    """Files of 60 and 20 sentences with entities in IOB2."""
    folder = tmp_path_factory.mktemp("entities")
    rows = [{"tokens": [w[0] for w in words], "tags": [w[-1] for w in words]} for words in japanese_sentences]
    known = {tag for row in rows[:60] for tag in row["tags"]}
    rows = [row for row in rows if known.issuperset(row["tags"])]
    return {
        "train": write_jsonl(folder / "train.jsonl", rows[:60]),
        "validation": write_jsonl(folder / "validation.jsonl", rows[60:80]),
    }


class TestModelOptions:
    def test_taggers_of_spans_or_of_few_sentences_score_whole_sequences_unless_told(self, entities, tagged, tmp_path):
        once = [*TINY, "--num_train_epochs", "1"]
        train_tagger(entities, tmp_path / "spans", *once)
        train_tagger(entities, tmp_path / "told", *once, "--use_crf", "false")
        train_tagger(tagged, tmp_path / "few", *once)
        train_tagger(tagged, tmp_path / "parts of speech", *once, "--preset", "none")
        models = [
            AutoModelForTokenClassification.from_pretrained(tmp_path / name)
            for name in ("spans", "told", "few", "parts of speech")
        ]
        assert [model.config.use_crf for model in models] == [True, False, True, False]
        assert models[0].crf.transitions.any()

    def test_the_ends_of_spans_are_told_by_the_field_or_are_auxiliary_labels(self, entities, tmp_path):
        once = [*TINY, "--num_train_epochs", "1"]
        weighed = ["--auxiliary_loss_weight", "0.1"]
        for name, options in {"field": [], "both": weighed, "labels": ["--crf_tag_scheme", "none"]}.items():
            train_tagger(entities, tmp_path / name, *once, *options)
        tuned = ["--model_name_or_path", str(tmp_path / "field")]
        train_tagger(entities, tmp_path / "tuned", *tuned, "--num_train_epochs", "1", "--disable_tqdm", "true")
        train_tagger(entities, tmp_path / "plain", *tuned, "--use_crf", "false", "--num_train_epochs", "1", *once[-2:])
        for name, tells, learns in (
            ("field", 1, 0),
            ("both", 1, 1),
            ("labels", 0, 1),
            ("tuned", 1, 0),
            ("plain", 1, 1),
        ):
            config = json.loads((tmp_path / name / "config.json").read_text())
            assert (config["crf_tag_scheme"] == "iobes") == bool(tells), name
            data = json.loads((tmp_path / name / "training_args.json").read_text())["data"]
            assert (data.get("auxiliary_tags_column") == "ends of spans") == bool(learns), name
        again = [*once[:-1], "2", "--resume_from_checkpoint", "true"]
        with pytest.raises(ValueError, match=r"auxiliary_tags_column .*, crf_tag_scheme data none → iobes\)"):
            train_tagger(entities, tmp_path / "labels", *again)

    def test_fine_tuning_on_other_spans_begins_their_transitions_anew(self, entities, tmp_path):
        once = [*TINY, "--num_train_epochs", "1"]
        train_tagger(entities, tmp_path / "first", *once, "--class_weights", "balanced")
        rows = [json.loads(line) for line in Path(entities["train"]).read_text(encoding="utf-8").splitlines()]
        for row in rows:
            row["tags"] = [tag if tag == "O" else f"{tag[:2]}NAME" for tag in row["tags"]]
        file = write_jsonl(tmp_path / "names.jsonl", rows)
        still = ["--model_name_or_path", str(tmp_path / "first"), "--learning_rate", "0", "--num_train_epochs", "1"]
        train_tagger({"train": file}, tmp_path / "second", *still, "--disable_tqdm", "true")
        model = AutoModelForTokenClassification.from_pretrained(tmp_path / "second")
        assert model.crf.transitions.shape == (5, 5)  # O, and two labels for B-NAME and for I-NAME
        assert not model.crf.transitions.any()
        old, new = weights(tmp_path / "first"), weights(tmp_path / "second")
        assert all(
            torch.equal(old[name], new[name]) for name in old if name.startswith("model.") or name == "word_starts"
        )

    def test_models_have_a_character_cnn_unless_told(self, tagged, tmp_path):
        once = [*TINY, "--num_train_epochs", "1"]
        train_tagger(tagged, tmp_path / "with", *once)
        train_tagger(tagged, tmp_path / "without", *once, "--char_cnn", "false")
        model = AutoModelForTokenClassification.from_pretrained(tmp_path / "with")
        assert "東" in model.config.characters
        assert model.model.embeddings.character_cnn.character_ids.any()
        assert AutoModelForTokenClassification.from_pretrained(tmp_path / "without").config.characters is None

    @pytest.mark.parametrize("rate", [0.0, 0.1])
    def test_vectors_join_and_are_tuned_at_a_rate_of_their_own(self, rate, tagged, tmp_path):
        (tmp_path / "vectors.txt").write_text("で 1 2\n東京 3 4\n未知 5 6\n", encoding="utf-8")
        train_tagger(
            tagged, tmp_path / "model", *TINY, "--num_train_epochs", "1",
            "--vectors", str(tmp_path / "vectors.txt"), "--vectors_learning_rate", str(rate),
        )  # fmt: skip
        model = AutoModelForTokenClassification.from_pretrained(tmp_path / "model")
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
        assert tokenizer.tokenize("未知") == ["未知"]
        embeddings = model.model.embeddings
        assert embeddings.word_embeddings.num_embeddings < len(tokenizer)
        found = embeddings.static_embeddings(torch.tensor(tokenizer.convert_tokens_to_ids(["で", "未知"])))
        assert found[1].tolist() == [5, 6]  # it never occurs
        assert (found[0].tolist() == [1, 2]) == (rate == 0)

    def test_the_character_cnn_may_be_pretrained(self, tagged, tmp_path):
        vectors = tmp_path / "vectors.txt"
        vectors.write_text(
            "".join(f"{word} {position % 3} {position % 2}\n" for position, word in enumerate("をにがとは"))
        )
        options = ["--vectors", str(vectors), "--max_steps", "1", "--learning_rate", "0", "--weight_decay", "0"]
        train_tagger(tagged, tmp_path / "plain", *TINY, *options)
        train_tagger(tagged, tmp_path / "mimick", *TINY, *options, "--mimick_epochs", "2")
        plain, mimick = weights(tmp_path / "plain"), weights(tmp_path / "mimick")
        learned = "model.embeddings.character_cnn.char_embeddings.weight"
        assert not torch.equal(plain[learned], mimick[learned])

    def test_vectors_are_for_new_models(self, trained, tagged, tmp_path):
        with pytest.raises(ValueError, match="--vectors is for new models"):
            train_tagger(tagged, tmp_path, "--model_name_or_path", str(trained[1]), "--vectors", "glove.txt")

    @pytest.mark.parametrize(
        "options", [["--class_weights", "balanced"], ["--auxiliary_tags_column", "tags"], ["--lm_loss_weight", "0.1"]]
    )
    def test_additional_objectives_change_what_is_learnt_and_are_not_saved(self, options, tagged, tmp_path):
        once = [*TINY, "--num_train_epochs", "1"]
        train_tagger(tagged, tmp_path / "with", *once, *options)
        train_tagger(tagged, tmp_path / "without", *once)
        one, other = weights(tmp_path / "with"), weights(tmp_path / "without")
        assert one.keys() == other.keys()
        assert not torch.equal(one["classifier.bias"], other["classifier.bias"])

    def test_auxiliary_labels_are_found(self, entities, japanese_sentences, tmp_path):
        """And learned, noted and not saved; where they have no loss, they are left out."""
        rows = [{"tokens": [w[0] for w in words], "pos": [w[2] for w in words], "tags": [w[-1] for w in words]}
                for words in japanese_sentences[:96]]  # fmt: skip
        files = entities | {"train": write_jsonl(tmp_path / "train.jsonl", rows)}
        once = [*TINY, "--num_train_epochs", "1"]
        off = {"none": ["--auxiliary_tags_column", "none"], "zero": ["--auxiliary_loss_weight", "0"]}
        named = {"found": [], "named": ["--auxiliary_tags_column", "pos"], **off}
        for name, options in named.items():
            train_tagger(files, tmp_path / name, *once, *options)
        data = {name: json.loads((tmp_path / name / "training_args.json").read_text())["data"] for name in named}
        assert [data[name].get("auxiliary_tags_column") for name in named] == ["pos", "pos", None, None]
        assert_same_weights(tmp_path / "found", tmp_path / "named")
        assert_same_weights(tmp_path / "none", tmp_path / "zero")
        one, other = weights(tmp_path / "found"), weights(tmp_path / "none")
        assert one.keys() == other.keys()
        assert not torch.equal(one["classifier.bias"], other["classifier.bias"])
        assert "auxiliary labels" in (tmp_path / "found" / "README.md").read_text()
        smoothed = [*once, "--label_smoothing_factor", "0.1", "--use_crf", "false"]
        assert train_tagger(files, tmp_path / "smoothed", *smoothed)["train_loss"] > 0

    def test_balanced_weights_are_for_classes(self, news_articles, tmp_path):
        file = write_jsonl(
            tmp_path / "n.jsonl", [{"text": text[:99], "label": len(text) / 7} for text, _ in news_articles]
        )
        with pytest.raises(ValueError, match="--class_weights balanced is for classes"):
            train_classifier(file, tmp_path / "model", "--class_weights", "balanced")

    def test_labels_are_smoothed(self, labelled, tmp_path):
        metrics = train_classifier(labelled, tmp_path, "--label_smoothing_factor", "0.1")
        assert metrics["train_loss"] > 0

    def test_single_labels_of_whole_sequences_are_not_smoothed(self, entities, tmp_path):
        with pytest.raises(ValueError, match=r"--label_smoothing_factor smooths single labels.*--use_crf false"):
            train_tagger(entities, tmp_path, *TINY, "--label_smoothing_factor", "0.1")

    @pytest.mark.parametrize("options", [["--class_weights", "balanced"], []])
    def test_only_single_labels_without_weights_are_smoothed(self, options, news_articles, tmp_path):
        rows = [{"text": text[:99], "label": topic if options else [topic]} for text, topic in news_articles]
        file = write_jsonl(tmp_path / "texts.jsonl", rows)
        with pytest.raises(ValueError, match="--label_smoothing_factor is for one label"):
            train_classifier(file, tmp_path / "model", "--label_smoothing_factor", "0.1", *options)

    def test_checkpoints_of_other_models_are_named(self, tagged, tmp_path):
        (tmp_path / "bert").mkdir()
        (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
        for name, message in (("bert", "holds no classifier or tagger of rnn_hf.*'bert'"), ("nowhere", "holds no")):
            with pytest.raises(ValueError, match=message):
                train_tagger(tagged, tmp_path / "model", "--model_name_or_path", str(tmp_path / name))

    def test_bfloat16_trains_on_a_cpu(self, tagged, tmp_path):
        metrics = train_tagger(
            tagged, tmp_path, *TINY, "--num_train_epochs", "4", "--learning_rate", "0.01", "--bf16", "true"
        )
        assert metrics["test_accuracy"] > 0.5
        assert {value.dtype for value in weights(tmp_path).values() if value.is_floating_point()} == {torch.float32}

    def test_weight_decay_spares_biases_and_embeddings(self, tagged, tmp_path):
        still = ["--optim", "sgd", "--learning_rate", "0.5", "--lr_scheduler_type", "constant", "--warmup_steps", "0"]
        plain = ["--lexical_learning_rate", "0.5", "--use_crf", "false", "--eval_strategy", "no"]
        once = [*TINY, *still, *plain, "--max_steps", "1", "--max_grad_norm", "1e-9"]
        train_tagger(tagged, tmp_path / "decayed", *once, "--weight_decay", "0.5")
        train_tagger(tagged, tmp_path / "kept", *once, "--weight_decay", "0")
        decayed, kept = weights(tmp_path / "decayed"), weights(tmp_path / "kept")
        for name, value in kept.items():
            spared = name.endswith("embeddings.weight") or "bias" in name
            expected = value if spared or not value.is_floating_point() else 0.75 * value
            torch.testing.assert_close(decayed[name], expected, rtol=1e-3, atol=1e-4, msg=name)

    def test_arguments_are_recorded_as_given_where_batches_go_by_tokens(self, tagged, tmp_path):
        options = ["--num_train_epochs", "1", "--per_device_train_batch_size", "7", "--max_tokens_per_batch", "90"]
        train_tagger(tagged, tmp_path, *TINY, *options)
        recorded = json.loads((tmp_path / "training_args.json").read_text(encoding="utf-8"))
        assert (recorded["per_device_train_batch_size"], recorded["max_tokens_per_batch"]) == (7, 90)
        assert "| Batch size | 7, at most 90 tokens |" in (tmp_path / "README.md").read_text(encoding="utf-8")

    def test_without_evaluation_no_training_data_is_held_out(self, labelled, tmp_path):
        metrics = train_classifier(labelled, tmp_path, "--eval_strategy", "no")
        assert metrics["train_samples"] == 40
        assert not {"eval_accuracy", "test_accuracy"} & metrics.keys()
        assert "| Examples | 40 train |" in (tmp_path / "README.md").read_text(encoding="utf-8")


def numbers_that_json_lacks(folder: Path) -> list[str]:
    texts = {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in folder.rglob("*.json")}
    return [name for name, text in texts.items() if re.search(r"\b(NaN|Infinity)\b", text)]


class TestDivergence:
    @pytest.mark.parametrize(
        ("options", "what"),
        [
            (["--num_train_epochs", "3", "--eval_strategy", "no"], "loss is nan after"),
            (["--num_train_epochs", "3", "--eval_strategy", "no", "--logging_strategy", "no"], "train_loss is nan"),
            (
                ["--max_steps", "1", "--warmup_steps", "0", "--eval_strategy", "no"],
                "logits are no numbers any more, and no model",
            ),
            (["--max_steps", "1", "--warmup_steps", "0"], "the model's logits are no numbers any more"),
            (["--num_train_epochs", "3", "--logging_nan_inf_filter", "true"], "the model's logits are no numbers"),
        ],
    )
    def test_ends_the_run_without_a_model(self, options, what, labelled, tmp_path):
        arguments = ["--train_file", labelled, "--output_dir", str(tmp_path), *TINY, "--learning_rate", "1e30"]
        with pytest.raises(ValueError, match=rf"Training diverged: .*{what}.*Take a smaller --learning_rate"):
            train("text-classification", *parse_arguments("text-classification", "", [*arguments, *options]))
        assert not (tmp_path / "model.safetensors").exists()
        assert not numbers_that_json_lacks(tmp_path)

    def test_shows_in_the_losses_where_weights_stay_finite(self, tagged, tmp_path):
        once = [*TINY, "--num_train_epochs", "1", "--per_device_train_batch_size", "32"]
        with pytest.raises(ValueError, match="Training diverged: loss is inf after 3 steps, and no model is saved in"):
            train_tagger(tagged, tmp_path, *once, "--lm_loss_weight", "3e38")
        assert not (tmp_path / "model.safetensors").exists()
        assert not numbers_that_json_lacks(tmp_path)

    def test_gradients_alone_may_be_infinite(self, tagged, tmp_path):
        once = [*TINY, "--num_train_epochs", "1", "--lm_loss_weight", "1e30"]
        assert math.isfinite(train_tagger(tagged, tmp_path, *once)["train_loss"])
        history = json.loads((tmp_path / "trainer_state.json").read_text())["log_history"]
        assert "loss" in history[0]
        assert "grad_norm" not in history[0]
        assert not numbers_that_json_lacks(tmp_path)


class TestArguments:
    def test_stay_as_they_are(self, tagged, tmp_path):
        arguments = parse_arguments("token-classification", "", tagger_arguments(
            tagged, tmp_path, *TINY, "--num_train_epochs", "1", "--streaming", "--run_name", "one",
        ))  # fmt: skip
        before, environment = copy.deepcopy([vars(one) for one in arguments[:3]]), dict(os.environ)
        options = copy.deepcopy(arguments[3].to_dict())
        train("token-classification", *arguments)
        assert [vars(one) for one in arguments[:3]] == before
        assert arguments[3].to_dict() == options
        assert dict(os.environ) == environment

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--batch_eval_metrics", "true"], "--batch_eval_metrics true needs"),
            (["--eval_do_concat_batches", "false"], "--eval_do_concat_batches false needs"),
            (["--include_for_metrics", "inputs"], "--include_for_metrics inputs needs"),
            (["--dataloader_drop_last", "true", "--per_device_train_batch_size", "99"], "--dataloader_drop_last true"),
        ],
    )
    def test_that_do_not_fit_are_named(self, options, message, labelled, tmp_path):
        with pytest.raises(ValueError, match=message):
            train_classifier(labelled, tmp_path, *options)

    def test_may_ask_for_the_loss_alone(self, labelled, tmp_path):
        options = ["--prediction_loss_only", "true", "--load_best_model_at_end", "false"]
        metrics = train_classifier(labelled, tmp_path, *options)
        assert "test_loss" in metrics
        assert "test_accuracy" not in metrics


class TestBatching:
    def test_accumulated_batches_train_like_one_big_batch(self, tagged, tmp_path):
        big, small = tmp_path / "big", tmp_path / "small"
        train_tagger(tagged, big, *COMPARABLE, "--per_device_train_batch_size", "16")
        train_tagger(
            tagged, small, *COMPARABLE, "--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "4"
        )
        assert_same_weights(big, small, 1e-5)

    def test_workers_change_nothing(self, tagged, tmp_path):
        train_tagger(tagged, tmp_path / "none", *COMPARABLE)
        train_tagger(tagged, tmp_path / "two", *COMPARABLE, "--dataloader_num_workers", "2")
        assert_same_weights(tmp_path / "none", tmp_path / "two")

    def test_token_budget_bounds_every_batch(self, tagged, tmp_path):
        metrics = train_tagger(tagged, tmp_path, *TINY, "--num_train_epochs", "1", "--max_tokens_per_batch", "200")
        steps = json.loads((tmp_path / "trainer_state.json").read_text())["max_steps"]
        corpus = load_corpus(DataArguments(train_file=tagged["train"], validation_file=tagged["validation"]),
                             "token-classification")  # fmt: skip
        encoded = corpus.encode(AutoTokenizer.from_pretrained(tmp_path))["train"]
        assert steps >= sum(len(ids) for ids in encoded["input_ids"]) / 200
        assert "test_accuracy" in metrics

    def test_token_budget_leaves_the_order_of_predictions(self, tagged, tmp_path):
        train_tagger(tagged, tmp_path / "model", *COMPARABLE)
        model = AutoModelForTokenClassification.from_pretrained(tmp_path / "model").eval()
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
        test = load_corpus(DataArguments(test_file=tagged["test"]), "token-classification", None,
                           [model.config.id2label[index] for index in range(model.config.num_labels)],
                           needed=("test",)).encode(tokenizer)["test"]  # fmt: skip
        arguments = TrainingArguments(str(tmp_path / "out"), per_device_eval_batch_size=1, report_to="none",
                                      disable_tqdm=True)  # fmt: skip
        trainer = Trainer(
            model, arguments, DataCollatorWithPacking(tokenizer),
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
        )  # fmt: skip
        predicted = trainer.predict(TokenBudgetDataset(test, max_tokens=150, max_examples=8)).predictions
        assert len(predicted) == len(test)
        for row, example in zip(predicted, test, strict=True):
            alone = model(input_ids=torch.tensor([example["input_ids"]])).logits[0].argmax(-1)
            assert row[: len(alone)].tolist() == alone.tolist()


class TestInterruption:
    # Learning by heart what was seen, with dropout, so that every random number counts.
    OPTIONS = (
        *TINY, "--num_train_epochs", "8", "--per_device_train_batch_size", "4", "--save_strategy", "steps",
        "--save_steps", "10", "--eval_strategy", "no", "--embedding_dropout", "0.3", "--classifier_dropout", "0.3",
    )  # fmt: skip

    def test_a_run_killed_within_an_epoch_resumes_to_the_same_weights(self, tagged, tmp_path):
        whole, killed = tmp_path / "whole", tmp_path / "killed"
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, str(ROOT / "scripts" / "train_tagger.py")]
        process = subprocess.Popen(
            [*command, *tagger_arguments(tagged, killed, *self.OPTIONS)], env=environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.time() + 60
        while not (killed / "checkpoint-30" / "trainer_state.json").exists() and time.time() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (killed / "model.safetensors").exists(), "the run was over before it could be killed"

        train_tagger(tagged, killed, *self.OPTIONS, "--resume_from_checkpoint", "true")
        train_tagger(tagged, whole, *self.OPTIONS)
        assert_same_weights(whole, killed)

    def test_a_checkpoint_that_was_not_finished_is_passed_over(self, tagged, tmp_path):
        options = [*COMPARABLE, "--save_strategy", "steps", "--save_steps", "2"]
        train_tagger(tagged, tmp_path, *options)
        before = weights(tmp_path)
        (tmp_path / "checkpoint-6" / "trainer_state.json").write_text('{"epoch": 1.', encoding="utf-8")
        train_tagger(tagged, tmp_path, *options, "--resume_from_checkpoint", "true")
        after = weights(tmp_path)
        assert all(torch.equal(before[name], after[name]) for name in before)

    def test_nothing_to_resume_starts_from_the_beginning(self, tagged, tmp_path):
        train_tagger(tagged, tmp_path / "new", *COMPARABLE)
        train_tagger(tagged, tmp_path / "resumed", *COMPARABLE, "--resume_from_checkpoint", "true")
        assert_same_weights(tmp_path / "new", tmp_path / "resumed")

    def test_a_named_checkpoint_must_be_complete(self, tagged, tmp_path):
        with pytest.raises(ValueError, match=r"--resume_from_checkpoint .*nowhere is no complete checkpoint"):
            train_tagger(tagged, tmp_path, *TINY, "--resume_from_checkpoint", str(tmp_path / "nowhere"))

    def test_stops_early_when_validation_gets_no_better(self, tagged, tmp_path):
        train_tagger(
            tagged, tmp_path, *TINY, "--learning_rate", "0", "--num_train_epochs", "9", "--early_stopping_patience", "2"
        )
        assert json.loads((tmp_path / "trainer_state.json").read_text())["epoch"] == 3


class TestEvaluation:
    def test_finds_out_what_the_labels_are_where_the_model_does_not_say(self, labelled, tmp_path):
        train_classifier(labelled, tmp_path / "model")
        path = tmp_path / "model" / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        assert config.pop("problem_type") == "single_label_classification"
        path.write_text(json.dumps(config), encoding="utf-8")
        data = DataArguments(test_file=labelled)
        metrics = evaluate_checkpoint(str(tmp_path / "model"), data, output_dir=str(tmp_path / "evaluation"))
        assert metrics["test_samples"] == 40
        assert 0 <= metrics["test_accuracy"] <= 1

    @pytest.mark.parametrize("split", ["train", "validation", "test"])
    def test_any_split_is_scored_alike_whole_and_streamed(self, trained, tagged, tmp_path, split):
        scores = []
        for streaming in (False, True):
            data = DataArguments(**{f"{split}_file": tagged["test"]}, streaming=streaming)
            metrics = evaluate_checkpoint(str(trained[1]), data, split, str(tmp_path))
            scores.append({key.split("_", 1)[1]: value for key, value in metrics.items() if "_per_second" not in key})
            scores[-1].pop("runtime")
        assert scores[0] == scores[1]
        assert scores[0]["samples"] == 20
        assert scores[0]["accuracy"] == pytest.approx(trained[0]["test_accuracy"])

    @pytest.mark.parametrize("streaming", [False, True])
    def test_only_the_split_that_is_scored_is_read(self, trained, tagged, tmp_path, streaming):
        (tmp_path / "bad.jsonl").write_text('{"tokens": ["x"], "tags": ["never seen"]}\n')
        data = DataArguments(train_file=tagged["test"], test_file=str(tmp_path / "bad.jsonl"), streaming=streaming)
        metrics = evaluate_checkpoint(str(trained[1]), data, "train", str(tmp_path))
        assert metrics["train_samples"] == 20


class TestStreaming:
    def test_trains_and_evaluates(self, tagged, tmp_path):
        metrics = train_tagger(tagged, tmp_path, *TINY, "--streaming", "--num_train_epochs", "2")
        state = json.loads((tmp_path / "trainer_state.json").read_text())
        assert state["max_steps"] == 2 * 6
        assert sum("eval_accuracy" in entry for entry in state["log_history"]) == 2
        assert {"eval_accuracy", "test_accuracy"} <= metrics.keys()

    def test_needs_no_validation_file(self, labelled, tmp_path):
        metrics = train_classifier(labelled, tmp_path, "--streaming")
        assert metrics["train_samples"] + metrics["eval_samples"] + metrics["test_samples"] == 40

    def test_has_no_token_budget(self, tagged, tmp_path):
        with pytest.raises(ValueError, match="--max_tokens_per_batch needs to know all lengths"):
            train_tagger(tagged, tmp_path, *TINY, "--streaming", "--max_tokens_per_batch", "100")


class TestTwoProcesses:
    @pytest.mark.parametrize("streaming", [False, True])
    def test_train_like_one_with_the_joint_batch(self, tagged, tmp_path, streaming):
        kind = ["--streaming"] if streaming else ["--lexical_dropout", "0"]
        options = [*COMPARABLE, "--use_cpu", "true", *kind]
        joint, split = tmp_path / "joint", tmp_path / "split"
        train_tagger(tagged, joint, *options, "--per_device_train_batch_size", "16")
        arguments = tagger_arguments(tagged, split, *options, "--per_device_train_batch_size", "8")
        result = run_script("train_tagger.py", *arguments, processes=2)
        assert result.returncode == 0, result.stderr[-3000:]
        assert result.stdout.count("in training too") == 1, "the report on the data is shown once"
        assert_same_weights(joint, split, 1e-4)  # other sums of float32 decide a near tie of character features
        one, two = (json.loads((folder / "all_results.json").read_text()) for folder in (joint, split))
        assert one["test_accuracy"] == pytest.approx(two["test_accuracy"])

    def test_token_batches_like_one_that_accumulates_them(self, tagged, tmp_path, monkeypatch):
        class Joint(TokenBatchSampler):
            """The batches of two processes, one after the other."""

            def __iter__(self):
                given = (self.lengths, self.max_tokens, self.max_examples, self.seed)
                both = [TokenBatchSampler(*given, num_replicas=2, rank=rank) for rank in range(2)]
                for one in both:
                    one.set_epoch(self.epoch)
                for pair in zip(*both, strict=True):
                    yield from pair

        options = [*COMPARABLE, "--use_cpu", "true", "--max_tokens_per_batch", "100"]
        joint, split = tmp_path / "joint", tmp_path / "split"
        with monkeypatch.context() as patched:
            patched.setattr(data_loaders, "TokenBatchSampler", Joint)
            train_tagger(tagged, joint, *options, "--gradient_accumulation_steps", "2")
        result = run_script("train_tagger.py", *tagger_arguments(tagged, split, *options), processes=2)
        assert result.returncode == 0, result.stderr[-3000:]
        assert_same_weights(joint, split, 1e-4)

    def test_sharded_parquet_is_streamed_and_scored_exactly(self, tagged, tmp_path):
        """Shards of different sizes, in training and in evaluation."""
        sharded = {}
        for name, file in tagged.items():
            rows = Dataset.from_json(file)
            for number, part in enumerate([range(7), range(7, 18), range(18, len(rows))]):
                rows.select(part).to_parquet(tmp_path / f"{name}-{number}.parquet")
            sharded[name] = str(tmp_path / f"{name}-*.parquet")
        options = [*COMPARABLE, "--use_cpu", "true", "--streaming", "--per_device_eval_batch_size", "3"]
        joint, split = tmp_path / "joint", tmp_path / "split"
        train_tagger(sharded, joint, *options, "--per_device_train_batch_size", "16")
        arguments = tagger_arguments(sharded, split, *options, "--per_device_train_batch_size", "8")
        result = run_script("train_tagger.py", *arguments, processes=2)
        assert result.returncode == 0, result.stderr[-3000:]
        assert_same_weights(joint, split, 1e-4)
        one, two = (json.loads((folder / "all_results.json").read_text()) for folder in (joint, split))
        for name in ("test_accuracy", "test_f1", "test_samples"):
            assert one[name] == pytest.approx(two[name]), name


class TestScripts:
    def test_a_mistake_ends_with_its_message_alone(self, tmp_path):
        result = run_script("train_tagger.py", "--train_file", "nowhere.conllu", "--output_dir", str(tmp_path))
        assert result.returncode == 1
        assert result.stderr.strip().endswith("error: There is no file nowhere.conllu.")
        assert "Traceback" not in result.stderr

    def test_predict_names_what_is_no_model(self, tmp_path):
        result = run_script("predict.py", str(tmp_path), input="text\n")
        assert result.returncode == 1
        assert f"error: {tmp_path} holds no" in result.stderr
