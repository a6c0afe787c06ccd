"""The weights of n-grams as the solution of a convex problem, before the recurrent layers are trained.

A linear support vector machine over n-grams is solved in seconds, better than gradient steps would find it, and the
recurrent layers learn more where n-grams leave nothing out of their loss.
"""

import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix, vstack
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from ..data.examples import iterate_examples
from ..evaluation.calibration import MIN_TEXTS, least_loss
from ..models.modeling_rnn import RnnForSequenceClassification
from ..models.ngrams import NgramFeatures
from ..models.packing import pack_rows

# Texts whose n-grams are looked up together.
_CHUNK = 256
# Values that are kept at most, 800 MB; of more texts, chunks at equal distances are taken.
_MOST_VALUES = 2**26
# The same times the number of labels, some minutes.
_MOST_WORK = 2**32
# Penalty of errors, where labels are few or many.
_FEW_LABELS, _PENALTY_OF_FEW, _PENALTY_OF_MANY = 10, 0.3, 1.0
# Of few labels, a penalty that is tried too, and by how much the log-likelihood of validation labels must be larger.
_LARGER_PENALTY, _LEAST_GAIN = 3.0, 0.5
# Texts that are read to solve one label, in so many passes at least, and at most. Of many texts, later passes change
# little: on NSMC, liblinear takes 20 times as long to converge.
_MOST_READ, _FEWEST_PASSES, _MOST_PASSES = 1_000_000, 30, 1000
# Logits for each unit of distance from the plane between labels.
_SCALE = 7.0


def solve_ngrams(
    model: RnnForSequenceClassification,
    dataset: Iterable[Any],
    class_weights: str | None = None,
    validation: Iterable[Any] | None = None,
) -> bool:
    """Set the weights of a classifier's n-grams, each label against all others (https://jmlr.org/papers/v9/fan08a.html).

    They are frozen, and left out of the logits in training. The number of n-grams' vectors must be that of labels.
    Where labels are few, errors cost ten times as much if validation labels are likelier then: n-grams tell topics of
    long documents almost without error, and opinions less surely.

    Args:
        model ([`RnnForSequenceClassification`]): The model, whose n-grams [`~ngram_choice.set_ngrams`] has chosen.
        dataset (`Iterable`): Encoded examples, with `input_ids` and `labels` or `label`.
        class_weights (`str`, *optional*): `"balanced"` lets each label count as much as it is rare.
        validation (`Iterable`, *optional*): Encoded validation examples; 100 or more choose the penalty of errors.

    Returns:
        `bool`: whether there was a problem to solve: classes, no more than have weights of their own, and two of them
        in the data.

    Example:
    ```python
    >>> from datasets import Dataset
    >>> from rnn_hf import RnnConfig, RnnForSequenceClassification, train_tokenizer
    >>> from rnn_hf.text.characters import set_vocabulary
    >>> from rnn_hf.linear.ngram_choice import set_ngrams
    >>> from rnn_hf.linear.ngram_solver import solve_ngrams
    >>> data = Dataset.from_dict({"text": ["a cat", "a cat", "a dog", "a dog"], "labels": [0, 0, 1, 1]})
    >>> tokenizer = train_tokenizer(data["text"], kind="word")
    >>> model = RnnForSequenceClassification(RnnConfig(vocab_size=len(tokenizer), ngram_buckets=1))
    >>> set_vocabulary(model, tokenizer)
    >>> data = data.map(tokenizer, input_columns="text")
    >>> set_ngrams(model, data) > 0, solve_ngrams(model, data)
    (True, True)
    >>> model.eval()(**tokenizer("a dog", return_tensors="pt")).logits.argmax().item()
    1

    ```
    """
    ngrams = model.ngrams
    assert ngrams is not None
    num_labels = len(model.config.label_names)
    if model.config.problem_type == "regression" or ngrams.projection is not None or num_labels < 2:
        return False
    matrix, labels = _read(ngrams, dataset, num_labels)
    num_texts = labels.sum(axis=0)
    if (num_texts > 0).sum() < 2:
        return False
    is_binary = num_labels == 2 and bool((labels.sum(axis=1) == 1).all())
    solve = partial(_solve, matrix, labels, class_weights=class_weights, is_binary=is_binary)
    weight, bias = solve(_PENALTY_OF_FEW if num_labels <= _FEW_LABELS else _PENALTY_OF_MANY)
    if num_labels <= _FEW_LABELS and validation is not None:
        held_out, targets = _read(ngrams, validation, num_labels)
        if len(targets) >= MIN_TEXTS:
            other_weight, other_bias = solve(_LARGER_PENALTY)
            logits = (held_out @ weight + bias, held_out @ other_weight + other_bias)
            usual, other = (_loss(one, targets, model.config.problem_type) for one in logits)
            if other < usual - _LEAST_GAIN:
                weight, bias = other_weight, other_bias
    with torch.no_grad():
        ngrams.weight.copy_(torch.from_numpy(weight))
        ngrams.bias.copy_(torch.from_numpy(bias))
    ngrams.requires_grad_(False)
    ngrams.is_solved = True
    return True


