"""Classify or tag the lines of a file, or of standard input.

    rnn-hf predict outputs/reviews reviews.txt
    echo "From the AP comes this story :" | rnn-hf predict outputs/pos
    rnn-hf predict outputs/names doccano.jsonl > predicted.jsonl
    rnn-hf predict outputs/pos sentences.txt --output_format jsonl > tagged.jsonl
    rnn-hf predict outputs/exported reviews.txt --backend onnx --file_name onnx/model_int8.onnx
    rnn-hf predict outputs/intents requests.txt --rejection_threshold 0.4

A classifier takes each line as a text; a tagger takes each line as a sentence, its words separated by white space, and
by punctuation where that stood apart in the training data.
Of a file of annotated texts, as of doccano, Label Studio, Prodigy or brat, a tagger takes the texts, and writes the
file with the spans that it finds. The output is UTF-8. In tables, tabs and whatever a terminal would obey are written
as escapes.
"""

import sys
from collections.abc import Iterator
from typing import Any

from transformers.utils import logging

from ..data.span_files import find_span_file
from ..inference.loading import is_tagger, load
from ..inference.predictor import predict
from ..inference.span_prediction import predict_spans, tag_texts
from ..text.raw_text import split_raw_text
from ..text.words import has_word_splitter
from ..utils.command_line import CommandParser, command
from ..utils.display import json_line, printable


def read_lines(path: str) -> Iterator[str]:
    """Yield the lines of a file, or of standard input for `-`."""
    name = "standard input" if path == "-" else path
    if path == "-" and sys.stdin is None:
        raise ValueError("Standard input is closed: name a file.")
    try:
        file = sys.stdin.buffer if path == "-" else open(path, "rb")  # noqa: SIM115
        with file:
            for number, line in enumerate(file, start=1):
                # Some editors put a mark before the first line.
                yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}, line {number}: not UTF-8 ({error.reason}).") from error
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror}.") from error


def as_table(prediction: dict[str, Any]) -> str:
    """Lay out a prediction for reading: a line a text, or a line a word with an empty line after the sentence."""
    if "tags" in prediction:
        rows = zip(prediction["tokens"], prediction["tags"], strict=True)
        return "".join(f"{printable(token)}\t{printable(tag)}\n" for token, tag in rows)
    labels = [prediction["label"] or "-"] if "label" in prediction else prediction.get("labels", [])
    scores = [prediction["score"]] if "score" in prediction else prediction["scores"]
    cells = [" ".join(labels), " ".join(f"{score:.3f}" for score in scores), prediction["text"]]
    return "\t".join(map(printable, cells)).lstrip("\t")


@command
def main(argv: list[str] | None = None) -> None:
    """Read, predict, print."""
    parser = CommandParser(prog="rnn-hf predict", description=__doc__)
    parser.add_argument("model", help="folder or hub id of a trained model")
    parser.add_argument("input", nargs="?", default="-", help="text file, UTF-8; - for standard input")
    parser.add_argument("--revision", help="branch, tag or commit of a model on the hub")
    parser.add_argument(
        "--output_format",
        choices=["table", "jsonl"],
        help="how to print (default: table; the format of annotated texts)",
    )
    parser.add_argument("--output_dir", help="of texts that were annotated with brat, the folder to write to")
    parser.add_argument("--batch_size", type=int, default=128, help="most lines in a batch")
    parser.add_argument(
        "--device", default="cpu", help="where to run: cpu, cuda, cuda:1, mps; results of others differ in last digits"
    )
    parser.add_argument(
        "--backend", choices=["torch", "onnx"], default="torch", help="onnx: run a graph of `rnn-hf export`"
    )
    parser.add_argument("--file_name", default="onnx/model.onnx", help="the graph, for onnx")
    parser.add_argument(
        "--rejection_threshold",
        type=float,
        help="of a classifier: texts whose label has a lower probability have none; null in jsonl, - in the table",
    )
    options = parser.parse_args(argv)
    logging.disable_progress_bar()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")
    model: Any
    if options.backend == "onnx":
        if options.device != "cpu":
            raise ValueError(f"--device {options.device} is for --backend torch: onnx runs on the cpu.")
        from ..export import runtime as onnx_model

        model, tokenizer = onnx_model.load(options.model, file_name=options.file_name, revision=options.revision)
    else:
        model, tokenizer = load(options.model, options.revision, device=options.device)
    bounds = {"batch_size": options.batch_size, "rejection_threshold": options.rejection_threshold}
    spans = find_span_file(options.input) if is_tagger(model) else None
    if spans is not None and options.output_format is None:
        for part in predict_spans(model, tokenizer, spans, output_dir=options.output_dir, **bounds):
            print(part, end="")
        return
    if options.output_dir is not None:
        raise ValueError("--output_dir is for texts that were annotated with brat. Leave it out.")
    lines = read_lines(options.input)
    inputs: Any = (split_raw_text(tokenizer, line) for line in lines) if is_tagger(model) else lines
    if spans is not None:
        inputs = (document.words for document in spans.documents())
    layout = json_line if options.output_format == "jsonl" else as_table
    reads_raw_text = is_tagger(model) and spans is None and has_word_splitter(tokenizer)
    results = (
        tag_texts(model, tokenizer, lines, **bounds) if reads_raw_text else predict(model, tokenizer, inputs, **bounds)
    )
    for prediction in results:
        print(layout(prediction))
