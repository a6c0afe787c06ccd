"""Embeddings of vocabulary entries: a word embedding, a pretrained word vector, character features.

A convolutional network over the characters of an entry (https://arxiv.org/abs/1603.01354) lets related words share
what they have in common, and gives rare words a good vector. The characters of all entries stand in
a table of the model, so that token ids stay its only input.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .configuration_rnn import RnnConfig
from .losses import at_least_float32

# Codes of characters: those of `config.characters` come after these.
PADDING, UNKNOWN, BEGINNING, CONTINUATION, END = range(5)

# Most character_ids that are read at once in evaluation, and most tokens that are embedded at once without gradients.
_CHUNK = 4096
_MOST_TOKENS = 65536
# Whole numbers up to this are exact in bfloat16.
_LONGEST_IN_BFLOAT16 = 256


class RnnEmbeddings(nn.Module):
    """Turn token ids into vectors, joined of up to three parts.

    In training, character features are computed for the distinct ids of a batch. In evaluation, without gradients,
    those of each entry are computed once and cached. Each look-up compares the weights of the character CNN, and the
    characters of the entries, with those that the cache was computed from, so that no change leaves it stale.

    Args:
        config ([`RnnConfig`]): The architecture. With `characters`, character features are joined.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf import RnnConfig
    >>> from rnn_hf.models.embeddings import RnnEmbeddings
    >>> config = RnnConfig(vocab_size=100, embedding_size=8, characters="abc", char_num_filters=6)
    >>> RnnEmbeddings(config)(torch.tensor([4, 5, 4])).shape
    torch.Size([3, 20])

    ```
    """

    def __init__(self, config: RnnConfig):
        super().__init__()
        self.num_entries = config.vocab_size
        self.word_dropout = config.word_dropout
        self.unk_token_id = config.unk_token_id or 0
        self.num_word_embeddings = config.num_word_embeddings
        self.word_embeddings = nn.Embedding(config.num_word_embeddings or config.vocab_size, config.embedding_size)
        self.static_embeddings = StaticEmbeddings(config) if config.static_embedding_size > 0 else None
        self.character_cnn = CharacterCNN(config) if config.characters is not None else None
        self._cached: _CharacterFeatures | None = None

    def forward(self, input_ids: Tensor) -> Tensor:
        """Look up, or compute, vectors.

        Args:
            input_ids (`torch.LongTensor` of shape `[num_tokens]`): Token ids.

        Returns:
            `torch.FloatTensor` of shape `[num_tokens, config.input_size]`.
        """
        if torch.is_grad_enabled() or len(input_ids) <= _MOST_TOKENS:
            return self._embed(input_ids)
        # The parts of all tokens together would take the memory of the whole once more.
        joined: Tensor | None = None
        for first in range(0, len(input_ids), _MOST_TOKENS):
            embeds = self._embed(input_ids[first : first + _MOST_TOKENS])
            if joined is None:
                joined = embeds.new_empty(len(input_ids), embeds.shape[1])
            joined[first : first + _MOST_TOKENS] = embeds
        assert joined is not None
        return joined

    def _embed(self, input_ids: Tensor) -> Tensor:
        parts = [self._own(input_ids)]
        if self.static_embeddings is not None:
            parts.append(self.static_embeddings(input_ids))
        if self.character_cnn is not None:
            if self.training or torch.is_grad_enabled() or self.character_cnn.is_wrapped:
                distinct, positions = input_ids.unique(return_inverse=True)
                parts.append(nn.functional.embedding(positions, self.character_cnn(distinct)))
            else:
                parts.append(self.cached_character_features(input_ids))
        return torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]

    def cached_character_features(self, input_ids: Tensor) -> Tensor:
        """Look up cached character features, `[num_tokens, size]`; those of entries that are new are computed."""
        assert self.character_cnn is not None
        weights, character_ids = list(self.character_cnn.parameters()), self.character_cnn.character_ids
        if self._cached is None or not self._cached.is_of(weights, character_ids):
            # Tensors made in inference mode could not be written to outside of it.
            with torch.inference_mode(False):
                self._cached = _CharacterFeatures.empty(weights, self.character_cnn)
        table, read = self._cached.table, self._cached.read
        rows = character_ids.index_select(0, input_ids) + 1
        if not torch.equal(read.index_select(0, input_ids), rows):
            new = input_ids[(read[input_ids] != rows).any(dim=1)].unique()
            with torch.inference_mode(False), torch.no_grad(), torch.autocast(new.device.type, enabled=False):
                for chunk in new.clone().split(_CHUNK):
                    table[chunk] = self.character_cnn(chunk)
                    read[chunk] = character_ids[chunk] + 1
        return nn.functional.embedding(input_ids, table)

    def resize(self, num_entries: int) -> None:
        """Let the tables beside the word embeddings have a row for each entry again; new rows are empty."""
        self.num_entries = num_entries
        if self.static_embeddings is not None:
            self.static_embeddings.vector_ids = resized(self.static_embeddings.vector_ids, num_entries, 0)
        if self.character_cnn is not None:
            self.character_cnn.character_ids = resized(self.character_cnn.character_ids, num_entries, PADDING)

    def train(self, mode: bool = True) -> "RnnEmbeddings":
        """Switch between training and evaluation; training drops the cached character features."""
        if mode:
            self._cached = None
        return super().train(mode)

    def word_embedding_ids(self, input_ids: Tensor) -> Tensor:
        """Replace entries that have no word embedding by the unknown token; the shape stays."""
        if self.num_word_embeddings is None:
            return input_ids
        return torch.where(input_ids < self.num_word_embeddings, input_ids, self.unk_token_id)

    def _own(self, input_ids: Tensor) -> Tensor:
        own = self.word_embeddings(self.word_embedding_ids(input_ids))
        if self.training and self.word_dropout > 0:
            own = own * (torch.rand(len(input_ids), 1, device=own.device) >= self.word_dropout).to(own.dtype)
        return own


class _CharacterFeatures(NamedTuple):
    """Cached character features, and what they were computed from.

    Args:
        weights (`list[torch.Tensor]`): Copies of the weights of the character CNN.
        table (`torch.FloatTensor` of shape `[num_entries, size]`): The features.
        read (`torch.IntTensor` of shape `[num_entries, max_characters_per_token]`): The characters they were
            computed from, with codes from 1; 0 for entries without cached features.
    """

    weights: list[Tensor]
    table: Tensor
    read: Tensor

    @classmethod
    def empty(cls, weights: list[nn.Parameter], character_cnn: "CharacterCNN") -> "_CharacterFeatures":
        # Rows take up memory once they are written to.
        table = weights[0].new_empty(len(character_cnn.character_ids), character_cnn.size)
        cached = torch.zeros_like(character_cnn.character_ids)
        return cls([weight.detach().clone() for weight in weights], table, cached)

    def is_of(self, weights: list[nn.Parameter], character_ids: Tensor) -> bool:
        """Tell whether these weights computed the features. They are compared by value, however they were changed."""
        return (
            len(self.weights) == len(weights)
            and (self.read.shape, self.read.dtype, self.read.device)
            == (character_ids.shape, character_ids.dtype, character_ids.device)
            and all(
                ours.dtype == theirs.dtype and ours.device == theirs.device and torch.equal(ours, theirs)
                for ours, theirs in zip(self.weights, weights, strict=True)
            )
        )


class StaticEmbeddings(nn.Module):
    """Pretrained word vectors, which several vocabulary entries may share (`The` and `the`).

    Args:
        config ([`RnnConfig`]): `static_vocab_size` and `static_embedding_size` say how many and how large.
    """

    vector_ids: Tensor

    def __init__(self, config: RnnConfig):
        super().__init__()
        # The first row is that of entries without a vector.
        self.vectors = nn.Embedding(config.static_vocab_size + 1, config.static_embedding_size)
        self.register_buffer("vector_ids", torch.zeros(config.vocab_size, dtype=torch.int32))

    def forward(self, input_ids: Tensor) -> Tensor:
        """Look vectors up: `[num_tokens]` to `[num_tokens, static_embedding_size]`."""
        return self.vectors(self.vector_ids[input_ids])


class CharacterCNN(nn.Module):
    """A convolutional network over the characters of vocabulary entries, with the maximum over each entry.

    Args:
        config ([`RnnConfig`]): `characters`, `max_characters_per_token`, `char_embedding_size`, `char_kernel_sizes` and
            `char_num_filters` say all.
    """

    character_ids: Tensor

    def __init__(self, config: RnnConfig):
        super().__init__()
        self.size = len(config.char_kernel_sizes) * config.char_num_filters
        self.num_codes = END + 1 + len(config.characters or "")
        shape = (config.vocab_size, config.max_characters_per_token)
        self.register_buffer("character_ids", torch.zeros(shape, dtype=torch.int32))
        self.char_embeddings = nn.Embedding(self.num_codes, config.char_embedding_size)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(config.char_embedding_size, config.char_num_filters, size) for size in config.char_kernel_sizes
        )

    def forward(self, input_ids: Tensor) -> Tensor:
        """Compute character features of entries.

        Args:
            input_ids (`torch.LongTensor` of shape `[num_entries]`): Ids of entries.

        Returns:
            `torch.FloatTensor` of shape `[num_entries, len(char_kernel_sizes) * char_num_filters]`.
        """
        codes = self.character_ids[input_ids].long()  # [num_entries, max_characters_per_token]
        all_codes = torch.arange(self.num_codes, device=codes.device)
        table = self.char_embeddings(all_codes) if self.is_wrapped else self.char_embeddings.weight
        characters = table * (all_codes != PADDING).unsqueeze(1)  # [num_codes, char_embedding_size]
        maxima = [_largest(convolution, characters, codes) for convolution in self.convolutions]
        return torch.cat(maxima, dim=1).relu()

    @property
    def is_wrapped(self) -> bool:
        """Whether its layers are wrapped, as by the adapters of peft, which change what they compute at any time."""
        return any(hasattr(layer, "base_layer") for layer in (self.char_embeddings, *self.convolutions))


def resized(table: Tensor, num_rows: int, value: float) -> Tensor:
    """Cut rows off a table, or add rows that hold a value."""
    added = table.new_full((max(num_rows - len(table), 0), *table.shape[1:]), value)
    return torch.cat([table[:num_rows], added])


def _largest(convolution: Any, characters: Tensor, codes: Tensor) -> Tensor:
    """Run a convolution over texts, and take each feature's maximum over positions: `[num_texts, num_filters]`.

    There are far fewer characters than positions in texts, so each character is multiplied with the kernel once, and a
    position is the sum of what its neighbours contribute.
    """
    if hasattr(convolution, "base_layer"):  # an adapter of peft, which has no weight of its own
        (size,) = convolution.base_layer.kernel_size
        texts = nn.functional.embedding(codes, characters).transpose(1, 2)  # [num_texts, char_embedding_size, length]
        return convolution(nn.functional.pad(texts, (size // 2, (size - 1) // 2))).amax(dim=2)
    (size,) = convolution.kernel_size
    contributions = torch.einsum("cd,fdk->ckf", characters, convolution.weight).flatten(0, 1)
    windows = nn.functional.pad(codes, (size // 2, (size - 1) // 2), value=PADDING).unfold(1, size, 1)
    rows = windows * size + torch.arange(size, device=codes.device)  # [num_texts, length, size]
    if codes.device.type == "cpu":
        return _LargestSums.apply(contributions, rows) + convolution.bias
    # On other devices, the order in which that gradient is summed would differ from run to run.
    return _sums(contributions, rows).amax(dim=1) + convolution.bias


def _sums(table: Tensor, rows: Tensor) -> Tensor:
    """Sum rows of a table for each position: `[num_texts, length, size]` to `[num_texts, length, num_columns]`."""
    return nn.functional.embedding_bag(rows.flatten(0, 1), table, mode="sum").view(*rows.shape[:2], table.shape[1])


class _LargestSums(torch.autograd.Function):
    """Sum rows of a table for each position, see [`_sums`], and take each column's maximum over positions.

    From `[num_rows, num_columns]` and `[num_texts, length, size]` to `[num_texts, num_columns]`. The gradient goes to
    the first position with the maximum alone.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor) -> Tensor:
        sums = _sums(table, rows)
        maxima = sums.amax(dim=1)
        ctx.save_for_backward(rows, sums, maxima)
        ctx.num_rows = len(table)
        return maxima

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        rows, sums, maxima = ctx.saved_tensors
        length, size = rows.shape[1:]
        # torch's argmax over a dimension that is not the last one takes longer than all of this; so do comparisons.
        below = sums - maxima.unsqueeze(1)
        if sums.dtype == torch.float16 or length > _LONGEST_IN_BFLOAT16:
            below = at_least_float32(below)
        from_end = torch.arange(length, 0, -1, dtype=below.dtype, device=rows.device).unsqueeze(1)
        firsts = length - below.mul_(torch.finfo(below.dtype).max).add_(from_end).amax(dim=1).long()
        firsts = firsts.clamp(min=0, max=length - 1)  # where the maximum is NaN or infinite
        exact = at_least_float32(gradient)
        d_table = exact.new_zeros(ctx.num_rows, exact.shape[1])
        for position in range(size):
            d_table.scatter_add_(0, rows[:, :, position].gather(1, firsts), exact)
        return d_table.to(gradient.dtype), None


__all__ = [
    "BEGINNING",
    "CONTINUATION",
    "END",
    "PADDING",
    "UNKNOWN",
    "CharacterCNN",
    "RnnEmbeddings",
    "StaticEmbeddings",
    "resized",
]
