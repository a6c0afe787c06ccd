"""Time and memory of calls, and the sequences that are measured with."""

import math
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

try:
    import resource
except ImportError:  # Windows has no such module.
    resource = None  # type: ignore[assignment]

Row = dict[str, Any]


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


def draw_lengths(batch_size: int, longest: int, fill: float) -> list[int]:
    """Draw lengths up to `longest`, which one sequence has, so that a padded batch holds a share of `fill` tokens."""
    lowest = max(1, round(longest * (2 * fill - 1)))
    lengths = torch.linspace(lowest, longest, batch_size).round().long() if batch_size > 1 else torch.tensor([longest])
    return lengths[torch.randperm(batch_size, generator=torch.Generator().manual_seed(0))].tolist()


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


__all__ = ["Row", "draw_lengths", "in_a_process", "medians", "peak_megabytes"]
