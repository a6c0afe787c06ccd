"""N-grams of words and of characters, beside the recurrent layers of a classifier.

A linear model over weighted n-grams is hard to beat on small corpora and long documents, and a recurrent model where
the order of words matters. A classifier with both (https://arxiv.org/abs/1606.07792) sums their logits. N-grams are
hashed into one table (https://arxiv.org/abs/0902.2206), and computed from token ids and the characters of vocabulary
entries, so that token ids stay the model's only input.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from .configuration_rnn import RnnConfig
from .embeddings import resized
from .losses import score_labels
from .packing import Packing

# Hashes are numbers below this prime; no product of one and a factor reaches 2**63.
PRIME = 2**31 - 1
WORD_FACTOR = 1_000_003
CHARACTER_FACTOR = 48_271
# N-grams of characters have so many, the mark of a word's beginning and the end included.
CHARACTER_NGRAMS = range(2, 7)
# Codes of characters: padding, an entry that begins a word, one that continues it, the end. Characters come after.
PADDING, BEGINNING, CONTINUATION, END = range(4)
NUM_CODES = 4
# What a token counts that stands in a text several times: their number to this power.
POWER = 2 / 3
# Of more labels than this, n-grams have vectors, and no logits of their own.
MOST_LABELS, VECTOR_SIZE = 256, 64


class EntryNgrams(NamedTuple):
    """The n-grams of characters of vocabulary entries that have a bucket, entry by entry.

    Args:
        offsets (`torch.LongTensor` of shape `[vocab_size + 1]`): Where those of each entry begin.
        buckets (`torch.LongTensor` of shape `[num_ngrams]`): Their buckets.
        keys (`torch.LongTensor` of shape `[vocab_size]`): A hash of all characters of each entry; 0 where it has none.
    """

    offsets: Tensor
    buckets: Tensor
    keys: Tensor


class NgramFeatures(nn.Module):
    """Score labels by the n-grams of words and characters of whole texts.

    Words are the tokens of the text in lower case. What n-grams give is summed with the weight of each, and divided by
    the length of the vector of all weights, once for n-grams of words and once for those of characters, as in TF-IDF.
    A token that stands in a text `n` times counts there as `n^(2/3)`, for words come in bursts
    (https://mlanthology.org/icml/2003/rennie2003icml-tackling); each n-gram of words, as its rarest word does. N-grams
    that own no bucket do not count: [`~linear.ngram_choice.set_ngrams`] chooses those of the training data, and their
    weights.

    Args:
        config ([`RnnConfig`]): `ngram_buckets`, `max_ngram`, `ngram_dropout` and the labels say all.

    Attributes:
        spellings (`torch.IntTensor` of shape `[vocab_size, max_characters_per_token]`): A buffer with the characters
            of vocabulary entries in lower case between marks, as [`~characters.set_vocabulary`] writes them.
        hashes (`torch.IntTensor` of shape `[ngram_buckets]`): A buffer with the hash of the n-gram that owns each
            bucket; 0 for none.
        scales (`torch.FloatTensor` of shape `[ngram_buckets]`): A buffer with the weight of that n-gram.
        weight (`torch.FloatTensor` of shape `[ngram_buckets, size]`): What it gives to each label; of more than 256
            labels, to a vector, which `projection` maps to labels.
        bias (`torch.FloatTensor` of shape `[num_labels]`): What each label has without n-grams.
        is_solved (`bool`): Whether the weights are the solution of [`~linear.ngram_solver.solve_ngrams`], and the
            recurrent layers are to be trained without them.
        sparse (`bool`): Whether the gradient of `weight` is sparse.
        before_reading (`Callable`, *optional*): Called with the module and the rows before they are read.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf import RnnConfig
    >>> from rnn_hf.models.ngrams import NgramFeatures
    >>> from rnn_hf.models.packing import Packing
    >>> ngrams = NgramFeatures(RnnConfig(vocab_size=9, ngram_buckets=64, num_labels=3))
    >>> ngrams(torch.arange(8), Packing.from_mask(torch.ones(2, 4))).shape
    torch.Size([2, 3])

    ```
    """

    spellings: Tensor
    hashes: Tensor
    scales: Tensor

    def __init__(self, config: RnnConfig):
        super().__init__()
        num_labels = len(config.id2label or {})
        self.max_ngram = config.max_ngram
        self.dropout = float(config.ngram_dropout)
        self.size = num_labels if num_labels <= MOST_LABELS else VECTOR_SIZE
        self.weight = nn.Parameter(torch.zeros(config.ngram_buckets, self.size))
        self.projection = nn.Linear(self.size, num_labels, bias=False) if num_labels > self.size else None
        self.bias = nn.Parameter(torch.zeros(num_labels))
        self.is_solved = False
        self.sparse = False
        self.before_reading: Callable[[nn.Module, tuple[Tensor, ...]], None] | None = None
        shape = (config.vocab_size, config.max_characters_per_token)
        self.register_buffer("spellings", torch.zeros(shape, dtype=torch.int32))
        self.register_buffer("hashes", torch.zeros(config.ngram_buckets, dtype=torch.int32))
        self.register_buffer("scales", torch.zeros(config.ngram_buckets))
        self._entries: tuple[tuple, EntryNgrams] | None = None

    def forward(self, input_ids: Tensor, packing: Packing) -> Tensor:
        """Score labels.

        Args:
            input_ids (`torch.LongTensor` of shape `[num_tokens]`): Packed token ids.
            packing ([`Packing`]): Their layout.

        Returns:
            `torch.FloatTensor` of shape `[batch_size, num_labels]`.
        """
        texts = packing.sorted_indices[packing.sorted_rows]  # [num_tokens]
        counts = _count_in_texts(input_ids, texts, packing.batch_size).to(self._type_of_sums)
        of_words, positions, counts_of_words = self._word_buckets(input_ids, packing, counts)
        distinct, inverse = input_ids.unique(return_inverse=True)
        of_entries, entries = self._entry_buckets(distinct)
        # One look-up for both: its gradient is as large as the whole table.
        buckets = torch.cat([of_words, of_entries])
        scales = self.scales[buckets].to(self._type_of_sums)
        if self.before_reading is not None:
            self.before_reading(self, (buckets,))
        given = nn.functional.embedding(buckets, self.weight, sparse=self.sparse) * scales.unsqueeze(1)
        words, characters = given.split([len(of_words), len(of_entries)])
        squares_of_words, squares = (scales**2).split([len(of_words), len(of_entries)])
        characters = characters.new_zeros(len(distinct), self.size).index_add(0, entries, characters)
        squares = squares.new_zeros(len(distinct)).index_add(0, entries, squares)
        pooled = self._pool(words, squares_of_words, counts_of_words, texts[positions], packing.batch_size)
        characters = nn.functional.embedding(inverse, characters)
        pooled = pooled + self._pool(characters, squares[inverse], counts, texts, packing.batch_size)
        if self.projection is not None:
            pooled = score_labels(self.projection, pooled.to(self.projection.weight.dtype))
        return pooled + self.bias

    def values(self, input_ids: Tensor, packing: Packing) -> tuple[Tensor, Tensor, Tensor]:
        """Say how much each n-gram counts: by what [`forward`] multiplies `weight` before it sums.

        Args:
            input_ids (`torch.LongTensor` of shape `[num_tokens]`): Packed token ids.
            packing ([`Packing`]): Their layout.

        Returns:
            Texts, buckets and values, each of shape `[num_ngrams]`; an n-gram stands there as often as in its text.
        """
        texts = packing.sorted_indices[packing.sorted_rows]  # [num_tokens]
        counts = _count_in_texts(input_ids, texts, packing.batch_size).to(self._type_of_sums)
        of_words, positions, counts_of_words = self._word_buckets(input_ids, packing, counts)
        of_entries, owners = self._entry_buckets(input_ids)
        values = []
        for buckets, rows, times in (
            (of_words, texts[positions], counts_of_words),
            (of_entries, texts[owners], counts[owners]),
        ):
            scales = self.scales[buckets].to(self._type_of_sums)
            lengths = _lengths(scales**2, times, rows, packing.batch_size)
            values.append(scales * times ** (POWER - 1) / lengths[rows])
        return torch.cat([texts[positions], texts[owners]]), torch.cat([of_words, of_entries]), torch.cat(values)

    def entry_ngrams(self) -> EntryNgrams:
        """Find the n-grams of characters of all entries; they are kept until a table changes."""
        tables = (self.spellings, self.hashes)
        state = tuple((table.data_ptr(), tuple(table.shape), table.device, _version(table)) for table in tables)
        if self._entries is None or self._entries[0] != state:
            # Tensors made in inference mode could not be used in training.
            with torch.inference_mode(False), torch.no_grad():
                self._entries = (state, find_entry_ngrams(self.spellings.clone(), self.hashes.clone()))
        return self._entries[1]

    @property
    def _type_of_sums(self) -> torch.dtype:
        """Sums of many squares need more than half precision."""
        return torch.promote_types(self.scales.dtype, torch.float32)

    def _word_buckets(self, input_ids: Tensor, packing: Packing, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Find the buckets of n-grams of words, the position of the last token of each, and how often each counts."""
        befores = packing.previous_positions() - packing.num_sequences  # [num_tokens], negative for first tokens
        hashes = word_ngrams(self.entry_ngrams().keys[input_ids], befores, self.max_ngram)
        buckets = find_buckets(hashes, self.hashes)  # [max_ngram, num_tokens]
        sizes, positions = (buckets >= 0).nonzero(as_tuple=True)
        fewest = [counts]
        for _ in range(1, self.max_ngram):
            fewest.append(torch.minimum(fewest[-1][befores.clamp(min=0)], counts))
        return buckets[sizes, positions], positions, torch.stack(fewest)[sizes, positions]

    def _entry_buckets(self, entries: Tensor) -> tuple[Tensor, Tensor]:
        """Find the buckets of n-grams of characters of entries, and which of the entries each belongs to."""
        offsets, buckets, _ = self.entry_ngrams()
        return take_ragged(offsets, buckets, entries)

    def _pool(self, given: Tensor, squares: Tensor, counts: Tensor, texts: Tensor, num_texts: int) -> Tensor:
        """Sum what each item gives to its text, and divide by the length of the vector of weights above 1."""
        kept = nn.functional.dropout(counts ** (POWER - 1), self.dropout, self.training).unsqueeze(1)
        sums = given.new_zeros(num_texts, self.size).index_add(0, texts, given * kept)
        return sums / _lengths(squares, counts, texts, num_texts).unsqueeze(1).to(sums.dtype)


class NgramsMixin:
    """The n-grams of a classifier.

    Attributes:
        ngrams ([`NgramFeatures`], *optional*): With `config.ngram_buckets`.
    """

    config: Any
    model: Any
    ngrams: NgramFeatures | None

    def register_ngrams(self) -> None:
        """Make what the configuration asks for; tables are brought up to date before weights are saved."""
        self.ngrams = NgramFeatures(self.config) if self.config.ngram_buckets > 0 else None
        cast(nn.Module, self).register_state_dict_pre_hook(_match_vocabulary_first)

    def match_vocabulary(self) -> None:
        """Let the table of characters have a row for each entry again, after the vocabulary was resized.

        New entries have no characters. It happens before each use and before the weights are saved.
        """
        num_entries = self.model.embeddings.num_entries
        if self.ngrams is not None and len(self.ngrams.spellings) != num_entries:
            self.ngrams.spellings = resized(self.ngrams.spellings, num_entries, PADDING)

    def add_ngram_logits(self, input_ids: Tensor | None, packing: Packing, logits: Tensor) -> Tensor:
        """Add what the n-grams of each text give, where they count: see [`NgramFeatures`].

        In training, n-grams whose weights are solved are left out.

        Args:
            input_ids (`torch.LongTensor` of shape `[num_tokens]`, or `None`): Packed token ids.
            packing ([`Packing`]): Their layout.
            logits (`torch.FloatTensor` of shape `[batch_size, num_labels]`): Those of the states.

        Returns:
            `torch.FloatTensor` of the same shape.

        Raises:
            ValueError: N-grams count, and there are no ids.
        """
        if self.ngrams is None or (self.ngrams.is_solved and self.ngrams.training):
            return logits
        if input_ids is None:
            raise ValueError("This classifier counts n-grams of tokens: give input_ids beside inputs_embeds.")
        self.match_vocabulary()
        return logits + self.ngrams(input_ids, packing).to(logits.dtype)


def _match_vocabulary_first(model: Any, prefix: str, keep_vars: bool) -> None:
    model.match_vocabulary()


def _count_in_texts(input_ids: Tensor, texts: Tensor, num_texts: int) -> Tensor:
    """Count how often each token stands in its text: `[num_tokens]`."""
    _, inverse, counts = (input_ids * num_texts + texts).unique(return_inverse=True, return_counts=True)
    return counts[inverse]


def _lengths(squares: Tensor, counts: Tensor, texts: Tensor, num_texts: int) -> Tensor:
    """Return the lengths of vectors of weights, 1 at least: of items with squares that stand there so often."""
    sums = squares.new_zeros(num_texts).index_add(0, texts, squares * counts ** (2 * POWER - 1))
    return sums.clamp(min=1).sqrt()


def word_ngrams(keys: Tensor, befores: Tensor, max_ngram: int) -> Tensor:
    """Hash the n-grams of words that end at each token.

    Args:
        keys (`torch.LongTensor` of shape `[num_tokens]`): A hash of each token; 0 for one that is no word.
        befores (`torch.LongTensor` of shape `[num_tokens]`): The position of the token before it, negative for none.
        max_ngram (`int`): Most words of an n-gram.

    Returns:
        `torch.LongTensor` of shape `[max_ngram, num_tokens]`: from n-grams of one word to the longest; 0 where there
        is none.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.ngrams import word_ngrams
    >>> word_ngrams(torch.tensor([7, 8, 0]), torch.tensor([-1, 0, 1]), 2)
    tensor([[      7,       8,       0],
            [      0, 7000030,       0]])

    ```
    """
    hashes = [keys]
    for _ in range(1, max_ngram):
        shorter = hashes[-1][befores.clamp(min=0)]
        exists = (befores >= 0) & (shorter > 0) & (keys > 0)
        hashes.append(torch.where(exists, extended(shorter, keys, WORD_FACTOR), 0))
    return torch.stack(hashes)


def extended(hashes: Tensor, added: Tensor, factor: int) -> Tensor:
    """Hash sequences with one more item: positive numbers below [`PRIME`]."""
    return (hashes * factor + added) % (PRIME - 1) + 1


def bucket_choices(hashes: Tensor, num_buckets: int) -> tuple[Tensor, Tensor]:
    """Return the two buckets that an n-gram may own (https://doi.org/10.1016/j.jalgor.2003.12.002)."""
    return hashes % num_buckets, hashes * CHARACTER_FACTOR % PRIME % num_buckets


def find_buckets(hashes: Tensor, owners: Tensor) -> Tensor:
    """Find the buckets of n-grams.

    Args:
        hashes (`torch.LongTensor` of any shape): Hashes of n-grams; 0 for none.
        owners (`torch.IntTensor` of shape `[num_buckets]`): The hash of the n-gram that owns each bucket; 0 for none.

    Returns:
        `torch.LongTensor` of the same shape: -1 where an n-gram owns none.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.ngrams import find_buckets
    >>> find_buckets(torch.tensor([7, 2, 3, 0]), torch.tensor([3, 7, 0]))
    tensor([ 1, -1,  0, -1])

    ```
    """
    first, second = bucket_choices(hashes, len(owners))
    buckets = torch.where(owners[first] == hashes, first, torch.where(owners[second] == hashes, second, -1))
    return torch.where(hashes > 0, buckets, -1)


def character_ngrams(spellings: Tensor) -> Tensor:
    """Hash the n-grams of characters of vocabulary entries.

    Args:
        spellings (`torch.IntTensor` of shape `[num_entries, num_characters]`): Codes of characters.

    Returns:
        `torch.LongTensor` of shape `[num_entries, 5 * num_characters]`: 0 where there is no n-gram.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.ngrams import character_ngrams
    >>> character_ngrams(torch.tensor([[1, 101, 3, 0]])).gt(0).sum()  # two of two characters, one of three
    tensor(3)

    ```
    """
    codes = spellings.long()
    hashes, found = codes, []
    for size in CHARACTER_NGRAMS:
        before = nn.functional.pad(hashes, (1, 0))[:, :-1]
        hashes = torch.where((before > 0) & (codes > 0), extended(before, codes, CHARACTER_FACTOR), 0)
        hashes[:, : size - 1] = 0
        found.append(hashes)
    return torch.cat(found, dim=1)


def take_ragged(offsets: Tensor, values: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Take the values of rows of different lengths.

    Args:
        offsets (`torch.LongTensor` of shape `[num_rows + 1]`): Where the values of each row begin.
        values (`torch.Tensor` of shape `[num_values]`): Those of all rows.
        rows (`torch.LongTensor` of shape `[num_taken]`): Which rows are taken.

    Returns:
        Their values, and which of the taken rows each belongs to.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.ngrams import take_ragged
    >>> take_ragged(torch.tensor([0, 2, 2, 3]), torch.tensor([7, 8, 9]), torch.tensor([2, 0]))
    (tensor([9, 7, 8]), tensor([0, 1, 1]))

    ```
    """
    begins = offsets[rows]
    counts = offsets[rows + 1] - begins
    owners = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), counts)
    places = torch.arange(len(owners), device=rows.device) + (begins - (counts.cumsum(0) - counts))[owners]
    return values[places], owners


def entry_keys(spellings: Tensor) -> Tensor:
    """Hash all characters of vocabulary entries: `[num_entries, num_characters]` to `[num_entries]`, 0 for no text."""
    keys = torch.zeros(len(spellings), dtype=torch.long, device=spellings.device)
    for codes in spellings.long().unbind(1):
        keys = torch.where(codes > 0, extended(keys, codes, WORD_FACTOR), keys)
    return keys


def find_entry_ngrams(spellings: Tensor, hashes: Tensor) -> EntryNgrams:
    """Find the n-grams of characters of all entries that own a bucket; see [`EntryNgrams`]."""
    found = []
    for chunk in spellings.split(4096):
        found.append(find_buckets(character_ngrams(chunk), hashes))
    buckets = torch.cat(found) if found else spellings.long()
    owned = buckets >= 0
    offsets = nn.functional.pad(owned.sum(dim=1).cumsum(0), (1, 0))
    return EntryNgrams(offsets, buckets[owned], entry_keys(spellings))


def _version(table: Tensor) -> int:
    return -1 if table.is_inference() else table._version


__all__ = [
    "BEGINNING",
    "CHARACTER_FACTOR",
    "CHARACTER_NGRAMS",
    "CONTINUATION",
    "END",
    "MOST_LABELS",
    "NUM_CODES",
    "PADDING",
    "POWER",
    "PRIME",
    "VECTOR_SIZE",
    "WORD_FACTOR",
    "EntryNgrams",
    "NgramFeatures",
    "NgramsMixin",
    "bucket_choices",
    "character_ngrams",
    "entry_keys",
    "extended",
    "find_buckets",
    "find_entry_ngrams",
    "take_ragged",
    "word_ngrams",
]
