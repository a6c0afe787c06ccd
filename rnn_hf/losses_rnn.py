"""Losses of the heads, which know how many labels all batches of a step hold together.

The `Trainer` says with `num_items_in_batch` over how many labels a loss is averaged when a step takes several batches,
one after the other or on several machines: their gradients then add up to those of one big batch.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

ProblemType = Literal["regression", "single_label_classification", "multi_label_classification"]


def infer_problem_type(num_labels: int, labels: Tensor) -> ProblemType:
    """Tell from the labels what kind of problem they belong to, as transformers does."""
    if num_labels == 1:
        return "regression"
    return "multi_label_classification" if labels.is_floating_point() else "single_label_classification"


def mean(total: Tensor, count: Tensor | int, num_items_in_batch: Tensor | int | None) -> Tensor:
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
        num_items_in_batch (`int` or `torch.Tensor`, *optional*): See [`mean`].
        class_weights (`list[float]`, *optional*): Factors of the losses of each class.
    """
    weight = None if class_weights is None else torch.tensor(class_weights, device=logits.device, dtype=torch.float32)
    total = nn.functional.cross_entropy(logits.float(), labels, weight=weight, ignore_index=-100, reduction="sum")
    return mean(total, (labels != -100).sum(), num_items_in_batch)


def _binary_cross_entropy(
    logits: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None, class_weights: list[float] | None
) -> Tensor:
    weight = None if class_weights is None else torch.tensor(class_weights, device=logits.device, dtype=torch.float32)
    total = nn.functional.binary_cross_entropy_with_logits(
        logits.float(), labels.float(), pos_weight=weight, reduction="sum"
    )
    return mean(total, labels.numel(), num_items_in_batch)


def _squared_error(
    logits: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None, class_weights: list[float] | None
) -> Tensor:
    total = nn.functional.mse_loss(logits.float(), labels.float().view_as(logits), reduction="sum")
    return mean(total, labels.numel(), num_items_in_batch)


LOSSES: dict[str, Callable[[Tensor, Tensor, Any, list[float] | None], Tensor]] = {
    "single_label_classification": cross_entropy,
    "multi_label_classification": _binary_cross_entropy,
    "regression": _squared_error,
}


def divergence(logits: Tensor, others: Tensor, problem_type: ProblemType) -> Tensor:
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
    >>> from rnn_hf.losses_rnn import divergence
    >>> divergence(torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0, 3.0]]), "single_label_classification")
    tensor([0.])

    ```
    """
    logits, others = logits.float(), others.float()
    if problem_type == "regression":
        return (logits - others).square()
    if problem_type == "multi_label_classification":
        return (logits.sigmoid() - others.sigmoid()) * (logits - others) / 2
    one, other = logits.log_softmax(dim=-1), others.log_softmax(dim=-1)
    return ((one.exp() - other.exp()) * (one - other)).sum(dim=-1) / 2


__all__ = ["LOSSES", "ProblemType", "cross_entropy", "divergence", "infer_problem_type", "mean"]
