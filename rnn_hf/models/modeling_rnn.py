"""Recurrent encoder, classifier and tagger.

`RnnModel` embeds tokens and runs the recurrent layers. The classifier reads one vector per sequence from it, the
tagger reads every step. All of them take padded or packed input and compute on packed tokens only, so that padding
costs nothing and changes nothing.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from transformers.modeling_outputs import SequenceClassifierOutput, TokenClassifierOutput

from .base import (
    AUTO_MAP,
    Encoded,
    RnnModelOutput,
    RnnPreTrainedModel,
    as_wanted,
    calibrated_logits,
    select_hidden_states,
    wants_hidden_states,
)
from .configuration_rnn import RnnConfig
from .crf import ConditionalRandomField
from .embeddings import RnnEmbeddings
from .inputs import check_ids, check_ignored, read_input, repeat_batch
from .losses import LOSSES, check_class_ids, check_labels, infer_problem_type, score_labels
from .ngrams import NgramsMixin
from .packing import Packing
from .pooled_words import PooledWords, without_ends
from .pooling import pool, pool_segments
from .recurrence import RECURRENT_MODULES, LockedDropout, RecurrentOutput
from .repeated import find_distinct
from .segments import SegmentedStates, is_long
from .subwords import WordStartsMixin


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
        recurrent_module, options = RECURRENT_MODULES[config.cell_type]
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
        """Return the word embeddings."""
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
        num_passes: int = 1,
        in_segments: bool = False,
        word_starts: Tensor | None = None,
        **ignored: Any,
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
                `[num_tokens, input_size]`. Where both are given, ids only say which tokens begin a word or end a
                sequence.
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
                Whether to leave the batch packed, as the heads want it.
            num_passes (`int`): Forward passes over a batch that stays packed, each with dropout of its own.
            in_segments (`bool`): Whether a long batch that stays packed may be left to be read: see [`Encoded`].
            word_starts (`torch.BoolTensor` of shape `[vocab_size]`, *optional*): Which entries begin a word, where
                words shall be the steps: see [`PooledWords`].
            ignored: What tokenizers pass to other models, as `token_type_ids`: see [`~inputs.check_ignored`].

        Returns:
            [`RnnModelOutput`]; with `return_packed`, [`Encoded`] with `num_passes * batch_size` rows, all of the batch
            and all again, whose states are those of the last layer alone unless `output_hidden_states` asks for more.

        Raises:
            ValueError: Contradicting or missing inputs, ids outside the vocabulary, states of the wrong shape.
        """
        check_ignored(ignored)
        wanted = wants_hidden_states(self.config, output_hidden_states)
        ids, embeds, packing = read_input(
            input_ids, attention_mask, inputs_embeds, batch_sizes, sorted_indices, unsorted_indices
        )
        if num_passes > 1 and return_packed:
            (ids, embeds), packing = repeat_batch([ids, embeds], packing, num_passes)
            h_0, c_0 = (None if state is None else state.repeat(1, num_passes, 1) for state in (h_0, c_0))
        if ids is not None:
            check_ids(ids, self.embeddings.num_entries)
        if embeds is None:
            assert ids is not None
            if attention_mask is None and batch_sizes is None and isinstance(input_ids, Tensor) and input_ids.numel():
                self.warn_if_padding_and_no_attention_mask(input_ids, attention_mask)
        elif embeds.shape[-1] != self.config.input_size:
            raise ValueError(
                f"inputs_embeds must have input_size={self.config.input_size} features, got {embeds.shape[-1]}."
            )
        embed: Any = self.embeddings if embeds is None else nn.Identity()
        steps: Any = ids if embeds is None else embeds
        repeats, words = embeds is None and not wanted, None
        if word_starts is not None and ids is not None:
            words, embed = self._pool_words(ids, embeds, packing, word_starts)
            ids, packing, steps = words.first_ids, words.packing, words.numbers
        if in_segments and not wanted and is_long(self.rnn, packing):
            found = SegmentedStates(self.rnn, embed, steps, packing, h_0, c_0)
            return Encoded(ids, None, packing, RecurrentOutput([], found.initial[0], None), found, words)
        rows = None
        if repeats:
            steps, rows = find_distinct(self.rnn, steps, packing) if words is None else words.distinct(self.rnn)
        embeds = embed(steps)
        output = self.rnn(
            self.embedding_dropout(embeds, packing),
            packing=packing,
            rows=rows,
            h_0=h_0,
            c_0=c_0,
            dropout=self.hidden_dropout,
            weight_dropout=float(self.config.weight_dropout),
            all_layers=wanted,
        )
        encoded = Encoded(ids, embeds if wanted else None, packing, output, words=words)
        if return_packed:
            return encoded
        result = RnnModelOutput(
            last_hidden_state=packing.pad(output.states[-1]),
            h_n=output.h_n,
            c_n=output.c_n,
            hidden_states=select_hidden_states(self.config, encoded, output_hidden_states),
        )
        return as_wanted(self.config, result, return_dict)

    def _pool_words(
        self, ids: Tensor, embeds: Tensor | None, packing: Packing, word_starts: Tensor
    ) -> tuple[PooledWords, Callable[[Tensor], Tensor]]:
        """Find the words of a batch without its end tokens, and what gives vectors to words by their numbers."""
        given = [ids] if embeds is None else [ids, embeds]
        given, packing = without_ends(given, ids, packing, self.config.end_token_ids)
        words = PooledWords.find(given[0], word_starts[given[0]], packing)
        num_means = self.config.embedding_size + self.config.static_embedding_size

        def embed_tokens(positions: Tensor) -> Tensor:
            return given[1][positions] if len(given) > 1 else self.embeddings(given[0][positions])

        return words, partial(words.embed, embed_tokens, num_means=num_means)


