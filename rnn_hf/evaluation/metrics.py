"""Metrics of the `evaluate` library that need no network.

Each is an `evaluate.Metric`: `compute` at once, or `add_batch` and `compute` bit by bit; `evaluate.combine` takes
them together.
"""

import warnings
from typing import Any

import datasets
import evaluate
import numpy as np
from seqeval.metrics import f1_score, precision_score, recall_score
from sklearn import metrics as sklearn_metrics

_LABEL_IDS = datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")})
_LABEL_LISTS = datasets.Features(
    {"predictions": datasets.List(datasets.Value("int64")), "references": datasets.List(datasets.Value("int64"))}
)
_TAG_LISTS = datasets.Features(
    {"predictions": datasets.List(datasets.Value("string")), "references": datasets.List(datasets.Value("string"))}
)
_CONFIDENCES = datasets.Features({"predictions": datasets.Value("float64"), "references": datasets.Value("int64")})
_NUM_BINS = 15
_FLOATS = datasets.Features({"predictions": datasets.Value("float64"), "references": datasets.Value("float64")})


def _info(description: str, features: Any, citation: str = "") -> evaluate.MetricInfo:
    return evaluate.MetricInfo(
        description=description, citation=citation, inputs_description="predictions, references", features=features
    )


class Accuracy(evaluate.Metric):
    """Share of predictions that equal their reference.

    Example:
    ```python
    >>> from rnn_hf.evaluation.metrics import Accuracy
    >>> Accuracy().compute(predictions=[0, 1, 1, 0], references=[0, 1, 0, 0])
    {'accuracy': 0.75}

    ```
    """

    def _info(self) -> evaluate.MetricInfo:
        return _info("Share of predictions that equal their reference.", _LABEL_IDS)

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"accuracy": float(sklearn_metrics.accuracy_score(references, predictions))}


class F1(evaluate.Metric):
    """F1, precision and recall, averaged over the classes that occur (`"macro"`), pooled (`"micro"`) or weighted.

    Takes class ids, or for several labels at once lists of 0 and 1: `F1("multilabel")`.

    Example:
    ```python
    >>> from rnn_hf.evaluation.metrics import F1
    >>> F1().compute(predictions=[0, 1, 1, 0], references=[0, 1, 0, 0])["f1"].__round__(3)
    0.733

    ```
    """

    def _info(self) -> evaluate.MetricInfo:
        features = _LABEL_LISTS if self.config_name == "multilabel" else _LABEL_IDS
        return _info("F1, precision and recall.", features)

    def _compute(self, predictions: Any, references: Any, average: str = "macro") -> dict[str, float]:
        return f1_scores(predictions, references, average)


def f1_scores(predictions: Any, references: Any, average: str = "macro") -> dict[str, float]:
    """Compute [`F1`] of arrays at once, without the table in which a metric gathers batches.

    Args:
        predictions (`np.ndarray` of shape `[num_texts]` or `[num_texts, num_labels]`): Class ids, or 0 and 1.
        references (`np.ndarray`, the shape of `predictions`): Those that are right.
        average (`str`): `"macro"`, `"micro"` or `"weighted"`.

    Returns:
        `dict[str, float]`: `f1`, `precision` and `recall`.

    Example:
    ```python
    >>> import numpy as np
    >>> from rnn_hf.evaluation.metrics import f1_scores
    >>> f1_scores(np.array([[0, 1], [1, 1]]), np.array([[0, 1], [1, 0]]), "micro")["f1"]
    0.8

    ```
    """
    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
        references, predictions, average=average, zero_division=0.0
    )
    return {"f1": float(f1), "precision": float(precision), "recall": float(recall)}


def average_precision(scores: np.ndarray, references: np.ndarray) -> float:
    """Compute the area under the curve of precision against recall of each label, averaged over those that occur.

    It says how well scores rank texts, whatever threshold is chosen afterwards.

    Args:
        scores (`np.ndarray` of shape `[num_texts, num_labels]`): Logits or probabilities.
        references (`np.ndarray` of shape `[num_texts, num_labels]`): 0 and 1.

    Returns:
        `float`: the macro average; 0 where no label occurs.

    Example:
    ```python
    >>> import numpy as np
    >>> from rnn_hf.evaluation.metrics import average_precision
    >>> average_precision(np.array([[-1.0], [-3.0], [-2.0]]), np.array([[1], [0], [0]]))
    1.0

    ```
    """
    occur = references.any(axis=0)
    if not occur.any():
        return 0.0
    return float(sklearn_metrics.average_precision_score(references[:, occur], scores[:, occur], average="macro"))


class ExactMatch(evaluate.Metric):
    """Share of sequences of which all labels are right.

    Example:
    ```python
    >>> from rnn_hf.evaluation.metrics import ExactMatch
    >>> ExactMatch().compute(predictions=[[0, 1], [1, 1]], references=[[0, 1], [1, 0]])
    {'exact_match': 0.5}

    ```
    """

    def _info(self) -> evaluate.MetricInfo:
        return _info("Share of sequences of which all labels are right.", _LABEL_LISTS)

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        pairs = [list(a) == list(b) for a, b in zip(predictions, references, strict=True)]
        return {"exact_match": sum(pairs) / max(len(pairs), 1)}


