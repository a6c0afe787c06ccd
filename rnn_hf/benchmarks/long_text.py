"""One very long text."""

import argparse
import time
from typing import Any

import torch

from ..models.configuration_rnn import RnnConfig
from ..models.modeling_rnn import RnnForSequenceClassification, RnnForTokenClassification
from .measure import Row, in_a_process, peak_megabytes

# Those of the quick start's topic classifier, and of a tagger with the default options.
_CHARACTERS = {"characters": "abcdefghijklmnopqrstuvwxyz"}
_SIZES: dict[str, dict[str, Any]] = {
    "classifier": _CHARACTERS
    | {"embedding_size": 64, "hidden_size": 64, "char_num_filters": 32, "ngram_buckets": 2**18, "pooling": "max"},
    "tagger with CRF": _CHARACTERS
    | {"embedding_size": 256, "hidden_size": 256, "char_num_filters": 128, "num_lexical_features": 24000}
    | {"subword_pooling": "mean", "use_crf": True},
}


def long_text(options: argparse.Namespace) -> list[Row]:
    """Measure inference on one long text, each model in a process of its own."""
    rows: list[Row] = []
    for name, sizes in _SIZES.items():
        peak, seconds = in_a_process(_long_text, name, options.length, options.threads)
        vectors = options.length * RnnConfig(**sizes).input_size * 4 / 2**20
        rows.append({"model": name, "tokens": options.length, "seconds": seconds, "peak MB": peak})
        rows[-1] |= {"vectors of tokens MB": vectors, "peak / vectors": peak / vectors}
    return rows


def _long_text(name: str, length: int, threads: int) -> tuple[float, float]:
    torch.set_num_threads(threads)
    labels = dict(enumerate(["O", *(f"{mark}-{kind}" for kind in range(4) for mark in "BI")]))
    model_class = RnnForSequenceClassification if name == "classifier" else RnnForTokenClassification
    model: Any = model_class(RnnConfig(**_SIZES[name], id2label=labels)).eval()
    if name != "classifier":
        model.word_starts[::5] = False  # of five entries, one continues a word
    ids = torch.randint(4, 30000, (1, length))
    with torch.inference_mode():
        model(input_ids=ids[:, :50])
        idle, start = peak_megabytes(), time.perf_counter()
        model(input_ids=ids)
        return peak_megabytes() - idle, time.perf_counter() - start


__all__ = ["long_text"]