def _solve(
    matrix: csr_matrix, labels: np.ndarray, penalty: float, class_weights: str | None, is_binary: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Solve each label against all others: weights `[ngram_buckets, num_labels]` and biases `[num_labels]`."""
    num_texts = labels.sum(axis=0)
    num_passes = max(_FEWEST_PASSES, min(_MOST_READ // len(labels), _MOST_PASSES))
    weight = np.zeros((matrix.shape[1], labels.shape[1]), dtype=np.float32)
    bias = np.full(labels.shape[1], -_SCALE)
    for label in range(1 if is_binary else 0, labels.shape[1]):
        if num_texts[label] == len(labels):
            bias[label] = _SCALE
        elif num_texts[label] > 0:
            machine = LinearSVC(C=penalty, class_weight=class_weights, dual=True, random_state=0, max_iter=num_passes)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                machine.fit(matrix, labels[:, label])
            weight[:, label] = machine.coef_[0] * _SCALE
            bias[label] = machine.intercept_[0] * _SCALE
    if is_binary:
        weight, bias = weight[:, 1:] * [[-0.5, 0.5]], bias[1:] * [-0.5, 0.5]
    return weight, bias


def _loss(logits: np.ndarray, labels: np.ndarray, problem_type: str | None) -> float:
    """Return the negative log-likelihood of labels `[num_texts, num_labels]` at the best temperature."""
    has_several = problem_type == "multi_label_classification"
    targets = torch.from_numpy(labels.astype(np.float32) if has_several else labels.argmax(axis=1))
    return least_loss(torch.from_numpy(logits), targets)


def _read(ngrams: NgramFeatures, dataset: Iterable[Any], num_labels: int) -> tuple[csr_matrix, np.ndarray]:
    """Return how much n-grams count in texts, `[num_texts, ngram_buckets]`; and labels `[num_texts, num_labels]`."""
    parts: list[tuple[csr_matrix, np.ndarray]] = []
    distance, most = 1, min(_MOST_VALUES, _MOST_WORK // num_labels)
    for number, examples in enumerate(_chunks(iterate_examples(dataset))):
        if number % distance == 0:
            parts.append(_read_chunk(ngrams, examples, num_labels))
        if sum(matrix.nnz for matrix, _ in parts) > most and len(parts) > 1:
            parts, distance = parts[::2], 2 * distance
    # Converted once, rather than for each label.
    matrix = vstack([matrix for matrix, _ in parts], format="csr", dtype=np.float64)
    labels = np.concatenate([labels for _, labels in parts])
    known = labels[:, 0] >= 0
    return matrix[known], labels[known] > 0


def _chunks(examples: Iterator[Any]) -> Iterator[list[Any]]:
    while chunk := list(islice(examples, _CHUNK)):
        yield chunk


def _read_chunk(ngrams: NgramFeatures, examples: list[Any], num_labels: int) -> tuple[csr_matrix, np.ndarray]:
    ids = [torch.as_tensor(example["input_ids"], dtype=torch.long) for example in examples]
    with torch.no_grad():
        texts, buckets, values = (one.numpy() for one in ngrams.values(*pack_rows(ids)))
    labels = np.zeros((len(examples), num_labels), dtype=np.int8)
    for row, example in enumerate(examples):
        label = np.asarray(example.get("labels", example.get("label")))
        if label.ndim == 1:
            labels[row] = label > 0
        elif not 0 <= label < num_labels:
            labels[row] = -1
        else:
            labels[row, int(label)] = 1
    shape = (len(examples), len(ngrams.scales))
    return csr_matrix((values, (texts, buckets)), shape=shape, dtype=np.float32), labels


__all__ = ["solve_ngrams"]
