"""Measure rnn_hf side by side with its alternatives, in one run.

    python scripts/benchmark.py layer --cells lstm gru --lengths 25 200 400 --json layer.json --plot layer.png
    python scripts/benchmark.py training --train_file train.conllu --validation_file dev.conllu
    python scripts/benchmark.py inference
    python scripts/benchmark.py latency
    python scripts/benchmark.py crf
    python scripts/benchmark.py memory

Alternatives: the stock packed nn.LSTM, nn.GRU and nn.RNN of torch; the machine's rate of matrix products; and a
transformer of DistilBERT's size with random weights. Taggers and the transformer run in torch and in onnxruntime. Runs
are interleaved and repeated, and medians are shown, because a busy machine drifts. The number of threads is fixed and
printed.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from transformers import DistilBertConfig, DistilBertForTokenClassification
from transformers.utils import logging

from rnn_hf import DataCollatorWithPacking, RnnConfig, RnnForTokenClassification
from rnn_hf.data import load_corpus
from rnn_hf.export import to_onnx
from rnn_hf.packing_rnn import Packing
from rnn_hf.prediction import load
from rnn_hf.recurrence_rnn import run_recurrence
from rnn_hf.training import train
from rnn_hf.training_args import parse_arguments

Row = dict[str, Any]

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
LABELS = {index: f"TAG{index}" for index in range(17)}
STOCK = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn_tanh": nn.RNN, "rnn_relu": nn.RNN}


def medians(runs: dict[str, Callable[[], Any]], repeat: int, seconds: float = 0.1) -> dict[str, float]:
    """Time functions in turn: `repeat` rounds, each of `seconds` for each function, or of one call of a slow one.

    Returns:
        `dict[str, float]`: median seconds of one call of each. What takes longer than 30 seconds is called once.
    """
    calls, times = {}, {}
    for name, run in runs.items():
        start = time.perf_counter()
        run()
        times[name] = [time.perf_counter() - start]
        if times[name][0] < 30:
            start = time.perf_counter()
            run()
            calls[name] = max(1, round(seconds / max(time.perf_counter() - start, 1e-7)))
            times[name] = []
    for _ in range(repeat):
        for name, count in calls.items():
            start = time.perf_counter()
            for _ in range(count):
                runs[name]()
            times[name].append((time.perf_counter() - start) / count)
    return {name: statistics.median(values) for name, values in times.items()}


def matrix_product_rate(dtype: torch.dtype = torch.float32, size: int = 2048) -> float:
    """Measure the machine's ceiling: GFLOP/s of a large matrix product."""
    left, right = torch.randn(size, size, dtype=dtype), torch.randn(size, size, dtype=dtype)
    best = min(medians({"product": lambda: left @ right}, 5).values())
    return 2 * size**3 / best / 1e9


def draw_lengths(batch_size: int, longest: int, fill: float) -> list[int]:
    """Draw lengths up to `longest`, which one sequence has, so that a padded batch holds a share of `fill` tokens."""
    lowest = max(1, round(longest * (2 * fill - 1)))
    lengths = torch.linspace(lowest, longest, batch_size).round().long() if batch_size > 1 else torch.tensor([longest])
    return lengths[torch.randperm(batch_size, generator=torch.Generator().manual_seed(0))].tolist()


def make_rnn(cell: str, size: int, bidirectional: bool = True, num_layers: int = 1) -> nn.RNNBase:
    """Make a stock module of a cell."""
    options: dict[str, Any] = {"nonlinearity": cell[4:]} if cell.startswith("rnn") else {}
    return STOCK[cell](size, size, num_layers=num_layers, bidirectional=bidirectional, **options)


