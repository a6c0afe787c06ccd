"""Objectives that training adds to the loss of the labels. They are no part of a saved model.

[`RnnTrainer`] attaches those that [`RnnTrainingArguments`] ask for as `model.objectives`; a model's `forward` adds them
to its loss in training, so that they work in several processes and under accumulation as the loss of the labels does.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.examples import iterate_column
from ..models.base import Encoded
from ..models.configuration_rnn import RnnConfig
from ..models.language_model import LanguageModelHead
from ..models.losses import average_loss, check_class_ids, cross_entropy, score_labels, symmetric_kl
from ..utils.messages import shown
from .distillation import distillation_losses
from .semi_supervised import CrossViewHeads, entropies, is_unlabelled, ramp_up, virtual_adversarial_losses


class TrainingObjectives(nn.Module):
    """What training adds to the loss of the labels, and how much each label counts in that.

    Args:
        config ([`RnnConfig`]): That of the model.
        class_weights (`Sequence[float]`, *optional*): How much each label counts in the loss, in the order of their
            ids; of several labels a text, how much one that is there counts against its absence.
        rdrop_loss_weight (`float`): How much two forward passes over a batch, each with dropout of its own, must agree
            (R-Drop, https://arxiv.org/abs/2106.14448); 0 makes one pass.
        lm_loss_weight (`float`): How much predicting the next and the previous token counts, of a tagger
            (https://arxiv.org/abs/1704.07156).
        auxiliary_loss_weight (`float`): How much auxiliary labels count, of a tagger
            (https://aclanthology.org/P16-2038).
        num_auxiliary_tags (`int`): Number of auxiliary labels; 0 for none.
        distillation_loss_weight (`float`): How much a teacher's logits count, where examples have them
            (https://arxiv.org/abs/1503.02531).
        distillation_temperature (`float`): See [`~distillation.distillation_losses`].
        unlabelled_loss_weight (`float`): How much the model's own predictions for examples without labels count: of a
            classifier they are to be certain and to withstand perturbations (https://arxiv.org/abs/2009.04007), of a
            tagger parts of its states are to predict them, see [`CrossViewHeads`].
        is_tagger (`bool`): Whether the model is a tagger, with the latter.

    Raises:
        ValueError: Weights that are negative or not finite, or of another number than the labels.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf import RnnConfig, RnnForSequenceClassification
    >>> from rnn_hf.objectives.training_objectives import TrainingObjectives
    >>> model = RnnForSequenceClassification(RnnConfig(vocab_size=100, hidden_size=8, num_labels=2)).train()
    >>> model.objectives = TrainingObjectives(model.config, rdrop_loss_weight=1.0)
    >>> model(input_ids=torch.tensor([[5, 6, 7]]), labels=torch.tensor([1])).logits.shape
    torch.Size([1, 2])

    ```
    """

    def __init__(
        self,
        config: RnnConfig,
        *,
        class_weights: Sequence[float] | None = None,
        rdrop_loss_weight: float = 0.0,
        lm_loss_weight: float = 0.0,
        auxiliary_loss_weight: float = 0.5,
        num_auxiliary_tags: int = 0,
        distillation_loss_weight: float = 0.0,
        distillation_temperature: float = 1.0,
        unlabelled_loss_weight: float = 0.0,
        is_tagger: bool = False,
    ):
        super().__init__()
        weights = {"rdrop": rdrop_loss_weight, "lm": lm_loss_weight, "auxiliary": auxiliary_loss_weight}
        weights |= {"distillation": distillation_loss_weight, "unlabelled": unlabelled_loss_weight}
        for name, weight in weights.items():
            if not math.isfinite(weight) or weight < 0:
                raise ValueError(f"{name}_loss_weight must not be negative, and finite; got {weight}.")
        if class_weights is not None and len(class_weights) != len(config.label_names):
            raise ValueError(
                f"class_weights must hold one number for each of {len(config.label_names)} labels, got "
                f"{len(class_weights)}."
            )
        for index, weight in enumerate(class_weights or []):
            if not math.isfinite(weight) or weight < 0:
                raise ValueError(f"class_weights must not be negative, and finite; that of label {index} is {weight}.")
        self.class_weights = None if class_weights is None else list(class_weights)
        self.rdrop_loss_weight = rdrop_loss_weight
        self.lm_loss_weight = lm_loss_weight
        self.auxiliary_loss_weight = auxiliary_loss_weight
        self.distillation_loss_weight = distillation_loss_weight
        self.distillation_temperature = distillation_temperature
        self.unlabelled_loss_weight = unlabelled_loss_weight
        self.progress = 1.0  # of training, which `RampUp` sets
        self.language_model = LanguageModelHead(config) if lm_loss_weight > 0 else None
        self.auxiliary_classifier: nn.Linear | None = None
        if num_auxiliary_tags > 0:
            self.auxiliary_classifier = nn.Linear(config.num_directions * config.hidden_size, num_auxiliary_tags)
        self.cross_views: CrossViewHeads | None = None
        if unlabelled_loss_weight > 0 and is_tagger:
            self.cross_views = CrossViewHeads(config)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    @property
    def num_passes(self) -> int:
        """`int`: number of forward passes over each batch of training."""
        return 2 if self.rdrop_loss_weight > 0 else 1

    def forward(
        self,
        model: Any,
        encoded: Encoded,
        logits: Tensor,
        labels: Tensor,
        num_items_in_batch: Tensor | int | None,
        teacher_logits: Tensor | None = None,
        auxiliary_tags: Tensor | None = None,
    ) -> Tensor:
        """Sum the additional losses of a batch that stands `num_passes` times, row after row.

        Args:
            model ([`RnnForSequenceClassification`] or [`RnnForTokenClassification`]): The model they are added to.
            encoded ([`Encoded`]): The batch, with the states of all layers of a tagger.
            logits (`torch.FloatTensor`): `[rows, num_labels]` of a classifier, packed
                `[num_tokens, num_scored_labels]` of a tagger.
            labels (`torch.Tensor`): Those of all rows, padded.
            num_items_in_batch (`int` or `torch.Tensor`, *optional*): See [`~losses.average_loss`].
            teacher_logits (`torch.FloatTensor`, *optional*): Those of a teacher, `[batch_size, num_labels]`, of a
                tagger `[batch_size, sequence_length, num_labels]`, NaN where there are none.
            auxiliary_tags (`torch.LongTensor` of shape `[batch_size, sequence_length]`, *optional*): Ids of auxiliary
                labels, -100 where there is none.

        Returns:
            `torch.FloatTensor`: a scalar.
        """
        is_tagger = hasattr(model, "word_starts")
        loss = logits.new_zeros(()).float()
        if self.num_passes > 1:
            loss = loss + self._consistency_loss(model, encoded, logits, labels, num_items_in_batch, is_tagger)
        if self.language_model is not None and is_tagger and encoded.input_ids is not None:
            embeddings, states = model.model.embeddings, encoded.output.states[0]
            own_ids, vectors = embeddings.word_embedding_ids(encoded.input_ids), embeddings.word_embeddings.weight
            total = self.language_model(states, own_ids, vectors, encoded.packing)
            num_labelled = int((labels != -100).sum())
            loss = loss + self.lm_loss_weight * average_loss(total, num_labelled, num_items_in_batch)
        if self.auxiliary_classifier is not None and is_tagger and auxiliary_tags is not None:
            loss = loss + self._auxiliary_loss(model, encoded, auxiliary_tags, num_items_in_batch)
        if teacher_logits is not None and self.distillation_loss_weight > 0:
            loss = loss + self._distillation_loss(model, encoded, logits, teacher_logits, num_items_in_batch, is_tagger)
        if self.unlabelled_loss_weight > 0:
            loss = loss + self._unlabelled_loss(model, encoded, logits, labels, num_items_in_batch)
        return loss

    def _unlabelled_loss(
        self, model: Any, encoded: Encoded, logits: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None
    ) -> Tensor:
        """Average over as many items as have labels: batches hold as many examples without."""
        lacks_label = is_unlabelled(labels)
        if self.cross_views is not None:
            lacks_labels = lacks_label.all(dim=1)
            chosen = encoded.packing.pack(lacks_labels.unsqueeze(1).expand(-1, encoded.packing.sequence_length))
            total = self.cross_views(model, encoded, chosen).sum()
        else:
            problem_type = model.config.problem_type
            total = entropies(logits, problem_type)[lacks_label].sum()
            total = total + virtual_adversarial_losses(model, encoded, problem_type).sum()
        count = (~(labels.isnan() if labels.is_floating_point() else lacks_label)).sum()
        weight = self.unlabelled_loss_weight * ramp_up(self.progress)
        return weight * average_loss(total, count, num_items_in_batch)

    def _consistency_loss(
        self,
        model: Any,
        encoded: Encoded,
        logits: Tensor,
        labels: Tensor,
        num_items_in_batch: Tensor | int | None,
        is_tagger: bool,
    ) -> Tensor:
        if is_tagger:
            logits = encoded.packing.pad(logits)
        problem_type: Any = "single_label_classification" if is_tagger else model.config.problem_type
        apart = symmetric_kl(logits, logits.roll(len(logits) // self.num_passes, 0), problem_type)
        if is_tagger:
            apart = apart[labels != -100]
        return self.rdrop_loss_weight * average_loss(apart.sum(), apart.numel(), num_items_in_batch)

    def _distillation_loss(
        self,
        model: Any,
        encoded: Encoded,
        logits: Tensor,
        teacher_logits: Tensor,
        num_items_in_batch: Tensor | int | None,
        is_tagger: bool,
    ) -> Tensor:
        problem_type: Any = "single_label_classification" if is_tagger else model.config.problem_type
        targets = teacher_logits.repeat(self.num_passes, *[1] * (teacher_logits.dim() - 1))
        if is_tagger:
            targets = encoded.packing.pack(targets)
            logits = model.label_scores(logits, torch.logaddexp)
        if targets.shape != logits.shape:
            raise ValueError(
                f"teacher_logits must be those of {logits.shape[-1]} labels, got {teacher_logits.shape[-1]}."
            )
        known = ~targets[:, 0].isnan()
        losses = distillation_losses(logits[known], targets[known], problem_type, self.distillation_temperature)
        return self.distillation_loss_weight * average_loss(losses.sum(), losses.numel(), num_items_in_batch)

    def _auxiliary_loss(
        self, model: Any, encoded: Encoded, tags: Tensor, num_items_in_batch: Tensor | int | None
    ) -> Tensor:
        assert self.auxiliary_classifier is not None
        packing = encoded.packing
        shape = (packing.batch_size // self.num_passes, packing.sequence_length)
        tags = check_class_ids("auxiliary_tags", tags, shape, self.auxiliary_classifier.out_features)
        states = model.pool_subwords(encoded, encoded.output.states[0])
        logits = score_labels(self.auxiliary_classifier, model.dropout(states, packing))
        packed_tags = packing.pack(tags.repeat(self.num_passes, 1))
        return self.auxiliary_loss_weight * cross_entropy(logits, packed_tags, num_items_in_batch)


def balanced_weights(train_dataset: Any, num_labels: int, problem_type: str) -> list[float]:
    """Weigh each label by how rare it is.

    Of one label a text or word, all count as much together as without weights; of several labels a text, a label that
    is there counts as much as its absence.

    Args:
        train_dataset: Encoded examples with `labels` or `label`: a `datasets.Dataset`, a dataset of torch, a list of
            dictionaries, or a stream, which is read to its end.
        num_labels (`int`): Number of labels.
        problem_type (`str`): As in the configuration.

    Returns:
        `list[float]`: a weight for each label.

    Raises:
        ValueError: A regression, which has no classes, or labels that do not fit.

    Example:
    ```python
    >>> from datasets import Dataset
    >>> from rnn_hf.objectives.training_objectives import balanced_weights
    >>> balanced_weights(Dataset.from_dict({"labels": [0, 0, 0, 1]}), 2, "single_label_classification")
    [0.6666666666666666, 2.0]

    ```
    """
    if problem_type == "regression":
        raise ValueError("--class_weights balanced is for classes; a regression has none.")
    is_multi_label = problem_type == "multi_label_classification"
    counts, num_rows = np.zeros(num_labels), 0
    for labels in iterate_column(train_dataset, "labels", "label"):
        values = np.asarray(labels)
        if is_multi_label and np.isnan(values).any():
            continue  # a text without labels
        num_rows += 1
        if is_multi_label:
            fits = values.shape == (num_labels,) and np.isin(values, (0, 1)).all()
        else:
            values = values.reshape(-1)
            fits = values.dtype.kind in "iu" and (values < num_labels).all()
            values = values[values >= 0] if fits else values
        if not fits:
            wanted = f"{num_labels} numbers 0 or 1" if is_multi_label else f"whole numbers below {num_labels}"
            raise ValueError(
                f"--class_weights balanced counts labels, which must be {wanted}; those of example {num_rows - 1} are "
                f"{shown(labels)}."
            )
        if is_multi_label:
            counts += values
        else:
            np.add.at(counts, values, 1)  # not bincount, which makes an array of all labels for each text
    present = counts > 0
    if is_multi_label:
        return np.where(present, (num_rows - counts) / np.maximum(counts, 1), 1.0).clip(min=1e-3).tolist()
    weights = np.where(present, counts.sum() / (max(present.sum(), 1) * np.maximum(counts, 1)), 1.0)
    return weights.tolist()


__all__ = ["TrainingObjectives", "balanced_weights"]
