"""Recurrent encoder, classifier and tagger.

`RnnModel` embeds tokens and runs the recurrent layers. The classifier reads one vector per sequence from it, the
tagger reads every step. All of them take padded or packed input and compute on packed tokens only, so that padding
costs nothing and changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput, TokenClassifierOutput
from transformers.utils import ModelOutput

from .configuration_rnn import RnnConfig
from .packing_rnn import Packing
from .recurrence_rnn import LockedDropout, RecurrentOutput, run_recurrence

ProblemType = Literal["regression", "single_label_classification", "multi_label_classification"]

_RECURRENT_MODULES: dict[str, tuple[Callable[..., nn.RNNBase], dict[str, str]]] = {
    "lstm": (nn.LSTM, {}),
    "gru": (nn.GRU, {}),
    "rnn_tanh": (nn.RNN, {"nonlinearity": "tanh"}),
    "rnn_relu": (nn.RNN, {"nonlinearity": "relu"}),
}


@dataclass
class RnnModelOutput(ModelOutput):
    """What [`RnnModel`] returns.

    Args:
        last_hidden_state (`torch.FloatTensor` of shape `[batch_size, sequence_length, directions * hidden_size]`):
            States of the last layer, 0 on padding.
        h_n (`torch.FloatTensor` of shape `[num_hidden_layers * directions, batch_size, hidden_size]`):
            Hidden states after the last real step of each direction, in the batch's order.
        c_n (`torch.FloatTensor`, the shape of `h_n`, *optional*):
            Cell states of an LSTM.
        hidden_states (`tuple(torch.FloatTensor)`, *optional*):
            With `output_hidden_states=True`: the embeddings and the states of each layer, padded.
    """

    last_hidden_state: Tensor | None = None
    h_n: Tensor | None = None
    c_n: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class RnnPreTrainedModel(PreTrainedModel):
    """Initialisation and loading, common to all recurrent models."""

    config: RnnConfig
    config_class = RnnConfig
    base_model_prefix = "model"
    accepts_loss_kwargs = True

    def _init_weights(self, module: nn.Module) -> None:
        """Initialise what no checkpoint filled.

        Recurrent weights are orthogonal for each gate (https://arxiv.org/abs/1312.6120), input weights Xavier
        uniform for each gate, biases 0 but for the LSTM's forget gate, which starts at 1
        (https://proceedings.mlr.press/v37/jozefowicz15.html).
        """
        if isinstance(module, nn.RNNBase):
            for name, parameter in module.named_parameters():
                values = torch.zeros(parameter.shape)
                gates = values.split(module.hidden_size)
                for gate in gates:
                    if "weight_hh" in name:
                        nn.init.orthogonal_(gate)
                    elif "weight_ih" in name:
                        nn.init.xavier_uniform_(gate)
                if "bias_ih" in name and module.mode == "LSTM":
                    gates[1].fill_(1.0)
                init.copy_(parameter, values.to(parameter))
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=float(self.config.initializer_range))
        elif isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)


class RnnModel(RnnPreTrainedModel):
    """Embeddings and stacked recurrent layers, without a head.

    Args:
        config ([`RnnConfig`]): The architecture.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf import RnnConfig, RnnModel
    >>> model = RnnModel(RnnConfig(vocab_size=100, embedding_size=8, hidden_size=16, pad_token_id=0)).eval()
    >>> input_ids = torch.tensor([[5, 6, 7], [8, 9, 0]])
    >>> output = model(input_ids=input_ids, attention_mask=(input_ids != 0).long())
    >>> output.last_hidden_state.shape, output.h_n.shape
    (torch.Size([2, 3, 32]), torch.Size([2, 2, 16]))

    ```
    """

    def __init__(self, config: RnnConfig):
        super().__init__(config)
        recurrent_module, options = _RECURRENT_MODULES[config.cell_type]
        self.embeddings = nn.Embedding(config.vocab_size, config.embedding_size)
        self.embedding_dropout = LockedDropout(config.embedding_dropout)
        self.rnn = recurrent_module(
            config.embedding_size,
            config.hidden_size,
            num_layers=config.num_hidden_layers,
            bidirectional=config.bidirectional,
            **options,
        )
        self.hidden_dropout = LockedDropout(config.hidden_dropout)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding matrix's module."""
        return self.embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the embedding matrix's module."""
        assert isinstance(value, nn.Embedding)
        self.embeddings = value

    def forward(
        self,
        input_ids: Tensor | PackedSequence | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        batch_sizes: Tensor | None = None,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
        h_0: Tensor | None = None,
        c_0: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> RnnModelOutput | tuple:
        """Encode a batch of sequences.

        The same sequences give the same result in every form of input.

        Args:
            input_ids (`torch.LongTensor` or `PackedSequence`, *optional*):
                Token ids: padded, of shape `[batch_size, sequence_length]`; packed, of shape `[num_tokens]`,
                together with `batch_sizes`; or a `PackedSequence` of them.
            attention_mask (`torch.Tensor` of shape `[batch_size, sequence_length]`, *optional*):
                Nonzero for tokens, 0 for padding, which may be anywhere; without it every id is a token.
            inputs_embeds (`torch.FloatTensor`, *optional*):
                Embeddings in place of `input_ids`: `[batch_size, sequence_length, embedding_size]`, or packed
                `[num_tokens, embedding_size]`.
            batch_sizes (`torch.LongTensor` of shape `[max_length]`, *optional*):
                Marks the input as packed: number of sequences longer than each step.
            sorted_indices (`torch.LongTensor` of shape `[batch_size]`, *optional*):
                Rows from the longest sequence to the shortest; without it packed input is in that order.
            unsorted_indices (`torch.LongTensor` of shape `[batch_size]`, *optional*):
                The inverse of `sorted_indices`.
            h_0 (`torch.FloatTensor` of shape `[num_hidden_layers * directions, batch_size, hidden_size]`, *optional*):
                Initial hidden states, for instance the `h_n` of the piece of text before this one.
            c_0 (`torch.FloatTensor`, the shape of `h_0`, *optional*):
                Initial cell states of an LSTM.
            output_hidden_states (`bool`, *optional*):
                Whether to return the states of every layer.
            return_dict (`bool`, *optional*):
                Whether to return a [`RnnModelOutput`] rather than a tuple.

        Returns:
            [`RnnModelOutput`]

        Raises:
            ValueError: Contradicting or missing inputs, ids outside the vocabulary, states of the wrong shape.
        """
        embeds, packing, output = self.encode(
            input_ids, attention_mask, inputs_embeds, batch_sizes, sorted_indices, unsorted_indices, h_0, c_0
        )
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        result = RnnModelOutput(
            last_hidden_state=packing.pad(output.states[-1]),
            h_n=output.h_n,
            c_n=output.c_n,
            hidden_states=_pad_all(packing, embeds, output) if output_hidden_states else None,
        )
        return result if _wants_dict(self.config, return_dict) else result.to_tuple()

    def encode(
        self,
        input_ids: Tensor | PackedSequence | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        batch_sizes: Tensor | None = None,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
        h_0: Tensor | None = None,
        c_0: Tensor | None = None,
    ) -> tuple[Tensor, Packing, RecurrentOutput]:
        """Encode a batch and leave it packed; the arguments are those of [`~RnnModel.forward`].

        Returns:
            The embeddings `[num_tokens, embedding_size]`, the [`Packing`] and the [`RecurrentOutput`].
        """
        tokens, packing = _read_input(
            input_ids, attention_mask, inputs_embeds, batch_sizes, sorted_indices, unsorted_indices
        )
        if tokens.is_floating_point():
            embeds = tokens
            if embeds.shape[-1] != self.config.embedding_size:
                raise ValueError(
                    f"inputs_embeds must have embedding_size={self.config.embedding_size} features, "
                    f"got {embeds.shape[-1]}."
                )
        else:
            if attention_mask is None and batch_sizes is None and isinstance(input_ids, Tensor) and input_ids.numel():
                self.warn_if_padding_and_no_attention_mask(input_ids, attention_mask)
            self._check_ids(tokens)
            embeds = self.embeddings(tokens)  # [num_tokens, embedding_size]
        dropped = self.embedding_dropout(embeds, packing)
        return embeds, packing, run_recurrence(self.rnn, dropped, packing, h_0, c_0, self.hidden_dropout)

    def _check_ids(self, tokens: Tensor) -> None:
        # Elsewhere than on the CPU, looking at the ids would wait for the device.
        if tokens.device.type != "cpu" or tokens.numel() == 0 or torch.compiler.is_compiling():
            return
        lowest, highest = (int(bound) for bound in tokens.aminmax())
        if lowest < 0 or highest >= self.embeddings.num_embeddings:
            raise ValueError(
                f"input_ids must be at least 0 and below the vocabulary's size, {self.embeddings.num_embeddings}; got "
                f"ids from {lowest} to {highest}. Does the tokenizer belong to this model?"
            )


class RnnForSequenceClassification(RnnPreTrainedModel):
    """A recurrent encoder with a classifier, or a regression, on one vector per sequence.

    Args:
        config ([`RnnConfig`]): The architecture; `pooling` says what the vector is, `problem_type` which loss.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf import RnnConfig, RnnForSequenceClassification
    >>> config = RnnConfig(vocab_size=100, embedding_size=8, hidden_size=16, num_labels=3)
    >>> model = RnnForSequenceClassification(config)
    >>> output = model(input_ids=torch.tensor([[5, 6, 7], [8, 9, 3]]), labels=torch.tensor([0, 2]))
    >>> output.logits.shape, output.loss.shape
    (torch.Size([2, 3]), torch.Size([]))

    ```
    """

    def __init__(self, config: RnnConfig):
        super().__init__(config)
        self.model = RnnModel(config)
        size = config.num_directions * config.hidden_size
        if config.pooling == "attention":
            self.attention = nn.Linear(size, 1, bias=False)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(size, len(config.id2label or {}))
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | PackedSequence | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        batch_sizes: Tensor | None = None,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
        h_0: Tensor | None = None,
        c_0: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> SequenceClassifierOutput | tuple:
        """Classify each sequence of a batch; the inputs are those of [`RnnModel.forward`].

        Args:
            labels (`torch.Tensor`, *optional*):
                `[batch_size]` class ids (-100: ignored); `[batch_size, num_labels]` floats 0 and 1 for
                several labels at once; `[batch_size]` or `[batch_size, num_labels]` floats for a regression.
            num_items_in_batch (`int` or `torch.Tensor`, *optional*):
                Number of labels over which the loss is averaged, when this is one of several accumulated or
                distributed batches; without it the batch's own.

        Returns:
            `SequenceClassifierOutput` with `logits` of shape `[batch_size, num_labels]`.
        """
        embeds, packing, output = self.model.encode(
            input_ids, attention_mask, inputs_embeds, batch_sizes, sorted_indices, unsorted_indices, h_0, c_0
        )
        logits = self.classifier(self.dropout(self._pool(packing, output)))
        loss = None
        if labels is not None:
            if self.config.problem_type is None:
                self.config.problem_type = _infer_problem_type(logits.shape[-1], labels)
            loss = _LOSSES[self.config.problem_type](logits, labels, num_items_in_batch)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        result = SequenceClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=_pad_all(packing, embeds, output) if output_hidden_states else None,
        )
        return result if _wants_dict(self.config, return_dict) else result.to_tuple()

    def _pool(self, packing: Packing, output: RecurrentOutput) -> Tensor:
        """Make one vector of each sequence, 0 for one without a token: `[batch_size, directions * hidden_size]`."""
        if self.config.pooling == "last":
            return torch.cat(list(output.h_n[-self.config.num_directions :]), dim=-1)
        states = output.states[-1]
        lengths = packing.lengths.unsqueeze(1)  # [batch_size, 1]
        if self.config.pooling == "mean":
            return packing.pad(states).sum(dim=1) / lengths.clamp(min=1)
        if packing.sequence_length == 0:
            return states.new_zeros(packing.batch_size, states.shape[1])
        if self.config.pooling == "max":
            pooled = packing.pad(states, value=torch.finfo(states.dtype).min).amax(dim=1)
            return torch.where(lengths > 0, pooled, 0.0)
        scores = self.attention(states)
        weights = packing.pad(scores, value=torch.finfo(scores.dtype).min).softmax(dim=1)  # [B, L, 1]
        return (weights.transpose(1, 2) @ packing.pad(states).to(weights.dtype)).squeeze(1)


class RnnForTokenClassification(RnnPreTrainedModel):
    """A recurrent encoder with a classifier on every step: a tagger.

    Args:
        config ([`RnnConfig`]): The architecture.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf import RnnConfig, RnnForTokenClassification
    >>> config = RnnConfig(vocab_size=100, embedding_size=8, hidden_size=16, num_labels=5)
    >>> model = RnnForTokenClassification(config)
    >>> model(input_ids=torch.tensor([[5, 6, 7], [8, 9, 3]])).logits.shape
    torch.Size([2, 3, 5])

    ```
    """

    def __init__(self, config: RnnConfig):
        super().__init__(config)
        self.model = RnnModel(config)
        self.dropout = LockedDropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.num_directions * config.hidden_size, len(config.id2label or {}))
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | PackedSequence | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        batch_sizes: Tensor | None = None,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
        h_0: Tensor | None = None,
        c_0: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> TokenClassifierOutput | tuple:
        """Tag each token of a batch; the inputs are those of [`RnnModel.forward`].

        Args:
            labels (`torch.LongTensor` of shape `[batch_size, sequence_length]`, *optional*):
                Class ids, -100 where a token has no label.
            num_items_in_batch (`int` or `torch.Tensor`, *optional*):
                Number of labels over which the loss is averaged, when this is one of several accumulated or
                distributed batches; without it the batch's own.

        Returns:
            `TokenClassifierOutput` with `logits` of shape `[batch_size, sequence_length, num_labels]`, 0 on padding.

        Raises:
            ValueError: Labels of another shape than the padded batch.
        """
        embeds, packing, output = self.model.encode(
            input_ids, attention_mask, inputs_embeds, batch_sizes, sorted_indices, unsorted_indices, h_0, c_0
        )
        packed_logits = self.classifier(self.dropout(output.states[-1], packing))  # [num_tokens, num_labels]
        loss = None
        if labels is not None:
            if labels.shape != (packing.batch_size, packing.sequence_length):
                raise ValueError(
                    f"labels must have the shape [batch_size, sequence_length] = "
                    f"{[packing.batch_size, packing.sequence_length]}, got {list(labels.shape)}."
                )
            loss = _cross_entropy(packed_logits, packing.pack(labels), num_items_in_batch)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        result = TokenClassifierOutput(
            loss=loss,
            logits=packing.pad(packed_logits),
            hidden_states=_pad_all(packing, embeds, output) if output_hidden_states else None,
        )
        return result if _wants_dict(self.config, return_dict) else result.to_tuple()


def _read_input(
    input_ids: Tensor | PackedSequence | None,
    attention_mask: Tensor | None,
    inputs_embeds: Tensor | None,
    batch_sizes: Tensor | None,
    sorted_indices: Tensor | None,
    unsorted_indices: Tensor | None,
) -> tuple[Tensor, Packing]:
    """Turn any form of input into packed tokens, ids `[num_tokens]` or embeddings `[num_tokens, size]`."""
    if (input_ids is None) == (inputs_embeds is None):
        raise ValueError("Give exactly one of input_ids and inputs_embeds.")
    tokens = input_ids if input_ids is not None else inputs_embeds
    assert tokens is not None
    if isinstance(tokens, PackedSequence):
        tokens, batch_sizes, sorted_indices, unsorted_indices = tokens
    packed_dim = 2 if tokens.is_floating_point() else 1
    if batch_sizes is not None:
        if attention_mask is not None:
            raise ValueError("Packed input holds no padding: give batch_sizes or attention_mask, not both.")
        if tokens.dim() != packed_dim or int(batch_sizes.sum()) != tokens.shape[0]:
            raise ValueError(
                f"Packed input must hold as many tokens as batch_sizes sums to, {int(batch_sizes.sum())}, in its "
                f"first dimension; got the shape {list(tokens.shape)}. nn.DataParallel splits packed batches "
                "wrongly: launch with torchrun, or let the collator pad."
            )
        return tokens, Packing.from_batch_sizes(batch_sizes, sorted_indices, unsorted_indices, tokens.device)
    if tokens.dim() != packed_dim + 1:
        raise ValueError(
            f"Padded input must have the shape [batch_size, sequence_length{', embedding_size' * (packed_dim - 1)}], "
            f"got {list(tokens.shape)}. Packed input comes with batch_sizes."
        )
    if attention_mask is None:
        attention_mask = tokens.new_ones(tokens.shape[:2], dtype=torch.bool)
    elif attention_mask.shape != tokens.shape[:2]:
        raise ValueError(
            f"attention_mask must have the shape [batch_size, sequence_length] = {list(tokens.shape[:2])}, "
            f"got {list(attention_mask.shape)}."
        )
    packing = Packing.from_mask(attention_mask)
    return packing.pack(tokens), packing


def _pad_all(packing: Packing, embeds: Tensor, output: RecurrentOutput) -> tuple[Tensor, ...]:
    return tuple(packing.pad(states) for states in (embeds, *output.states))


def _wants_dict(config: RnnConfig, return_dict: bool | None) -> bool:
    return bool(config.return_dict if return_dict is None else return_dict)


def _infer_problem_type(num_labels: int, labels: Tensor) -> ProblemType:
    if num_labels == 1:
        return "regression"
    return "multi_label_classification" if labels.is_floating_point() else "single_label_classification"


def _mean(total: Tensor, count: Tensor | int, num_items_in_batch: Tensor | int | None) -> Tensor:
    """Average a sum of losses over the items of all batches that belong together."""
    if num_items_in_batch is not None:
        count = num_items_in_batch
    if isinstance(count, Tensor):
        return total / count.to(total.device).clamp(min=1)
    return total / max(count, 1)


def _cross_entropy(logits: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None) -> Tensor:
    total = nn.functional.cross_entropy(logits.float(), labels, ignore_index=-100, reduction="sum")
    return _mean(total, (labels != -100).sum(), num_items_in_batch)


def _binary_cross_entropy(logits: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None) -> Tensor:
    total = nn.functional.binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="sum")
    return _mean(total, labels.numel(), num_items_in_batch)


def _squared_error(logits: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None) -> Tensor:
    total = nn.functional.mse_loss(logits.float(), labels.float().view_as(logits), reduction="sum")
    return _mean(total, labels.numel(), num_items_in_batch)


_LOSSES = {
    "single_label_classification": _cross_entropy,
    "multi_label_classification": _binary_cross_entropy,
    "regression": _squared_error,
}


__all__ = [
    "RnnForSequenceClassification",
    "RnnForTokenClassification",
    "RnnModel",
    "RnnModelOutput",
    "RnnPreTrainedModel",
]
