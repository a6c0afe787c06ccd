"""Let a classifier's probabilities be right as often as they say: a temperature, and thresholds of labels.

Both are found on validation data after training, and stand in the configuration of the model.
"""

import copy
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import datasets
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset, Subset

from ..data.examples import iterate_examples
from ..inference.predictor import labels_that_apply
from ..models.losses import at_least_float32
from .metrics import expected_calibration_error

# Fewer texts than this say too little.
MIN_TEXTS = 100
# Of each label, so many texts that have it, and so many that do not.
MIN_TEXTS_OF_LABEL = 20
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0
# Logits that are kept at most, 128 MB; of more, texts at equal distances are taken.
_MOST_LOGITS = 2**25
_CHUNK = 2**20
# What twice the logarithm of a likelihood ratio exceeds by chance in 5 % of cases, with one parameter.
_SIGNIFICANT = 3.84
# How much the logits of n-grams may count beside those of states, and most logits by which that is chosen.
RATIOS = [2.0 ** (power / 2) for power in range(-8, 9)]
_MOST_WEIGHED = 2**22
_THRESHOLDS = np.arange(1, 100) / 100


def fit_temperature(logits: Tensor, labels: Tensor) -> float | None:
    """Find the temperature that minimises the negative log-likelihood of labels.

    The likelihood is convex in the inverse of the temperature, which Newton's method finds in double precision.

    Source: Guo et al. 2017 (https://arxiv.org/abs/1706.04599).

    Args:
        logits (`torch.FloatTensor` of shape `[num_texts, num_labels]`): Logits at temperature 1.
        labels (`torch.Tensor`): `[num_texts]` class ids, or `[num_texts, num_labels]` floats 0 and 1.

    Returns:
        `float`, *optional*: the temperature; `None` where none from 0.05 to 20 is, as where all texts are right.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.evaluation.calibration import fit_temperature
    >>> logits = torch.tensor([[4.0, 0.0]] * 4)  # sure at 98 %, right at 75 %
    >>> fit_temperature(logits, torch.tensor([0, 0, 0, 1]))
    3.641

    ```
    """
    lowest, highest = 1 / HIGHEST_TEMPERATURE, 1 / LOWEST_TEMPERATURE
    if _loss(logits, labels, lowest)[1] >= 0 or _loss(logits, labels, highest)[1] <= 0:
        return None
    scale = 1.0
    for _ in range(100):
        _, slope, curvature = _loss(logits, labels, scale)
        lowest, highest = (scale, highest) if slope < 0 else (lowest, scale)
        step = scale - slope / curvature if curvature > 0 else lowest
        # Newton's step, or half of the interval where it leads out of that.
        previous, scale = scale, step if lowest < step < highest else (lowest + highest) / 2
        if abs(scale - previous) <= 1e-9 * scale:
            break
    return round(1 / scale, 4)


def _loss(logits: Tensor, labels: Tensor, scale: float) -> tuple[float, float, float]:
    """Sum the negative log-likelihoods of scaled logits, and their first and second derivatives by the scale."""
    sums = torch.zeros(3, dtype=torch.float64)
    for values, expected in _chunks(logits, labels):
        scores = values.double()
        if expected.is_floating_point():
            probabilities = (scores * scale).sigmoid()
            losses = nn.functional.softplus(scores * scale) - expected * scores * scale
            slopes = (probabilities - expected) * scores
            curvatures = probabilities * (1 - probabilities) * scores.square()
        else:
            scores -= scores.amax(dim=1, keepdim=True)
            logs = (scores * scale).log_softmax(dim=1)
            losses = -logs.gather(1, expected[:, None])[:, 0]
            means = (logs.exp() * scores).sum(dim=1)
            slopes = means - scores.gather(1, expected[:, None])[:, 0]
            curvatures = (logs.exp() * scores.square()).sum(dim=1) - means.square()
        sums += torch.stack([losses.sum(), slopes.sum(), curvatures.sum()])
    loss, slope, curvature = sums.tolist()
    return loss, slope, curvature


def fit_ratio(states: Tensor, ngrams: Tensor, labels: Tensor) -> float:
    """Find how much the logits of n-grams should count beside those of the states.

    Among the powers of the square root of 2 from 1/16 to 16, it is the largest whose negative log-likelihood of labels,
    each at its own temperature, is within half a unit of the least: on few texts, n-grams are trusted more.

    Args:
        states (`torch.FloatTensor` of shape `[num_texts, num_labels]`): Logits that states give.
        ngrams (`torch.FloatTensor` of shape `[num_texts, num_labels]`): Logits that n-grams give.
        labels (`torch.Tensor`): `[num_texts]` class ids, or `[num_texts, num_labels]` floats 0 and 1.

    Returns:
        `float`: the ratio.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.evaluation.calibration import fit_ratio
    >>> labels = torch.arange(300) % 2
    >>> right = torch.nn.functional.one_hot(labels, 2).float()
    >>> noise = torch.randn(2, 300, 2, generator=torch.Generator().manual_seed(0))
    >>> fit_ratio(right + 3 * noise[0], right + noise[1], labels) > 3
    True

    ```
    """
    losses = [least_loss(_weighed(states, ngrams, ratio), labels) for ratio in RATIOS]
    return max(ratio for ratio, loss in zip(RATIOS, losses, strict=True) if loss <= min(losses) + 0.5)


