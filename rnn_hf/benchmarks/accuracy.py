"""Accuracy, training time, size and speed of default models, beside the linear models that people compare them with."""

import argparse
import json
import re
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.progress import track
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.svm import LinearSVC
from transformers import EvalPrediction

from ..data.corpus import Corpus, load_corpus
from ..data.validation import label_name
from ..evaluation.task_metrics import compute_metrics_for, score_names
from ..training.options import parse_arguments
from ..training.train import train
from .measure import Row

# Penalties of the linear classifiers, of which validation data chooses one.
_PENALTIES = (0.1, 1.0, 10.0)
# Of fastText: passes, of which validation data chooses, and what else is not its default.
_FASTTEXT_EPOCHS = (5, 25, 100)
_FASTTEXT_OPTIONS = {"lr": 0.5, "wordNgrams": 2, "minCount": 2, "bucket": 200_000}
# Of the linear-chain CRF: lengths of prefixes and suffixes, neighbours whose features a word also has, regularisation.
_AFFIXES = (1, 2, 3, 4, 5)
_NEIGHBOURS = (-2, -1, 1, 2)
_CRF_OPTIONS = {"c1": 0.1, "c2": 0.01, "max_iterations": 100, "feature.possible_transitions": True}

# Of shapes: letters in a row, of which one stays.
_REPEATED, _ONCE = r"(.)\1+", r"\1"

# Texts or lists of words, and a label for each or a list of them.
Examples = tuple[list[Any], list[Any]]


def accuracy(options: argparse.Namespace) -> list[Row]:
    """Train a default model and linear models on one corpus, choose on validation, and score on test.

    fastText is trained too where it is installed (`pip install fasttext-wheel`).

    Args:
        options (`argparse.Namespace`): `task`; `linear_only`, to leave our own model out; and `rest`: options of the
            training command, such as the files.

    Returns:
        `list[Row]`: a row for each model: its first two scores in percent, seconds of training, megabytes of its
        weights, words a second from text to labels.

    Raises:
        ValueError: The corpus has no test data, or not one label for each text or word.
    """
    task = options.task
    with TemporaryDirectory() as folder:
        arguments = parse_arguments(task, "", [*options.rest, "--output_dir", f"{folder}/model"])
        corpus = load_corpus(arguments[0], task, arguments[2].problem_type)
        if corpus.problem_type != "single_label_classification":
            raise ValueError("accuracy needs one label for each text or word.")
        if "test" not in corpus.splits:
            raise ValueError("accuracy needs test data: name it with --test_file.")
        scores = score_names(task, corpus.problem_type, corpus.label_names)[:2]
        make_rows = _linear_classifiers if task == "text-classification" else _linear_taggers
        rows = list(make_rows(corpus, scores))
        if task == "text-classification" and find_spec("fasttext") is not None:
            rows += _fasttext(corpus, scores)
        if options.linear_only:
            return rows
        results = train(task, *arguments)
        run = json.loads(Path(folder, "model", "run.json").read_text(encoding="utf-8"))
        size = sum(path.stat().st_size for path in Path(folder, "model").glob("*.safetensors"))
    found = {f"{name}, %": 100 * results[f"test_{name}"] for name in scores}
    seconds, speed = results["train_runtime"], run["speed"]["words_per_second"]
    return [*rows, {"model": "rnn_hf"} | found | {"training, s": seconds, "MB": size / 1e6, "words/s": speed}]


def examples_of(corpus: Corpus, split: str) -> Examples:
    """List the texts, or lists of words, of a split, and the names of their labels.

    Args:
        corpus ([`Corpus`]): The data.
        split (`str`): `"train"`, `"validation"` or `"test"`.

    Returns:
        `tuple[list, list]`.
    """
    feature = (corpus.splits[split].features or {}).get(corpus.label_column)
    labels: list[Any] = []
    for batch in corpus.splits[split].select_columns([corpus.label_column]).iter(batch_size=1000):
        for one in batch[corpus.label_column]:
            is_list = isinstance(one, list)
            labels.append([label_name(tag, feature) for tag in one] if is_list else label_name(one, feature))
    return list(corpus.inputs(split)), labels


def _linear_classifiers(corpus: Corpus, scores: list[str]) -> Iterator[Row]:
    train_data, validation, test = (examples_of(corpus, split) for split in ("train", "validation", "test"))
    for name, with_characters in (("TF-IDF of words, LinearSVC", False), ("the same and characters", True)):
        start = time.perf_counter()
        penalties = track(_PENALTIES, description=name)
        fitted = [_linear_classifier(with_characters, penalty).fit(*train_data) for penalty in penalties]
        best = max(fitted, key=lambda model: model.score(*validation))
        seconds = time.perf_counter() - start
        size = best[-1].coef_.nbytes + sum(len(term.encode()) for term in best[0].get_feature_names_out())
        yield _row(name, best.predict, test, corpus, scores, seconds, size)


def _linear_classifier(with_characters: bool, penalty: float) -> Pipeline:
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]")  # noqa: S106
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 6), sublinear_tf=True)
    vectorizer = make_union(words, characters) if with_characters else make_union(words)
    return make_pipeline(vectorizer, LinearSVC(C=penalty))


def _fasttext(corpus: Corpus, scores: list[str]) -> Iterator[Row]:
    """Train fastText on words and pairs of words, for as many passes as validation chooses."""
    validation, test = examples_of(corpus, "validation"), examples_of(corpus, "test")
    texts, labels = examples_of(corpus, "train")
    start = time.perf_counter()
    fitted = []
    for epochs in track(_FASTTEXT_EPOCHS, "fastText"):
        _, predict, size = fasttext_predictor(texts, labels, epochs)
        hits = [a == b for a, b in zip(predict(validation[0]), validation[1], strict=True)]
        fitted.append((sum(hits), predict, size))
    _, predict, size = max(fitted, key=lambda one: one[0])
    yield _row("fastText", predict, test, corpus, scores, time.perf_counter() - start, size)


