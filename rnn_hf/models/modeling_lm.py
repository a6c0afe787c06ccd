"""Language models over a recurrent encoder: what pretraining trains, and what generates text."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin
from transformers.modeling_outputs import CausalLMOutput
from transformers.utils import ModelOutput

from .base import AUTO_MAP, Encoded, RnnPreTrainedModel, as_wanted, select_hidden_states, wants_hidden_states
from .configuration_rnn import RnnConfig
from .language_model import LanguageModelHead
from .losses import average_loss, check_class_ids
from .modeling_rnn import RnnModel
from .packing import Packing
from .recurrence import LockedDropout


@dataclass
class RnnForPreTrainingOutput(ModelOutput):
    """What [`RnnForPreTraining`] returns.

    Args:
        loss (`torch.FloatTensor`, a scalar): Mean over tokens and directions; in training of a large vocabulary it is
            estimated.
        log_likelihoods (`torch.FloatTensor` of shape `[batch_size, directions]`):
            Logarithm of the probability of each sequence's tokens, from left to right but for the first one, and from
            right to left but for the last one.
        h_n (`torch.FloatTensor` of shape `[num_hidden_layers * directions, batch_size, hidden_size]`):
            Hidden states after the last step of each direction.
        c_n (`torch.FloatTensor`, the shape of `h_n`, *optional*): Cell states of an LSTM.
    """

    loss: Tensor | None = None
    log_likelihoods: Tensor | None = None
    h_n: Tensor | None = None
    c_n: Tensor | None = None


class RnnForPreTraining(RnnPreTrainedModel):
    """A recurrent encoder that predicts each next token and, if it reads backwards, each previous one.

    The states of its last layer predict. No direction may see what the other one has read
    (https://arxiv.org/abs/1802.05365): from the second layer on, a direction reads its own states alone, as long as
    [`separate_directions`] holds the weights between them at zero. Fine-tuning trains those weights too.

    Args:
        config ([`RnnConfig`]): The architecture.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf import RnnConfig, RnnForPreTraining
    >>> model = RnnForPreTraining(RnnConfig(vocab_size=100, embedding_size=8, hidden_size=16)).eval()
    >>> model(input_ids=torch.tensor([[5, 6, 7], [8, 9, 3]])).log_likelihoods.shape
    torch.Size([2, 2])

    ```
    """

    def __init__(self, config: RnnConfig):
        super().__init__(config)
        self.model = RnnModel(config)
        self.dropout = LockedDropout(config.classifier_dropout)
        self.lm_head = LanguageModelHead(config, has_bias=True)
        self.post_init()

    def forward(
        self,
        input_ids: Any = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        next_ids: Tensor | None = None,
        previous_ids: Tensor | None = None,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> RnnForPreTrainingOutput | tuple:
        """Predict the tokens of each sequence; the inputs are those of [`RnnModel.forward`].

        Args:
            labels (`torch.LongTensor`, *optional*): Not read: the tokens themselves are predicted. The Trainer counts
                those that are not -100.
            num_items_in_batch (`int` or `torch.Tensor`, *optional*): Number of tokens over which the loss is averaged,
                when this is one of several accumulated or distributed batches; without it the batch's own.
            next_ids (`torch.LongTensor` of shape `[num_tokens]`, *optional*): The token after each packed token, -100
                for none; without it that of the sequence. It is given where a sequence is a piece of a longer one.
            previous_ids (`torch.LongTensor` of shape `[num_tokens]`, *optional*): The token before each packed token.
            inputs: The other arguments of [`RnnModel.forward`]: packed layout, initial states.

        Returns:
            [`RnnForPreTrainingOutput`]

        Raises:
            ValueError: Without ids; as [`RnnModel.forward`].
        """
        encoded = self.model(input_ids, attention_mask, output_hidden_states=False, return_packed=True, **inputs)
        packing = encoded.packing
        if next_ids is None or previous_ids is None:
            next_ids, previous_ids = neighbours(self._ids(encoded), packing)
        states = self.dropout(encoded.output.states[-1], packing)
        vectors = self.model.embeddings.word_embeddings.weight
        likelihoods, count = [], 0
        wanted = [self._targets(next_ids), self._targets(previous_ids)][: self.config.num_directions]
        for direction, (part, targets) in enumerate(zip(states.chunk(len(wanted), dim=1), wanted, strict=True)):
            found = (targets >= 0).nonzero().flatten()
            losses = self.lm_head.losses(direction, part[found], targets[found], vectors, is_exact=not self.training)
            rows = packing.sorted_indices[packing.sorted_rows[found]]
            likelihoods.append(losses.new_zeros(packing.batch_size).index_add(0, rows, -losses))
            count += len(found)
        log_likelihoods = torch.stack(likelihoods, dim=1)
        if num_items_in_batch is not None:
            num_items_in_batch = num_items_in_batch * len(wanted)
        result = RnnForPreTrainingOutput(
            loss=average_loss(-log_likelihoods.sum(), count, num_items_in_batch),
            log_likelihoods=log_likelihoods,
            h_n=encoded.output.h_n,
            c_n=encoded.output.c_n,
        )
        return as_wanted(self.config, result, return_dict)

    def separate_directions(self) -> None:
        """Hold the weights by which a direction reads the other one's states at zero, also in later training."""
        for weight in self._mixing_weights():
            own = self._is_own(weight).to(weight)
            with torch.no_grad():
                weight.mul_(own)
            weight.register_hook(lambda gradient, own=own: gradient * own.to(gradient))

    @property
    def mixes_directions(self) -> bool:
        """`bool`: whether a direction sees what the other one has read, so that its predictions mean nothing."""
        return any(bool((weight[~self._is_own(weight)] != 0).any()) for weight in self._mixing_weights())

    def _mixing_weights(self) -> Iterator[nn.Parameter]:
        if self.config.bidirectional:
            for layer in range(1, self.config.num_hidden_layers):
                for ending in ("", "_reverse"):
                    yield getattr(self.model.rnn, f"weight_ih_l{layer}{ending}")

    def _is_own(self, weight: nn.Parameter) -> Tensor:
        """Tell which columns of an input weight read the states of its own direction."""
        rnn = self.model.rnn
        is_reverse = any(
            weight is getattr(rnn, f"weight_ih_l{layer}_reverse") for layer in range(self.config.num_hidden_layers)
        )
        is_own = torch.zeros_like(weight, dtype=torch.bool)
        is_own.chunk(2, dim=1)[int(is_reverse)].fill_(True)
        return is_own

    def _targets(self, ids: Tensor) -> Tensor:
        """Name the entries to predict: those without a word embedding count as the unknown token."""
        return torch.where(ids >= 0, self.model.embeddings.word_embedding_ids(ids), ids)

    def _ids(self, encoded: Encoded) -> Tensor:
        if encoded.input_ids is None:
            raise ValueError(f"{type(self).__name__} predicts tokens: give input_ids beside inputs_embeds.")
        return encoded.input_ids


class RnnForCausalLM(RnnForPreTraining, GenerationMixin):
    """A recurrent encoder that reads from left to right and gives the scores of each next token.

    Args:
        config ([`RnnConfig`]): The architecture; `bidirectional` must be false.

    Raises:
        ValueError: The architecture reads in both directions.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf import RnnConfig, RnnForCausalLM
    >>> model = RnnForCausalLM(RnnConfig(vocab_size=100, embedding_size=8, hidden_size=16, bidirectional=False)).eval()
    >>> model(input_ids=torch.tensor([[5, 6, 7]])).logits.shape
    torch.Size([1, 3, 100])
    >>> model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=4, do_sample=False).shape
    torch.Size([1, 7])

    ```
    """

    def __init__(self, config: RnnConfig):
        if config.bidirectional:
            raise ValueError(
                "RnnForCausalLM reads from left to right, but this architecture is bidirectional: take "
                "bidirectional=False."
            )
        super().__init__(config)

    def forward(  # type: ignore[override]
        self,
        input_ids: Any = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> CausalLMOutput | tuple:
        """Score the next token of each step; the inputs are those of [`RnnModel.forward`].

        Args:
            labels (`torch.LongTensor` of shape `[batch_size, sequence_length]`, *optional*):
                The tokens themselves, -100 for those that are not to be predicted. Each is predicted by the state of
                the token before it.
            num_items_in_batch (`int` or `torch.Tensor`, *optional*): As in [`RnnForPreTraining.forward`].
            inputs: The other arguments of [`RnnModel.forward`]: packed layout, initial states.

        Returns:
            `CausalLMOutput` with `logits` of shape `[batch_size, sequence_length, vocab_size]`; entries without a word
            embedding have minus infinity.

        Raises:
            ValueError: As [`RnnModel.forward`]; labels of another shape than the padded batch.
        """
        inputs = {name: value for name, value in inputs.items() if name != "use_cache"}
        wanted = wants_hidden_states(self.config, output_hidden_states)
        encoded = self.model(input_ids, attention_mask, output_hidden_states=wanted, return_packed=True, **inputs)
        packing = encoded.packing
        vectors = self.model.embeddings.word_embeddings.weight
        scores = self.lm_head.logits(0, self.dropout(encoded.output.states[-1], packing), vectors)
        lacking = self.config.vocab_size - scores.shape[1]
        logits = nn.functional.pad(packing.pad(scores), (0, lacking), value=float("-inf"))
        loss = None
        if labels is not None:
            shape = (packing.batch_size, packing.sequence_length)
            labels = packing.pack(check_class_ids("labels", labels, shape, self.config.vocab_size))
            targets = self._targets(neighbours(labels, packing)[0])
            total = nn.functional.cross_entropy(scores.float(), targets, reduction="sum")
            loss = average_loss(total, int((targets != -100).sum()), num_items_in_batch)
        hidden_states = select_hidden_states(self.config, encoded, output_hidden_states)
        result = CausalLMOutput(loss=loss, logits=logits, hidden_states=hidden_states)
        return as_wanted(self.config, result, return_dict)

    def prepare_inputs_for_generation(self, input_ids: Tensor, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Give the whole text so far at each step of `generate`, padded on either side."""
        return {"input_ids": input_ids, "attention_mask": kwargs.get("attention_mask")}


def neighbours(ids: Tensor, packing: Packing) -> tuple[Tensor, Tensor]:
    """Name the token after, and the token before, each packed token.

    Args:
        ids (`torch.LongTensor` of shape `[num_tokens]`): The tokens.
        packing ([`Packing`]): The layout.

    Returns:
        Both, `torch.LongTensor` of shape `[num_tokens]`, -100 where a sequence ends and where it begins.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.modeling_lm import neighbours
    >>> from rnn_hf.models.packing import Packing
    >>> neighbours(torch.tensor([5, 6, 7]), Packing.from_mask(torch.ones(1, 3)))
    (tensor([   6,    7, -100]), tensor([-100,    5,    6]))

    ```
    """
    outside = ids.new_full((packing.num_sequences,), -100)
    known = torch.cat([outside, ids])
    return known[packing.previous_positions(reverse=True)], known[packing.previous_positions()]


_AUTO_MAP = {
    "AutoModelForPreTraining": "modeling_lm.RnnForPreTraining",
    "AutoModelForCausalLM": "modeling_lm.RnnForCausalLM",
}
RnnForPreTraining.auto_map = AUTO_MAP | {"AutoModelForPreTraining": _AUTO_MAP["AutoModelForPreTraining"]}
RnnForCausalLM.auto_map = AUTO_MAP | _AUTO_MAP
RnnForPreTraining.register_for_auto_class("AutoModelForPreTraining")
RnnForCausalLM.register_for_auto_class("AutoModelForCausalLM")

__all__ = ["RnnForCausalLM", "RnnForPreTraining", "RnnForPreTrainingOutput", "neighbours"]
