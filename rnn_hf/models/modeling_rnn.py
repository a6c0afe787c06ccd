"""Recurrent encoder, classifier and tagger.

`RnnModel` embeds tokens and runs the recurrent layers. The classifier reads one vector per sequence from it, the
tagger reads every step. All of them take padded or packed input and compute on packed tokens only, so that padding
costs nothing and changes nothing.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput, TokenClassifierOutput
from transformers.utils import ModelOutput

from .configuration_rnn import RnnConfig
from .crf import ConditionalRandomField
from .embeddings import RnnEmbeddings, SpellingEncoder, StaticEmbeddings, resized
from .inputs import read_input, repeat_batch
from .labels import tagging_scheme
from .language_model import LanguageModelHead
from .losses import (
    LOSSES,
    check_class_ids,
    check_labels,
    cross_entropy,
    divergence,
    infer_problem_type,
    mean,
)
from .packing import Packing
from .pooling import attention_pool, max_pool, mean_pool
from .recurrence import LockedDropout, PackedGRU, PackedLSTM, PackedRNN, RecurrentOutput

_RECURRENT_MODULES: dict[str, tuple[Callable[..., nn.RNNBase], dict[str, str]]] = {
    "lstm": (PackedLSTM, {}),
    "gru": (PackedGRU, {}),
    "rnn_tanh": (PackedRNN, {"nonlinearity": "tanh"}),
    "rnn_relu": (PackedRNN, {"nonlinearity": "relu"}),
}

# What each Auto class loads from a saved folder's own code.
AUTO_MAP = {
    "AutoConfig": "configuration_rnn.RnnConfig",
    "AutoModel": "modeling_rnn.RnnModel",
    "AutoModelForSequenceClassification": "modeling_rnn.RnnForSequenceClassification",
    "AutoModelForTokenClassification": "modeling_rnn.RnnForTokenClassification",
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


class Encoded(NamedTuple):
    """What [`RnnModel.encode`] returns, packed.

    Args:
        input_ids (`torch.LongTensor` of shape `[num_tokens]`, or `None`): Token ids, where ids were given.
        embeds (`torch.FloatTensor` of shape `[num_tokens, input_size]`, or `None`): Their vectors, if wanted.
        packing ([`Packing`]): The layout.
        output ([`RecurrentOutput`]): States of all layers, or of the last one, and the final ones.
    """

    input_ids: Tensor | None
    embeds: Tensor | None
    packing: Packing
    output: RecurrentOutput


class RnnPreTrainedModel(PreTrainedModel):
    """Initialisation and loading, common to all recurrent models."""

    config: RnnConfig
    config_class = RnnConfig
    base_model_prefix = "model"
    accepts_loss_kwargs = True

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Save configuration, weights, and the code that loads them where this package is not installed.

        The code is the package's own files, copied. Every `Auto` class finds its part in `config.json`.

        Args:
            save_directory (`str` or `os.PathLike`): Folder, made where it is missing.
            args, kwargs: See `PreTrainedModel.save_pretrained`.
        """
        self.config.auto_map = dict(AUTO_MAP)
        super().save_pretrained(save_directory, *args, **kwargs)
        if kwargs.get("is_main_process", True):
            mask = os.umask(0)
            os.umask(mask)
            for path in Path(save_directory).glob("model*.safetensors"):
                path.chmod(0o666 & ~mask)  # as any new file; safetensors leaves them private

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
        elif isinstance(module, ConditionalRandomField):
            for parameter in module.parameters():
                init.zeros_(parameter)
        elif isinstance(module, SpellingEncoder):
            init.zeros_(module.spellings)
        elif isinstance(module, StaticEmbeddings):
            init.zeros_(module.places)
        elif isinstance(module, RnnForTokenClassification):
            init.ones_(module.word_starts)
        elif isinstance(module, nn.Linear | nn.Conv1d):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)

    def post_init(self) -> None:
        """Initialise, and let distributed training leave the tables alone: no step changes them."""
        super().post_init()
        # Else each step would broadcast them from one process to the others.
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any) -> nn.Embedding:
        """Change the number of vocabulary entries, of all tables that have a row for each.

        Args:
            new_num_tokens (`int`, *optional*): The new number; without it nothing changes.
            args, kwargs: See `PreTrainedModel.resize_token_embeddings`.

        Returns:
            `nn.Embedding`: the module of the entries' own vectors.

        Raises:
            ValueError: Some entries have no vector of their own, or a special token would be cut off.
        """
        if new_num_tokens is None and kwargs.get("pad_to_multiple_of") is None and not args:
            return self.get_input_embeddings()  # type: ignore[return-value]
        if self.config.num_word_embeddings is not None:
            raise ValueError("A vocabulary with words that only have vectors from outside cannot be resized.")
        if new_num_tokens is not None:
            self._check_vocab_size(new_num_tokens)
        return super().resize_token_embeddings(new_num_tokens, *args, **kwargs)

    def _check_vocab_size(self, num_entries: int) -> None:
        for name in ("pad_token_id", "unk_token_id", "bos_token_id", "eos_token_id", "sep_token_id"):
            index = getattr(self.config, name)
            if index is not None and index >= num_entries:
                raise ValueError(f"{name}={index} is outside a vocabulary of {num_entries} entries.")


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
        self.embeddings = RnnEmbeddings(config)
        self.embedding_dropout = LockedDropout(config.embedding_dropout)
        self.rnn = recurrent_module(
            config.input_size,
            config.hidden_size,
            num_layers=config.num_hidden_layers,
            bidirectional=config.bidirectional,
            **options,
        )
        self.hidden_dropout = LockedDropout(config.hidden_dropout)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the module of the entries' own vectors."""
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the word embeddings. Another number of rows resizes the vocabulary and all its tables.

        Args:
            value (`nn.Embedding`): Word embeddings of `config.embedding_size`.

        Raises:
            ValueError: Vectors of another size, or a number of them that does not fit the vocabulary.
        """
        if not isinstance(value, nn.Embedding):
            raise ValueError(f"Input embeddings must be an nn.Embedding, got {type(value).__name__}.")
        num_entries, size = value.weight.shape
        if size != self.config.embedding_size:
            raise ValueError(f"Input embeddings must have embedding_size={self.config.embedding_size}, got {size}.")
        if self.config.num_word_embeddings is None:
            self._check_vocab_size(num_entries)
            self.config.vocab_size = num_entries
            self.embeddings.resize(num_entries)
        elif num_entries != self.config.num_word_embeddings:
            raise ValueError(
                f"Input embeddings must have num_word_embeddings={self.config.num_word_embeddings} rows, got "
                f"{num_entries}: the other entries only have pretrained word vectors."
            )
        self.embeddings.word_embeddings = value

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
        return_packed: bool = False,
        num_readings: int = 1,
    ) -> RnnModelOutput | Encoded | tuple:
        """Encode a batch of sequences.

        The same sequences give the same result in every form of input.

        Args:
            input_ids (`torch.LongTensor` or `PackedSequence`, *optional*):
                Token ids: padded, of shape `[batch_size, sequence_length]`; packed, of shape `[num_tokens]`,
                together with `batch_sizes`; or a `PackedSequence` of them.
            attention_mask (`torch.Tensor` of shape `[batch_size, sequence_length]`, *optional*):
                Nonzero for tokens, 0 for padding, which may be anywhere; without it every id is a token.
            inputs_embeds (`torch.FloatTensor`, *optional*):
                Vectors in place of those of `input_ids`: `[batch_size, sequence_length, input_size]`, or packed
                `[num_tokens, input_size]`. Where both are given, ids only say which tokens begin a word.
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
            return_packed (`bool`):
                Whether to leave the batch packed: see [`~RnnModel.encode`], through which the heads call.
            num_readings (`int`):
                Number of forward passes over the batch, each with dropout of its own, where it stays packed.

        Returns:
            [`RnnModelOutput`]

        Raises:
            ValueError: Contradicting or missing inputs, ids outside the vocabulary, states of the wrong shape.
        """
        inputs = (input_ids, attention_mask, inputs_embeds, batch_sizes, sorted_indices, unsorted_indices, h_0, c_0)
        wanted = _wants_hidden_states(self.config, output_hidden_states)
        encoded = self._encode(*inputs, num_readings=num_readings if return_packed else 1, all_layers=wanted)
        if return_packed:
            return encoded
        result = RnnModelOutput(
            last_hidden_state=encoded.packing.pad(encoded.output.states[-1]),
            h_n=encoded.output.h_n,
            c_n=encoded.output.c_n,
            hidden_states=_hidden_states(self.config, encoded, output_hidden_states),
        )
        return result if _wants_dict(self.config, return_dict) else result.to_tuple()

    def encode(self, *args: Any, num_readings: int = 1, output_hidden_states: bool = True, **kwargs: Any) -> Encoded:
        """Encode a batch and leave it packed; the other arguments are those of [`~RnnModel.forward`].

        Args:
            num_readings (`int`): How often to read the batch, each time with dropout of its own.
            output_hidden_states (`bool`): Whether to return the embeddings and the states of all layers, which take
                memory, rather than the states of the last one only.

        Returns:
            [`Encoded`], with `num_readings * batch_size` rows: all of the batch, and all again.
        """
        # By way of `forward`, so that its hooks run.
        return self(
            *args, return_packed=True, num_readings=num_readings, output_hidden_states=output_hidden_states, **kwargs
        )

    def _encode(
        self,
        input_ids: Tensor | PackedSequence | None,
        attention_mask: Tensor | None,
        inputs_embeds: Tensor | None,
        batch_sizes: Tensor | None,
        sorted_indices: Tensor | None,
        unsorted_indices: Tensor | None,
        h_0: Tensor | None,
        c_0: Tensor | None,
        num_readings: int,
        all_layers: bool,
    ) -> Encoded:
        ids, embeds, packing = read_input(
            input_ids, attention_mask, inputs_embeds, batch_sizes, sorted_indices, unsorted_indices
        )
        if num_readings > 1:
            (ids, embeds), packing = repeat_batch([ids, embeds], packing, num_readings)
            h_0, c_0 = (None if state is None else state.repeat(1, num_readings, 1) for state in (h_0, c_0))
        if ids is not None:
            self._check_ids(ids)
        if embeds is None:
            assert ids is not None
            if attention_mask is None and batch_sizes is None and isinstance(input_ids, Tensor) and input_ids.numel():
                self.warn_if_padding_and_no_attention_mask(input_ids, attention_mask)
            embeds = self.embeddings(ids)  # [num_tokens, input_size]
        elif embeds.shape[-1] != self.config.input_size:
            raise ValueError(
                f"inputs_embeds must have input_size={self.config.input_size} features, got {embeds.shape[-1]}."
            )
        output = self.rnn(
            self.embedding_dropout(embeds, packing),
            packing=packing,
            h_0=h_0,
            c_0=c_0,
            dropout=self.hidden_dropout,
            weight_dropout=float(self.config.weight_dropout),
            all_layers=all_layers,
        )
        return Encoded(ids, embeds if all_layers else None, packing, output)

    def _check_ids(self, tokens: Tensor) -> None:
        # Elsewhere than on the CPU, looking at the ids would wait for the device.
        if tokens.device.type != "cpu" or tokens.numel() == 0 or torch.compiler.is_compiling():
            return
        lowest, highest = (int(bound) for bound in tokens.aminmax())
        if lowest < 0 or highest >= self.embeddings.num_entries:
            raise ValueError(
                f"input_ids must be at least 0 and below the vocabulary's size, {self.embeddings.num_entries}; got "
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

        Raises:
            ValueError: Labels of another shape or type than the problem's, or ids that are no class.
        """
        inputs = (input_ids, attention_mask, inputs_embeds, batch_sizes, sorted_indices, unsorted_indices, h_0, c_0)
        num_readings = _num_readings(self, labels)
        all_layers = _wants_hidden_states(self.config, output_hidden_states)
        encoded = self.model.encode(*inputs, num_readings=num_readings, output_hidden_states=all_layers)
        logits = self._classify(encoded)
        num_rows = len(logits) // num_readings
        loss = None
        if labels is not None:
            problem_type = self.config.problem_type or infer_problem_type(logits.shape[-1], labels)
            labels = check_labels(labels, logits[:num_rows], problem_type)
            self.config.problem_type = problem_type
            labels = labels.repeat(num_readings, *[1] * (labels.dim() - 1))
            num_items = None if num_items_in_batch is None else num_items_in_batch * num_readings
            loss = LOSSES[self.config.problem_type](logits, labels, num_items, self.config.class_weights)
            if num_readings > 1:
                apart = divergence(logits, logits.roll(num_rows, 0), self.config.problem_type)
                loss = loss + self.config.rdrop_loss_weight * mean(apart.sum(), apart.numel(), num_items)
        result = SequenceClassifierOutput(
            loss=loss,
            logits=logits[:num_rows],
            hidden_states=_hidden_states(self.config, encoded, output_hidden_states, num_readings),
        )
        return result if _wants_dict(self.config, return_dict) else result.to_tuple()

    def _classify(self, encoded: Encoded) -> Tensor:
        return self.classifier(self.dropout(self._pool(encoded.packing, encoded.output)))  # [batch_size, num_labels]

    def _pool(self, packing: Packing, output: RecurrentOutput) -> Tensor:
        """Make one vector of each sequence, 0 for one without a token: `[batch_size, directions * hidden_size]`."""
        if self.config.pooling == "last":
            return torch.cat(list(output.h_n[-self.config.num_directions :]), dim=-1)
        states = output.states[-1]
        if self.config.pooling == "mean":
            return mean_pool(states, packing)
        if self.config.pooling == "max":
            return max_pool(states, packing)
        return attention_pool(states, self.attention(states), packing)


