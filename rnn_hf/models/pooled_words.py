"""Words of one or several tokens: which tokens make which word, and batches whose steps are words."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .losses import at_least_float32
from .packing import Packing
from .repeated import find_distinct


class Words(NamedTuple):
    """Which tokens of a batch make which word; words are numbered sequence by sequence.

    Args:
        of_tokens (`torch.LongTensor` of shape `[num_tokens]`): The word of each packed token.
        order (`torch.LongTensor` of shape `[num_tokens]`): Packed positions, sequence by sequence.
        firsts (`torch.LongTensor` of shape `[num_words]`): Where in `order` each word begins.
        sequences (`torch.LongTensor` of shape `[num_words]`): The sequence of each word.
    """

    of_tokens: Tensor
    order: Tensor
    firsts: Tensor
    sequences: Tensor

    @classmethod
    def find(cls, is_start: Tensor, packing: Packing) -> "Words":
        """Find the words of a batch: each begins where one starts, or with its sequence.

        Args:
            is_start (`torch.BoolTensor` of shape `[num_tokens]`): Which packed tokens begin a word.
            packing ([`Packing`]): The layout.

        Example:
        ```python
        >>> import torch
        >>> from rnn_hf.models.pooled_words import Words
        >>> from rnn_hf.models.packing import Packing
        >>> packing = Packing.from_mask(torch.tensor([[1, 1, 1], [1, 1, 0]]))
        >>> packing.pad(Words.find(packing.pack(torch.tensor([[1, 0, 1], [0, 1, 0]])) > 0, packing).of_tokens, -1)
        tensor([[ 0,  0,  1],
                [ 2,  3, -1]])

        ```
        """
        lengths = packing.sorted_lengths
        positions = (lengths.cumsum(0) - lengths)[packing.sorted_rows] + packing.steps
        order = torch.empty_like(positions)
        order[positions] = torch.arange(len(positions), device=positions.device)
        starts = (is_start | (packing.steps == 0))[order]
        firsts = starts.nonzero().flatten()
        return cls((starts.long().cumsum(0) - 1)[positions], order, firsts, packing.sorted_rows[order[firsts]])

    def bounds(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return where, in `order`, the tokens of words begin and end: `[num_words]` each."""
        ends = torch.cat([self.firsts[1:], self.firsts.new_tensor([len(self.order)])])
        return self.firsts[numbers], ends[numbers]

    def choose(self, numbers: Tensor) -> tuple[Tensor, "Words"]:
        """Take some of the words by themselves.

        Args:
            numbers (`torch.LongTensor` of shape `[num_words]`): Which words, in any order.

        Returns:
            `tuple[torch.LongTensor, Words]`: packed positions of their tokens, word by word, and the words of these.

        Example:
        ```python
        >>> import torch
        >>> from rnn_hf.models.packing import Packing
        >>> from rnn_hf.models.pooled_words import Words
        >>> words = Words.find(torch.tensor([True, False, True]), Packing.from_mask(torch.ones(1, 3)))
        >>> tokens, part = words.choose(torch.tensor([1, 0]))
        >>> tokens, part.of_tokens
        (tensor([2, 0, 1]), tensor([0, 1, 1]))

        ```
        """
        begins, ends = self.bounds(numbers)
        lengths = ends - begins
        firsts = lengths.cumsum(0) - lengths
        of_tokens = torch.repeat_interleave(torch.arange(len(numbers), device=numbers.device), lengths)
        order = torch.arange(len(of_tokens), device=numbers.device)
        tokens = self.order[order + (begins - firsts)[of_tokens]]
        return tokens, Words(of_tokens, order, firsts, self.sequences[numbers])


def without_ends(
    tokens: Sequence[Tensor], input_ids: Tensor, packing: Packing, end_ids: Sequence[int]
) -> tuple[Any, Packing]:
    """Leave out the token that a tokenizer puts at the end of each sequence, where there is one.

    Args:
        tokens (`Sequence[torch.Tensor]` of shape `[num_tokens, ...]`): What the tokens have, packed.
        input_ids (`torch.LongTensor` of shape `[num_tokens]`): Their ids.
        packing ([`Packing`]): Their layout.
        end_ids (`Sequence[int]`): The ids of such tokens.

    Returns:
        What the other tokens have, and their [`Packing`].

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.packing import Packing
    >>> from rnn_hf.models.pooled_words import without_ends
    >>> ids = torch.tensor([2, 7, 2])
    >>> (others,), packing = without_ends([ids], ids, Packing.from_mask(torch.ones(1, 3)), end_ids=[2])
    >>> others, packing.lengths
    (tensor([2, 7]), tensor([2]))

    ```
    """
    last = packing.last_positions
    ends = last[torch.isin(input_ids[last], input_ids.new_tensor(end_ids))]
    if len(ends) == 0:
        return list(tokens), packing
    stays = torch.ones_like(input_ids, dtype=torch.bool).index_fill_(0, ends, False)
    others = packing.select(stays)
    return [others.pack(packing.pad(values)) for values in tokens], others


