"""Words a second in training, in bulk and one by one: a default model in each precision and backend, and its peers."""

import argparse
import json
import subprocess
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, get_args

from transformers import PreTrainedTokenizerBase

from ..data.corpus import load_corpus
from ..export.folder import export
from ..export.runtime import load as load_exported
from ..formats.arguments import Task
from ..inference.bfloat16 import Precision
from ..inference.loading import load
from ..inference.predictor import predict
from ..training.options import parse_arguments
from ..training.train import train
from . import flair_peer
from .accuracy import Examples, examples_of, fasttext_predictor
from .measure import Row
from .taggers import session_options

# Those that are predicted one by one.
_NUM_ALONE = 200
_ONCE = ("--eval_strategy", "no", "--save_strategy", "no", "--num_train_epochs", "1")


def words(options: argparse.Namespace) -> list[Row]:
    """Train for an epoch in each precision, and predict with each backend, from words or texts to labels.

    fastText is measured beside classifiers where it is installed.

    Args:
        options (`argparse.Namespace`): `task`, `repeat`, `threads`; and `rest`: options of the training command, such
            as the files.

    Returns:
        `list[Row]`: for each model words a second in training, in bulk and one by one, and the milliseconds of one
        text. Training is without evaluation, and the reading of files and the training of the tokenizer are not timed.
    """
    with TemporaryDirectory() as folder:
        return _rows(options, options.task, folder, {})


def flair(options: argparse.Namespace) -> list[Row]:
    """Compare a default tagger with Flair's BiLSTM tagger of 256 on the same words, in turn, in one thread or several.

    Flair has word embeddings of 256, no character features and no conditional random field.

    Args:
        options (`argparse.Namespace`): Those of [`words`], and `flair_python`: a Python with the package `flair`.

    Returns:
        `list[Row]`: those of [`words`] and Flair's, with how many times as fast as Flair each one is.

    Raises:
        ValueError: There is no `flair_python`, or it has no Flair.
    """
    if options.flair_python is None:
        raise ValueError(
            'flair runs in an environment of its own: pip install "flair==0.15.1" there, and name its Python with '
            "--flair_python."
        )
    _call_flair(options.flair_python, "-c", "import flair")
    with TemporaryDirectory() as folder:
        rows = _rows(options, "token-classification", folder, {"Flair": lambda data: _run_flair(options, folder, data)})
    *ours, peer = rows
    columns = [name for name in peer if name.endswith("words/s")]
    for row in ours:
        row |= {f"{name.partition(',')[0]} / Flair": row[name] / peer[name] for name in columns if name in row}
    return rows


def _rows(
    options: argparse.Namespace,
    task: Task,
    folder: str,
    peers: dict[str, Callable[[tuple[Examples, Examples]], Row]],
) -> list[Row]:
    """Measure everything in turn, `repeat` times, and take the medians."""

    def arguments(precision: str, output_dir: str) -> Any:
        given = [*options.rest, *_ONCE, "--precision", precision, "--output_dir", output_dir]
        return parse_arguments(task, "", given)

    data_arguments, _, config_arguments, _ = arguments("float32", folder)
    corpus = load_corpus(data_arguments, task, config_arguments.problem_type, needed=("train",))
    held_out = next((name for name in ("test", "validation") if name in corpus.splits), "train")
    data = examples_of(corpus, "train"), examples_of(corpus, held_out)
    num_words = _count(data[0][0])
    found: dict[str, list[Row]] = {}
    for position in range(options.repeat):
        for name in get_args(Precision):
            trained = f"{folder}/{name}{position}"
            seconds = train(task, *arguments(name, trained))["train_runtime"]
            measured = {"training, words/s": num_words / seconds}
            model: Any
            model, tokenizer = load(trained)
            predicted = _prediction(model, tokenizer, data[1][0], name)
            found.setdefault(f"rnn_hf, torch {name}", []).append(measured | predicted)
        graphs = f"{folder}/graphs{position}"
        export(f"{folder}/float32{position}", graphs, int8=True)
        for name, file in (("float32", "onnx/model.onnx"), ("int8", "onnx/model_int8.onnx")):
            model, tokenizer = load_exported(graphs, file_name=file, session_options=session_options())
            found.setdefault(f"rnn_hf, onnxruntime {name}", []).append(_prediction(model, tokenizer, data[1][0]))
        if task == "text-classification" and find_spec("fasttext") is not None:
            found.setdefault("fastText", []).append(_run_fasttext(data))
        for name, run in peers.items():
            found.setdefault(name, []).append(run(data))
    return [
        {"model": name} | {column: median(row[column] for row in rows) for column in rows[0]}
        for name, rows in found.items()
    ]


def _count(inputs: list[Any]) -> int:
    return sum(len(one.split()) if isinstance(one, str) else len(one) for one in inputs)


def _prediction(
    model: Any, tokenizer: PreTrainedTokenizerBase, inputs: list[Any], precision: Precision = "float32"
) -> Row:
    return _timed(lambda some: list(predict(model, tokenizer, some, precision=precision)), inputs)


def _timed(run: Callable[[list[Any]], Any], inputs: list[Any]) -> Row:
    """Time prediction of all inputs together, and of some one by one."""
    alone = inputs[:_NUM_ALONE]
    run(alone)
    start = time.perf_counter()
    run(inputs)
    bulk = time.perf_counter() - start
    times = []
    for one in alone:
        start = time.perf_counter()
        run([one])
        times.append(time.perf_counter() - start)
    return {
        "bulk, words/s": _count(inputs) / bulk,
        "single, words/s": _count(alone) / sum(times),
        "single, ms": 1e3 * median(times),
    }


def _run_fasttext(data: tuple[Examples, Examples]) -> Row:
    (texts, labels), (inputs, _) = data
    epochs = 5
    seconds, run, _ = fasttext_predictor(texts, labels, epochs)
    return {"training, words/s": epochs * _count(texts) / seconds} | _timed(run, inputs)


def _run_flair(options: argparse.Namespace, folder: str, data: tuple[Examples, Examples]) -> Row:
    """Train and predict with Flair in a process of its own."""
    for name, (sentences, tags) in zip(("train", "test"), data, strict=True):
        blocks = (zip(*one, strict=True) for one in zip(sentences, tags, strict=True))
        lines = ("".join(f"{word.replace(' ', '_')}\t{tag}\n" for word, tag in block) for block in blocks)
        Path(folder, f"{name}.txt").write_text("\n".join(lines), encoding="utf-8")
    printed = _call_flair(options.flair_python, str(Path(flair_peer.__file__)), folder, str(options.threads))
    return json.loads(printed.splitlines()[-1])


def _call_flair(python: str, *arguments: str) -> str:
    try:
        done = subprocess.run([python, *arguments], capture_output=True, text=True, check=True)  # noqa: S603
    except OSError as error:
        raise ValueError(f"--flair_python {python} is no Python: {error.strerror}.") from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ValueError(f"Flair does not run with --flair_python {python}: {last}") from error
    return done.stdout


__all__ = ["flair", "words"]
