"""Classify or tag the rows of a file, or the lines of a text file or of standard input.

    rnn-hf predict outputs/reviews reviews.csv --output_file predicted.csv
    rnn-hf predict outputs/pos sentences.conllu > tagged.conllu
    rnn-hf predict outputs/reviews reviews.txt
    echo "From the AP comes this story :" | rnn-hf predict outputs/pos
    rnn-hf predict outputs/names doccano.jsonl > predicted.jsonl
    rnn-hf predict outputs/exported reviews.txt --backend onnx --file_name onnx/model_int8.onnx
    rnn-hf predict outputs/intents requests.txt --rejection_threshold 0.4
    rnn-hf predict outputs/reviews 'reviews/*.parquet' --output_dir predicted --num_workers 4

Of CSV, TSV, JSON lines, Parquet and CoNLL files, all columns are kept, and the prediction is added. Of a file of
annotated texts, as of doccano, Label Studio, Prodigy or brat, a tagger takes the texts, and writes the file with the
spans that it finds. Of other files, a classifier takes each line as a text; a tagger takes each line as a sentence, its
words separated by white space, and by punctuation where that stood apart in the training data. The output is UTF-8. In
tables to be read by people, tabs and whatever a terminal would obey are written as escapes.

With --output_dir, files of any number and size (Parquet, CSV, TSV, JSON lines or lines of text; a folder, a pattern, an
address) are predicted on by all cores, or with --engine ray by a cluster, and rows go to numbered files of Parquet or
JSON lines. A row that cannot be predicted on has an error in place of a prediction. After an interruption, the same
command goes on where it was.
"""

import contextlib
import os
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from transformers.utils import logging

from ..formats.arguments import DataArguments, Task, builder_options, check_data_arguments
from ..formats.span_files import find_span_file
from ..inference.bfloat16 import choose_precision
from ..inference.loading import is_tagger, load
from ..inference.predictor import predict
from ..inference.span_prediction import predict_spans, tag_texts
from ..text.raw_text import split_raw_text
from ..text.words import has_word_splitter
from ..utils.command_line import CommandParser, command, positive_int
from ..utils.display import json_line, printable
from ..utils.files import replacing
from ..utils.messages import shown

logger = logging.get_logger(__name__)

# Formats that rows are written in without being asked, by the format that they are read in.
_ALIKE = {"csv": "csv", "tsv": "tsv", "parquet": "parquet", "conll": "conll", "conllu": "conll"}
_BY_ENDING = {".csv": "csv", ".tsv": "tsv", ".json": "jsonl", ".jsonl": "jsonl", ".ndjson": "jsonl"} | {
    ".parquet": "parquet",
    ".conll": "conll",
    ".conllu": "conll",
}


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


