"""Learn from texts without labels and without a teacher: what a model predicts for them teaches it."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from ..models.base import Encoded
from ..models.configuration_rnn import RnnConfig
from ..models.losses import ProblemType, at_least_float32
from ..models.packing import Packing

# How much unlabelled texts count, where nobody says it.
DEFAULT_WEIGHT = 1.0
# Norms, as shares of that of a text's embeddings: of the perturbation that is learnt to be withstood, and of the one by
# which its direction is found.
_RADIUS = 0.1
_PROBE = 0.01


def ramp_up(progress: float) -> float:
    """Return how much predictions for unlabelled texts count in the course of training: little while they are bad.

    It rises as a Gaussian in the first half of the steps, from 0.007 to 1 (https://arxiv.org/abs/1610.02242).

    Args:
        progress (`float`): Share of the steps that are done.

    Example:
    ```python
    >>> from rnn_hf.objectives.semi_supervised import ramp_up
    >>> [round(ramp_up(progress), 3) for progress in (0.0, 0.25, 0.5, 1.0)]
    [0.007, 0.287, 1.0, 1.0]

    ```
    """
    return math.exp(-5 * (1 - min(2 * progress, 1.0)) ** 2)


class RampUp(TrainerCallback):
    """Tell a model's objectives before each step how far training has come; see [`ramp_up`]."""

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Set it."""
        model = model.get_base_model() if hasattr(model, "get_base_model") else model  # of the adapters of peft
        model.objectives.progress = state.global_step / max(state.max_steps, 1)


def is_unlabelled(labels: Tensor) -> Tensor:
    """Tell which texts, or tokens, have no label: `[batch_size, ...]` to `[batch_size]`, of tags as they are.

    Args:
        labels (`torch.Tensor`): Class ids, -100 for none; or floats, NaN for none.
    """
    if not labels.is_floating_point():
        return labels == -100
    missing = labels.isnan()
    return missing.all(dim=1) if missing.dim() > 1 else missing


def entropies(logits: Tensor, problem_type: ProblemType) -> Tensor:
    """Tell how undecided predictions are (https://papers.nips.cc/paper/2740): to be minimised on unlabelled texts.

    Args:
        logits (`torch.FloatTensor` of shape `[num_texts, num_labels]`): Scores.
        problem_type (`str`): As in the configuration.

    Returns:
        `torch.FloatTensor` of shape `[num_texts]`: entropies of one label; sums of those of each of several labels; of
        a regression 0.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.objectives.semi_supervised import entropies
    >>> entropies(torch.tensor([[0.0, 0.0], [9.0, 0.0]]), "single_label_classification")
    tensor([0.6931, 0.0012])

    ```
    """
    return _cross_entropies(logits, logits, problem_type)


def virtual_adversarial_losses(model: Any, encoded: Encoded, problem_type: ProblemType) -> Tensor:
    """Tell how far a small perturbation of the embeddings moves a classifier's predictions, in the worst direction.

    What the model predicts without dropout is to be predicted with dropout and with the perturbation, which is a tenth
    as large as the embeddings of the text are (virtual adversarial training, https://arxiv.org/abs/1605.07725).

    Args:
        model ([`RnnForSequenceClassification`]): The classifier, in training.
        encoded ([`Encoded`]): A batch, with ids.
        problem_type (`str`): As in the configuration.

    Returns:
        `torch.FloatTensor` of shape `[num_texts]`: divergences, of a regression squared differences.

    Raises:
        ValueError: There are no ids.
    """
    ids, packing = encoded.input_ids, encoded.packing
    if ids is None:
        raise ValueError("Virtual adversarial training perturbs the embeddings of tokens: give input_ids.")

    def logits_of(embeds: Tensor) -> Tensor:
        inputs = {"batch_sizes": packing.batch_sizes, "sorted_indices": packing.sorted_indices}
        own = model.model(ids, inputs_embeds=embeds, return_packed=True, output_hidden_states=False, **inputs)
        return model._classify(own)

    with _without_dropout(model):
        with torch.no_grad():
            embeds = model.model.embeddings(ids)
            predicted = logits_of(embeds)
        norms = _norms(embeds, packing)
        noise = torch.randn_like(embeds)
        probe = (noise * (_PROBE * norms / _norms(noise, packing))).requires_grad_()
        with torch.enable_grad():
            moved = _divergences(predicted, logits_of(embeds + probe), problem_type).sum()
            (direction,) = torch.autograd.grad(moved, probe)
    worst = direction * (_RADIUS * norms / _norms(direction, packing))
    return _divergences(predicted, logits_of(model.model.embeddings(ids) + worst), problem_type)


class CrossViewHeads(nn.Module):
    """Let parts of a tagger's states predict what the whole tagger predicts (https://arxiv.org/abs/1809.08370).

    Each part, a view, has a classifier of its own: the forward state at a word, which has not read what follows, and
    the one before the word; the backward state at it, and the one after it. They share the encoder with the tagger,
    which so learns from sentences without labels. The states are those of the first layer.

    Args:
        config ([`RnnConfig`]): The architecture.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf import RnnConfig, RnnForTokenClassification
    >>> from rnn_hf.objectives.semi_supervised import CrossViewHeads
    >>> model = RnnForTokenClassification(RnnConfig(vocab_size=100, hidden_size=8, num_labels=3)).train()
    >>> encoded = model.model(torch.tensor([[5, 6, 7]]), output_hidden_states=True, return_packed=True)
    >>> CrossViewHeads(model.config)(model, encoded, torch.tensor([True, True, False])).shape
    torch.Size([2])

    ```
    """

    def __init__(self, config: RnnConfig):
        super().__init__()
        self.classifiers = nn.ModuleList(
            nn.Linear(config.hidden_size, len(config.label_names)) for _ in range(2 * config.num_directions)
        )

    def forward(self, model: Any, encoded: Encoded, chosen: Tensor) -> Tensor:
        """Compute the loss of some words.

        Args:
            model ([`RnnForTokenClassification`]): The tagger, in training.
            encoded ([`Encoded`]): A batch, with ids and the states of all layers.
            chosen (`torch.BoolTensor` of shape `[num_tokens]`): Which packed tokens count; only words do.

        Returns:
            `torch.FloatTensor` of shape `[num_words]`: cross-entropies, summed over the views.
        """
        ids, packing, config = encoded.input_ids, encoded.packing, model.config
        if ids is None:
            raise ValueError("Cross-view training needs to know which tokens begin a word: give input_ids.")
        is_start = model.word_starts[ids]
        tokens, firsts = packing, torch.arange(len(ids), device=ids.device)
        if encoded.words is not None:  # which are the steps
            is_start, tokens, firsts = torch.ones_like(is_start), encoded.words.tokens, encoded.words.first_tokens
        special = [getattr(config, f"{name}_token_id") for name in ("pad", "bos", "eos", "sep")]
        is_special = torch.isin(ids, ids.new_tensor([index for index in special if index is not None]))
        words = (chosen & is_start & ~is_special).nonzero().flatten()
        inputs = {"batch_sizes": tokens.batch_sizes, "sorted_indices": tokens.sorted_indices}
        with _without_dropout(model):
            all_ids = ids if encoded.words is None else encoded.words.input_ids
            probabilities = model.marginals(all_ids, **inputs).flatten(0, 1)  # [batch_size * max_length, num_labels]
        wanted = probabilities[Packing.from_batch_sizes(**inputs, device=ids.device).positions[firsts[words]]]
        states = encoded.output.states[0]
        losses = []
        views = _views(states, packing.group_ends(is_start), packing, config.num_directions)
        for classifier, view in zip(self.classifiers, views, strict=True):
            scores = classifier(model.dropout(view, packing)[words])
            losses.append(-(wanted * at_least_float32(scores).log_softmax(dim=-1)).sum(dim=-1))
        return torch.stack(losses).sum(dim=0)


def _views(states: Tensor, ends: Tensor, packing: Packing, directions: int) -> Iterator[Tensor]:
    """Yield the state of each direction that has read a word, and the one beside it that has not."""
    initial = states.new_zeros(packing.num_sequences, states.shape[1] // directions)
    for direction, own in enumerate(states.chunk(directions, dim=1)):
        befores = packing.previous_positions(reverse=direction == 1)
        yield own[ends] if direction == 0 else own
        yield torch.cat([initial, own])[befores if direction == 0 else befores[ends]]


@contextlib.contextmanager
def _without_dropout(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation for a while."""
    model.eval()
    try:
        yield
    finally:
        model.train()


def _norms(values: Tensor, packing: Packing) -> Tensor:
    """Compute the norm of each text's vectors together, at each of its tokens: `[num_tokens, 1]`, never 0."""
    rows = packing.sorted_rows
    squares = values.new_zeros(packing.num_sequences).index_add(0, rows, values.square().sum(dim=1))
    return squares.sqrt().clamp(min=1e-12)[rows].unsqueeze(1)


def _cross_entropies(logits: Tensor, others: Tensor, problem_type: ProblemType) -> Tensor:
    logits, others = at_least_float32(logits), at_least_float32(others)
    if problem_type == "regression":
        return logits.new_zeros(len(logits))
    if problem_type == "multi_label_classification":
        return (nn.functional.softplus(others) - logits.sigmoid() * others).sum(dim=-1)
    return -(logits.softmax(dim=-1) * others.log_softmax(dim=-1)).sum(dim=-1)


def _divergences(logits: Tensor, others: Tensor, problem_type: ProblemType) -> Tensor:
    """Compute the Kullback-Leibler divergence of other predictions from some; of a regression, squared differences."""
    if problem_type == "regression":
        return (at_least_float32(logits) - at_least_float32(others)).square().sum(dim=-1)
    return _cross_entropies(logits, others, problem_type) - _cross_entropies(logits, logits, problem_type)


__all__ = [
    "DEFAULT_WEIGHT",
    "CrossViewHeads",
    "RampUp",
    "entropies",
    "is_unlabelled",
    "ramp_up",
    "virtual_adversarial_losses",
]
