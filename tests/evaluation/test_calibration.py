"""Temperatures and thresholds: what they minimise, where they are left alone, and who reads them."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset, concatenate_datasets
from torch import nn
from transformers import pipeline

from rnn_hf import (
    RnnConfig,
    RnnForSequenceClassification,
    RnnForTokenClassification,
    RnnTrainer,
    RnnTrainingArguments,
    train_tokenizer,
)
from rnn_hf.evaluation import calibration
from rnn_hf.evaluation.calibration import fit_ratio, fit_temperature, fit_thresholds
from rnn_hf.export import runtime
from rnn_hf.export.folder import export
from rnn_hf.inference.loading import load
from rnn_hf.inference.predictor import predict
from rnn_hf.training.evaluate import evaluate_checkpoint
from rnn_hf.training.options import parse_arguments
from rnn_hf.training.train import train

WORDS = ["red", "green", "blue", "cold", "warm", "old", "new", "big"]
TINY = ["--ngram_buckets", "0", "--hidden_size", "8", "--embedding_size", "8", "--char_cnn", "false",
        "--tokenizer_kind", "word", "--disable_tqdm", "true", "--learning_rate", "0.02"]  # fmt: skip


def sample(num_texts: int, num_labels: int, temperature: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that a temperature would calibrate, and labels drawn by their probabilities at it."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_texts, num_labels, generator=generator) * 4
    labels = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)[:, 0]
    return logits, labels


def plain_loss(logits: torch.Tensor, labels: torch.Tensor, temperature: float) -> float:
    loss = nn.functional.binary_cross_entropy_with_logits if labels.is_floating_point() else nn.functional.cross_entropy
    return float(loss(logits.double() / temperature, labels.double() if labels.is_floating_point() else labels))


class TestTemperature:
    @pytest.mark.parametrize("true", [0.4, 1.0, 2.5])
    @pytest.mark.parametrize("kind", ["one", "several"])
    def test_has_the_least_loss_and_is_near_the_true_one(self, true, kind):
        logits, labels = sample(5000, 4, true)
        if kind == "several":
            labels = torch.bernoulli((logits / true).sigmoid(), generator=torch.Generator().manual_seed(1))
        found = fit_temperature(logits, labels)
        assert found == pytest.approx(true, rel=0.1)
        best = plain_loss(logits, labels, found)
        assert all(
            best <= plain_loss(logits, labels, found * factor) for factor in (0.9, 0.99, 0.999, 1.001, 1.01, 1.1)
        )

    def test_in_pieces_is_that_of_the_whole(self, monkeypatch):
        logits, labels = sample(500, 5, 1.7)
        whole = fit_temperature(logits, labels)
        monkeypatch.setattr(calibration, "_CHUNK", 35)
        assert fit_temperature(logits, labels) == whole

    def test_does_not_depend_on_what_is_added_to_all_logits_of_a_text(self):
        logits, labels = sample(300, 5, 1.7)
        assert fit_temperature(logits + 1000, labels) == pytest.approx(fit_temperature(logits, labels), abs=1e-3)

    @pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]], ids=["all right", "all wrong"])
    def test_is_none_where_none_is_best(self, labels):
        assert fit_temperature(torch.tensor([[3.0, 0.0]] * 3), torch.tensor(labels)) is None

    def test_is_none_outside_the_bounds(self):
        logits, labels = sample(2000, 3, 1.0)
        assert fit_temperature(logits * 100, labels) is None
        assert fit_temperature(torch.zeros(200, 3), labels[:200]) is None


class TestThresholds:
    def test_have_the_best_f1(self):
        generator = np.random.default_rng(0)
        probabilities = generator.random((400, 6)).astype(np.float32)
        labels = (generator.random((400, 6)) < probabilities**2).astype(float)
        found = fit_thresholds(probabilities, labels)

        def plain_f1(threshold: float, label: int) -> float:
            predicted, expected = probabilities[:, label] > np.float32(threshold), labels[:, label] == 1
            return 2 * (predicted & expected).sum() / (predicted.sum() + expected.sum())

        for label, threshold in enumerate(found):
            scores = {one: plain_f1(one, label) for one in np.arange(1, 100) / 100}
            best = [one for one, score in scores.items() if score == max(scores.values())]
            assert threshold == min(best, key=lambda one: abs(one - 0.5))

    @pytest.mark.parametrize("positives", [0, 19, 81, 100])
    def test_are_one_half_for_labels_that_few_texts_have_or_lack(self, positives):
        labels = np.arange(100)[:, None] < positives
        assert fit_thresholds(np.where(labels, 0.3, 0.1), labels) == [0.5]


class TestRatio:
    """How much n-grams count beside states."""

    @pytest.mark.parametrize("kind", ["one", "several"])
    @pytest.mark.parametrize("true", [0.25, 4.0])
    def test_is_near_the_true_one(self, kind, true):
        source = torch.Generator().manual_seed(0)
        states, ngrams = torch.randn(2, 5000, 3, generator=source)
        logits = 2 * (states + true * ngrams)
        if kind == "one":
            labels = torch.multinomial(logits.softmax(1), 1, generator=source)[:, 0]
        else:
            labels = torch.bernoulli(logits.sigmoid(), generator=source)
        assert fit_ratio(states, ngrams, labels) == pytest.approx(true, rel=0.5)

    def test_has_bounds(self):
        states, ngrams = torch.randn(2, 500, 3, generator=torch.Generator().manual_seed(0))
        assert fit_ratio(states, ngrams, ngrams.argmax(1)) == 16
        assert fit_ratio(states, ngrams, states.argmax(1)) == 1 / 16

    def test_is_large_where_ngrams_alone_do_as_well(self):
        source = torch.Generator().manual_seed(0)
        ngrams = torch.randn(100, 3, generator=source)
        labels = torch.multinomial((3 * ngrams).softmax(1), 1, generator=source)[:, 0]
        assert fit_ratio(0.01 * torch.randn(100, 3, generator=source), ngrams, labels) == 16


def rows(count: int, problem: str, seed: int = 0) -> list[dict]:
    """Texts of eight words, with noisy labels."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        words = [WORDS[index] for index in random.integers(len(WORDS), size=5)]
        label = min(words) if random.random() < 0.7 else str(random.choice(WORDS[:3]))
        made.append({"text": " ".join(words), "label": label if problem == "one" else sorted({label, words[0]})})
    return made


