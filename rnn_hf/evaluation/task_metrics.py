"""Which metrics belong to which task, as the functions that a `Trainer` takes."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction

from ..data.validation import Task
from ..inference.predictor import labels_that_apply
from ..models.labels import tagging_scheme
from ..models.losses import at_least_float32
from .metrics import (
    F1,
    Accuracy,
    SpanF1,
    SquaredError,
    TokenAccuracy,
    average_precision,
    expected_calibration_error,
    f1_scores,
)

ComputeMetrics = Callable[[EvalPrediction], dict[str, float]]


def compute_metrics_for(
    task: Task,
    problem_type: str,
    label_names: list[str],
    num_labels: int | None = None,
    *,
    temperature: float = 1.0,
    label_thresholds: Sequence[float] | None = None,
) -> ComputeMetrics:
    """Choose the metrics of a task.

    Args:
        task (`str`): `"text-classification"` or `"token-classification"`.
        problem_type (`str`): As in the configuration.
        label_names (`list[str]`): Labels in the order of their ids; the model's own, and behind them labels that only
            the references have.
        num_labels (`int`, *optional*): How many of them are the model's own, which say whether they mark spans.
        temperature (`float`): The configuration's, which the logits are divided by.
        label_thresholds (`Sequence[float]`, *optional*): The configuration's.

    Returns:
        A function for `Trainer(compute_metrics=...)` that reads predictions made by
        [`preprocess_logits_for_metrics`]: accuracy and macro F1 of a classifier; average precision, exact match, macro
        and micro F1 of several labels at once; error and r² of a regression; token accuracy of a tagger, with span F1
        where the labels are IOB2 or IOBES, else macro F1. Of several labels at once, and of predictions made by
        [`labels_and_confidences`], also the expected calibration error, and at another temperature than 1 that without
        the temperature.

    Example:
    ```python
    >>> import numpy as np
    >>> from transformers import EvalPrediction
    >>> from rnn_hf.evaluation.task_metrics import compute_metrics_for
    >>> compute = compute_metrics_for("text-classification", "single_label_classification", ["ham", "spam"])
    >>> compute(EvalPrediction(np.array([0, 1, 1]), np.array([0, 1, 0])))["accuracy"].__round__(3)
    0.667

    ```
    """
    if task == "token-classification":
        known, unseen = label_names[:num_labels], label_names[len(label_names[:num_labels]) :]
        if tagging_scheme(known) is None:
            return _TagMetrics(label_names)
        # Labels of references alone need not mark spans: each is then a span of one word.
        return _SpanMetrics(known + [name if name == "O" or name[1:2] == "-" else f"S-{name}" for name in unseen])
    of_problems: dict[str, ComputeMetrics] = {
        "single_label_classification": _class_metrics,
        "multi_label_classification": partial(
            _multi_label_metrics, temperature=temperature, label_thresholds=label_thresholds
        ),
        "regression": _regression_metrics,
    }
    return of_problems[problem_type]


def score_names(task: Task, problem_type: str, label_names: list[str]) -> list[str]:
    """Name the scores that [`compute_metrics_for`] gives, the one that chooses the best state first.

    Args:
        task (`str`): `"text-classification"` or `"token-classification"`.
        problem_type (`str`): As in the configuration.
        label_names (`list[str]`): Labels in the order of their ids.

    Returns:
        `list[str]`: names without the prefix of a split, `loss` last.

    Example:
    ```python
    >>> from rnn_hf.evaluation.task_metrics import score_names
    >>> score_names("token-classification", "single_label_classification", ["O", "B-LOC", "I-LOC"])
    ['f1', 'accuracy', 'precision', 'recall', 'loss']

    ```
    """
    of_classes = ["f1", "precision", "recall"]
    if task == "token-classification" and tagging_scheme(label_names):
        names = ["f1", "accuracy", "precision", "recall"]
    elif task == "text-classification" and problem_type == "multi_label_classification":
        # F1 depends on thresholds, which are chosen after training only.
        names = ["average_precision", *of_classes, "f1_micro", "exact_match"]
    elif task == "text-classification" and problem_type == "regression":
        names = ["mse", "r2"]
    else:
        names = ["accuracy", *of_classes]
    return [*names, "loss"]


def preprocess_logits_for_metrics(logits: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
    """Keep of the logits only what metrics read, so that evaluation takes little memory.

    Args:
        logits (`torch.FloatTensor` of shape `[..., num_labels]`): What the model returns.
        labels (`torch.Tensor`, or `None` where the data has none): Class ids, or floats of the logits' shape, or of
            shape `[batch_size]`.

    Returns:
        `torch.Tensor`: the best class for class ids; for floats and without labels, the logits.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.evaluation.task_metrics import preprocess_logits_for_metrics
    >>> preprocess_logits_for_metrics(torch.tensor([[0.1, 0.9]]), torch.tensor([0]))
    tensor([1])

    ```
    """
    return logits if labels is None or labels.is_floating_point() else logits.argmax(dim=-1)


def labels_and_confidences(logits: torch.Tensor, temperature: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Keep of a classifier's logits the best class, and its probability.

    Args:
        logits (`torch.FloatTensor` of shape `[batch_size, num_labels]`): What the model returns.
        temperature (`float`): What they were divided by.

    Returns:
        `tuple(torch.Tensor)`: class ids `[batch_size]`, and their probabilities `[batch_size, 1]`; at another
        temperature than 1 `[batch_size, 2]`, the second without it.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.evaluation.task_metrics import labels_and_confidences
    >>> labels_and_confidences(torch.tensor([[0.0, 1.0]]), 2.0)
    (tensor([1]), tensor([[0.7311, 0.8808]]))

    ```
    """
    logits = at_least_float32(logits)
    kinds = [logits] if temperature == 1 else [logits, logits * temperature]
    confidences = [(one.amax(dim=-1) - one.logsumexp(dim=-1)).exp() for one in kinds]
    return logits.argmax(dim=-1), torch.stack(confidences, dim=-1)


def _class_metrics(prediction: EvalPrediction) -> dict[str, float]:
    labels: Any = prediction.predictions
    confidences = None
    if isinstance(labels, tuple):
        labels, confidences = labels
    values = {"predictions": labels, "references": prediction.label_ids}
    scores = Accuracy().compute(**values) | F1().compute(**values)
    return scores if confidences is None else scores | _calibration(confidences, labels == prediction.label_ids)


def _multi_label_metrics(
    prediction: EvalPrediction, temperature: float, label_thresholds: Sequence[float] | None
) -> dict[str, float]:
    logits = torch.from_numpy(np.asarray(prediction.predictions))
    # Of thousands of labels, the lists that metrics of the library gather would take minutes.
    references = np.asarray(prediction.label_ids).astype(np.int8)
    predictions = labels_that_apply(logits, label_thresholds).numpy().astype(np.int8)
    scores = f1_scores(predictions, references)
    scores["f1_micro"] = f1_scores(predictions, references, "micro")["f1"]
    scores["average_precision"] = average_precision(logits.numpy(), references)
    scores["exact_match"] = float((predictions == references).all(axis=1).mean())
    kinds = [logits] if temperature == 1 else [logits, logits * temperature]
    confidences = torch.stack([at_least_float32(one).sigmoid().flatten() for one in kinds], dim=-1)
    return scores | _calibration(confidences.numpy(), references.reshape(-1))


def _calibration(confidences: np.ndarray, is_right: np.ndarray) -> dict[str, float]:
    """Measure the calibration of probabilities, and in a second column of those without a temperature."""
    names = ("expected_calibration_error", "expected_calibration_error_uncalibrated")
    columns = zip(names, confidences.T, strict=False)
    return {name: expected_calibration_error(column, is_right) for name, column in columns}


def _regression_metrics(prediction: EvalPrediction) -> dict[str, float]:
    predictions, references = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
    return SquaredError().compute(predictions=predictions.reshape(-1), references=references.reshape(-1))


class _TagMetrics:
    def __init__(self, label_names: list[str]):
        self.label_names = np.array(label_names)

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        labelled = np.asarray(prediction.label_ids) != -100
        flat: dict[str, Any] = {
            "predictions": np.asarray(prediction.predictions)[labelled],
            "references": np.asarray(prediction.label_ids)[labelled],
        }
        return Accuracy().compute(**flat) | F1().compute(**flat)


class _SpanMetrics(_TagMetrics):
    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        predictions, references = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
        tags: dict[str, list[list[str]]] = {"predictions": [], "references": []}
        for predicted, expected in zip(predictions, references, strict=True):
            labelled = expected != -100
            tags["predictions"].append(self.label_names[predicted[labelled]].tolist())
            tags["references"].append(self.label_names[expected[labelled]].tolist())
        return TokenAccuracy().compute(**tags) | SpanF1().compute(**tags)


__all__ = [
    "ComputeMetrics",
    "compute_metrics_for",
    "labels_and_confidences",
    "preprocess_logits_for_metrics",
    "score_names",
]
