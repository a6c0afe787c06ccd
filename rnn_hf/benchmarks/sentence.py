"""One sentence at a time, from text to labels."""

import argparse
import random
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..export.folder import export
from ..export.handler import EndpointHandler
from ..models.configuration_rnn import RnnConfig
from ..models.modeling_rnn import RnnForTokenClassification
from ..text.characters import collect_characters, count_lexical_features, set_vocabulary
from ..text.tokenization import train_tokenizer
from .measure import Row, medians
from .taggers import LABELS, distilbert

_GRAPHS = {"int8": "onnx/model_int8.onnx", "float32": "onnx/model.onnx"}
_NUM_WORDS = 12_000
# One word of so many has several tokens, as in UD English EWT.
_ONE_IN = 7


def sentence(options: argparse.Namespace) -> list[Row]:
    """Time what `handler.py` makes of a text: tokenizer, graph, decoding. The transformer starts from token ids."""
    source = random.Random(0)  # noqa: S311
    words = sorted({_draw_word(source) for _ in range(_NUM_WORDS)})
    chosen = [source.choice(words) + "r" * (index % _ONE_IN == 0) for index in range(options.length)]
    runs: dict[str, Callable[[], Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("tagger", "tagger with CRF"):
            path = Path(folder) / name
            _write_tagger(path, words, use_crf="CRF" in name)
            for precision, file_name in _GRAPHS.items():
                handler = EndpointHandler(str(path), file_name, num_threads=options.threads)
                runs[f"{name}, {precision}"] = partial(handler, {"inputs": " ".join(chosen)})
        num_tokens = len(handler.tokenizer.encode(" ".join(chosen)).ids)
        input_ids = torch.randint(4, 30000, (1, num_tokens))
        transformer = distilbert()
        runs["DistilBERT, torch float32"] = torch.inference_mode()(lambda: transformer(input_ids=input_ids))
        times = medians(runs, options.repeat)
    slowest = times["DistilBERT, torch float32"]
    return [
        {"model": name, "tokens": num_tokens, "ms per sentence": seconds * 1e3, "DistilBERT / this": slowest / seconds}
        for name, seconds in times.items()
    ]


def _draw_word(source: random.Random) -> str:
    return "".join(source.choices("abcdefghijklmnopqr", k=source.randint(3, 9)))


def _write_tagger(folder: Path, words: list[str], use_crf: bool) -> None:
    """Export a tagger of the default sizes, with random weights."""
    tokenizer = train_tokenizer([words] * 2, is_split_into_words=True)
    config = RnnConfig(
        vocab_size=len(tokenizer),
        id2label=LABELS,
        subword_pooling="mean",
        use_crf=use_crf,
        embedding_size=256,
        hidden_size=256,
        characters=collect_characters(tokenizer),
        char_num_filters=128,
        max_characters_per_token=18,
        num_lexical_features=count_lexical_features(tokenizer, 18),
    )
    model = RnnForTokenClassification(config)
    set_vocabulary(model, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    export(str(folder), folder, int8=True)


__all__ = ["sentence"]
