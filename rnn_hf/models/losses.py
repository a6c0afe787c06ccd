"""Losses of the heads, which know how many labels all batches of a step hold together.

The `Trainer` says with `num_items_in_batch` over how many labels a loss is averaged when a step takes several batches,
one after the other or on several machines: their gradients then add up to those of one big batch.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)

ProblemType = Literal["regression", "single_label_classification", "multi_label_classification"]


def at_least_float32(values: Tensor) -> Tensor:
    """Raise half precision to single precision; single and double precision stay.

    Args:
        values (`torch.FloatTensor`): Numbers of any precision.

    Returns:
        `torch.FloatTensor` of the same shape.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.losses import at_least_float32
    >>> [at_least_float32(torch.zeros(2, dtype=dtype)).dtype for dtype in (torch.bfloat16, torch.float64)]
    [torch.float32, torch.float64]

    ```
    """
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def score_labels(layer: nn.Linear, vectors: Tensor) -> Tensor:
    """Score labels with the last layer of a head: in the type of its weights, except in training on a GPU.

    Scores that autocast rounds would move probabilities by several times what rounded states do. On a CPU, such a small
    product in bfloat16 takes longer, too.

    Args:
        layer (`nn.Linear`): From vectors to labels.
        vectors (`torch.FloatTensor` of shape `[…, in_features]`): States, or sums of features.

    Returns:
        `torch.FloatTensor` of shape `[…, num_labels]`.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.losses import score_labels
    >>> layer = torch.nn.Linear(4, 2).eval()
    >>> with torch.autocast("cpu", torch.bfloat16):
    ...     score_labels(layer, torch.ones(1, 4, dtype=torch.bfloat16)).dtype
    torch.float32

    ```
    """
    device_type = vectors.device.type
    if not torch.is_autocast_enabled(device_type) or (layer.training and device_type != "cpu"):
        return layer(vectors)
    with torch.autocast(device_type, enabled=False):
        return layer(vectors.to(layer.weight.dtype))


def check_class_ids(name: str, labels: Tensor, shape: Sequence[int], num_labels: int) -> Tensor:
    """Check class ids before a loss reads them.

    Args:
        name (`str`): What to call them in a message.
        labels (`torch.Tensor`): The ids, -100 where there is none.
        shape (`Sequence[int]`): The shape that they must have.
        num_labels (`int`): Number of classes. Ids are compared with it on a CPU only: elsewhere that would wait for
            the device.

    Returns:
        `torch.LongTensor`: the ids.

    Raises:
        ValueError: Another shape, no integers, or an id that is no class.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.losses import check_class_ids
    >>> check_class_ids("labels", torch.tensor([0, 2]), [2], 2)
    Traceback (most recent call last):
    ...
    ValueError: labels must be from 0 to 1, or -100 where there is none; got 2.

    ```
    """
    if labels.shape != torch.Size(shape):
        raise ValueError(f"{name} must have the shape {list(shape)}, got {list(labels.shape)}.")
    if labels.dtype not in _INTEGERS:
        raise ValueError(f"{name} must be integers, the ids of classes; got {labels.dtype}.")
    labels = labels.long()
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():
        wrong = labels[(labels != -100) & ((labels < 0) | (labels >= num_labels))]
        if len(wrong):
            raise ValueError(
                f"{name} must be from 0 to {num_labels - 1}, or -100 where there is none; got {int(wrong[0])}."
            )
    return labels


def check_labels(labels: Tensor, logits: Tensor, problem_type: ProblemType) -> Tensor:
    """Check a classifier's labels before a loss reads them.

    Args:
        labels (`torch.Tensor`): The labels.
        logits (`torch.FloatTensor` of shape `[batch_size, num_labels]`): Scores.
        problem_type (`str`): As in the configuration.

    Returns:
        `torch.Tensor`: `[batch_size]` class ids, or `[batch_size, num_labels]` floats.

    Raises:
        ValueError: Labels of another shape or type, or an id that is no class.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.losses import check_labels
    >>> check_labels(torch.tensor([0.5, 2.0]), torch.zeros(2, 1), "regression")
    tensor([[0.5000],
            [2.0000]])

    ```
    """
    if problem_type == "single_label_classification":
        if labels.shape == logits.shape:
            raise ValueError(
                f"labels of problem_type={problem_type!r} must be one class id for each sequence, of the shape "
                f"{list(logits.shape[:1])}; got {list(labels.shape)}. Several labels at once are "
                "problem_type='multi_label_classification', and floats 0 and 1."
            )
        return check_class_ids("labels", labels, logits.shape[:1], logits.shape[1])
    of_one_value = problem_type == "regression" and logits.shape[1] == 1 and labels.shape == logits.shape[:1]
    if labels.shape != logits.shape and not of_one_value:
        what = "a value" if problem_type == "regression" else "0 or 1"
        raise ValueError(
            f"labels of problem_type={problem_type!r} must have the shape [batch_size, num_labels] = "
            f"{list(logits.shape)}, {what} for each label; got {list(labels.shape)}."
        )
    return labels.to(torch.promote_types(logits.dtype, torch.float32)).view_as(logits)


def infer_problem_type(num_labels: int, labels: Tensor) -> ProblemType:
    """Tell from the labels what kind of problem they belong to, as transformers does."""
    if num_labels == 1:
        return "regression"
    return "multi_label_classification" if labels.is_floating_point() else "single_label_classification"


def average_loss(total: Tensor, count: Tensor | int, num_items_in_batch: Tensor | int | None) -> Tensor:
    """Average a sum of losses over the items of all batches that belong together.

    Args:
        total (`torch.FloatTensor`, a scalar): Sum of this batch's losses.
        count (`int` or `torch.Tensor`): Number of this batch's items.
        num_items_in_batch (`int` or `torch.Tensor`, *optional*): Number of items of all batches together.
    """
    if num_items_in_batch is not None:
        count = num_items_in_batch
    if isinstance(count, Tensor):
        return total / count.to(total.device).clamp(min=1)
    return total / max(count, 1)


def cross_entropy(
    logits: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None, class_weights: list[float] | None = None
) -> Tensor:
    """Cross-entropy of class ids; -100 is ignored.

    Args:
        logits (`torch.FloatTensor` of shape `[num_items, num_labels]`): Scores.
        labels (`torch.LongTensor` of shape `[num_items]`): Class ids.
        num_items_in_batch (`int` or `torch.Tensor`, *optional*): See [`average_loss`].
        class_weights (`list[float]`, *optional*): Factors of the losses of each class.
    """
    logits = at_least_float32(logits)
    weight = _class_weights(class_weights, logits)
    total = nn.functional.cross_entropy(logits, labels, weight=weight, ignore_index=-100, reduction="sum")
    return average_loss(total, (labels != -100).sum(), num_items_in_batch)


def _binary_cross_entropy(
    logits: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None, class_weights: list[float] | None
) -> Tensor:
    logits = at_least_float32(logits)
    weight = _class_weights(class_weights, logits)
    labels, known = _without_missing(labels.to(logits.dtype))
    losses = nn.functional.binary_cross_entropy_with_logits(logits, labels, pos_weight=weight, reduction="none")
    return average_loss((losses * known).sum(), known.sum(), num_items_in_batch)


def _squared_error(
    logits: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None, class_weights: list[float] | None
) -> Tensor:
    logits = at_least_float32(logits)
    labels, known = _without_missing(labels.to(logits.dtype).view_as(logits))
    losses = nn.functional.mse_loss(logits, labels, reduction="none")
    return average_loss((losses * known).sum(), known.sum(), num_items_in_batch)


def _without_missing(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Put 0 in place of NaN, and say where there is a label."""
    known = ~labels.isnan()
    return labels.masked_fill(~known, 0.0), known


