"""Measure how well a classifier tells texts of none of its labels from others, by the probability of the best label."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score
from transformers import PreTrainedTokenizerBase

from ..formats.arguments import DataArguments
from ..formats.columns import choose_column
from ..formats.loading import column_names, load_splits
from ..inference.bfloat16 import Precision
from ..inference.predictor import check_rejection, predict
from ..utils.messages import listed, shown

# Share of right predictions that the threshold keeps.
KEPT_SHARE = 0.95


def rejection_scores(
    confidences: np.ndarray, is_right: np.ndarray, out_of_scope: np.ndarray, threshold: float | None = None
) -> dict[str, float]:
    """Score the rejection of texts whose best label has a low probability.

    Args:
        confidences (`np.ndarray` of shape `[num_texts]`): Probability of the best label, of texts with a label.
        is_right (`np.ndarray` of shape `[num_texts]`): Whether that label is right.
        out_of_scope (`np.ndarray` of shape `[num_others]`): Probability of the best label, of texts with none.
        threshold (`float`, *optional*): Below it, texts are rejected. Without it the highest one, of four decimals,
            that keeps 95 % of the texts whose label is right.

    Returns:
        `dict[str, float]`: `out_of_scope_auroc`, the probability that a text with a label has the higher probability of
        two, one of each kind; `rejection_threshold`, and with it `out_of_scope_recall`, the share of texts without a
        label that are rejected, and `accuracy_with_rejection`, where a rejected text with a label counts as an error.

    Example:
    ```python
    >>> import numpy as np
    >>> from rnn_hf.evaluation.rejection import rejection_scores
    >>> confidences, is_right = np.linspace(0.5, 1.0, 21), np.array([True] * 20 + [False])
    >>> scores = rejection_scores(confidences, is_right, np.array([0.2, 0.4, 0.6]))
    >>> {name: round(score, 3) for name, score in scores.items()}  # doctest: +NORMALIZE_WHITESPACE
    {'out_of_scope_auroc': 0.929, 'rejection_threshold': 0.525, 'out_of_scope_recall': 0.667,
    'accuracy_with_rejection': 0.905}

    ```
    """
    scores = np.concatenate([confidences, out_of_scope])
    has_label = np.arange(len(scores)) < len(confidences)
    result = {"out_of_scope_auroc": float(roc_auc_score(has_label, scores))}
    if threshold is None:
        right = np.sort(confidences[is_right])
        lowest = float(right[math.floor((1 - KEPT_SHARE) * len(right) + 1e-9)]) if len(right) else 0.0
        threshold = math.floor(lowest * 10_000 + 1e-6) / 10_000
    return result | {
        "rejection_threshold": threshold,
        "out_of_scope_recall": float(np.mean(out_of_scope < threshold)),
        "accuracy_with_rejection": float(np.mean(is_right & (confidences >= threshold))),
    }


def score_rejection(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterator[str],
    labels: list[str],
    out_of_scope: Iterator[str],
    *,
    batch_size: int = 128,
    threshold: float | None = None,
    precision: Precision = "float32",
) -> dict[str, float]:
    """Predict texts with and without a label, and score their rejection.

    Args:
        model ([`RnnForSequenceClassification`] or `ORTModelForSequenceClassification`): A classifier.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        texts (`Iterator[str]`): Texts with a label.
        labels (`list[str]`): Their labels.
        out_of_scope (`Iterator[str]`): Texts with none of the model's labels.
        batch_size (`int`): Most texts in a batch.
        threshold (`float`, *optional*): See [`rejection_scores`].
        precision (`str`): See [`~rnn_hf.inference.predictor.predict`].

    Returns:
        `dict[str, float]`: as of [`rejection_scores`], and `out_of_scope_samples`.

    Raises:
        ValueError: A model that cannot reject texts, or no text without a label.
    """
    check_rejection(model, threshold)
    options: dict[str, Any] = {"batch_size": batch_size, "precision": precision}
    predicted = list(predict(model, tokenizer, texts, **options))
    others = np.array([one["score"] for one in predict(model, tokenizer, out_of_scope, **options)])
    if len(others) == 0:
        raise ValueError("The file of --out_of_scope_file has no rows.")
    confidences = np.array([one["score"] for one in predicted])
    is_right = np.array([one["label"] == label for one, label in zip(predicted, labels, strict=True)])
    return rejection_scores(confidences, is_right, others, threshold) | {"out_of_scope_samples": len(others)}


def read_texts(file: str, arguments: DataArguments) -> Iterator[str]:
    r"""Read the texts of a file; its labels, if it has any, are not read.

    Args:
        file (`str`): A file in a format of the training data.
        arguments ([`DataArguments`]): Say the format and the column.

    Yields:
        `str`: the texts.

    Raises:
        ValueError: There is no such file or column, or something else than a text in it; with the row.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf.formats.arguments import DataArguments
    >>> from rnn_hf.evaluation.rejection import read_texts
    >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
    ...     _ = file.write("text\nwhat is this\n")
    ...     file.flush()
    ...     list(read_texts(file.name, DataArguments(test_file="test.csv")))
    ['what is this']

    ```
    """
    named: dict[str, Any] = {
        "dataset_name": None,
        "dataset_config_name": None,
        "train_file": None,
        "validation_file": None,
    }
    splits, origins = load_splits(dataclasses.replace(arguments, **named, test_file=file))
    split = splits["test"]
    column = choose_column("text_column", arguments.text_column, column_names(split), origins["test"])
    if column not in column_names(split):
        raise ValueError(
            f"{origins['test']} has no column {shown(column)}, only: {listed(column_names(split))}. Name the right one "
            "with --text_column."
        )
    for row, example in enumerate(split, start=1):
        text = example[column]
        if not isinstance(text, str):
            raise ValueError(f"{origins['test']}, row {row}: column {column!r} must hold a text, got {shown(text)}.")
        yield text


__all__ = ["read_texts", "rejection_scores", "score_rejection"]