class PooledWords(NamedTuple):
    """A batch whose steps are words: the vectors of a word's tokens are pooled into one.

    Args:
        input_ids (`torch.LongTensor` of shape `[num_tokens]`): Packed token ids.
        tokens ([`Packing`]): The layout of the tokens.
        words ([`Words`]): Which tokens make which word.
        packing ([`Packing`]): The layout of the words; the padded column of a word is that of its first token.
        numbers (`torch.LongTensor` of shape `[num_words]`): Which of `words` each packed word is.
    """

    input_ids: Tensor
    tokens: Packing
    words: Words
    packing: Packing
    numbers: Tensor

    @classmethod
    def find(cls, input_ids: Tensor, is_start: Tensor, tokens: Packing) -> "PooledWords":
        """Find the words of a batch.

        Args:
            input_ids (`torch.LongTensor` of shape `[num_tokens]`): Packed token ids.
            is_start (`torch.BoolTensor` of shape `[num_tokens]`): Which of them begin a word.
            tokens ([`Packing`]): Their layout.

        Example:
        ```python
        >>> import torch
        >>> from rnn_hf.models.packing import Packing
        >>> from rnn_hf.models.pooled_words import PooledWords
        >>> tokens = Packing.from_mask(torch.ones(1, 3))
        >>> words = PooledWords.find(torch.tensor([7, 8, 9]), torch.tensor([True, False, True]), tokens)
        >>> words.packing.num_tokens, words.first_ids, words.spread(torch.tensor([0.5, 0.6]))
        (2, tensor([7, 9]), tensor([0.5000, 0.5000, 0.6000]))

        ```
        """
        words = Words.find(is_start, tokens)
        if len(words.firsts) == tokens.num_tokens:
            return cls(input_ids, tokens, words, tokens, words.of_tokens)
        begins = is_start | (tokens.steps == 0)
        packing = tokens.select(begins)
        return cls(input_ids, tokens, words, packing, packing.pack(tokens.pad(words.of_tokens)))

    @property
    def first_tokens(self) -> Tensor:
        """`torch.LongTensor` of shape `[num_words]`: where, among packed tokens, each packed word begins."""
        return self.words.order[self.words.firsts[self.numbers]]

    @property
    def first_ids(self) -> Tensor:
        """`torch.LongTensor` of shape `[num_words]`: the id of each packed word's first token."""
        return self.input_ids[self.first_tokens]

    def distinct(self, rnn: nn.RNNBase) -> tuple[Tensor, Tensor | None]:
        """Find the distinct words of one token, as [`~repeated.find_distinct`] does, and all others.

        Returns:
            Numbers of words, and which of them each packed word is; or those of all packed words, and `None`.
        """
        numbers = self.numbers
        begins, ends = self.words.bounds(numbers)
        several = self.input_ids.max() + 1 + numbers if len(numbers) else numbers
        keys = torch.where(ends - begins == 1, self.first_ids, several)
        distinct, rows = find_distinct(rnn, keys, self.packing)
        return (numbers, None) if rows is None else (torch.empty_like(distinct).scatter_(0, rows, numbers), rows)

    def embed(self, embed_tokens: Callable[[Tensor], Tensor], numbers: Tensor, num_means: int) -> Tensor:
        """Pool the vectors of the tokens of words: the mean of features, and the maximum of those of characters.

        Args:
            embed_tokens (`Callable`): Gives vectors `[num_tokens, size]` to packed tokens, by their positions.
            numbers (`torch.LongTensor` of shape `[num_words]`): Which words.
            num_means (`int`): How many of the features, from the first on, are averaged.

        Returns:
            `torch.FloatTensor` of shape `[num_words, size]`.
        """
        tokens, words = self.words.choose(numbers)
        embeds = embed_tokens(tokens)
        if len(tokens) == len(numbers):
            return embeds
        lengths = torch.diff(words.firsts, append=words.firsts.new_tensor([len(tokens)]))
        averaged = at_least_float32(embeds[:, :num_means])
        means = torch.segment_reduce(averaged, "mean", lengths=lengths).to(embeds.dtype)
        if num_means == embeds.shape[1]:
            return means
        # Not by `segment_reduce`, whose gradient is wrong where tokens tie.
        maxima = embeds[:, num_means:]
        others = words.order != words.firsts[words.of_tokens]
        index = words.of_tokens[others].unsqueeze(1).expand(-1, maxima.shape[1])
        return torch.cat([means, maxima[words.firsts].scatter_reduce(0, index, maxima[others], "amax")], dim=1)

    def spread(self, values: Tensor) -> Tensor:
        """Give all tokens of a word what it has: `[num_words, ...]` to `[num_tokens, ...]`, both packed."""
        ranks = torch.empty_like(self.numbers)
        ranks[self.numbers] = torch.arange(len(ranks), device=ranks.device)
        return values.index_select(0, ranks[self.words.of_tokens])


__all__ = ["PooledWords", "Words", "without_ends"]