class RnnForSequenceClassification(NgramsMixin, RnnPreTrainedModel):
    """A recurrent encoder with a classifier, or a regression, on one vector per sequence.

    Args:
        config ([`RnnConfig`]): The architecture; `pooling` says what the vector is, `problem_type` which loss. With
            `ngram_buckets`, n-grams of words and characters are counted beside it.

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
        self.register_ngrams()
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | PackedSequence | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        teacher_logits: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> SequenceClassifierOutput | tuple:
        """Classify each sequence of a batch; the inputs are those of [`RnnModel.forward`].

        Args:
            labels (`torch.Tensor`, *optional*):
                `[batch_size]` class ids (-100: ignored); `[batch_size, num_labels]` floats 0 and 1 for
                several labels at once; `[batch_size]` or `[batch_size, num_labels]` floats for a regression.
            teacher_logits (`torch.FloatTensor` of shape `[batch_size, num_labels]`, *optional*):
                A teacher's logits, which count where training has an objective for them.
            num_items_in_batch (`int` or `torch.Tensor`, *optional*):
                Number of labels over which the loss is averaged, of several accumulated or distributed batches.
            inputs: The other arguments of [`RnnModel.forward`]: vectors, packed layout, initial states.

        Returns:
            `SequenceClassifierOutput` with `logits` of shape `[batch_size, num_labels]`.

        Raises:
            ValueError: Labels of another shape or type than the problem's, or ids that are no class.
        """
        num_passes = self._num_passes(labels)
        encoded = self.model(
            input_ids,
            attention_mask,
            output_hidden_states=wants_hidden_states(self.config, output_hidden_states),
            return_packed=True,
            num_passes=num_passes,
            in_segments=True,
            **inputs,
        )
        logits = calibrated_logits(self, self._classify(encoded))
        num_rows = len(logits) // num_passes
        loss = None
        if labels is not None:
            problem_type = self.config.problem_type or infer_problem_type(logits.shape[-1], labels)
            labels = check_labels(labels, logits[:num_rows], problem_type)
            self.config.problem_type = problem_type
            labels = labels.repeat(num_passes, *[1] * (labels.dim() - 1))
            num_items = None if num_items_in_batch is None else num_items_in_batch * num_passes
            loss = LOSSES[problem_type](logits, labels, num_items, self._class_weights)
            if self.objectives is not None and self.training:
                loss = loss + self.objectives(self, encoded, logits, labels, num_items, teacher_logits)
        hidden_states = select_hidden_states(self.config, encoded, output_hidden_states, num_passes)
        result = SequenceClassifierOutput(loss=loss, logits=logits[:num_rows], hidden_states=hidden_states)
        return as_wanted(self.config, result, return_dict)

    def _classify(self, encoded: Encoded) -> Tensor:
        score: Any = self.attention if self.config.pooling == "attention" else None
        if encoded.segments is not None:
            pooled = pool_segments(self.config.pooling, encoded.segments, score)
        else:
            states, last_states = encoded.output.states[-1], encoded.output.h_n[-self.config.num_directions :]
            pooled = pool(self.config.pooling, states, last_states, score and score(states), encoded.packing)
        logits = score_labels(self.classifier, self.dropout(pooled))  # [batch_size, num_labels]
        return self.add_ngram_logits(encoded.input_ids, encoded.packing, logits)


class RnnForTokenClassification(WordStartsMixin, RnnPreTrainedModel):
    """A recurrent encoder with a classifier on every step: a tagger.

    A bidirectional one reads a word of several tokens whole: the forward state at its last token, joined with the
    backward state at its first. `word_starts` says which vocabulary entries begin a word; without
    [`~characters.set_vocabulary`] all do. Where some do not, `inputs_embeds` need `input_ids` beside them.

    With `config.subword_pooling`, a word is one step, of whose tokens the vectors are pooled, and a token that ends the
    sequence is left out: its logits are 0. The base model alone reads tokens.

    With `config.use_crf`, whole sequences of labels are scored by a conditional random field. It runs over the tokens
    that begin a word (`word_starts`), each word's first; in evaluation its logits are max-marginals, whose best labels
    are those of the Viterbi algorithm. With `config.crf_tag_scheme`, it scores labels that also tell where spans end,
    and the best of the two that a label stands for is its logit; in training, the log of their summed exponentials.

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
        names = config.scored_label_names
        self.span_labels = config.span_labels
        self.classifier = nn.Linear(config.num_directions * config.hidden_size, len(names))
        self.crf: ConditionalRandomField | None = ConditionalRandomField(names) if config.use_crf else None
        self.register_word_starts()
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | PackedSequence | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        auxiliary_tags: Tensor | None = None,
        teacher_logits: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> TokenClassifierOutput | tuple:
        """Tag each token of a batch; the inputs are those of [`RnnModel.forward`].

        Args:
            labels (`torch.LongTensor` of shape `[batch_size, sequence_length]`, *optional*):
                Class ids, -100 where a token has no label.
            auxiliary_tags (`torch.LongTensor` of shape `[batch_size, sequence_length]`, *optional*):
                Ids of auxiliary labels, which count where training has an objective for them; -100 where a token has
                none.
            teacher_logits (`torch.FloatTensor` of shape `[batch_size, sequence_length, num_labels]`, *optional*):
                A teacher's logits, which count as `auxiliary_tags` do; NaN where a token has none.
            num_items_in_batch (`int` or `torch.Tensor`, *optional*):
                Number of labels over which the loss is averaged, of several accumulated or distributed batches.
            inputs: The other arguments of [`RnnModel.forward`]: vectors, packed layout, initial states.

        Returns:
            `TokenClassifierOutput` with `logits` of shape `[batch_size, sequence_length, num_labels]`, 0 on padding.

        Raises:
            ValueError: Labels of another shape than the padded batch, or ids that are no class; `inputs_embeds` without
                `input_ids`, where it takes ids to know which tokens begin a word.
        """
        num_passes = self._num_passes(labels)
        # Additional objectives are those of the first layer's states.
        all_layers = self.training or wants_hidden_states(self.config, output_hidden_states)
        encoded = self._encode(
            input_ids, attention_mask, output_hidden_states=all_layers, num_passes=num_passes, **inputs
        )
        packing = encoded.packing
        num_rows = packing.batch_size // num_passes
        packed_logits = self._classify(encoded)
        loss = None
        if labels is not None:
            shape = (num_rows, packing.sequence_length)
            labels = check_class_ids("labels", labels, shape, len(self.config.label_names)).repeat(num_passes, 1)
            num_items = None if num_items_in_batch is None else num_items_in_batch * num_passes
            loss = self._loss(packed_logits, packing.pack(labels), packing, num_items)
            if self.objectives is not None and self.training:
                targets = (labels, num_items, teacher_logits, auxiliary_tags)
                loss = loss + self.objectives(self, encoded, packed_logits, *targets)
        if self.crf is None or self.training:
            logits = self.pad_logits(encoded, self.label_scores(packed_logits, torch.logaddexp))
        else:
            logits = self.score_words(encoded, packed_logits, self.crf.max_marginals)
        hidden_states = select_hidden_states(self.config, encoded, output_hidden_states, num_passes)
        result = TokenClassifierOutput(loss=loss, logits=logits[:num_rows], hidden_states=hidden_states)
        return as_wanted(self.config, result, return_dict)


# With a name, `save_pretrained` copies the code.
RnnModel.register_for_auto_class("AutoModel")
RnnForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
RnnForTokenClassification.register_for_auto_class("AutoModelForTokenClassification")

__all__ = [
    "AUTO_MAP",
    "RnnForSequenceClassification",
    "RnnForTokenClassification",
    "RnnModel",
    "RnnModelOutput",
    "RnnPreTrainedModel",
]
