"""Classify or tag the lines of a file, or of standard input.

    python scripts/predict.py outputs/reviews reviews.txt
    echo "From the AP comes this story :" | python scripts/predict.py outputs/pos
    python scripts/predict.py outputs/pos sentences.txt --output_format jsonl > tagged.jsonl
    python scripts/predict.py outputs/exported reviews.txt --backend onnx --file_name onnx/model_int8.onnx

A classifier takes each line as a text; a tagger takes each line as a sentence, its words separated by white space.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from transformers.utils import logging

from rnn_hf.prediction import is_tagger, load, predict


def read_lines(path: str) -> Iterator[str]:
    """Yield the lines of a file, or of standard input for `-`."""
    try:
        file = sys.stdin.buffer if path == "-" else open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error
    with file:
        for number, line in enumerate(file, start=1):
            try:
                yield line.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}, line {number}: not UTF-8 ({error.reason}).") from error


def as_table(prediction: dict[str, Any]) -> str:
    """Lay out a prediction for reading: a line a text, or a line a word with an empty line after the sentence."""
    if "tags" in prediction:
        rows = zip(prediction["tokens"], prediction["tags"], strict=True)
        return "".join(f"{token}\t{tag}\n" for token, tag in rows)
    labels = [prediction["label"]] if "label" in prediction else prediction.get("labels", [])
    scores = [prediction["score"]] if "score" in prediction else prediction["scores"]
    return "\t".join([" ".join(labels), " ".join(f"{score:.3f}" for score in scores), prediction["text"]]).lstrip("\t")


def main() -> None:
    """Read, predict, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or hub id of a trained model")
    parser.add_argument("--revision", help="branch, tag or commit of a model on the hub")
    parser.add_argument("input", nargs="?", default="-", help="text file, UTF-8; standard input without it")
    parser.add_argument("--output_format", choices=["table", "jsonl"], default="table", help="default: table")
    parser.add_argument("--batch_size", type=int, default=128, help="most lines in a batch (default: 128)")
    parser.add_argument(
        "--backend", choices=["torch", "onnx"], default="torch", help="onnx: run what scripts/export_onnx.py made"
    )
    parser.add_argument("--file_name", default="onnx/model.onnx", help="for onnx (default: onnx/model.onnx)")
    options = parser.parse_args()
    logging.disable_progress_bar()
    try:
        model: Any
        if options.backend == "onnx":
            from rnn_hf import onnx_model

            model, tokenizer = onnx_model.load(options.model, file_name=options.file_name, revision=options.revision)
        else:
            model, tokenizer = load(options.model, options.revision)
        lines = read_lines(options.input)
        inputs: Any = (line.split() for line in lines) if is_tagger(model) else lines
        for prediction in predict(model, tokenizer, inputs, batch_size=options.batch_size):
            print(
                json.dumps(prediction, ensure_ascii=False) if options.output_format == "jsonl" else as_table(prediction)
            )
    except (ImportError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
