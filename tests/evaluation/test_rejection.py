"""Rejection of texts of no label: its scores, the command that measures it, and the predictions it changes."""

import json

import numpy as np
import pytest
import torch

from rnn_hf import RnnConfig, RnnForSequenceClassification, RnnForTokenClassification, train_tokenizer
from rnn_hf.commands.evaluate import main as evaluate
from rnn_hf.commands.predict import main as predict_command
from rnn_hf.evaluation.rejection import rejection_scores
from rnn_hf.export.folder import export
from rnn_hf.inference.loading import load
from rnn_hf.inference.predictor import predict

WORDS = ["red", "green", "blue", "cold", "warm", "old", "new", "big"]


class TestScores:
    @pytest.mark.parametrize("seed", range(5))
    def test_are_those_of_plain_counting(self, seed):
        random = np.random.default_rng(seed)
        inside, outside = random.random(200).round(2), (random.random(150) * 0.8).round(2)
        is_right = random.random(200) < inside
        scores = rejection_scores(inside, is_right, outside)
        pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in inside for b in outside]
        assert scores["out_of_scope_auroc"] == pytest.approx(sum(pairs) / len(pairs))
        threshold = scores["rejection_threshold"]
        kept = [one for one in inside[is_right] if one >= threshold]
        assert len(kept) >= 0.95 * is_right.sum()
        assert sum(one >= threshold + 1e-4 for one in inside[is_right]) < 0.95 * is_right.sum() + 1
        assert scores["out_of_scope_recall"] == sum(one < threshold for one in outside) / 150
        assert scores["accuracy_with_rejection"] == len(kept) / 200

    def test_at_a_given_threshold(self):
        scores = rejection_scores(np.array([0.9, 0.4]), np.array([True, True]), np.array([0.3, 0.6]), 0.5)
        assert scores == {
            "out_of_scope_auroc": 0.75,
            "rejection_threshold": 0.5,
            "out_of_scope_recall": 0.5,
            "accuracy_with_rejection": 0.5,
        }

    def test_where_nothing_is_right(self):
        scores = rejection_scores(np.array([0.9, 0.4]), np.array([False, False]), np.array([0.3]))
        assert (scores["rejection_threshold"], scores["out_of_scope_recall"]) == (0.0, 0.0)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A classifier with random weights, its ONNX graph, and files of texts in and out of scope."""
    folder = tmp_path_factory.mktemp("rejecting")
    tokenizer = train_tokenizer([" ".join(WORDS)] * 2, kind="word")
    torch.manual_seed(0)
    config = RnnConfig(
        vocab_size=len(tokenizer), embedding_size=8, hidden_size=8, initializer_range=2.0, temperature=0.5,
        id2label={0: "a", 1: "b", 2: "c"}, problem_type="single_label_classification",
    )  # fmt: skip
    RnnForSequenceClassification(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    export(str(folder / "model"), folder / "onnx")
    random = np.random.default_rng(0)
    for name, count in (("test", 60), ("others", 40)):
        rows = [{"text": " ".join(random.choice(WORDS, size=4)), "label": "abc"[row % 3]} for row in range(count)]
        if name == "others":
            rows = [{"text": row["text"]} for row in rows]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


class TestEvaluate:
    def results(self, saved, output, *options):
        evaluate([str(saved / "model"), "--test_file", str(saved / "test.jsonl"), "--output_dir", str(output),
                  "--out_of_scope_file", str(saved / "others.jsonl"), *options])  # fmt: skip
        return json.loads(next(output.glob("*_results.json")).read_text())

    def test_scores_what_predict_predicts(self, saved, tmp_path, capsys):
        results = self.results(saved, tmp_path)
        assert "out of scope auroc" in capsys.readouterr().out
        assert results["test_out_of_scope_samples"] == 40
        threshold = results["test_rejection_threshold"]
        rows = [json.loads(line) for line in (saved / "others.jsonl").read_text().splitlines()]
        model = load(str(saved / "model"))
        found = list(predict(*model, [row["text"] for row in rows], rejection_threshold=threshold))
        assert sum(one["label"] is None for one in found) / 40 == results["test_out_of_scope_recall"]
        rows = [json.loads(line) for line in (saved / "test.jsonl").read_text().splitlines()]
        found = list(predict(*model, [row["text"] for row in rows], rejection_threshold=threshold))
        right = [one["label"] == row["label"] for one, row in zip(found, rows, strict=True)]
        assert np.mean(right) == pytest.approx(results["test_accuracy_with_rejection"])
        assert 0.95 * results["test_accuracy"] <= np.mean(right) <= results["test_accuracy"]

    def test_of_a_graph_is_the_same(self, saved, tmp_path):
        ours = self.results(saved, tmp_path / "torch")
        output = tmp_path / "onnx"
        evaluate([str(saved / "onnx"), "--test_file", str(saved / "test.jsonl"), "--output_dir", str(output),
                  "--out_of_scope_file", str(saved / "others.jsonl"),
                  "--onnx_file_name", "onnx/model.onnx"])  # fmt: skip
        graph = json.loads(next(output.glob("*_results.json")).read_text())
        for key in ("out_of_scope_auroc", "rejection_threshold", "out_of_scope_recall", "accuracy_with_rejection"):
            assert graph[f"test_{key}"] == pytest.approx(ours[f"test_{key}"], abs=1e-3)

    def test_takes_a_threshold(self, saved, tmp_path):
        results = self.results(saved, tmp_path, "--rejection_threshold", "1")
        assert (results["test_out_of_scope_recall"], results["test_rejection_threshold"]) == (1.0, 1.0)

    def test_names_what_does_not_fit(self, saved, tmp_path, capsys):
        (tmp_path / "other.jsonl").write_text('{"colour": "red"}\n')
        for options, message in (
            (["--rejection_threshold", "2"], "must be a probability"),
            (["--out_of_scope_file", str(tmp_path / "other.jsonl")], "other.jsonl has no column 'text'"),
            (["--out_of_scope_file", str(tmp_path / "none.jsonl")], "none.jsonl"),
        ):
            with pytest.raises(SystemExit):
                self.results(saved, tmp_path, *options)
            assert message in capsys.readouterr().err

    def test_needs_texts_out_of_scope(self, saved, tmp_path, capsys):
        with pytest.raises(SystemExit):
            evaluate([str(saved / "model"), "--test_file", str(saved / "test.jsonl"), "--rejection_threshold", "0.5",
                      "--output_dir", str(tmp_path)])  # fmt: skip
        assert "--rejection_threshold has no effect without --out_of_scope_file" in capsys.readouterr().err


class TestPredict:
    def test_rejected_texts_have_no_label_and_keep_their_probability(self, saved):
        model, tokenizer = load(str(saved / "model"))
        texts = [" ".join(WORDS[:count]) for count in range(1, 9)]
        plain = list(predict(model, tokenizer, texts))
        threshold = sorted(one["score"] for one in plain)[4]
        found = list(predict(model, tokenizer, texts, rejection_threshold=threshold))
        assert [one["score"] for one in found] == [one["score"] for one in plain]
        for one, before in zip(found, plain, strict=True):
            assert one["label"] == (None if before["score"] < threshold else before["label"])
        assert list(predict(model, tokenizer, texts, rejection_threshold=0.0)) == plain

    def test_the_command_shows_them(self, saved, tmp_path, capsys):
        file = tmp_path / "texts.txt"
        file.write_text("red green\n")
        predict_command([str(saved / "model"), str(file), "--rejection_threshold", "1"])
        assert capsys.readouterr().out.startswith("-\t0.")
        predict_command([str(saved / "model"), str(file), "--rejection_threshold", "1", "--output_format", "jsonl"])
        assert json.loads(capsys.readouterr().out)["label"] is None

    @pytest.mark.parametrize("problem", ["tagger", "regression", "multi_label_classification"])
    def test_is_for_one_label_a_text(self, problem):
        tokenizer = train_tokenizer([" ".join(WORDS)] * 2, kind="word")
        if problem == "tagger":
            model = RnnForTokenClassification(RnnConfig(vocab_size=len(tokenizer)))
        else:
            fields = {"problem_type": problem, "num_labels": 1 if problem == "regression" else 3}
            model = RnnForSequenceClassification(RnnConfig(vocab_size=len(tokenizer), **fields))
        with pytest.raises(ValueError, match="Texts are rejected by a classifier of one label a text"):
            predict(model, tokenizer, [], rejection_threshold=0.5)
