"""Training steps of two processes that share gradients."""

import argparse
import multiprocessing
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..models.configuration_rnn import RnnConfig
from ..models.modeling_rnn import RnnForTokenClassification
from .measure import Row

_NO_BROADCASTS = "broadcast_buffers=False"


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


__all__ = ["ddp"]