class RnnForTokenClassification(RnnPreTrainedModel):
    """A recurrent encoder with a classifier on every step: a tagger.

    A bidirectional one reads a word of several tokens whole: the forward state at its last token, joined with the
    backward state at its first. `word_starts` says which vocabulary entries begin a word; without
    [`~characters.set_vocabulary`] all do. Where some do not, `inputs_embeds` need `input_ids` beside them.

    With `config.use_crf`, whole sequences of labels are scored by a conditional random field. It runs over the tokens
    that begin a word (`word_starts`), each word's first; in evaluation its logits are max-marginals, whose best labels
    are those of the Viterbi algorithm.

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

    word_starts: Tensor

    def __init__(self, config: RnnConfig):
        super().__init__(config)
        self.model = RnnModel(config)
        self.dropout = LockedDropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.num_directions * config.hidden_size, len(config.id2label or {}))
        self.crf: ConditionalRandomField | None = None
        if config.use_crf:
            self.crf = ConditionalRandomField(config.label_names)
        self.language_model = LanguageModelHead(config) if config.lm_loss_weight > 0 else None
        self.auxiliary_classifier: nn.Linear | None = None
        if config.num_auxiliary_tags > 0:
            size = config.num_directions * config.hidden_size
            self.auxiliary_classifier = nn.Linear(size, config.num_auxiliary_tags)
        self.register_buffer("word_starts", torch.ones(config.vocab_size, dtype=torch.bool))
        self.register_state_dict_pre_hook(_match_vocabulary_first)
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
        auxiliary_tags: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> TokenClassifierOutput | tuple:
        """Tag each token of a batch; the inputs are those of [`RnnModel.forward`].

        Args:
            labels (`torch.LongTensor` of shape `[batch_size, sequence_length]`, *optional*):
                Class ids, -100 where a token has no label.
            auxiliary_tags (`torch.LongTensor` of shape `[batch_size, sequence_length]`, *optional*):
                Ids of tags of a second kind, which count in training only; -100 where a token has none.
            num_items_in_batch (`int` or `torch.Tensor`, *optional*):
                Number of labels over which the loss is averaged, when this is one of several accumulated or
                distributed batches; without it the batch's own.

        Returns:
            `TokenClassifierOutput` with `logits` of shape `[batch_size, sequence_length, num_labels]`, 0 on padding.

        Raises:
            ValueError: Labels of another shape than the padded batch, or ids that are no class; `inputs_embeds` without
                `input_ids`, where it takes ids to know which tokens begin a word.
        """
        inputs = (input_ids, attention_mask, inputs_embeds, batch_sizes, sorted_indices, unsorted_indices, h_0, c_0)
        num_readings = _num_readings(self, labels)
        # The losses beside that of the labels are those of the first layer's states.
        all_layers = self.training or _wants_hidden_states(self.config, output_hidden_states)
        encoded = self._encode(*inputs, num_readings=num_readings, output_hidden_states=all_layers)
        packing = encoded.packing
        num_rows = packing.batch_size // num_readings
        packed_logits = self._classify(encoded)
        loss = None
        if labels is not None:
            shape = (num_rows, packing.sequence_length)
            labels = check_class_ids("labels", labels, shape, packed_logits.shape[1]).repeat(num_readings, 1)
            packed_labels = packing.pack(labels)
            num_items = None if num_items_in_batch is None else num_items_in_batch * num_readings
            loss = self._loss(packed_logits, packed_labels, packing, num_items)
            if num_readings > 1:
                padded = packing.pad(packed_logits)
                apart = divergence(padded, padded.roll(num_rows, 0), "single_label_classification")[labels != -100]
                loss = loss + self.config.rdrop_loss_weight * mean(apart.sum(), apart.numel(), num_items)
            if self.training and self.language_model is not None and encoded.input_ids is not None:
                loss = loss + self._language_model_loss(encoded, packed_labels, num_items)
            if self.training and self.auxiliary_classifier is not None and auxiliary_tags is not None:
                num_tags = self.auxiliary_classifier.out_features
                tags = check_class_ids("auxiliary_tags", auxiliary_tags, shape, num_tags)
                tags = packing.pack(tags.repeat(num_readings, 1))
                loss = loss + self._auxiliary_loss(encoded, tags, num_items)
        if self.crf is None or self.training:
            logits = packing.pad(packed_logits)
        else:
            logits = self._over_words(encoded, packed_logits, self.crf.max_marginals)
        result = TokenClassifierOutput(
            loss=loss,
            logits=logits[:num_rows],
            hidden_states=_hidden_states(self.config, encoded, output_hidden_states, num_readings),
        )
        return result if _wants_dict(self.config, return_dict) else result.to_tuple()

    @torch.no_grad()
    def marginals(self, *args: Any, **kwargs: Any) -> Tensor:
        """Compute the probability of each label of each token; the inputs are those of [`RnnModel.forward`].

        Returns:
            `torch.FloatTensor` of shape `[batch_size, sequence_length, num_labels]`: with a conditional random field,
            over all allowed sequences of labels. Rows of padding mean nothing.

        Example:
        ```python
        >>> import torch
        >>> from rnn_hf import RnnConfig, RnnForTokenClassification
        >>> config = RnnConfig(vocab_size=100, id2label={0: "O", 1: "B-X", 2: "I-X"}, use_crf=True)
        >>> probabilities = RnnForTokenClassification(config).eval().marginals(input_ids=torch.tensor([[5, 6, 7]]))
        >>> torch.allclose(probabilities.sum(-1), torch.ones(1, 3)), float(probabilities[0, 0, 2])
        (True, 0.0)

        ```
        """
        encoded = self._encode(*args, **({"output_hidden_states": False} | kwargs))
        packed_logits = self._classify(encoded)
        if self.crf is None:
            return encoded.packing.pad(packed_logits).softmax(dim=-1)
        return self._over_words(encoded, packed_logits, self.crf.log_marginals).softmax(dim=-1)

    def _classify(self, encoded: Encoded) -> Tensor:
        states = self._read_words(encoded, encoded.output.states[-1])
        return self.classifier(self.dropout(states, encoded.packing))  # [num_tokens, num_labels]

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any) -> nn.Embedding:
        """Change the number of vocabulary entries: see [`RnnPreTrainedModel.resize_token_embeddings`]."""
        word_embeddings = super().resize_token_embeddings(new_num_tokens, *args, **kwargs)
        self.match_vocabulary()
        return word_embeddings

    def _encode(self, *args: Any, **kwargs: Any) -> Encoded:
        self.match_vocabulary()
        encoded = self.model.encode(*args, **kwargs)
        needs_ids = self.config.bidirectional or self.crf is not None
        if encoded.input_ids is None and needs_ids and not self.word_starts.all():
            raise ValueError(
                "This tagger's vocabulary has entries that continue a word: give input_ids beside inputs_embeds, so "
                "that it is known which tokens begin a word."
            )
        return encoded

    def match_vocabulary(self) -> None:
        """Let `word_starts` have a row for each entry again, after the vocabulary was resized; new ones begin a word.

        It happens before each use and before the weights are saved.

        Example:
        ```python
        >>> from rnn_hf import RnnConfig, RnnForTokenClassification
        >>> model = RnnForTokenClassification(RnnConfig(vocab_size=100))
        >>> _ = model.model.resize_token_embeddings(110)
        >>> model.match_vocabulary()
        >>> model.word_starts.shape
        torch.Size([110])

        ```
        """
        if len(self.word_starts) != self.model.embeddings.num_entries:
            self.word_starts = resized(self.word_starts, self.model.embeddings.num_entries, True)

    def _read_words(self, encoded: Encoded, states: Tensor) -> Tensor:
        """Read a word to its last token forwards, and to its first one backwards: the shape stays."""
        if not self.config.bidirectional or encoded.input_ids is None:
            return states
        ends = encoded.packing.group_ends(self.word_starts[encoded.input_ids])
        forwards, backwards = states.chunk(2, dim=1)
        return torch.cat([forwards[ends], backwards], dim=1)

    def _loss(
        self, logits: Tensor, labels: Tensor, packing: Packing, num_items_in_batch: Tensor | int | None
    ) -> Tensor:
        if self.crf is None:
            return cross_entropy(logits, labels, num_items_in_batch, self.config.class_weights)
        words = packing.select(labels != -100)
        labels = words.pack(packing.pad(labels))
        losses = self.crf(words.pack(packing.pad(logits)), labels, words)
        if self.config.class_weights is not None:
            losses = losses * losses.new_tensor(self.config.class_weights)[labels]
        return mean(losses.sum(), words.num_tokens, num_items_in_batch)

    def _language_model_loss(self, encoded: Encoded, labels: Tensor, num_items_in_batch: Tensor | int | None) -> Tensor:
        assert self.language_model is not None
        assert encoded.input_ids is not None
        embeddings, states = self.model.embeddings, encoded.output.states[0]
        own_ids, vectors = embeddings.own_ids(encoded.input_ids), embeddings.word_embeddings.weight
        total = self.language_model(states, own_ids, vectors, encoded.packing)
        return self.config.lm_loss_weight * mean(total, int((labels != -100).sum()), num_items_in_batch)

    def _auxiliary_loss(self, encoded: Encoded, tags: Tensor, num_items_in_batch: Tensor | int | None) -> Tensor:
        assert self.auxiliary_classifier is not None
        states = self._read_words(encoded, encoded.output.states[0])
        logits = self.auxiliary_classifier(self.dropout(states, encoded.packing))
        return self.config.auxiliary_loss_weight * cross_entropy(logits, tags, num_items_in_batch)

    def _over_words(self, encoded: Encoded, logits: Tensor, score: Callable[[Tensor, Packing], Tensor]) -> Tensor:
        """Score labels over the first tokens of words; a word's other tokens get what its first one has."""
        packing = encoded.packing
        if encoded.input_ids is None:
            return packing.pad(score(logits, packing))
        starts = self.word_starts[encoded.input_ids]
        words = packing.select(starts)
        scores = words.pad(score(words.pack(packing.pad(logits)), words))  # [batch_size, sequence_length, num_labels]
        columns = torch.arange(packing.sequence_length, device=scores.device)
        is_start = packing.pad(starts)
        firsts = torch.where(is_start, columns, 0).cummax(dim=1).values if packing.sequence_length else columns
        copied = scores.gather(1, firsts.unsqueeze(2).expand_as(scores)) if packing.sequence_length else scores
        return torch.where(is_start.unsqueeze(2), scores, self._continued(copied))

    def _continued(self, scores: Tensor) -> Tensor:
        """Let the label of a word's first token go on: `B-LOC` as `I-LOC`."""
        assert self.crf is not None
        names = self.crf.label_names
        if tagging_scheme(names) is None:
            return scores
        scores = scores.clone()
        for begin, name in enumerate(names):
            if name.startswith("B-") and f"I{name[1:]}" in names:
                inside = names.index(f"I{name[1:]}")
                both = scores[..., [begin, inside]]
                scores[..., inside], scores[..., begin] = both.amax(dim=-1), both.amin(dim=-1)
        return scores


