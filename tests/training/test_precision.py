"""Which precision a run computes in."""

import json

import pytest
import torch

from rnn_hf import RnnConfig, RnnTrainingArguments
from rnn_hf.inference.bfloat16 import computes_bfloat16
from rnn_hf.training.options import parse_arguments
from rnn_hf.training.precision import settle_precision
from rnn_hf.training.train import train

CPU = torch.device("cpu")
native = pytest.mark.skipif(not computes_bfloat16(CPU), reason="the processor has no instructions for bfloat16")


def arguments(**options) -> RnnTrainingArguments:
    return RnnTrainingArguments("out", use_cpu=True, **options)


@pytest.mark.parametrize(
    ("options", "is_bfloat16"),
    [
        ({}, None),
        ({"bf16": True}, True),
        ({"bf16": False}, False),
        ({"precision": "auto"}, None),
        ({"precision": "bfloat16"}, True),
        ({"precision": "float32"}, False),
        ({"precision": "bfloat16", "bf16": True}, True),
        ({"precision": "float32", "bf16": False}, False),
    ],
)
def test_the_stock_option_is_another_name(options, is_bfloat16):
    args = arguments(**options)
    assert args.bf16 is is_bfloat16
    assert args.mixed_precision == ("bf16" if is_bfloat16 else "no")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "float32", "bf16": True}, "--bf16 true contradicts --precision float32: leave one of them out"),
        ({"precision": "bfloat16", "bf16": False}, "--bf16 false contradicts --precision bfloat16"),
        ({"precision": "float32", "fp16": True}, "--fp16 true contradicts --precision float32"),
    ],
)
def test_contradictions_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        arguments(**options)


def test_small_models_take_single_precision_without_being_timed():
    args = arguments()
    settle_precision(args, RnnConfig(hidden_size=8))
    assert args.bf16 is False
    assert args.mixed_precision == "no"


def test_what_is_given_stays(gain):
    gain(0.0)
    args = arguments(precision="float32")
    settle_precision(args, RnnConfig(hidden_size=8))
    assert args.bf16 is False


@native
def test_a_run_records_its_precision_and_keeps_it_when_it_is_resumed(gain, tmp_path):
    rows = [{"text": text, "label": label} for text, label in (("good film", "yes"), ("bad film", "no")) * 12]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    out = tmp_path / "out"

    def run(*options: str) -> bool:
        given = ["--train_file", f"{tmp_path}/rows.jsonl", "--output_dir", str(out), "--hidden_size", "8", *options]
        train("text-classification", *parse_arguments("text-classification", "", [*given, "--disable_tqdm", "true"]))
        recorded = json.loads((out / "training_args.json").read_text(encoding="utf-8"))
        assert recorded["precision"] == "auto"
        return recorded["bf16"]

    gain(0.0)
    assert run("--num_train_epochs", "1")
    assert "mixed, bfloat16" in (out / "README.md").read_text(encoding="utf-8")
    gain(1e9)
    assert run("--num_train_epochs", "2", "--resume_from_checkpoint", "true")