def layer_runs(cell: str, mode: str, lengths: list[int], size: int, bf16: bool = False) -> dict[str, Callable[[], Any]]:
    """Make a call of our recurrence, and one of stock torch on a `PackedSequence`, for the same layer and input."""
    rnn = make_rnn(cell, size)
    packed = pack_sequence([torch.randn(length, size) for length in lengths], enforce_sorted=False)
    parameters = list(rnn.parameters())

    def ours(data: Tensor) -> Tensor:
        packing = Packing.from_batch_sizes(packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        return run_recurrence(rnn, data, packing).states[-1]

    def stock(data: Tensor) -> Tensor:
        return rnn(PackedSequence(data, *packed[1:]))[0].data

    def training(forward: Callable[[Tensor], Tensor], autocast: bool = False) -> Callable[[], Any]:
        data = packed.data.clone().requires_grad_()
        gradient = torch.ones(data.shape[0], 2 * size)

        def run() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                states = forward(data)
            torch.autograd.grad(states, [data, *parameters], gradient.to(states.dtype))

        return run

    def inference(forward: Callable[[Tensor], Tensor], autocast: bool = False) -> Callable[[], Any]:
        def run() -> None:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                forward(packed.data)

        return run

    make = training if mode == "training" else inference
    runs = {"ours": make(ours), "stock": make(stock)}
    return runs | ({"ours bf16": make(ours, True)} if bf16 else {})


def flops(cell: str, mode: str, num_tokens: int, size: int) -> float:
    """Count the useful floating point operations of a bidirectional layer on real tokens."""
    forward = 2 * 2 * GATES[cell] * size * (2 * size) * num_tokens
    return forward * (3 if mode == "training" else 1)


def layer(options: argparse.Namespace) -> list[Row]:
    """Compare one bidirectional layer with stock packed torch and with the rate of matrix products."""
    ceiling = matrix_product_rate()
    rows = []
    grid = list(product(options.cells, options.modes, options.lengths, options.batch_sizes, options.fills))
    for cell, mode, length, batch_size, fill in track(grid, description="layer"):
        lengths = draw_lengths(batch_size, length, fill)
        runs = layer_runs(cell, mode, lengths, options.size, options.bf16)
        if options.ours_only:
            del runs["stock"]
        times = medians(runs, options.repeat)
        rate = flops(cell, mode, sum(lengths), options.size) / times["ours"] / 1e9
        row = {
            "cell": cell,
            "mode": mode,
            "length": length,
            "batch": batch_size,
            "fill": round(sum(lengths) / batch_size / length, 2),
            "ours ms": times["ours"] * 1e3,
        }
        if "stock" in times:
            row |= {"stock ms": times["stock"] * 1e3, "stock / ours": times["stock"] / times["ours"]}
        row |= {
            "ours us/token": times["ours"] * 1e6 / sum(lengths),
            "GFLOP/s": rate,
            "of product": rate / ceiling,
        }
        if options.bf16:
            row["ours / bf16"] = times["ours"] / times["ours bf16"]
        rows.append(row)
    return rows


def distilbert() -> DistilBertForTokenClassification:
    """Make a transformer of DistilBERT's size: 6 layers of 768."""
    return DistilBertForTokenClassification(DistilBertConfig(id2label=LABELS)).eval()


def tagger(cell: str = "lstm", num_layers: int = 2, size: int = 256) -> RnnForTokenClassification:
    """Make a bidirectional tagger with random weights."""
    sizes = {"embedding_size": size, "hidden_size": size, "num_hidden_layers": num_layers}
    config = RnnConfig(cell_type=cell, id2label=LABELS, **sizes)  # type: ignore[arg-type]
    return RnnForTokenClassification(config).eval()


def distilbert_session(model: DistilBertForTokenClassification) -> onnxruntime.InferenceSession:
    """Run the transformer with onnxruntime."""
    model.config._attn_implementation = "eager"
    example = torch.ones(2, 8, dtype=torch.long)
    names, axes = ["input_ids", "attention_mask"], {0: "batch_size", 1: "sequence_length"}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Logits(model),
            (example, example),
            f"{folder}/model.onnx",
            input_names=names,
            output_names=["logits"],
            dynamic_axes=dict.fromkeys(names, axes),
            dynamo=False,
        )
        return onnxruntime.InferenceSession(f"{folder}/model.onnx", session_options())


