"""Words of several tokens: what a tagger reads of them, and what it says of each token."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from .base import Encoded
from .embeddings import resized
from .labels import SpanLabels, tagging_scheme
from .lexical import LexicalFeatures
from .losses import average_loss, cross_entropy, score_labels
from .packing import Packing
from .pooled_words import Words
from .segments import Segment, SegmentedStates


class WordStartsMixin:
    """What a tagger knows of words: which vocabulary entries begin one (`word_starts`), and their lexical features.

    Attributes:
        word_starts (`torch.BoolTensor` of shape `[vocab_size]`): A buffer; all entries begin a word until
            [`~characters.set_vocabulary`] says otherwise.
        lexical ([`LexicalFeatures`], *optional*): With `config.num_lexical_features`.
    """

    config: Any
    model: Any
    classifier: Any
    dropout: Any
    crf: Any
    span_labels: SpanLabels | None
    _class_weights: Any
    word_starts: Tensor
    lexical: LexicalFeatures | None

    def register_word_starts(self) -> None:
        """Make the buffer, and the lexical features that the configuration asks for.

        Their tables are brought up to date before the weights are collected for saving.
        """
        module = cast(nn.Module, self)
        self.lexical = LexicalFeatures(self.config) if self.config.num_lexical_features > 0 else None
        module.register_buffer("word_starts", torch.ones(self.config.vocab_size, dtype=torch.bool))
        module.register_state_dict_pre_hook(_match_vocabulary_first)

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any) -> nn.Embedding:
        """Change the number of vocabulary entries: see [`RnnPreTrainedModel.resize_token_embeddings`]."""
        word_embeddings: nn.Embedding = super().resize_token_embeddings(new_num_tokens, *args, **kwargs)  # type: ignore[misc]
        self.match_vocabulary()
        return word_embeddings

    def match_vocabulary(self) -> None:
        """Let the tables have a row for each entry again, after the vocabulary was resized.

        New entries begin a word, and have no characters. It happens before each use and before the weights are saved.

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
        num_entries = self.model.embeddings.num_entries
        if len(self.word_starts) != num_entries:
            self.word_starts = resized(self.word_starts, num_entries, True)
        if self.lexical is not None and len(self.lexical.character_codes) != num_entries:
            self.lexical.character_codes = resized(self.lexical.character_codes, num_entries, 0)

    def _encode(self, *args: Any, **kwargs: Any) -> Encoded:
        """Encode a batch, and check that its ids are there where it takes them to find words."""
        self.match_vocabulary()
        pools = self.config.subword_pooling != "none"
        word_starts = self.word_starts if pools else None
        encoded = self.model(*args, return_packed=True, in_segments=True, word_starts=word_starts, **kwargs)
        reads_words = (self.config.bidirectional or self.config.use_crf or pools) and not self.word_starts.all()
        if encoded.input_ids is None and (reads_words or self.lexical is not None):
            what = "entries that continue a word" if reads_words else "lexical features of words"
            raise ValueError(f"This tagger's vocabulary has {what}: give input_ids beside inputs_embeds.")
        return encoded

    def _classify(self, encoded: Encoded) -> Tensor:
        """Score the labels of each token: `[num_tokens, num_labels]`."""
        if encoded.segments is not None:
            logits = self._classify_segments(encoded)
        else:
            states = self.pool_subwords(encoded, encoded.output.states[-1])
            logits = score_labels(self.classifier, self.dropout(states, encoded.packing))
        return self.add_lexical_scores(encoded, logits)

    def _classify_segments(self, encoded: Encoded) -> Tensor:
        found = cast(SegmentedStates, encoded.segments)
        num_tokens, hidden_size = encoded.packing.num_tokens, found.rnn.hidden_size
        # The classifier is linear: scores are the sum of what the states of each direction give.
        bias = score_labels(self.classifier, found.initial[0].new_zeros(1, found.size))
        parts = [bias.new_empty(num_tokens, bias.shape[1]) for _ in range(self.config.num_directions)]

        def receive(states: Tensor, columns: slice, segment: Segment) -> None:
            padded = states.new_zeros(len(states), found.size)
            padded[:, columns] = states
            parts[columns.start // hidden_size][segment.tokens] = score_labels(self.classifier, padded)

        found.run(receive)
        if not self.config.bidirectional:
            return parts[0]
        forwards, backwards = parts
        if encoded.input_ids is not None and encoded.words is None:
            forwards = forwards[encoded.packing.group_ends(self.word_starts[encoded.input_ids])]
        return backwards.add_(forwards).sub_(bias)

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
            return self.pad_logits(encoded, packed_logits).softmax(dim=-1)
        return self.score_words(encoded, packed_logits, self.crf.log_marginals, torch.logaddexp).softmax(dim=-1)

    def _loss(
        self, logits: Tensor, labels: Tensor, packing: Packing, num_items_in_batch: Tensor | int | None
    ) -> Tensor:
        if self.crf is None:
            return cross_entropy(logits, labels, num_items_in_batch, self._class_weights)
        words = packing.select(labels != -100)
        labels = words.pack(packing.pad(labels))
        losses = self.crf(words.pack(packing.pad(logits)), self.scored_labels(labels, words), words)
        if self._class_weights is not None:
            losses = losses * losses.new_tensor(self._class_weights)[labels]
        return average_loss(losses.sum(), words.num_tokens, num_items_in_batch)

    def scored_labels(self, labels: Tensor, packing: Packing) -> Tensor:
        """Tell which of the labels that the conditional random field scores words have.

        Args:
            labels (`torch.LongTensor` of shape `[num_words]`): Class ids.
            packing ([`Packing`]): The layout of the words.

        Returns:
            `torch.LongTensor` of shape `[num_words]`: ids in `config.scored_label_names`.

        Example:
        ```python
        >>> import torch
        >>> from rnn_hf import RnnConfig, RnnForTokenClassification
        >>> from rnn_hf.models.packing import Packing
        >>> labels = {0: "O", 1: "B-X", 2: "I-X"}
        >>> model = RnnForTokenClassification(RnnConfig(id2label=labels, use_crf=True, crf_tag_scheme="iobes"))
        >>> found = model.scored_labels(torch.tensor([1, 1, 2, 0]), Packing.from_mask(torch.ones(1, 4)))
        >>> [model.config.scored_label_names[index] for index in found]
        ['S-X', 'B-X', 'E-X', 'O']

        ```
        """
        if self.span_labels is None or len(labels) == 0:
            return labels
        open_ids, closed_ids, next_ids = (labels.new_tensor(ids) for ids in self.span_labels[1:])
        behind = torch.cat([labels.new_full((packing.num_sequences,), -2), labels])
        following = behind[packing.previous_positions(reverse=True)]
        return torch.where(next_ids[labels] == following, open_ids[labels], closed_ids[labels])

    def label_scores(self, scores: Tensor, join: Callable[[Tensor, Tensor], Tensor] = torch.maximum) -> Tensor:
        """Bring scores of what the conditional random field scores to the labels.

        Args:
            scores (`torch.FloatTensor` of shape `[…, num_scored_labels]`): Scores of `config.scored_label_names`.
            join (`Callable`): What the score of a label is of those of the two that it stands for.

        Returns:
            `torch.FloatTensor` of shape `[…, num_labels]`.
        """
        if self.span_labels is None:
            return scores
        open_ids, closed_ids = (torch.tensor(ids, device=scores.device) for ids in self.span_labels[1:3])
        of_open, of_closed = scores.index_select(-1, open_ids), scores.index_select(-1, closed_ids)
        return torch.where(open_ids == closed_ids, of_closed, join(of_open, of_closed))

    def pool_subwords(self, encoded: Encoded, states: Tensor) -> Tensor:
        """Let the states at a word's first token have read the whole word: see [`~subwords.pool_subwords`].

        Where words are the steps, they have.

        Args:
            encoded ([`Encoded`]): The batch.
            states (`torch.FloatTensor` of shape `[num_tokens, directions * hidden_size]`): States of one of its layers.

        Returns:
            `torch.FloatTensor` of the same shape.
        """
        if not self.config.bidirectional or encoded.input_ids is None or encoded.words is not None:
            return states
        return pool_subwords(states, self.word_starts[encoded.input_ids], encoded.packing)

    def add_lexical_scores(self, encoded: Encoded, logits: Tensor) -> Tensor:
        """Add what lexical features say of each token's labels, where there are any: see [`~lexical.LexicalFeatures`].

        In training, those whose weights are solved are left out.

        Args:
            encoded ([`Encoded`]): The batch.
            logits (`torch.FloatTensor` of shape `[num_tokens, num_labels]`): Scores by the states.

        Returns:
            `torch.FloatTensor` of the same shape.
        """
        if self.lexical is None or (self.lexical.is_solved and self.lexical.training):
            return logits
        return logits + self.lexical_scores(encoded, self.lexical)

    def lexical_scores(self, encoded: Encoded, lexical: LexicalFeatures) -> Tensor:
        """Score labels by lexical features.

        Args:
            encoded ([`Encoded`]): The batch, with ids.
            lexical ([`LexicalFeatures`]): The features, which may be others than the tagger's own.

        Returns:
            `torch.FloatTensor` of shape `[num_tokens, num_labels]`, of words where they are the steps.
        """
        if encoded.words is not None:
            scores = lexical(encoded.words.input_ids, encoded.words.words)
            return nn.functional.embedding(encoded.words.numbers, scores)
        ids = cast(Tensor, encoded.input_ids)
        words = Words.find(self.word_starts[ids], encoded.packing)
        return nn.functional.embedding(words.of_tokens, lexical(ids, words))

    def pad_logits(self, encoded: Encoded, logits: Tensor) -> Tensor:
        """Pad scores of labels; where words are the steps, their other tokens get the scores of the first one.

        In training they get 0: only the first ones have labels.

        Args:
            encoded ([`Encoded`]): The batch.
            logits (`torch.FloatTensor` of shape `[num_tokens, num_labels]`): Scores of its steps.

        Returns:
            `torch.FloatTensor` of shape `[batch_size, sequence_length, num_labels]`, 0 on padding.
        """
        words = encoded.words
        if words is None or words.packing is words.tokens or self.classifier.training:
            return encoded.packing.pad(logits)
        scores = words.spread(logits)
        is_start = (self.word_starts[words.input_ids] | (words.tokens.steps == 0)).unsqueeze(1)
        return words.tokens.pad(torch.where(is_start, scores, _continued(scores, self.config.label_names)))

    def score_words(
        self,
        encoded: Encoded,
        logits: Tensor,
        score: Callable[[Tensor, Packing], Tensor],
        join: Callable[[Tensor, Tensor], Tensor] = torch.maximum,
    ) -> Tensor:
        """Score labels over the first tokens of words: see [`score_words`].

        Args:
            encoded ([`Encoded`]): The batch.
            logits (`torch.FloatTensor` of shape `[num_tokens, num_scored_labels]`): Scores of single tokens.
            score (`Callable`): Takes packed logits and their layout, and returns scores of the same shape.
            join (`Callable`): See [`label_scores`].

        Returns:
            `torch.FloatTensor` of shape `[batch_size, sequence_length, num_labels]`.
        """

        def score_steps(logits: Tensor, packing: Packing) -> Tensor:
            return self.label_scores(score(logits, packing), join)

        packing = encoded.packing
        if encoded.words is not None:
            return self.pad_logits(encoded, score_steps(logits, packing))
        if encoded.input_ids is None:
            return packing.pad(score_steps(logits, packing))
        is_start = self.word_starts[encoded.input_ids]
        return score_words(logits, is_start, packing, score_steps, self.config.label_names)


def _match_vocabulary_first(model: Any, prefix: str, keep_vars: bool) -> None:
    model.match_vocabulary()


def pool_subwords(states: Tensor, is_start: Tensor, packing: Packing) -> Tensor:
    """Join, at each token, the forward state of its word's last token with its own backward state.

    At a word's first token, both states have then read the whole word: last subword pooling of the forward direction,
    first subword pooling of the backward direction.

    Args:
        states (`torch.FloatTensor` of shape `[num_tokens, 2 * hidden_size]`): States of both directions.
        is_start (`torch.BoolTensor` of shape `[num_tokens]`): Which tokens begin a word.
        packing ([`Packing`]): The layout.

    Returns:
        `torch.FloatTensor` of shape `[num_tokens, 2 * hidden_size]`.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.packing import Packing
    >>> from rnn_hf.models.subwords import pool_subwords
    >>> states, is_start = torch.tensor([[1.0, -1.0], [2.0, -2.0]]), torch.tensor([True, False])
    >>> pool_subwords(states, is_start, Packing.from_mask(torch.ones(1, 2)))
    tensor([[ 2., -1.],
            [ 2., -2.]])

    ```
    """
    forwards, backwards = states.chunk(2, dim=1)
    return torch.cat([forwards[packing.group_ends(is_start)], backwards], dim=1)


def score_words(
    logits: Tensor,
    is_start: Tensor,
    packing: Packing,
    score: Callable[[Tensor, Packing], Tensor],
    label_names: Sequence[str],
) -> Tensor:
    """Score labels over the first tokens of words; a word's other tokens get the scores of its first one.

    Args:
        logits (`torch.FloatTensor` of shape `[num_tokens, num_labels]`): Scores of single tokens.
        is_start (`torch.BoolTensor` of shape `[num_tokens]`): Which tokens begin a word.
        packing ([`Packing`]): The layout.
        score (`Callable`): Takes packed logits and their layout, and returns packed scores of labels.
        label_names (`Sequence[str]`): Labels in the order of their ids. Where they mark spans, the label of a word's
            first token is continued on the others: `B-LOC` as `I-LOC`.

    Returns:
        `torch.FloatTensor` of shape `[batch_size, sequence_length, num_labels]`, 0 on padding.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.packing import Packing
    >>> from rnn_hf.models.subwords import score_words
    >>> logits, is_start = torch.tensor([[1.0, 2.0], [5.0, 6.0]]), torch.tensor([True, False])
    >>> score_words(logits, is_start, Packing.from_mask(torch.ones(1, 2)), lambda logits, words: -logits, ["X", "Y"])
    tensor([[[-1., -2.],
             [-1., -2.]]])

    ```
    """
    words = packing.select(is_start)
    scores = words.pad(score(words.pack(packing.pad(logits)), words))  # [batch_size, sequence_length, num_labels]
    columns = torch.arange(packing.sequence_length, device=scores.device)
    starts = packing.pad(is_start)
    firsts = torch.where(starts, columns, 0).cummax(dim=1).values if packing.sequence_length else columns
    copied = scores.gather(1, firsts.unsqueeze(2).expand_as(scores)) if packing.sequence_length else scores
    return torch.where(starts.unsqueeze(2), scores, _continued(copied, label_names))


def _continued(scores: Tensor, label_names: Sequence[str]) -> Tensor:
    """Let the label of a word's first token go on: of `B-X` and `I-X`, the latter has the higher score."""
    begins, partners = _partners(tuple(label_names))
    if not any(begins):
        return scores
    others = scores[..., torch.tensor(partners, device=scores.device)]
    is_begin = torch.tensor(begins, device=scores.device)
    return torch.where(is_begin, scores.minimum(others), scores.maximum(others))


@lru_cache
def _partners(label_names: tuple[str, ...]) -> tuple[list[bool], list[int]]:
    """Tell which labels begin a span, and which other label the same span has; labels without one are their own."""
    begins, partners = [False] * len(label_names), list(range(len(label_names)))
    if tagging_scheme(label_names) is not None:
        ids = {name: index for index, name in enumerate(label_names)}
        for name, index in ids.items():
            if name.startswith("B-") and f"I{name[1:]}" in ids:
                inside = ids[f"I{name[1:]}"]
                begins[index], partners[index], partners[inside] = True, inside, index
    return begins, partners


__all__ = ["WordStartsMixin", "pool_subwords", "score_words"]