def fasttext_predictor(
    texts: list[str], labels: list[str], epochs: int
) -> tuple[float, Callable[[list[str]], list[str]], int]:
    """Train fastText on words and pairs of words, in one thread.

    Args:
        texts (`list[str]`): The training texts.
        labels (`list[str]`): Their labels.
        epochs (`int`): Passes over them.

    Returns:
        The seconds that training took, a function from texts to labels, and the bytes of the model's matrices.
    """
    import fasttext

    numbers = {label: str(number) for number, label in enumerate(dict.fromkeys(labels))}
    names = {f"__label__{number}": label for label, number in numbers.items()}
    with TemporaryDirectory() as folder:
        file = Path(folder, "train.txt")
        rows = zip(texts, labels, strict=True)
        lines = (f"__label__{numbers[label]} {' '.join(_split(text))}\n" for text, label in rows)
        file.write_text("".join(lines), encoding="utf-8")
        start = time.perf_counter()
        model = fasttext.train_supervised(str(file), epoch=epochs, thread=1, verbose=0, **_FASTTEXT_OPTIONS)
        seconds = time.perf_counter() - start

    def predict(texts: list[str]) -> list[str]:
        lines = [" ".join(_split(text)) + "\n" for text in texts]
        # Its own `predict` does not run on numpy 2.
        return [names[found[0]] if found else labels[0] for found in model.f.multilinePredict(lines, 1, 0, "")[0]]

    return seconds, predict, sum(matrix.nbytes for matrix in (model.get_input_matrix(), model.get_output_matrix()))


def _split(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text.lower())


def _linear_taggers(corpus: Corpus, scores: list[str]) -> Iterator[Row]:
    if find_spec("pycrfsuite") is None:
        raise ValueError('The linear-chain CRF needs the package python-crfsuite: pip install "rnn_hf[benchmark]"')
    import pycrfsuite

    sentences, tags = examples_of(corpus, "train")
    test = examples_of(corpus, "test")
    with TemporaryDirectory() as folder:
        start = time.perf_counter()
        trainer = pycrfsuite.Trainer(verbose=False)
        for words, labels in track(zip(sentences, tags, strict=True), "linear-chain CRF", total=len(sentences)):
            trainer.append(_word_features(words), labels)
        trainer.set_params(_CRF_OPTIONS)
        file = Path(folder, "model.crfsuite")
        trainer.train(str(file))
        seconds, size = time.perf_counter() - start, file.stat().st_size
        tagger = pycrfsuite.Tagger()
        tagger.open(str(file))

        def predict(sentences: list[list[str]]) -> list[list[str]]:
            return [tagger.tag(_word_features(words)) for words in sentences]

        yield _row("linear-chain CRF", predict, test, corpus, scores, seconds, size)


def _word_features(words: list[str]) -> list[list[str]]:
    """List what a linear-chain CRF sees of each word: form, shape, affixes, pairs, neighbours within two words."""
    alone = []
    for word in words:
        lower, shape = word.lower(), re.sub(r"\d", "0", re.sub(r"[^\W\d_A-Z]", "a", re.sub(r"[A-Z]", "A", word)))
        shape = re.sub(_REPEATED, _ONCE, shape)
        affixes = [text for n in _AFFIXES if len(word) > n for text in (f"<{lower[:n]}", f"{lower[-n:]}>")]
        # A word's neighbours have the first four of these.
        alone.append([lower, f"shape={shape}", f"{lower[-3:]}>", f"{lower[-2:]}>", f"word={word}", *affixes])
    rows = []
    for position, features in enumerate(alone):
        row = list(features)
        for offset in _NEIGHBOURS:
            is_inside = 0 <= position + offset < len(words)
            row += [f"{offset}:{one}" for one in alone[position + offset][:4]] if is_inside else [f"{offset}:none"]
        pairs = ((position - 1, position), (position, position + 1))
        row += [f"{words[a].lower()} {words[b].lower()}" for a, b in pairs if a >= 0 and b < len(words)]
        rows.append(row)
    return rows


def _row(
    name: str,
    predict: Callable[[Any], Any],
    test: Examples,
    corpus: Corpus,
    scores: list[str],
    seconds: float,
    size: int,
) -> Row:
    """Score a model with the metrics of the package, and time it."""
    inputs, references = test
    start = time.perf_counter()
    predictions = list(predict(inputs))
    elapsed = time.perf_counter() - start
    names = corpus.label_names + corpus.unseen_names
    index = {label: position for position, label in enumerate(names)}

    def padded(rows: list[Any]) -> np.ndarray:
        if corpus.task == "text-classification":
            return np.array([index[label] for label in rows])
        longest = max(map(len, rows))
        return np.array([[index[tag] for tag in row] + [-100] * (longest - len(row)) for row in rows])

    compute = compute_metrics_for(corpus.task, corpus.problem_type, names, len(corpus.label_names))
    found = compute(EvalPrediction(padded(predictions), padded(references)))
    num_words = sum(len(one.split()) if isinstance(one, str) else len(one) for one in inputs)
    row = {"model": name} | {f"{score}, %": 100 * found[score] for score in scores}
    return row | {"training, s": seconds, "MB": size / 1e6, "words/s": round(num_words / elapsed)}


__all__ = ["accuracy", "examples_of", "fasttext_predictor"]