class _Logits(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


def session_options() -> onnxruntime.SessionOptions:
    """Give onnxruntime as many threads as torch has."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return options


def backends(cells: list[str], packed: dict[str, Tensor], padded: dict[str, Tensor]) -> dict[str, Callable[[], Any]]:
    """Make calls of taggers and of a transformer, in torch and in onnxruntime, for the same sentences."""

    def in_torch(model: nn.Module, inputs: dict[str, Tensor]) -> Callable[[], Any]:
        return torch.inference_mode()(lambda: model(**inputs))

    arrays = {name: value.numpy() for name, value in padded.items()}

    def in_onnxruntime(session: onnxruntime.InferenceSession) -> Callable[[], Any]:
        return lambda: session.run(["logits"], arrays)

    runs: dict[str, Callable[[], Any]] = {}
    for cell in cells:
        model = tagger(cell)
        name = f"2 x Bi{cell.upper()}-256"
        runs[f"{name}, torch float32"] = in_torch(model, packed)
        for precision in ("float32", "int8"):
            graph = to_onnx(model, int8=precision == "int8").SerializeToString()
            runs[f"{name}, onnxruntime {precision}"] = in_onnxruntime(
                onnxruntime.InferenceSession(graph, session_options())
            )
        runs[f"{name}, torch bfloat16"] = in_torch(tagger(cell).bfloat16(), packed)
    transformer = distilbert()
    session = distilbert_session(transformer)
    runs["DistilBERT, onnxruntime float32"] = in_onnxruntime(session)
    runs["DistilBERT, torch float32"] = in_torch(distilbert(), padded)
    return runs


def latency(options: argparse.Namespace) -> list[Row]:
    """Time one sentence at a time."""
    input_ids = torch.randint(4, 30000, (1, options.length))
    inputs = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}
    times = medians(backends(options.cells, inputs, inputs), options.repeat)
    return [{"model": name, "ms a sentence": seconds * 1e3} | _ratios(name, times) for name, seconds in times.items()]


def inference(options: argparse.Namespace) -> list[Row]:
    """Time the tagging of batches of uneven sentences."""
    collator = DataCollatorWithPacking(tokenizer=None, padding=False)  # type: ignore[arg-type]
    lengths = draw_lengths(options.batch_size, options.length, 0.7)
    sentences = [{"input_ids": torch.randint(4, 30000, (length,))} for length in lengths]
    ids = nn.utils.rnn.pad_sequence([sentence["input_ids"] for sentence in sentences], batch_first=True)
    padded = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    times = medians(backends(options.cells, collator(sentences), padded), options.repeat)
    return [
        {"model": name, "tokens/s": sum(lengths) / seconds} | _ratios(name, times) for name, seconds in times.items()
    ]


def _ratios(name: str, times: dict[str, float]) -> Row:
    """Compare with the same model, and with the transformer, in torch."""
    in_torch = f"{name.partition(',')[0]}, torch float32"
    return {
        "torch float32 / this": times[in_torch] / times[name],
        "DistilBERT / this": times["DistilBERT, torch float32"] / times[name],
    }


def crf(options: argparse.Namespace) -> list[Row]:
    """Time training steps of a tagger of 20 labels with a conditional random field and without."""
    lengths = draw_lengths(options.batch_size, options.length, 0.95)
    marks = ["O", *(f"{mark}-{kind}" for kind in range(10) for mark in "BI")]
    labels = dict(enumerate(marks[:20]))
    features = [
        {"input_ids": torch.randint(4, 30000, (length,)), "labels": torch.randint(len(labels), (length,))}
        for length in lengths
    ]
    batch = DataCollatorWithPacking(tokenizer=None)(features)  # type: ignore[arg-type]

    def run(use_crf: bool) -> Callable[[], Any]:
        model = RnnForTokenClassification(RnnConfig(id2label=labels, use_crf=use_crf)).train()
        return lambda: (model(**batch).loss.backward(), model.zero_grad())

    times = medians({"with": run(True), "without": run(False)}, options.repeat)
    share = 1 - times["without"] / times["with"]
    return [
        {"training step": f"{name} CRF, {len(labels)} labels", "ms": seconds * 1e3, "share of CRF": share}
        for name, seconds in times.items()
    ]


def training(options: argparse.Namespace) -> list[Row]:
    """Train a tagger for an epoch with the stock Trainer, and run the bare recurrence on batches of its lengths."""
    with tempfile.TemporaryDirectory() as folder:
        once = ["--num_train_epochs", "1", "--eval_strategy", "no", "--save_strategy", "no", "--output_dir", folder]
        data, tokenizer_arguments, config, args = parse_arguments("token-classification", "", options.rest + once)
        seconds = train("token-classification", data, tokenizer_arguments, config, args)["train_runtime"]
        model, tokenizer = load(folder)
        encoded = load_corpus(data, "token-classification").encode(tokenizer)["train"]
    lengths = [len(ids) for ids in encoded["input_ids"]]
    words = sum(label != -100 for labels in encoded["labels"] for label in labels)
    order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(args.seed)).tolist()
    size = args.per_device_train_batch_size
    bare = 0.0
    for start in track(range(0, len(order), size), description="bare recurrence"):
        rnn = model.model.rnn.train()
        sequences = [torch.randn(lengths[place], rnn.input_size) for place in order[start : start + size]]
        packed = pack_sequence(sequences, enforce_sorted=False)
        packing = Packing.from_batch_sizes(packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        begin = time.perf_counter()
        run_recurrence(rnn, packed.data.requires_grad_(), packing).states[-1].sum().backward()
        bare += time.perf_counter() - begin
        rnn.zero_grad()
    return [
        {"what": "Trainer, one epoch", "seconds": seconds, "words/s": words / seconds, "of bare": bare / seconds},
        {"what": "bare recurrence, same batches", "seconds": bare, "words/s": words / bare, "of bare": 1.0},
    ]


def memory(options: argparse.Namespace) -> list[Row]:
    """Measure the peak memory of training steps of one layer, each way in a process of its own."""
    rows = []
    for name in ("ours", "stock"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peak = pool.apply(_peak_memory, (name, options.cells[0], options.batch_size, options.length, options.size))
        rows.append({"what": name, "peak MB beyond the idle process": peak})
    return rows


def _peak_memory(name: str, cell: str, batch_size: int, length: int, size: int) -> float:
    torch.set_num_threads(1)
    runs = layer_runs(cell, "training", draw_lengths(batch_size, length, 0.95), size)
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2):
        runs[name]()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - idle) / 1024


def print_rows(rows: list[Row], title: str) -> None:
    """Print measurements as a table."""
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(f"{value:,.2f}" if isinstance(value, float) else str(value) for value in row.values()))
    console = Console(width=140)
    console.print(title)
    console.print(table)


def plot(rows: list[Row], path: str) -> None:
    """Draw the cost of a token against the length of the sequences."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    for cell in dict.fromkeys(row["cell"] for row in rows):
        chosen = [row for row in rows if row["cell"] == cell and row["mode"] == "training"]
        lengths = [row["length"] for row in chosen]
        (line,) = axes.plot(lengths, [row["ours us/token"] for row in chosen], "o-", label=f"{cell.upper()}, rnn_hf")
        if all("stock / ours" in row for row in chosen):
            stock = [row["ours us/token"] * row["stock / ours"] for row in chosen]
            axes.plot(lengths, stock, "x--", color=line.get_color(), label=f"{cell.upper()}, packed torch")
    axes.set(xscale="log", yscale="log", xlabel="length of the sequences", ylabel="training, µs a token")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    """Parse the command line, measure, show and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["layer", "training", "inference", "latency", "crf", "memory"])
    parser.add_argument("--cells", nargs="+", choices=list(GATES), default=["lstm"])
    parser.add_argument("--modes", nargs="+", choices=["training", "inference"], default=["training", "inference"])
    parser.add_argument("--lengths", nargs="+", type=int, default=[25, 200], help="longest sequence, for layer")
    parser.add_argument("--batch_sizes", nargs="+", type=int, default=[32], help="for layer")
    parser.add_argument("--fills", nargs="+", type=float, default=[0.95], help="share of tokens, for layer")
    parser.add_argument("--length", type=int, help="longest sequence, for the others")
    parser.add_argument("--batch_size", type=int, default=32, help="for the others")
    parser.add_argument("--size", type=int, default=256, help="of input and hidden state, for layer and memory")
    parser.add_argument("--ours_only", action="store_true", help="leave stock torch out, for layer on long sequences")
    parser.add_argument("--bf16", action="store_true", help="measure bfloat16 autocast too, for layer")
    parser.add_argument("--repeat", type=int, default=5, help="rounds")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", help="file to write the measurements to")
    parser.add_argument("--plot", help="PNG file for cost against length, for layer")
    options, rest = parser.parse_known_args()
    options.rest = rest
    if options.rest and options.what != "training":
        parser.error(
            f"unknown options: {' '.join(options.rest)}; only training hands options on to the training script"
        )
    options.length = options.length or {"memory": 400}.get(options.what, 25)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    logging.disable_progress_bar()
    measure = {
        "layer": layer,
        "training": training,
        "inference": inference,
        "latency": latency,
        "crf": crf,
        "memory": memory,
    }
    rows = measure[options.what](options)
    print_rows(rows, f"{options.what}, {options.threads} thread(s), torch {torch.__version__}")
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1), encoding="utf-8")
    if options.plot and options.what == "layer":
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