def _class_weights(class_weights: list[float] | None, logits: Tensor) -> Tensor | None:
    return None if class_weights is None else logits.new_tensor(class_weights)


LOSSES: dict[str, Callable[[Tensor, Tensor, Any, list[float] | None], Tensor]] = {
    "single_label_classification": cross_entropy,
    "multi_label_classification": _binary_cross_entropy,
    "regression": _squared_error,
}


def symmetric_kl(logits: Tensor, others: Tensor, problem_type: ProblemType) -> Tensor:
    """Tell how far two predictions are apart.

    Args:
        logits (`torch.FloatTensor` of shape `[num_items, num_labels]`): Scores.
        others (`torch.FloatTensor`, the shape of `logits`): Other scores of the same items.
        problem_type (`str`): As in the configuration.

    Returns:
        `torch.FloatTensor`: the Kullback-Leibler divergence, averaged over both ways, of shape `[num_items]` or, of
        several labels at once, `[num_items, num_labels]`; of a regression the squared difference of that shape.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.losses import symmetric_kl
    >>> symmetric_kl(torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0, 3.0]]), "single_label_classification")
    tensor([0.])

    ```
    """
    logits, others = at_least_float32(logits), at_least_float32(others)
    if problem_type == "regression":
        return (logits - others).square()
    if problem_type == "multi_label_classification":
        return (logits.sigmoid() - others.sigmoid()) * (logits - others) / 2
    one, other = logits.log_softmax(dim=-1), others.log_softmax(dim=-1)
    return ((one.exp() - other.exp()) * (one - other)).sum(dim=-1) / 2


__all__ = [
    "LOSSES",
    "ProblemType",
    "at_least_float32",
    "average_loss",
    "check_class_ids",
    "check_labels",
    "cross_entropy",
    "infer_problem_type",
    "score_labels",
    "symmetric_kl",
]