class TokenAccuracy(evaluate.Metric):
    """Share of words that have the right tag, over all sentences together.

    Example:
    ```python
    >>> from rnn_hf.evaluation.metrics import TokenAccuracy
    >>> TokenAccuracy().compute(predictions=[["DET", "NOUN"], ["VERB"]], references=[["DET", "NOUN"], ["NOUN"]])
    {'accuracy': 0.6666666666666666}

    ```
    """

    def _info(self) -> evaluate.MetricInfo:
        return _info("Share of words that have the right tag.", _TAG_LISTS)

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        right = [p == r for pair in zip(predictions, references, strict=True) for p, r in zip(*pair, strict=True)]
        return {"accuracy": sum(right) / max(len(right), 1)}


class SpanF1(evaluate.Metric):
    """F1, precision and recall of labelled spans in IOB2 or IOBES, as CoNLL's `conlleval` counts them.

    A reference without a prefix (`LOC`) is a span of one word.

    Source: seqeval (https://github.com/chakki-works/seqeval).

    Example:
    ```python
    >>> from rnn_hf.evaluation.metrics import SpanF1
    >>> predictions, references = [["B-LOC", "I-LOC", "O"]], [["B-LOC", "I-LOC", "S-PER"]]
    >>> SpanF1().compute(predictions=predictions, references=references)["f1"].__round__(3)
    0.667

    ```
    """

    def _info(self) -> evaluate.MetricInfo:
        return _info("F1, precision and recall of labelled spans.", _TAG_LISTS)

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        scores = {"f1": f1_score, "precision": precision_score, "recall": recall_score}
        if not references:
            return dict.fromkeys(scores, 0.0)
        with warnings.catch_warnings():
            # References may hold labels that the model does not know, which may be of another kind.
            warnings.filterwarnings("ignore", message=".* seems not to be NE tag", category=UserWarning)
            return {name: float(score(references, predictions, zero_division=0)) for name, score in scores.items()}


class ExpectedCalibrationError(evaluate.Metric):
    """How far probabilities are from the shares of right predictions, on average: 15 bins of equal width.

    Predictions are probabilities; references are 1 where the prediction with this probability was right, else 0.

    Source: Guo et al. 2017 (https://arxiv.org/abs/1706.04599).

    Example:
    ```python
    >>> from rnn_hf.evaluation.metrics import ExpectedCalibrationError
    >>> error = ExpectedCalibrationError().compute(predictions=[0.9, 0.9, 0.9, 0.9], references=[1, 1, 1, 0])
    >>> round(error["expected_calibration_error"], 3)
    0.15

    ```
    """

    def _info(self) -> evaluate.MetricInfo:
        return _info("How far probabilities are from the shares of right predictions.", _CONFIDENCES)

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {
            "expected_calibration_error": expected_calibration_error(np.asarray(predictions), np.asarray(references))
        }


def expected_calibration_error(confidences: np.ndarray, is_right: np.ndarray) -> float:
    """Compute [`ExpectedCalibrationError`] of arrays at once.

    Args:
        confidences (`np.ndarray` of shape `[num_predictions]`): Probabilities of predictions.
        is_right (`np.ndarray` of shape `[num_predictions]`): 1 where a prediction was right, else 0.

    Returns:
        `float`: the mean over all predictions of what their bin's mean probability and share of right ones differ by.

    Example:
    ```python
    >>> import numpy as np
    >>> from rnn_hf.evaluation.metrics import expected_calibration_error
    >>> expected_calibration_error(np.array([0.75, 1.0, 0.75, 0.0]), np.array([1, 1, 0, 0]))
    0.125

    ```
    """
    # Bins hold their upper end, and the first holds 0 too.
    bins = np.clip(np.ceil(confidences * _NUM_BINS).astype(int) - 1, 0, _NUM_BINS - 1)
    gaps = np.bincount(bins, weights=confidences - is_right.astype(float), minlength=_NUM_BINS)
    return float(np.abs(gaps).sum() / max(len(bins), 1))


class SquaredError(evaluate.Metric):
    """Mean squared error and coefficient of determination of a regression.

    Example:
    ```python
    >>> from rnn_hf.evaluation.metrics import SquaredError
    >>> SquaredError().compute(predictions=[1.0, 2.0, 3.0], references=[1.0, 2.0, 5.0])["mse"].__round__(3)
    1.333

    ```
    """

    def _info(self) -> evaluate.MetricInfo:
        return _info("Mean squared error and coefficient of determination.", _FLOATS)

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        scores = {"mse": float(sklearn_metrics.mean_squared_error(references, predictions))}
        if len(references) > 1:
            scores["r2"] = float(sklearn_metrics.r2_score(references, predictions))
        return scores


__all__ = [
    "F1",
    "Accuracy",
    "ExactMatch",
    "ExpectedCalibrationError",
    "SpanF1",
    "SquaredError",
    "TokenAccuracy",
    "average_precision",
    "expected_calibration_error",
    "f1_scores",
]