@pytest.fixture(scope="module", params=["one", "several"])
def trained(request, tmp_path_factory):
    """A classifier that the command trained: its folder, its results, its files and its problem."""
    folder = tmp_path_factory.mktemp("calibrated")
    files = {}
    for seed, (name, count) in enumerate({"train": 300, "validation": 200, "test": 200}.items()):
        files[name] = str(folder / f"{name}.jsonl")
        (folder / f"{name}.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows(count, request.param, seed))
        )
    output = folder / "model"
    options = [f"--{name}_file={file}" for name, file in files.items()]
    options += ["--output_dir", str(output), "--num_train_epochs", "8", *TINY, "--per_device_train_batch_size", "32"]
    results = train("text-classification", *parse_arguments("text-classification", "", options))
    return output, results, files, request.param


def arguments(*options: str):
    return parse_arguments("text-classification", "", ["--output_dir", "x", *options])[0]


class TestCommand:
    def test_writes_the_configuration(self, trained):
        output, results, _, problem = trained
        config = json.loads((output / "config.json").read_text())
        assert config["temperature"] != 1
        assert (config["label_thresholds"] is None) == (problem == "one")
        checkpoints = [json.loads(path.read_text()) for path in output.glob("checkpoint-*/config.json")]
        assert {one["temperature"] for one in checkpoints} == {1.0}
        assert {one["label_thresholds"] for one in checkpoints} == {None}
        for split in ("eval", "test"):
            assert 0 <= results[f"{split}_expected_calibration_error"] <= 1
            assert results[f"{split}_expected_calibration_error_uncalibrated"] > 0

    def test_the_loss_is_that_of_calibrated_logits(self, trained):
        output, results, _, _ = trained
        history = json.loads((output / "trainer_state.json").read_text())["log_history"]
        best = json.loads((output / "trainer_state.json").read_text())["best_global_step"]
        before = next(entry["eval_loss"] for entry in history if entry["step"] == best and "eval_loss" in entry)
        assert results["eval_loss"] < before

    def test_the_card_says_so(self, trained):
        output, _, _, problem = trained
        card = (output / "README.md").read_text()
        assert "| expected calibration error |" in card
        assert "| the same, without the temperature |" in card
        assert "| Temperature of the logits |" in card
        assert "Its scores are calibrated on validation data" in card
        assert ("`label_thresholds` in `config.json`" in card) == (problem == "several")
        assert "expected_calibration_error_uncalibrated" not in card

    def test_evaluate_gives_the_same_scores_with_every_backend(self, trained, tmp_path):
        output, results, files, _ = trained
        export(str(output), tmp_path / "exported", int8=True)
        wanted = {key: value for key, value in results.items() if key.startswith("test_") and "second" not in key}
        data = arguments("--test_file", files["test"])
        for model, graph in ((output, None), (tmp_path / "exported", "onnx/model.onnx")):
            found = evaluate_checkpoint(str(model), data, output_dir=str(tmp_path), onnx_file_name=graph)
            for key, value in found.items():
                if "runtime" not in key and "second" not in key:
                    assert value == pytest.approx(wanted[key], abs=2e-3), key

    def test_every_way_to_predict_gives_the_same_probabilities(self, trained, tmp_path):
        output, _, _, problem = trained
        export(str(output), tmp_path, int8=True)
        texts = [row["text"] for row in rows(30, "one", seed=7)]
        model, tokenizer = load(str(output))
        raw = RnnForSequenceClassification.from_pretrained(output)
        raw.config.temperature = 1.0
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        with torch.no_grad():
            logits = raw.eval()(**batch).logits / model.config.temperature
        expected = logits.sigmoid() if problem == "several" else logits.softmax(-1)
        names = model.config.label_names
        for name, tolerance in ((None, 1e-5), ("onnx/model.onnx", 1e-5), ("onnx/model_int8.onnx", 0.2)):
            one = str(output) if name is None else runtime.ORTModelForSequenceClassification.from_pretrained(
                tmp_path, file_name=name)  # fmt: skip
            pipe = pipeline("text-classification", model=one, tokenizer=tokenizer, top_k=None)
            for found, wanted in zip(pipe(texts), expected, strict=True):
                scores = {entry["label"]: entry["score"] for entry in found}
                assert [scores[label] for label in names] == pytest.approx(wanted.tolist(), abs=tolerance)
            if name != "onnx/model_int8.onnx":
                bulk = predict(model, tokenizer, texts) if name is None else predict(one, tokenizer, texts)
                for wanted, found in zip(expected, bulk, strict=True):
                    if problem == "one":
                        assert found["label"] == names[int(wanted.argmax())]
                        assert found["score"] == pytest.approx(float(wanted.max()), abs=1e-5)
                    else:
                        thresholds = model.config.label_thresholds
                        chosen = [index for index, score in enumerate(wanted) if score > thresholds[index]]
                        assert found["labels"] == [names[index] for index in chosen]

    def test_fine_tuning_begins_anew(self, trained, tmp_path):
        output, _, files, _ = trained
        options = ["--train_file", files["train"], "--model_name_or_path", str(output), "--eval_strategy", "no",
                   "--output_dir", str(tmp_path), "--max_steps", "2", "--disable_tqdm", "true"]  # fmt: skip
        train("text-classification", *parse_arguments("text-classification", "", options))
        config = json.loads((tmp_path / "config.json").read_text())
        assert (config["temperature"], config["label_thresholds"]) == (1.0, None)

    def test_a_resumed_run_ends_with_the_same_temperature(self, trained, tmp_path, monkeypatch):
        monkeypatch.setattr(calibration, "_SIGNIFICANT", 0)
        _, _, files, problem = trained
        if problem == "several":
            pytest.skip("one problem is enough")
        configs = []
        for folder, epochs in (("whole", ["4"]), ("resumed", ["2", "4"])):
            for number, count in enumerate(epochs):
                options = [f"--{name}_file={file}" for name, file in files.items()]
                options += ["--output_dir", str(tmp_path / folder), "--num_train_epochs", count, *TINY]
                options += ["--lr_scheduler_type", "constant", "--warmup_steps", "1"]
                options += ["--resume_from_checkpoint", "true"] if number else []
                train("text-classification", *parse_arguments("text-classification", "", options))
            configs.append(json.loads((tmp_path / folder / "config.json").read_text()))
        assert configs[0]["temperature"] == configs[1]["temperature"] != 1