def _weighed(states: Tensor, ngrams: Tensor, ratio: float) -> Tensor:
    """Sum logits in a ratio, without making any larger."""
    return states / max(ratio, 1.0) + ngrams * min(ratio, 1.0)


def least_loss(logits: Tensor, labels: Tensor) -> float:
    """Return the negative log-likelihood of labels at the best temperature.

    Args:
        logits (`torch.FloatTensor` of shape `[num_texts, num_labels]`): Logits.
        labels (`torch.Tensor`): See [`fit_temperature`].

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.evaluation.calibration import least_loss
    >>> logits, labels = torch.tensor([[4.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])
    >>> round(least_loss(logits, labels), 3) == round(least_loss(2 * logits, labels), 3)
    True

    ```
    """
    fitted = fit_temperature(logits, labels)
    temperatures = [LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE] if fitted is None else [fitted]
    return min(_loss(logits, labels, 1 / temperature)[0] for temperature in temperatures)


def fit_thresholds(probabilities: np.ndarray, labels: np.ndarray) -> list[float]:
    """Find for each label the threshold of its probability with the highest F1, among the whole percents.

    Of equal ones the nearest to 0.5 is taken, and 0.5 for a label that fewer than 20 texts have, or lack.

    Args:
        probabilities (`np.ndarray` of shape `[num_texts, num_labels]`): Calibrated probabilities.
        labels (`np.ndarray` of shape `[num_texts, num_labels]`): 0 and 1.

    Returns:
        `list[float]`: a threshold for each label.

    Example:
    ```python
    >>> import numpy as np
    >>> from rnn_hf.evaluation.calibration import fit_thresholds
    >>> labels = np.array([[1]] * 20 + [[0]] * 80)
    >>> fit_thresholds(np.where(labels == 1, 0.4, 0.1), labels)
    [0.39]

    ```
    """
    nearest_first = np.argsort(np.abs(_THRESHOLDS - 0.5), kind="stable")
    grid = _THRESHOLDS[nearest_first]
    # As prediction compares them.
    probabilities, bounds = np.asarray(probabilities, dtype=np.float32), grid.astype(np.float32)
    thresholds = []
    for scores, has_label in zip(probabilities.T, np.asarray(labels).T == 1, strict=True):
        positives = int(has_label.sum())
        if min(positives, len(has_label) - positives) < MIN_TEXTS_OF_LABEL:
            thresholds.append(0.5)
            continue
        predicted, right = (
            len(one) - np.searchsorted(np.sort(one), bounds, side="right") for one in (scores, scores[has_label])
        )
        thresholds.append(float(grid[np.argmax(2 * right / (predicted + positives))]))
    return thresholds


class _Sample(NamedTuple):
    """Logits and labels of validation texts; `is_part` where there are more texts."""

    logits: Tensor
    labels: Tensor
    is_part: bool


def calibrate(trainer: Any, dataset: Any) -> str:
    """Calibrate a trained classifier: fit its temperature, and of several labels at once their thresholds.

    They are written into the model's configuration. Where the data says too little they stay at 1 and 0.5. N-grams that
    were solved apart are weighed first, by [`fit_ratio`]: their weights become smaller, or those of the states do.

    Args:
        trainer ([`RnnTrainer`]): With the trained model.
        dataset: Encoded validation data with labels.

    Returns:
        `str`: what was done, for people.
    """
    config = trainer.model.config
    config.temperature, config.label_thresholds = 1.0, None
    sample = _predict(trainer, dataset, len(config.label_names))
    if sample is None or len(sample.logits) < MIN_TEXTS:
        count = 0 if sample is None else len(sample.logits)
        return f"Probabilities are not calibrated: that takes {MIN_TEXTS} validation texts, and there are {count}."
    logits, labels = sample.logits, sample.labels
    weighed = ""
    if trainer.model.ngrams is not None and trainer.model.ngrams.is_solved:
        logits, weighed = _weigh_ngrams(trainer, dataset, sample)
    temperature = fit_temperature(logits, labels)
    texts = f"{len(logits):,}{' of the' if sample.is_part else ''} validation texts"
    if temperature is None:
        said = (
            f"Probabilities are not calibrated: no temperature is best on {texts}, as where all of them are right, or "
            "no more than chance would have right."
        )
    elif 2 * (_loss(logits, labels, 1.0)[0] - _loss(logits, labels, 1 / temperature)[0]) < _SIGNIFICANT:
        said = f"Probabilities are left as they are: on {texts}, no temperature is better than 1 by more than chance."
    else:
        config.temperature = temperature
        before, after = (_calibration_error(one, labels) for one in (logits, logits / temperature))
        said = (
            f"Probabilities are calibrated with the temperature {temperature:g}, fitted on {texts}: their expected "
            f"calibration error there is {after:.4f}, without it {before:.4f}."
        )
    if labels.is_floating_point():
        scaled = logits / config.temperature
        thresholds = fit_thresholds(scaled.sigmoid().numpy(), labels.numpy())
        if set(thresholds) != {0.5}:
            config.label_thresholds = thresholds
            before, after = (_macro_f1(labels_that_apply(scaled, one), labels) for one in (None, thresholds))
            said += (
                f" Each label applies above a threshold of its own, chosen there: macro F1 {after:.4f}, with 0.5 "
                f"{before:.4f}."
            )
    return weighed + said


