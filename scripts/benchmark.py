"""Measure rnn_hf side by side with its alternatives, in one run.

    python scripts/benchmark.py layer --cells lstm gru --lengths 25 200 400 --json layer.json --plot layer.png
    python scripts/benchmark.py training --train_file train.conllu --validation_file dev.conllu
    python scripts/benchmark.py inference
    python scripts/benchmark.py latency
    python scripts/benchmark.py crf
    python scripts/benchmark.py memory
    python scripts/benchmark.py pooling
    python scripts/benchmark.py long_text --length 1000000
    python scripts/benchmark.py ddp

Alternatives: the stock packed nn.LSTM, nn.GRU and nn.RNN of torch; the machine's rate of matrix products; and a
transformer of DistilBERT's size with random weights. Taggers and the transformer run in torch and in onnxruntime. Runs
are interleaved and repeated, and medians are shown, because a busy machine drifts. The number of threads is fixed and
printed.
"""

import argparse
import json
import math
import multiprocessing
import statistics
import sys
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

from rnn_hf import DataCollatorWithPacking, RnnConfig, RnnForSequenceClassification, RnnForTokenClassification
from rnn_hf.data.corpus import load_corpus
from rnn_hf.export.encoder import to_onnx
from rnn_hf.inference.loading import load
from rnn_hf.models.packing import Packing
from rnn_hf.models.recurrence import run_recurrence
from rnn_hf.training.arguments import parse_arguments
from rnn_hf.training.train import train
from rnn_hf.utils.command_line import CommandParser, command, positive_int

try:
    import resource
except ImportError:  # Windows has no such module.
    resource = None  # type: ignore[assignment]

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
    rows: list[Row] = []
    for name in ("ours", "stock"):
        peak = in_a_process(_peak_memory, name, options.cells[0], options.batch_size, options.length, options.size)
        rows.append({"what": name, "peak MB beyond the idle process": peak})
    return rows


def in_a_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own, whose peak memory is nobody else's."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def peak_megabytes() -> float:
    """Tell the most memory that this process has held; not a number where the system does not say, as Windows."""
    if resource is None:
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _peak_memory(name: str, cell: str, batch_size: int, length: int, size: int) -> float:
    torch.set_num_threads(1)
    runs = layer_runs(cell, "training", draw_lengths(batch_size, length, 0.95), size)
    idle = peak_megabytes()
    for _ in range(2):
        runs[name]()
    return peak_megabytes() - idle


POOLINGS = ("last", "max", "mean", "attention")


def pooling(options: argparse.Namespace) -> list[Row]:
    """Measure training steps of a classifier on short texts and a long one, beside its recurrence alone (`last`)."""
    lengths = [10] * 63 + [options.length]
    peaks = {name: in_a_process(_pooling_memory, name, lengths, options.threads) for name in POOLINGS}
    times = medians({name: pooling_run(name, lengths) for name in POOLINGS}, options.repeat)
    return [
        {
            "pooling": name,
            "peak MB": peaks[name],
            "peak / last": peaks[name] / peaks["last"],
            "ms a step": times[name] * 1e3,
            "time / last": times[name] / times["last"],
        }
        for name in POOLINGS
    ]


def pooling_run(name: str, lengths: list[int]) -> Callable[[], Any]:
    """Make a training step of a classifier of 2 x 128 with a kind of pooling."""
    labels: dict[int, str] = dict(enumerate("abcde"))
    config = RnnConfig(hidden_size=128, pooling=name, id2label=labels)  # type: ignore[arg-type]
    model = RnnForSequenceClassification(config).train()
    features = [{"input_ids": torch.randint(4, 30000, (length,)), "label": 0} for length in lengths]
    batch = DataCollatorWithPacking(tokenizer=None)(features)  # type: ignore[arg-type]
    return lambda: (model(**batch).loss.backward(), model.zero_grad())


def _pooling_memory(name: str, lengths: list[int], threads: int) -> float:
    torch.set_num_threads(threads)
    pooling_run(name, [3, 2])()
    run = pooling_run(name, lengths)
    idle = peak_megabytes()
    for _ in range(2):
        run()
    return peak_megabytes() - idle


def long_text(options: argparse.Namespace) -> list[Row]:
    """Measure inference on one long text, each model in a process of its own."""
    rows: list[Row] = []
    for name in ("classifier", "tagger with CRF"):
        peak, seconds = in_a_process(_long_text, name, options.length, options.threads)
        vectors = options.length * RnnConfig(**_LONG_TEXT).input_size * 4 / 2**20
        rows.append({"model": name, "tokens": options.length, "seconds": seconds, "peak MB": peak})
        rows[-1] |= {"vectors of tokens MB": vectors, "peak / vectors": peak / vectors}
    return rows


_LONG_TEXT: dict[str, Any] = {"embedding_size": 128, "hidden_size": 96, "characters": "abcdefghijklmnopqrstuvwxyz"}


