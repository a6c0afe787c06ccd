"""Which parameters an optimizer treats alike, and when a training has gone wrong in its numbers."""

from typing import Any

from torch import nn
from transformers import TrainingArguments


def parameter_groups(model: nn.Module, args: TrainingArguments) -> list[dict[str, Any]]:
    """Group parameters: weight decay spares biases and tables; vectors, n-grams, lexical features have own rates.

    Args:
        model (`nn.Module`): The model; without `vectors_learning_rate`, its pretrained word vectors are frozen.
        args (`TrainingArguments`): `weight_decay`, and of [`RnnTrainingArguments`] `vectors_learning_rate`,
            `ngram_learning_rate` and `lexical_learning_rate`.

    Returns:
        `list[dict]`: groups for an optimizer.

    Example:
    ```python
    >>> from rnn_hf import RnnConfig, RnnForSequenceClassification
    >>> from transformers import TrainingArguments
    >>> from rnn_hf.training.optimization import parameter_groups
    >>> model = RnnForSequenceClassification(RnnConfig(vocab_size=9))
    >>> [group["weight_decay"] for group in parameter_groups(model, TrainingArguments(weight_decay=0.1))]
    [0.1, 0.0]

    ```
    """
    vectors_rate = getattr(args, "vectors_learning_rate", 0.0)
    ngrams: dict[str, Any] = {"params": [], "weight_decay": 0.0}
    lexical: dict[str, Any] = {"params": [], "weight_decay": 0.0}
    for group, option, factor in ((ngrams, "ngram_learning_rate", 5), (lexical, "lexical_learning_rate", 1)):
        rate = getattr(args, option, None)
        group["lr"] = factor * args.learning_rate if rate is None else rate
    decayed: dict[str, Any] = {"params": [], "weight_decay": args.weight_decay}
    spared: dict[str, Any] = {"params": [], "weight_decay": 0.0}
    vectors: dict[str, Any] = {"params": [], "weight_decay": 0.0, "lr": vectors_rate}
    for name, parameter in model.named_parameters():
        if "static_embeddings" in name:
            parameter.requires_grad_(vectors_rate > 0)
            group = vectors
        elif name.startswith("ngrams."):
            group = ngrams
        elif name.startswith("lexical."):
            group = lexical
        else:
            spare = name.endswith("embeddings.weight") or parameter.dim() < 2
            group = spared if spare else decayed
        if parameter.requires_grad:
            group["params"].append(parameter)
    return [group for group in (decayed, spared, vectors, ngrams, lexical) if group["params"]]


def diverged(what: str) -> ValueError:
    """Make the error of a training that went wrong in its numbers.

    Args:
        what (`str`): What tells so.

    Example:
    ```python
    >>> from rnn_hf.training.optimization import diverged
    >>> print(diverged("the loss is nan"))
    Training diverged: the loss is nan. Take a smaller --learning_rate, and check the labels of a regression.

    ```
    """
    advice = "Take a smaller --learning_rate, and check the labels of a regression."
    return ValueError(f"Training diverged: {what}. {advice}")


__all__ = ["diverged", "parameter_groups"]
