"""Taggers and a transformer, in torch and in onnxruntime."""

import argparse
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn
from transformers import DistilBertConfig, DistilBertForTokenClassification

from ..data.collator import DataCollatorWithPacking
from ..export.encoder import to_onnx
from ..models.configuration_rnn import RnnConfig
from ..models.modeling_rnn import RnnForTokenClassification
from .measure import Row, draw_lengths, medians

LABELS = {index: f"TAG{index}" for index in range(17)}


def latency(options: argparse.Namespace) -> list[Row]:
    """Time one sentence at a time."""
    input_ids = torch.randint(4, 30000, (1, options.length))
    inputs = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}
    times = medians(backends(options.cells, inputs, inputs), options.repeat)
    return [{"model": name, "ms per sentence": seconds * 1e3} | _ratios(name, times) for name, seconds in times.items()]


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


def _ratios(name: str, times: dict[str, float]) -> Row:
    """Compare with the same model, and with the transformer, in torch."""
    in_torch = f"{name.partition(',')[0]}, torch float32"
    return {
        "torch float32 / this": times[in_torch] / times[name],
        "DistilBERT / this": times["DistilBERT, torch float32"] / times[name],
    }


__all__ = ["inference", "latency"]