def _without_labels(path: str) -> Iterator[str]:
    """Yield the lines of a file, without the labels of fastText's if the first line begins with one."""
    has_labels: bool | None = None
    for line in read_lines(path):
        if has_labels is None and line.strip():
            has_labels = line.lstrip().startswith("__label__")
            if has_labels:
                logger.warning(f"{path} is a file of fastText: its labels are left out of the texts.")
        if has_labels:
            from ..formats.fasttext import split_line

            line = split_line(line)[0]
        yield line


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
    """Read, predict, write."""
    parser = CommandParser(prog="rnn-hf predict", description=__doc__)
    parser.add_argument("model", help="folder or hub id of a trained model")
    parser.add_argument("input", nargs="?", default="-", help="file, UTF-8; - for standard input")
    parser.add_argument("--revision", help="branch, tag or commit of a model on the hub")
    parser.add_argument(
        "--input_format",
        choices=["lines", "csv", "tsv", "json", "parquet", "conll", "conllu"],
        help="how to read (default: what the name of the file tells, else lines)",
    )
    parser.add_argument(
        "--output_format",
        choices=["table", "csv", "tsv", "jsonl", "json", "parquet", "conll"],
        help="how to write; table: for reading (default: what the name of --output_file tells, else that of the input; "
        "of lines a table)",
    )
    parser.add_argument("--output_file", help="where to write, whole or not at all (default: standard output)")
    parser.add_argument(
        "--output_dir",
        help="folder to write numbered files to, with all cores and for any number of rows; of texts that were "
        "annotated with brat, the folder to write to",
    )
    parser.add_argument(
        "--engine", choices=["processes", "ray"], default="processes", help="of --output_dir: what runs the workers"
    )
    parser.add_argument(
        "--num_workers", type=positive_int, help="of --output_dir: workers of a core each (default: one for each core)"
    )
    parser.add_argument(
        "--rows_per_file", type=positive_int, help="of --output_dir: most rows in a file (default: 16384)"
    )
    parser.add_argument("--text_column", default="text", help="of a classifier, the column of the texts")
    parser.add_argument("--tokens_column", help="of a tagger, the column of the words (default: tokens)")
    parser.add_argument("--label_separator", help="what to write between several labels in CSV (default: a JSON list)")
    parser.add_argument("--dataset_kwargs", default="{}", help="how a file is written, as in training")
    parser.add_argument("--batch_size", type=int, help="most lines in a batch (default: 128; 32 with onnx)")
    parser.add_argument(
        "--device", default="cpu", help="where to run: cpu, cuda, cuda:1, mps; results of others differ in last digits"
    )
    parser.add_argument(
        "--precision",
        choices=["auto", "float32", "bfloat16"],
        help="type of the numbers that layers compute with, for --backend torch; auto: bfloat16 where the device has "
        "instructions for it and a layer of the model's size is at least 1.6 times as fast in it, which is timed; few "
        "labels differ then, and float32 gives the same on each machine (default: auto)",
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
    if options.backend == "onnx" and options.precision is not None:
        raise ValueError(f"--precision {options.precision} is for --backend torch: a graph has its own. Leave it out.")
    if _is_for_all_cores(options):
        _predict_files(options)
        return
    input_format, output_format = _formats(options)
    model: Any
    if options.backend == "onnx":
        if options.device != "cpu":
            raise ValueError(f"--device {options.device} is for --backend torch: onnx runs on the cpu.")
        from ..export import runtime as onnx_model

        model, tokenizer = onnx_model.load(options.model, file_name=options.file_name, revision=options.revision)
        precision = "float32"
    else:
        model, tokenizer = load(options.model, options.revision, device=options.device)
        precision = choose_precision(options.precision or "auto", model.config, model.device)
    if is_tagger(model) and input_format in ("lines", "tsv"):
        input_format, output_format = _by_content(options, input_format, output_format)
    bounds = {
        "batch_size": options.batch_size,
        "rejection_threshold": options.rejection_threshold,
        "precision": precision,
    }
    spans = find_span_file(options.input) if is_tagger(model) and options.input_format is None else None
    if spans is not None and options.output_format is None:
        parts = predict_spans(model, tokenizer, spans, output_dir=options.output_dir, **bounds)
        with _output(options.output_file) as file:
            file.writelines(parts)
        return
    if output_format not in ("table", "jsonl") or (input_format != "lines" and spans is None):
        _predict_rows(model, tokenizer, options, input_format, output_format, bounds)
        return
    if spans is not None:
        results = predict(model, tokenizer, (document.words for document in spans.documents()), **bounds)
    elif is_tagger(model) and has_word_splitter(tokenizer):
        results = tag_texts(model, tokenizer, read_lines(options.input), **bounds)
    else:
        lines = read_lines(options.input) if is_tagger(model) else _without_labels(options.input)
        inputs: Any = split_raw_text(tokenizer, lines) if is_tagger(model) else lines
        results = predict(model, tokenizer, inputs, **bounds)
    layout = json_line if output_format == "jsonl" else as_table
    with _output(options.output_file) as file:
        for prediction in results:
            file.write(f"{layout(prediction)}\n")


def _is_for_all_cores(options: Any) -> bool:
    """Tell whether numbered files are wanted, which is not so for texts of brat; and refuse what makes no sense."""
    if options.output_dir is None:
        given = {"engine": options.engine != "processes", "num_workers": options.num_workers is not None}
        given["rows_per_file"] = options.rows_per_file is not None
        if named := [name for name, is_given in given.items() if is_given]:
            raise ValueError(f"--{named[0]} is for numbered files: name a folder for them with --output_dir.")
        return False
    if options.output_file is not None:
        raise ValueError("Name either --output_file or --output_dir.")
    spans = find_span_file(options.input) if options.input_format is None else None
    return spans is None or spans.row_format is not None


def _predict_files(options: Any) -> None:
    """Predict on files with all cores or with an engine, and write numbered files."""
    from ..engines.batch_predictor import GRAPHS, BatchPredictor
    from ..engines.bulk import predict_files  # which takes a second of import

    if options.input == "-":
        raise ValueError("--output_dir: standard input cannot be read again after an interruption: name a file.")
    if options.input_format in ("conll", "conllu") or options.output_format not in (None, "jsonl", "parquet"):
        raise ValueError(
            "--output_dir: Parquet, CSV, TSV, JSON lines and lines of text are read, and parquet or jsonl is written. "
            "Name a file with --output_file for other formats."
        )
    if options.label_separator is not None:
        raise ValueError("--label_separator is for CSV, which --output_dir does not write: leave it out.")
    backend = options.backend
    if backend == "onnx":
        backend = next((name for name, graph in GRAPHS.items() if graph == options.file_name), None)
        if backend is None:
            raise ValueError(f"--file_name {options.file_name}: --output_dir takes {' or '.join(GRAPHS.values())}.")
    predictor = BatchPredictor(
        options.model,
        options.revision,
        backend,
        column=options.tokens_column or (None if options.text_column == "text" else options.text_column),
        batch_size=options.batch_size,
        rejection_threshold=options.rejection_threshold,
        device=options.device,
        precision=options.precision or ("auto" if backend == "torch" else "float32"),
    )
    counts = predict_files(
        predictor,
        options.input,
        options.output_dir,
        input_format=options.input_format,
        output_format=options.output_format,
        engine=options.engine,
        num_workers=options.num_workers,
        dataset_kwargs=builder_options(DataArguments(dataset_kwargs=options.dataset_kwargs)),
        **({} if options.rows_per_file is None else {"rows_per_file": options.rows_per_file}),
    )
    said = f"{counts.errors:,} of them with an error, which the output names" if counts.errors else "without an error"
    print(f"{counts.rows:,} rows are predicted on, {said}; the output is in {printable(options.output_dir)}.")


def _by_content(options: Any, input_format: str, output_format: str) -> tuple[str, str]:
    """Read a word from each line, if lines hold words with their tags: of a table, as training does, of texts never."""
    is_table = input_format == "tsv"
    if options.input == "-" or not os.path.isfile(options.input) or options.input_format == "lines":
        return input_format, output_format
    from ..formats.sniffing import content_format  # which takes a second of import

    name = content_format(options.input, "token-classification", needs_spans=not is_table)
    if name not in ("conll", "conllu"):
        return input_format, output_format
    if not is_table:
        logger.warning(f"{options.input} has a word a line: it is read as {name}; --input_format lines reads texts.")
    if options.output_format is None and (options.output_file is None or output_format in ("table", "tsv")):
        output_format = "conll"
    return name, output_format


def _formats(options: Any) -> tuple[str, str]:
    """Find out how to read and how to write, and refuse what makes no sense before a model is loaded."""
    ending = Path(options.input).suffix.lower()
    input_format = options.input_format
    if input_format is None:
        input_format = "lines"
        if options.input != "-" and ending not in ("", ".txt"):
            from ..formats.rows import row_format  # which takes a second of import

            input_format = row_format(options.input) or "lines"
    output_format = options.output_format
    if output_format is None and options.output_file is not None:
        output_format = _BY_ENDING.get(Path(options.output_file).suffix.lower())
    output_format = output_format or _ALIKE.get(input_format) or ("table" if input_format == "lines" else "jsonl")
    if options.output_file is None:
        if output_format == "parquet":
            raise ValueError("Parquet is not printed: name a file to write to with --output_file.")
    else:
        path = Path(options.output_file)
        if path.exists() and not path.is_file():
            raise ValueError(f"--output_file {path} is no regular file.")
        if not path.absolute().parent.is_dir():
            raise ValueError(f"--output_file {path}: there is no folder {path.parent}.")
        if options.input != "-" and path.exists() and Path(options.input).exists() and path.samefile(options.input):
            raise ValueError(f"--output_file {path} is the input: name another file.")
    return input_format, output_format


@contextlib.contextmanager
def _output(path: str | None, mode: Any = "w") -> Iterator[IO[Any]]:
    """Open the file to write to, or standard output."""
    if path is None:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(newline="")  # Windows would write \r\n
        yield sys.stdout
    else:
        with replacing(Path(path), mode) as file:
            yield file


def _predict_rows(
    model: Any, tokenizer: Any, options: Any, input_format: str, output_format: str, bounds: dict[str, Any]
) -> None:
    """Predict on the rows of a file, and write them with all their columns."""
    from ..formats.row_writers import RowWriter, free_name
    from ..formats.rows import Rows, input_column, read_rows

    task: Task = "token-classification" if is_tagger(model) else "text-classification"
    arguments = DataArguments(
        test_file=options.input,
        dataset_kwargs=options.dataset_kwargs,
        text_column=options.text_column,
        tokens_column=options.tokens_column,
    )
    check_data_arguments(arguments, task)
    if input_format == "lines":
        column = "text" if task == "text-classification" else "tokens"
        texts: Any = read_lines(options.input) if column == "tokens" else _without_labels(options.input)
        texts = texts if column == "text" else split_raw_text(tokenizer, texts)
        numbered = ((f"line {number}", {column: text}) for number, text in enumerate(texts, start=1))
        rows = Rows("lines", options.input, numbered, [column])
    else:
        unfit, wanted = ("conll", "conllu"), "texts: give CSV, TSV, JSON lines or Parquet"
        if task == "token-classification":
            unfit, wanted = ("csv", "tsv"), "lists of words: give CoNLL, JSON lines or Parquet"
        if input_format in unfit:
            raise ValueError(f"{options.input} is {input_format}, but the model reads {wanted}.")
        rows = read_rows(options.input, input_format, arguments)
    column = input_column(rows, task, arguments)
    if options.output_format is None and rows.options.get("is_array") and output_format == "jsonl":
        output_format = "json"
    added = _added_columns(model)
    names = {name: free_name(name, rows.columns) for name in added}
    if renamed := [f"{shown(name)} is {shown(free)}" for name, free in names.items() if name != free]:
        logger.warning(f"{rows.name} has columns of these names: the new column {', '.join(renamed)}.")
    pending: deque[dict[str, Any]] = deque()
    results = predict(
        model,
        tokenizer,
        _inputs(rows, column, task, set(names.values()), pending),
        all_scores=True,
        **bounds,
    )
    new = {names[name]: kind for name, kind in added.items()}
    with _output(options.output_file, "wb" if output_format == "parquet" else "w") as file:
        if output_format == "table":
            for prediction in results:
                file.write(f"{as_table(prediction)}\n")
            return
        with RowWriter(file, output_format, rows, new, options.label_separator) as writer:
            for prediction in results:
                writer.write(pending.popleft(), dict(zip(new, _values(prediction), strict=True)))


def _inputs(rows: Any, column: str, task: Task, new: set[str], pending: deque[dict[str, Any]]) -> Iterator[Any]:
    """Yield what a model reads of each row, and keep the row for writing."""
    for where, row in rows.rows:
        value = row.get(column)
        is_right = isinstance(value, str)
        if task == "token-classification":
            is_right = isinstance(value, list) and all(isinstance(word, str) for word in value)
        if not is_right:
            wanted = "a text" if task == "text-classification" else "a list of words"
            raise ValueError(f"{rows.name}, {where}: column {column!r} must hold {wanted}, got {shown(value)}.")
        try:
            (value if isinstance(value, str) else "".join(value)).encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"{rows.name}, {where}: column {column!r} holds a lone surrogate, which is no character: "
                f"{shown(value)}."
            ) from None
        if taken := new.intersection(row):
            raise ValueError(
                f"{rows.name}, {where}: the column {shown(min(taken))}, which the first row lacks, is one that is "
                "added: rename it."
            )
        pending.append(row)
        yield value


def _added_columns(model: Any) -> dict[str, type]:
    """Name the columns that predictions add, with the types of their values."""
    if is_tagger(model):
        return {"prediction": list}
    if model.config.problem_type == "regression":
        return {"prediction": float}
    if model.config.problem_type == "multi_label_classification":
        return {"prediction": list, "score": dict}
    return {"prediction": str, "score": float}


def _values(prediction: dict[str, Any]) -> list[Any]:
    """Return the values of the added columns."""
    if "tags" in prediction:
        return [prediction["tags"]]
    if "label" in prediction:
        return [prediction["label"], prediction["score"]]
    if "labels" in prediction:
        return [prediction["labels"], prediction["all_scores"]]
    return prediction["scores"][:1]