def _weigh_ngrams(trainer: Any, dataset: Any, sample: _Sample) -> tuple[Tensor, str]:
    """Let n-grams count as [`fit_ratio`] says; return the logits then, and what was done."""
    model = trainer.model
    ngrams, model.ngrams = model.ngrams, None
    try:
        of_states = _predict(trainer, dataset, len(model.config.label_names))
    finally:
        model.ngrams = ngrams
    assert of_states is not None
    given = sample.logits - of_states.logits
    distance = 1 + given.numel() // _MOST_WEIGHED
    ratio = fit_ratio(of_states.logits[::distance], given[::distance], sample.labels[::distance])
    if ratio == 1.0:
        return sample.logits, ""
    with torch.no_grad():
        for layer, factor in ((model.classifier, 1 / max(ratio, 1.0)), (ngrams, min(ratio, 1.0))):
            layer.weight.mul_(factor)
            layer.bias.mul_(factor)
    said = f"N-grams count {ratio:.3g} times as much as before, beside the recurrent layers. "
    return _weighed(of_states.logits, given, ratio), said


def _predict(trainer: Any, dataset: Any, num_labels: int) -> _Sample | None:
    """Let the Trainer predict logits at temperature 1, of so many texts as memory is meant to hold."""
    dataset, is_part = _thinned(dataset, max(MIN_TEXTS, _MOST_LOGITS // num_labels))
    before = trainer.preprocess_logits_for_metrics, trainer.compute_metrics, trainer.args
    trainer.preprocess_logits_for_metrics, trainer.compute_metrics = lambda logits, _: at_least_float32(logits), None
    trainer.args = copy.copy(trainer.args)
    trainer.args.prediction_loss_only = trainer.args.batch_eval_metrics = False
    # They would leave the model in half precision.
    trainer.args.fp16_full_eval = trainer.args.bf16_full_eval = False
    trainer.args.eval_do_concat_batches = True
    try:
        output = trainer.predict(dataset, metric_key_prefix="calibration")
    finally:
        trainer.preprocess_logits_for_metrics, trainer.compute_metrics, trainer.args = before
    if output.predictions is None or output.label_ids is None:
        return None
    logits, labels = (torch.from_numpy(np.asarray(one)) for one in (output.predictions, output.label_ids))
    if not labels.is_floating_point():
        # Labels that the model does not know have no probability.
        known = (labels >= 0) & (labels < num_labels)
        logits, labels = logits[known], labels[known].long()
    return _Sample(logits, labels, is_part)


def _thinned(dataset: Any, most: int) -> tuple[Any, bool]:
    """Take texts at equal distances where there are more than enough, of a stream the first ones."""
    if isinstance(dataset, IterableDataset | datasets.IterableDataset):
        examples = list(islice(iterate_examples(dataset), most + 1))
        return examples[:most], len(examples) > most
    if len(dataset) <= most:
        return dataset, False
    positions = np.linspace(0, len(dataset) - 1, most).round().astype(int).tolist()
    is_table = isinstance(dataset, datasets.Dataset)
    return (dataset.select(positions) if is_table else Subset(dataset, positions)), True


def _calibration_error(logits: Tensor, labels: Tensor) -> float:
    confidences: list[Tensor] = []
    is_right: list[Tensor] = []
    for scores, expected in _chunks(logits, labels):
        if expected.is_floating_point():
            confidences.append(scores.sigmoid().flatten())
            is_right.append(expected.flatten())
        else:
            best, indices = scores.softmax(dim=1).max(dim=1)
            confidences.append(best)
            is_right.append(indices == expected)
    return expected_calibration_error(torch.cat(confidences).numpy(), torch.cat(is_right).numpy())


def _chunks(logits: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    rows = max(1, _CHUNK // logits.shape[1])
    yield from zip(logits.split(rows), labels.split(rows), strict=True)


def _macro_f1(applies: Tensor, labels: Tensor) -> float:
    expected = labels == 1
    counts = (applies.sum(dim=0) + expected.sum(dim=0)).double()
    return float((2 * (applies & expected).sum(dim=0) / counts.clamp(min=1)).mean())


__all__ = ["MIN_TEXTS", "RATIOS", "calibrate", "fit_ratio", "fit_temperature", "fit_thresholds", "least_loss"]