def _long_text(name: str, length: int, threads: int) -> tuple[float, float]:
    torch.set_num_threads(threads)
    labels = dict(enumerate(["O", *(f"{mark}-{kind}" for kind in range(4) for mark in "BI")]))
    model_class = RnnForSequenceClassification if name == "classifier" else RnnForTokenClassification
    model = model_class(RnnConfig(**_LONG_TEXT, id2label=labels, use_crf=True)).eval()
    ids = torch.randint(4, 30000, (1, length))
    with torch.inference_mode():
        model(input_ids=ids[:, :50])
        idle, start = peak_megabytes(), time.perf_counter()
        model(input_ids=ids)
        return peak_megabytes() - idle, time.perf_counter() - start


def ddp(options: argparse.Namespace) -> list[Row]:
    """Time steps of two processes, which share gradients by gloo, with the default settings and without broadcasts.

    The model has 300,000 vocabulary entries, of which 1,000 have a vector of their own.
    """
    arguments = (options.repeat, options.length)
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context("spawn")
        queue = context.Queue()
        processes = [
            context.Process(target=_ddp_process, args=(rank, f"{folder}/store", queue, *arguments)) for rank in range(2)
        ]
        for process in processes:
            process.start()
        times = queue.get()
        for process in processes:
            process.join()
    return [
        {"settings": name, "ms a step": seconds * 1e3, "time / without broadcasts": seconds / times[_NO_BROADCASTS]}
        for name, seconds in times.items()
    ]


_NO_BROADCASTS = "broadcast_buffers=False"


def _ddp_process(rank: int, store: str, queue: Any, repeat: int, length: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    config = RnnConfig(
        vocab_size=300_000, num_word_embeddings=1000, static_vocab_size=300_000, static_embedding_size=2,
        characters="abcdefghijklmnopqrstuvwxyz", embedding_size=16, hidden_size=32, id2label=dict(enumerate("abcde")),
    )  # fmt: skip
    ids = torch.randint(300_000, (4, length))

    def run(ignores: bool, broadcasts: bool) -> Callable[[], Any]:
        model = RnnForTokenClassification(config)
        model.model.embeddings.static_embeddings.vectors.weight.requires_grad_(False)
        if not ignores:
            del model._ddp_params_and_buffers_to_ignore
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Newer versions of torch have another name for it.
            wrapped: Any = nn.parallel.DistributedDataParallel(model, broadcast_buffers=broadcasts)
        return lambda: (wrapped(input_ids=ids, labels=ids % 5).loss.backward(), wrapped.zero_grad())

    runs = {
        "the default": run(True, True),
        _NO_BROADCASTS: run(True, False),
        "tables broadcast with each step": run(False, True),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeat + 2):
        for name, step in runs.items():
            torch.distributed.barrier()
            start = time.perf_counter()
            for _ in range(5):
                step()
            times[name] += [(time.perf_counter() - start) / 5] * (turn >= 2)
    if rank == 0:
        queue.put({name: statistics.median(values) for name, values in times.items()})
    torch.distributed.destroy_process_group()


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


MEASURES = {
    "layer": layer,
    "training": training,
    "inference": inference,
    "latency": latency,
    "crf": crf,
    "memory": memory,
    "pooling": pooling,
    "long_text": long_text,
    "ddp": ddp,
}


@command
def main(argv: list[str] | None = None) -> None:
    """Parse the command line, measure, show and save."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("what", choices=list(MEASURES))
    parser.add_argument("--cells", nargs="+", choices=list(GATES), default=["lstm"])
    parser.add_argument("--modes", nargs="+", choices=["training", "inference"], default=["training", "inference"])
    parser.add_argument(
        "--lengths", nargs="+", type=positive_int, default=[25, 200], help="longest sequence, for layer"
    )
    parser.add_argument("--batch_sizes", nargs="+", type=positive_int, default=[32], help="for layer")
    parser.add_argument("--fills", nargs="+", type=float, default=[0.95], help="share of tokens, for layer")
    parser.add_argument("--length", type=positive_int, help="longest sequence, for the others")
    parser.add_argument("--batch_size", type=positive_int, default=32, help="for the others")
    parser.add_argument(
        "--size", type=positive_int, default=256, help="of input and hidden state, for layer and memory"
    )
    parser.add_argument("--ours_only", action="store_true", help="leave stock torch out, for layer on long sequences")
    parser.add_argument("--bf16", action="store_true", help="measure bfloat16 autocast too, for layer")
    parser.add_argument("--repeat", type=positive_int, default=5, help="rounds")
    parser.add_argument("--threads", type=positive_int, default=1)
    parser.add_argument("--json", help="file to write the measurements to")
    parser.add_argument("--plot", help="PNG file for cost against length, for layer")
    options, rest = parser.parse_known_args(argv)
    options.rest = rest
    if options.rest and options.what != "training":
        parser.error(
            f"unknown options: {' '.join(options.rest)}; only training hands options on to the training script"
        )
    options.length = options.length or {"memory": 400, "pooling": 4000, "long_text": 100_000}.get(options.what, 25)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    logging.disable_progress_bar()
    rows = MEASURES[options.what](options)
    print_rows(rows, f"{options.what}, {options.threads} thread(s), torch {torch.__version__}")
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1), encoding="utf-8")
    if options.plot and options.what == "layer":
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
