"""Learn from a teacher: its logits as further targets of the training texts, and of texts without labels."""

import torch
from torch import Tensor, nn

from ..models.losses import ProblemType, at_least_float32


def distillation_losses(
    logits: Tensor, teacher_logits: Tensor, problem_type: ProblemType, temperature: float = 1.0
) -> Tensor:
    """Tell how far a student's logits are from a teacher's (https://arxiv.org/abs/1503.02531).

    Args:
        logits (`torch.FloatTensor` of shape `[num_items, num_labels]`): The student's.
        teacher_logits (`torch.FloatTensor` of the same shape): The teacher's.
        problem_type (`str`): As in the configuration.
        temperature (`float`): What both logits are divided by before they make probabilities. Losses are multiplied
            by its square, so that gradients keep their size.

    Returns:
        `torch.FloatTensor`: of one label the Kullback-Leibler divergence of the student's probabilities from the
        teacher's, `[num_items]`; of several labels at once the binary cross-entropies, and of a regression the squared
        differences, `[num_items, num_labels]`.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.objectives.distillation import distillation_losses
    >>> student, teacher = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 2.0]])
    >>> distillation_losses(student, teacher, "single_label_classification", temperature=2.0)
    tensor([0.])
    >>> distillation_losses(student, teacher, "regression")
    tensor([[1., 1.]])

    ```
    """
    logits = at_least_float32(logits)
    teacher_logits = teacher_logits.to(logits.dtype)
    if problem_type == "regression":
        return (logits - teacher_logits).square()
    logits, teacher_logits = logits / temperature, teacher_logits / temperature
    if problem_type == "multi_label_classification":
        losses = nn.functional.binary_cross_entropy_with_logits(logits, teacher_logits.sigmoid(), reduction="none")
    else:
        one, other = teacher_logits.log_softmax(dim=-1), logits.log_softmax(dim=-1)
        losses = nn.functional.kl_div(other, one, reduction="none", log_target=True).sum(dim=-1)
    return losses * temperature**2


def count_targets(teacher_logits: Tensor, problem_type: ProblemType) -> Tensor:
    """Count the items of a batch that a teacher has scored, over which all losses are averaged.

    Args:
        teacher_logits (`torch.FloatTensor` of shape `[..., num_labels]`): NaN where there are none.
        problem_type (`str`): As in the configuration.

    Returns:
        `torch.LongTensor`, a scalar: texts or words; of several labels at once and of a regression, numbers.
    """
    if problem_type == "single_label_classification":
        teacher_logits = teacher_logits[..., 0]
    return (~torch.isnan(teacher_logits)).sum()


__all__ = ["count_targets", "distillation_losses"]