def _num_readings(model: RnnPreTrainedModel, labels: Tensor | None) -> int:
    """Say how often to read a batch: twice where two readings must agree (https://arxiv.org/abs/2106.14448)."""
    return 2 if model.training and labels is not None and model.config.rdrop_loss_weight > 0 else 1


def _match_vocabulary_first(model: RnnForTokenClassification, prefix: str, keep_vars: bool) -> None:
    """Run before the weights are collected for saving."""
    model.match_vocabulary()


def _hidden_states(
    config: RnnConfig, encoded: Encoded, wanted: bool | None, num_readings: int = 1
) -> tuple[Tensor, ...] | None:
    if not _wants_hidden_states(config, wanted):
        return None
    assert encoded.embeds is not None
    packing, num_rows = encoded.packing, encoded.packing.batch_size // num_readings
    return tuple(packing.pad(states)[:num_rows] for states in (encoded.embeds, *encoded.output.states))


def _wants_hidden_states(config: RnnConfig, wanted: bool | None) -> bool:
    return bool(config.output_hidden_states if wanted is None else wanted)


def _wants_dict(config: RnnConfig, return_dict: bool | None) -> bool:
    return bool(config.return_dict if return_dict is None else return_dict)


# With a name, `save_pretrained` copies the code.
RnnModel.register_for_auto_class("AutoModel")
RnnForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
RnnForTokenClassification.register_for_auto_class("AutoModelForTokenClassification")

__all__ = [
    "RnnForSequenceClassification",
    "RnnForTokenClassification",
    "RnnModel",
    "RnnModelOutput",
    "RnnPreTrainedModel",
]
