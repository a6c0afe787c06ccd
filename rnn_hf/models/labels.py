"""What the names of labels say, and what a configuration says of their probabilities."""

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple


def tagging_scheme(label_names: Sequence[str]) -> Literal["iob2", "iobes"] | None:
    """Tell how labels mark spans.

    Args:
        label_names (`Sequence[str]`): Labels in the order of their ids.

    Returns:
        `"iob2"` where labels are `O`, `B-…` and `I-…`; `"iobes"` where there are `S-…` or `E-…` too; `None` where
        labels stand for themselves.

    Example:
    ```python
    >>> from rnn_hf.models.labels import tagging_scheme
    >>> tagging_scheme(["B-PER", "I-PER", "O"]), tagging_scheme(["B-PER", "S-PER", "O"]), tagging_scheme(["NOUN"])
    ('iob2', 'iobes', None)

    ```
    """
    if not all(name == "O" or re.match(r"[BIES]-.", name) for name in label_names):
        return None
    marks = {name[0] for name in label_names if name != "O"}
    if marks & {"S", "E"}:
        return "iobes"
    return "iob2" if "B" in marks else None


class SpanLabels(NamedTuple):
    """IOBES labels of spans beside the IOB2 labels that they refine.

    Args:
        names (`list[str]`): IOBES labels in the order of their ids.
        open_ids (`list[int]`): For each IOB2 label, the id of the one that it is where its span goes on.
        closed_ids (`list[int]`): For each IOB2 label, the id of the one that it is where its span ends.
        next_ids (`list[int]`): For each IOB2 label, the id of the IOB2 label with which its span goes on; -1 for none.
    """

    names: list[str]
    open_ids: list[int]
    closed_ids: list[int]
    next_ids: list[int]


@lru_cache
def span_labels(label_names: tuple[str, ...]) -> SpanLabels | None:
    """Refine IOB2 labels: `B-LOC` to `B-LOC` and `S-LOC`, `I-LOC` to `I-LOC` and `E-LOC`.

    Args:
        label_names (`tuple[str, ...]`): Labels in the order of their ids.

    Returns:
        [`SpanLabels`], or `None` where labels are no IOB2 tags, or no span has several words.

    Example:
    ```python
    >>> from rnn_hf.models.labels import span_labels
    >>> span_labels(("O", "B-LOC", "I-LOC")).names
    ['O', 'B-LOC', 'S-LOC', 'I-LOC', 'E-LOC']

    ```
    """
    inside = {name[1:]: index for index, name in enumerate(label_names) if name.startswith("I-")}
    begun = {name[1:] for name in label_names if name.startswith("B-")}
    if tagging_scheme(label_names) != "iob2" or not inside or not inside.keys() <= begun:
        return None
    labels = SpanLabels([], [], [], [])
    for name in label_names:
        next_id = inside.get(name[1:], -1) if name != "O" else -1
        labels.next_ids.append(next_id)
        labels.open_ids.append(len(labels.names))
        if next_id >= 0:
            labels.names.append(name)
        labels.closed_ids.append(len(labels.names))
        labels.names.append({"B": "S", "I": "E"}.get(name[0], name[0]) + name[1:])
    return labels


def count_ends(config: dict[str, Any], maps: dict[str, dict[Any, Any]]) -> int:
    """Count the labels that the head of a saved model scores beside those with names, to tell where spans end.

    Args:
        config (`dict[str, Any]`): What a `config.json` holds.
        maps (`dict[str, dict]`): Its `id2label` or `label2id`, or both, where they are maps.

    Example:
    ```python
    >>> from rnn_hf.models.labels import count_ends
    >>> maps = {"id2label": {"0": "O", "1": "B-LOC", "2": "I-LOC"}}
    >>> count_ends({"use_crf": True, "crf_tag_scheme": "iobes"}, maps), count_ends({}, maps)
    (2, 0)

    ```
    """
    names = [*maps["id2label"].values()] if "id2label" in maps else [*maps.get("label2id", ())]
    refines = config.get("use_crf") is True and config.get("crf_tag_scheme") == "iobes"
    labels = span_labels(tuple(names)) if refines and all(isinstance(name, str) for name in names) else None
    return 0 if labels is None else len(labels.names) - len(names)


def check_calibration(temperature: float, label_thresholds: Sequence[float] | None, num_labels: int) -> None:
    """Check what a configuration says of the probabilities of a classifier.

    Args:
        temperature (`float`): What logits are divided by.
        label_thresholds (`Sequence[float]`, *optional*): Of several labels at once, the probability of each above which
            it applies.
        num_labels (`int`): Number of labels.

    Raises:
        ValueError: A temperature that is not positive and finite; thresholds of another number than the labels, or
            outside 0 and 1.

    Example:
    ```python
    >>> from rnn_hf.models.labels import check_calibration
    >>> check_calibration(1.5, [0.5, 0.3], 2)
    >>> check_calibration(0.0, None, 2)
    Traceback (most recent call last):
    ...
    ValueError: temperature must be above 0 and finite, got 0.0.

    ```
    """
    if not math.isfinite(temperature) or temperature <= 0:
        raise ValueError(f"temperature must be above 0 and finite, got {temperature}.")
    if label_thresholds is None:
        return
    if len(label_thresholds) != num_labels:
        raise ValueError(
            f"label_thresholds must hold one for each of {num_labels} labels, got {len(label_thresholds)}."
        )
    for index, threshold in enumerate(label_thresholds):
        if not 0 < threshold < 1:
            raise ValueError(f"label_thresholds must be above 0 and below 1; that of label {index} is {threshold}.")


def without_calibration(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Leave out what calibration found where a model gets another number of labels, or another kind of problem.

    Args:
        config (`dict[str, Any]`): What a `config.json` holds.
        changes (`dict[str, Any]`): Values that replace those.

    Returns:
        `dict[str, Any]`: the first, without `temperature` and `label_thresholds` where they have no meaning any more.

    Example:
    ```python
    >>> from rnn_hf.models.labels import without_calibration
    >>> without_calibration({"id2label": {"0": "ham", "1": "spam"}, "temperature": 1.5}, {"num_labels": 3})
    {'id2label': {'0': 'ham', '1': 'spam'}}

    ```
    """
    labels = next((changes[name] for name in ("id2label", "label2id") if changes.get(name) is not None), None)
    num_labels = changes.get("num_labels") if labels is None else len(labels)
    is_other_number = num_labels is not None and num_labels != len(config.get("id2label") or (0, 1))
    is_other_problem = changes.get("problem_type") not in (None, config.get("problem_type"))
    if not is_other_number and not is_other_problem:
        return config
    return {name: value for name, value in config.items() if name not in ("temperature", "label_thresholds")}


__all__ = ["SpanLabels", "check_calibration", "count_ends", "span_labels", "tagging_scheme", "without_calibration"]
