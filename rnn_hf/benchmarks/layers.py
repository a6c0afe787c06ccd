"""One recurrent layer: ours beside stock torch and the machine's rate of matrix products."""

import argparse
from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from ..models.packing import Packing
from ..models.recurrence import run_recurrence
from .measure import Row, draw_lengths, in_a_process, medians, peak_megabytes

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
STOCK = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn_tanh": nn.RNN, "rnn_relu": nn.RNN}


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


def memory(options: argparse.Namespace) -> list[Row]:
    """Measure the peak memory of training steps of one layer, each way in a process of its own."""
    rows: list[Row] = []
    for name in ("ours", "stock"):
        peak = in_a_process(_peak_memory, name, options.cells[0], options.batch_size, options.length, options.size)
        rows.append({"what": name, "peak MB beyond the idle process": peak})
    return rows


def matrix_product_rate(dtype: torch.dtype = torch.float32, size: int = 2048) -> float:
    """Measure the machine's ceiling: GFLOP/s of a large matrix product."""
    left, right = torch.randn(size, size, dtype=dtype), torch.randn(size, size, dtype=dtype)
    best = min(medians({"product": lambda: left @ right}, 5).values())
    return 2 * size**3 / best / 1e9


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


def _peak_memory(name: str, cell: str, batch_size: int, length: int, size: int) -> float:
    torch.set_num_threads(1)
    runs = layer_runs(cell, "training", draw_lengths(batch_size, length, 0.95), size)
    idle = peak_megabytes()
    for _ in range(2):
        runs[name]()
    return peak_megabytes() - idle


__all__ = ["GATES", "layer", "layer_runs", "make_rnn", "memory"]
