"""Measure rnn_hf side by side with its alternatives, in one run.

    rnn-hf benchmark accuracy --train_file train.csv --test_file test.csv
    rnn-hf benchmark accuracy --task token-classification --train_file train.conll --test_file test.conll
    rnn-hf benchmark layer --cells lstm gru --lengths 25 200 400 --json layer.json --plot layer.png
    rnn-hf benchmark training --train_file train.conllu --validation_file dev.conllu
    rnn-hf benchmark words --task token-classification --train_file train.conllu --test_file test.conllu
    rnn-hf benchmark flair --flair_python flair/bin/python --train_file train.conllu --test_file test.conllu
    rnn-hf benchmark inference
    rnn-hf benchmark latency
    rnn-hf benchmark sentence --length 21
    rnn-hf benchmark crf
    rnn-hf benchmark memory
    rnn-hf benchmark pooling
    rnn-hf benchmark long_text --length 1000000
    rnn-hf benchmark ddp

Alternatives: TF-IDF with a LinearSVC, whose penalty validation chooses, fastText (pip install fasttext-wheel) and a
linear-chain CRF (pip install "rnn_hf[benchmark]"); the stock packed nn.LSTM, nn.GRU and nn.RNN of torch; the machine's
rate of matrix products; Flair's BiLSTM tagger; and a transformer of DistilBERT's size with random weights. Taggers and
the transformer run in torch and in onnxruntime. Runs are interleaved and repeated, and medians are shown, because a
busy machine drifts. The number of threads is fixed and printed.
"""

import json
import math
from argparse import ArgumentTypeError
from importlib import import_module
from pathlib import Path

import torch
from transformers.utils import logging

from ..utils.command_line import CommandParser, command, positive_int
from ..utils.secrets import name_unknown

# Those that hand options on to a training command.
TRAINS = ("accuracy", "training", "words", "flair")
# The module of each measure, which is imported when it is wanted: some need packages that others do not.
MEASURES = {
    "accuracy": "accuracy",
    "layer": "layers",
    "training": "training",
    "words": "throughput",
    "flair": "throughput",
    "inference": "taggers",
    "latency": "taggers",
    "sentence": "sentence",
    "crf": "training",
    "memory": "layers",
    "pooling": "training",
    "long_text": "long_text",
    "ddp": "distributed",
}
CELLS = ("lstm", "gru", "rnn_tanh", "rnn_relu")


def _share(text: str) -> float:
    """Read a number from a half to 1: lengths that are drawn evenly fill no less."""
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0.5 <= share <= 1:
        raise ArgumentTypeError(f"must be a number from 0.5 to 1, got {text}")
    return share


@command
def main(argv: list[str] | None = None) -> None:
    """Parse the command line, measure, show and save."""
    parser = CommandParser(prog="rnn-hf benchmark", description=__doc__)
    parser.add_argument("what", choices=list(MEASURES))
    parser.add_argument(
        "--task",
        choices=["text-classification", "token-classification"],
        default="text-classification",
        help="for accuracy and words; training measures taggers. Other options are those of rnn-hf train-classifier or "
        "rnn-hf train-tagger",
    )
    parser.add_argument("--flair_python", metavar="PATH", help="for flair: a Python with the package flair")
    parser.add_argument("--linear_only", action="store_true", help="for accuracy: train linear models alone")
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=["lstm"])
    parser.add_argument("--modes", nargs="+", choices=["training", "inference"], default=["training", "inference"])
    parser.add_argument(
        "--lengths", nargs="+", type=positive_int, default=[25, 200], help="longest sequence, for layer"
    )
    parser.add_argument("--batch_sizes", nargs="+", type=positive_int, default=[32], help="for layer")
    parser.add_argument("--fills", nargs="+", type=_share, default=[0.95], help="share of tokens, for layer")
    parser.add_argument("--length", type=positive_int, help="longest sequence, for the others")
    parser.add_argument("--batch_size", type=positive_int, default=32, help="for the others")
    parser.add_argument(
        "--size", type=positive_int, default=256, help="of input and hidden state, for layer and memory"
    )
    parser.add_argument("--ours_only", action="store_true", help="leave stock torch out, for layer on long sequences")
    parser.add_argument(
        "--bf16",
        nargs="?",
        const="true",
        choices=["true", "false"],
        help="for layer: measure bfloat16 autocast too; what trains hands it on",
    )
    parser.add_argument("--repeat", type=positive_int, default=5, help="rounds")
    parser.add_argument("--threads", type=positive_int, default=1)
    parser.add_argument("--json", help="file to write the measurements to")
    parser.add_argument("--plot", help="PNG file for cost against length, for layer")
    options, rest = parser.parse_known_args(argv)
    if any(word.partition("=")[0].replace("-", "_") == "__output_dir" for word in rest):
        parser.error("models of a benchmark are not kept: leave --output_dir out")
    hands_on = options.what in TRAINS and options.bf16 is not None
    options.rest = [*rest, "--bf16", options.bf16] if hands_on else rest
    options.bf16 = options.bf16 == "true"
    if options.rest and options.what not in TRAINS:
        parser.error(f"unknown options: {name_unknown(options.rest)}; only {', '.join(TRAINS)} hand options on")
    for name, file in (("--json", options.json), ("--plot", options.plot)):
        if file is not None and not Path(file).parent.is_dir():
            parser.error(f"{name} {file}: there is no folder {Path(file).parent}")
    if options.plot and options.what != "layer":
        parser.error("--plot is for layer: leave it out")
    options.length = options.length or {"memory": 400, "pooling": 4000, "long_text": 100_000}.get(options.what, 25)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    logging.disable_progress_bar()
    module = import_module(f"rnn_hf.benchmarks.{MEASURES[options.what]}")
    report = import_module("rnn_hf.benchmarks.report")
    rows = getattr(module, options.what)(options)
    report.print_rows(rows, f"{options.what}, {options.threads} thread(s), torch {torch.__version__}")
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1), encoding="utf-8")
    if options.plot:
        report.plot(rows, options.plot)
