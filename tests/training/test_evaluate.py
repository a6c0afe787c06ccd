"""The precision that a saved model is scored in."""

import json
import subprocess
import sys

import pytest
import torch

from rnn_hf import RnnConfig, RnnForSequenceClassification, train_tokenizer
from rnn_hf.commands.evaluate import main
from rnn_hf.export.folder import export
from rnn_hf.inference.bfloat16 import computes_bfloat16

WORDS = ["to", "be", "or", "not", "that", "is", "the", "question"]
native = pytest.mark.skipif(not computes_bfloat16(torch.device("cpu")), reason="no instructions for bfloat16")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A classifier with random weights, its ONNX graph, and texts to score it on."""
    folder = tmp_path_factory.mktemp("scored")
    tokenizer = train_tokenizer([" ".join(WORDS)] * 2, kind="word")
    torch.manual_seed(0)
    sizes = {"vocab_size": len(tokenizer), "embedding_size": 8, "hidden_size": 8, "initializer_range": 2.0}
    model = RnnForSequenceClassification(RnnConfig(**sizes, id2label={0: "a", 1: "b"}))
    model.save_pretrained(folder / "model")
    model.double().save_pretrained(folder / "double")
    model.bfloat16().save_pretrained(folder / "half")
    for name in ("model", "double", "half"):
        tokenizer.save_pretrained(folder / name)
    export(str(folder / "model"), folder / "onnx")
    rows = [{"text": " ".join(WORDS[: 1 + row % 8]), "label": "ab"[row % 2]} for row in range(40)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def results(saved, output, *options):
    main([str(saved / "model"), "--test_file", str(saved / "test.jsonl"), "--output_dir", str(output), *options])
    return json.loads(next(output.glob("*_results.json")).read_text(encoding="utf-8"))


def test_scores_are_in_float32_and_those_in_bfloat16_differ_little(saved, tmp_path, capsys):
    found = {"default": results(saved, tmp_path / "default")}
    for precision in ("float32", "bfloat16"):
        found[precision] = results(saved, tmp_path / precision, "--precision", precision)
        assert found[precision]["precision"] == precision
        assert f"model on test, {precision}" in capsys.readouterr().out
    names = ("precision", "test_loss", "test_accuracy")
    assert [found["default"][name] for name in names] == [found["float32"][name] for name in names]
    exact, rounded = found["float32"]["test_loss"], found["bfloat16"]["test_loss"]
    assert exact != rounded
    assert rounded == pytest.approx(exact, abs=0.02)


@native
def test_auto_takes_what_is_timed(saved, tmp_path, gain):
    for least, precision in ((0.0, "bfloat16"), (1e9, "float32")):
        gain(least)
        assert results(saved, tmp_path / precision, "--precision", "auto")["precision"] == precision


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("onnx", ["--onnx_file_name", "onnx/model.onnx", "--precision", "float32"], "a graph has its own"),
        ("double", ["--precision", "bfloat16"], "those of this model are in float64"),
    ],
)
def test_what_has_a_precision_of_its_own_takes_no_other(saved, tmp_path, capsys, model, options, message):
    with pytest.raises(SystemExit):
        main([str(saved / model), "--test_file", str(saved / "test.jsonl"), "--output_dir", str(tmp_path), *options])
    assert message in capsys.readouterr().err


def test_of_a_graph_none_is_recorded(saved, tmp_path):
    main([str(saved / "onnx"), "--test_file", str(saved / "test.jsonl"), "--output_dir", str(tmp_path),
          "--onnx_file_name", "onnx/model.onnx"])  # fmt: skip
    assert "precision" not in json.loads((tmp_path / "model_test_results.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("model", "kind"), [("double", "float64"), ("half", "bfloat16")])
def test_of_other_weights_their_type_is_recorded(saved, tmp_path, model, kind):
    main([str(saved / model), "--test_file", str(saved / "test.jsonl"), "--output_dir", str(tmp_path)])
    assert json.loads((tmp_path / "test_results.json").read_text(encoding="utf-8"))["precision"] == kind


def test_progress_of_rows_stays_unless_it_is_unwanted(monkeypatch):
    monkeypatch.delenv("HF_DATASETS_DISABLE_PROGRESS_BARS", raising=False)
    lines = [
        "import datasets",
        "from rnn_hf.training.evaluate import quieten",
        "for shows_progress in (True, False):",
        "    quieten(shows_progress)",
        "    print(datasets.are_progress_bars_disabled())",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
