"""Steps and epochs of training: with the Trainer, with a conditional random field, by kind of pooling."""

import argparse
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from rich.progress import track
from torch.nn.utils.rnn import pack_sequence

from ..data.collator import DataCollatorWithPacking
from ..data.corpus import load_corpus
from ..inference.loading import load
from ..models.configuration_rnn import RnnConfig
from ..models.modeling_rnn import RnnForSequenceClassification, RnnForTokenClassification
from ..models.packing import Packing
from ..models.recurrence import run_recurrence
from ..training.options import parse_arguments
from ..training.train import train
from .measure import Row, draw_lengths, in_a_process, medians, peak_megabytes

POOLINGS = ("last", "max", "mean", "attention")


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
        sequences = [torch.randn(lengths[position], rnn.input_size) for position in order[start : start + size]]
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


__all__ = ["crf", "pooling", "training"]