def trainer(tmp_path, count: int, **options) -> RnnTrainer:
    """A trainer whose model is right about seven in ten texts of its evaluation data."""
    tokenizer = train_tokenizer([" ".join(WORDS)] * 2, kind="word")
    torch.manual_seed(0)
    fields = {"problem_type": "single_label_classification", "num_labels": 3} | options
    config = RnnConfig(
        vocab_size=len(tokenizer), embedding_size=4, hidden_size=4, initializer_range=2.0,
        classifier_dropout=0.0, **fields,
    )  # fmt: skip
    model = RnnForSequenceClassification(config).eval()
    model.classifier.weight.data *= 10
    random = np.random.default_rng(0)
    ids = [random.integers(len(tokenizer), size=6).tolist() for _ in range(count)]
    with torch.no_grad():
        best = model(input_ids=torch.tensor(ids)).logits.argmax(-1).tolist()
    data = Dataset.from_dict({
        "input_ids": ids,
        "labels": [label if random.random() < 0.6 else int(random.integers(3)) for label in best],
    })  # fmt: skip
    args = RnnTrainingArguments(
        str(tmp_path), report_to="none", disable_tqdm=True, use_cpu=True, save_strategy="no", eval_strategy="no",
        num_train_epochs=1,
    )  # fmt: skip
    return RnnTrainer(model, args, train_dataset=data, eval_dataset=data, processing_class=tokenizer)


