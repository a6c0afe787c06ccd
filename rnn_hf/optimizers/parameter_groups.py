"""Which parameters an optimizer treats alike, and when a training has gone wrong in its numbers."""

import re
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainingArguments


def parameter_groups(model: nn.Module, args: TrainingArguments) -> list[dict[str, Any]]:
    """Group parameters: weight decay spares biases and tables; vectors, n-grams, lexical features have own rates.

    With a `layer_lr_decay`, each layer has its own rate (https://arxiv.org/abs/1801.06146).

    Args:
        model (`nn.Module`): The model; without `vectors_learning_rate`, its pretrained word vectors are frozen.
        args (`TrainingArguments`): `weight_decay`, and of [`RnnTrainingArguments`] `vectors_learning_rate`,
            `ngram_learning_rate`, `lexical_learning_rate` and `layer_lr_decay`.

    Returns:
        `list[dict]`: groups for an optimizer.

    Example:
    ```python
    >>> from rnn_hf import RnnConfig, RnnForSequenceClassification
    >>> from transformers import TrainingArguments
    >>> from rnn_hf.optimizers.parameter_groups import parameter_groups
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
    decay = getattr(args, "layer_lr_decay", 1.0)
    layers: dict[tuple[int, bool], dict[str, Any]] = {}
    for depth in range(layer_depth("embeddings", model) + 1) if decay != 1 else (0,):
        rate = {} if decay == 1 else {"lr": args.learning_rate * decay**depth}
        layers[depth, False] = {"params": [], "weight_decay": args.weight_decay, **rate}
        layers[depth, True] = {"params": [], "weight_decay": 0.0, **rate}
    vectors: dict[str, Any] = {"params": [], "weight_decay": 0.0, "lr": vectors_rate}
    for name, parameter in model.named_parameters():
        if "static_embeddings" in name:
            parameter.requires_grad_(vectors_rate > 0)
            group = vectors
        elif re.search(r"(^|\.)ngrams\.", name):  # with a prefix in the adapters of peft
            group = ngrams
        elif re.search(r"(^|\.)lexical\.", name):
            group = lexical
        else:
            is_spared = name.endswith("embeddings.weight") or parameter.dim() < 2
            group = layers[layer_depth(name, model) if decay != 1 else 0, is_spared]
        if parameter.requires_grad:
            group["params"].append(parameter)
    return [group for group in (*layers.values(), vectors, ngrams, lexical) if group["params"]]


def layer_depth(name: str, model: nn.Module) -> int:
    """Tell how many layers below the head a parameter stands.

    Args:
        name (`str`): Its name.
        model (`nn.Module`): The model.

    Returns:
        `int`: 0 in the head, 1 in the last recurrent layer, and one more in each layer below; the embeddings are last.

    Example:
    ```python
    >>> from rnn_hf import RnnConfig, RnnForSequenceClassification
    >>> from rnn_hf.optimizers.parameter_groups import layer_depth
    >>> model = RnnForSequenceClassification(RnnConfig(vocab_size=9, hidden_size=4, num_hidden_layers=2))
    >>> names = ("classifier.weight", "model.rnn.bias_ih_l1", "model.rnn.bias_ih_l0", "model.embeddings")
    >>> [layer_depth(name, model) for name in names]
    [0, 1, 2, 3]

    ```
    """
    num_layers: int = model.config.num_hidden_layers  # type: ignore[union-attr, assignment]
    if layer := re.search(r"\brnn\.\w+_l(\d+)", name):
        return num_layers - int(layer[1])
    return num_layers + 1 if re.search(r"\bembeddings\b", name) else 0


class GradualUnfreezing(TrainerCallback):
    """Train the head first, and after some epochs each time one more layer (https://arxiv.org/abs/1801.06146).

    Args:
        epochs (`float`): After how many epochs the next layer is trained, too.

    Example:
    ```python
    >>> from rnn_hf.optimizers.parameter_groups import GradualUnfreezing
    >>> GradualUnfreezing(0.5).num_layers(step=15, steps_per_epoch=10)
    3

    ```
    """

    def __init__(self, epochs: float):
        self.epochs = epochs

    def num_layers(self, step: int, steps_per_epoch: float) -> int:
        """Return how many layers below the head are trained in a step, which counts from 0."""
        return int(step / (steps_per_epoch * self.epochs))

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Drop the gradients of the layers that are not trained yet."""
        num_layers = self.num_layers(state.global_step, state.max_steps / state.num_train_epochs)
        for name, parameter in model.named_parameters():
            if layer_depth(name, model) > num_layers:
                parameter.grad = None


__all__ = ["GradualUnfreezing", "layer_depth", "parameter_groups"]