class TestTrainer:
    def test_calibrates_on_the_evaluation_data(self, tmp_path):
        one = trainer(tmp_path, 120)
        said = one.calibrate()
        assert one.model.config.temperature != 1
        assert "fitted on 120 validation texts" in said
        scores = one.evaluate()
        assert f"error there is {scores['eval_expected_calibration_error']:.4f}" in said
        assert f"without it {scores['eval_expected_calibration_error_uncalibrated']:.4f}" in said

    def test_reads_logits_whatever_evaluation_keeps(self, tmp_path):
        one, other = trainer(tmp_path, 120), trainer(tmp_path, 120)
        one.calibrate()
        other.args.prediction_loss_only, other.args.eval_do_concat_batches = True, False
        other.compute_metrics = lambda prediction: {"mine": 0.0}
        other.calibrate()
        assert other.model.config.temperature == one.model.config.temperature != 1
        assert (other.args.prediction_loss_only, other.args.eval_do_concat_batches) == (True, False)

    @pytest.mark.parametrize("option", ["bf16_full_eval", "fp16_full_eval"])
    def test_leaves_the_weights_in_their_precision(self, option, tmp_path):
        one, other = trainer(tmp_path, 120), trainer(tmp_path, 120)
        setattr(one.args, option, True)
        one.calibrate()
        other.calibrate()
        assert one.model.dtype == torch.float32
        assert one.model.config.temperature == other.model.config.temperature
        assert getattr(one.args, option) is True

    def test_calibrating_twice_changes_nothing(self, tmp_path):
        one = trainer(tmp_path, 120)
        one.calibrate()
        found = one.model.config.temperature
        one.calibrate()
        assert one.model.config.temperature == found

    def test_predictions_stay_class_ids(self, tmp_path):
        one = trainer(tmp_path, 120)
        assert one.predict(one.eval_dataset).predictions.shape == (120,)

    def test_training_begins_at_temperature_1(self, tmp_path):
        one = trainer(tmp_path, 120)
        one.model.config.temperature, one.model.config.label_thresholds = 3.0, [0.1, 0.2, 0.3]
        one.train()
        assert (one.model.config.temperature, one.model.config.label_thresholds) == (1.0, None)

    def test_too_few_texts_are_not_calibrated_on(self, tmp_path):
        one = trainer(tmp_path, 99)
        assert "that takes 100 validation texts, and there are 99" in one.calibrate()
        assert one.model.config.temperature == 1

    def test_labels_that_the_model_does_not_know_are_left_out(self, tmp_path):
        one = trainer(tmp_path, 120)
        one.calibrate()
        found = one.model.config.temperature
        unknown = one.eval_dataset.select(range(10)).map(lambda row: row | {"labels": 7})
        assert "120 validation texts" in one.calibrate(concatenate_datasets([one.eval_dataset, unknown]))
        assert one.model.config.temperature == found

    def test_of_many_logits_takes_a_part(self, tmp_path, monkeypatch):
        monkeypatch.setattr(calibration, "_MOST_LOGITS", 450)
        one = trainer(tmp_path, 200)
        assert "fitted on 150 of the validation texts" in one.calibrate()
        assert "fitted on 150 of the validation texts" in one.calibrate(list(one.eval_dataset))
        assert "fitted on 150 of the validation texts" in one.calibrate(one.eval_dataset.to_iterable_dataset())

    @pytest.mark.parametrize("problem", ["regression", "tagger"])
    def test_is_for_classifiers(self, problem, tmp_path):
        one = trainer(tmp_path, 5)
        one.model.config.problem_type = "regression"
        if problem == "tagger":
            data = one.eval_dataset.map(lambda row: {"labels": [0] * len(row["input_ids"])})
            model = RnnForTokenClassification(RnnConfig(vocab_size=20, hidden_size=4))
            one = RnnTrainer(model, one.args, train_dataset=data, processing_class=one.processing_class)
        with pytest.raises(ValueError, match="The probabilities of a classifier are calibrated"):
            one.calibrate(one.train_dataset)

    def test_a_temperature_that_chance_explains_is_left_at_1(self, tmp_path, monkeypatch):
        one = trainer(tmp_path, 120)
        logits, labels = sample(120, 3, 1.0)
        monkeypatch.setattr(calibration, "_predict", lambda *_: calibration._Sample(logits, labels, False))
        assert fit_temperature(logits, labels) != 1
        assert "no temperature is better than 1 by more than chance" in one.calibrate()
        assert one.model.config.temperature == 1

    def test_needs_data(self, tmp_path):
        one = trainer(tmp_path, 5)
        one.eval_dataset = None
        with pytest.raises(ValueError, match="calibrated on validation data"):
            one.calibrate()
