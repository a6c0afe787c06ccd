"""Lexical features of words, as linear-chain conditional random fields have them, straight into a tagger's scores.

A word's form, shape, prefixes and suffixes, and those of its neighbours, are strong evidence for its label
(https://aclanthology.org/W96-0213/), for words that training never saw above all. They are computed from the
characters of vocabulary entries, which stand in a table of the model: token ids stay its only input, and a word of
several tokens has the features of the whole word. A feature is known by its hash (https://arxiv.org/abs/0902.2206):
those of the vocabulary have weights, others are left out.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .configuration_rnn import RnnConfig
from .losses import score_labels
from .pooled_words import Words

# The code of a character is `NUM_CLASSES * code_point + class`, 0 where there is none.
NUM_CLASSES = 16
# Neighbours within so many words count too.
WINDOW = 2
# Of more labels than this, weights are of low rank.
LARGEST_SIZE = 64

_AFFIXES = 5
_SHAPE_LENGTH = 8
NUM_FEATURES = 1 + 2 * _AFFIXES + 2
# Cells of the table that tells the row of weights of a feature by its hash; far more than there are features.
NUM_CELLS = 2**18
# From so many words on, features of all entries are found, and kept.
_LEAST_WORDS = 256
# Words whose features are computed at once.
_CHUNK = 8192
# Feature hashes are linear modulo this prime; no sum of products reaches 2**63.
PRIME = 2**31 - 1
_GENERATOR = 48271


class HashWeights(NamedTuple):
    """Factors of the feature hashes, the same in every process and on every machine.

    Args:
        beginnings (`list[list[int]]` of shape `[max_characters, 1 + 5]`): Of the form, and of prefixes of 1 to 5.
        endings (`list[list[int]]` of shape `[5, 5]`): Of suffixes of 1 to 5, from a word's last character on.
        changes (`list[int]` of length `NUM_CLASSES**2`): Of a character's class after another one, for the short shape.
        classes (`list[int]` of length 8): Of the classes of the first characters, for the long shape.
        constants (`list[int]` of length 13): What is added, one for each feature.
    """

    beginnings: list[list[int]]
    endings: list[list[int]]
    changes: list[int]
    classes: list[int]
    constants: list[int]

    @classmethod
    def of(cls, max_characters: int) -> "HashWeights":
        """Make the factors for words of at most so many characters."""

        def factor(feature: int, position: int) -> int:
            return pow(_GENERATOR, 1009 * (feature + 1) + position, PRIME)

        features = range(1 + _AFFIXES)
        return cls(
            beginnings=[
                [factor(feature, step) if feature == 0 or step < feature else 0 for feature in features]
                for step in range(max_characters)
            ],
            endings=[
                [factor(10 + size, step) if step < size else 0 for size in range(1, _AFFIXES + 1)]
                for step in range(_AFFIXES)
            ],
            changes=[
                0 if old == new else factor(20, NUM_CLASSES * old + new)
                for old in range(NUM_CLASSES)
                for new in range(NUM_CLASSES)
            ],
            classes=[factor(21, step) for step in range(_SHAPE_LENGTH)],
            constants=[factor(30, feature) for feature in range(NUM_FEATURES)],
        )


@lru_cache
def _hash_weights(max_characters: int, device: torch.device) -> list[Tensor]:
    with torch.inference_mode(False):
        return [torch.tensor(factors, device=device) for factors in HashWeights.of(max_characters)]


class LexicalFeatures(nn.Module):
    """Score labels by the features of each word and of its neighbours within two words.

    Features are the form, prefixes and suffixes of one to five characters, all in lower case, and the shape, once with
    repeated classes of characters and once without. In training, each is left out with the probability
    `lexical_dropout`.

    Args:
        config ([`RnnConfig`]): `num_lexical_features`, `lexical_dropout`, `max_characters_per_token` and the labels.

    Attributes:
        character_codes (`torch.IntTensor` of shape `[vocab_size, max_characters_per_token]`): A buffer with the
            characters of vocabulary entries, as [`~characters.set_vocabulary`] writes them.
        feature_rows (`torch.IntTensor` of shape `[NUM_CELLS]`): A buffer with the row of weights of the features that
            the vocabulary has, 0 elsewhere.
        weight (`torch.FloatTensor` of shape `[num_lexical_features + 1, 5 * size]`): For each feature the scores that
            it gives to the second word after a word, the next, itself, the previous and the one before that; zeros at
            first. Row 0 is that of no feature.
        is_solved (`bool`): Whether the weights are the solution of [`~linear.lexical_solver.solve_lexical`], and the
            recurrent layers are to be trained without them.
        solved_transitions (`list[Tensor]`): Those of the conditional random field that it is the solution of.
        sparse (`bool`): Whether the gradient of `weight` is sparse.
        before_reading (`Callable`, *optional*): Called with the module and the rows before they are read.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf import RnnConfig
    >>> from rnn_hf.models.lexical import LexicalFeatures
    >>> from rnn_hf.models.packing import Packing
    >>> from rnn_hf.models.pooled_words import Words
    >>> lexical = LexicalFeatures(RnnConfig(vocab_size=9, num_lexical_features=64, num_labels=3))
    >>> words = Words.find(torch.tensor([True] * 7 + [False]), Packing.from_mask(torch.ones(2, 4)))
    >>> lexical(torch.arange(8), words).shape
    torch.Size([7, 3])

    ```
    """

    character_codes: Tensor
    feature_rows: Tensor

    def __init__(self, config: RnnConfig):
        super().__init__()
        num_labels = len(config.scored_label_names)
        self.dropout = float(config.lexical_dropout)
        self.is_solved = False
        self.solved_transitions: list[Tensor] = []
        self.sparse = False
        self.before_reading: Callable[[nn.Module, tuple[Tensor, ...]], None] | None = None
        self._of_entries: _EntryFeatures | None = None
        self.size = min(num_labels, LARGEST_SIZE)
        self.weight = nn.Parameter(torch.zeros(config.num_lexical_features + 1, (2 * WINDOW + 1) * self.size))
        self.projection = nn.Linear(self.size, num_labels, bias=False) if num_labels > self.size else None
        shape = (config.vocab_size, config.max_characters_per_token)
        self.register_buffer("character_codes", torch.zeros(shape, dtype=torch.int32))
        self.register_buffer("feature_rows", torch.zeros(NUM_CELLS, dtype=torch.int32))

    def forward(self, input_ids: Tensor, words: Words) -> Tensor:
        """Score the labels of words.

        Args:
            input_ids (`torch.LongTensor` of shape `[num_tokens]`): Packed token ids.
            words ([`Words`]): The words that they make.

        Returns:
            `torch.FloatTensor` of shape `[num_words, num_labels]`.
        """
        num_words = len(words.firsts)
        if self.training or torch.is_grad_enabled() or num_words <= _CHUNK:
            return self._score(input_ids, words)
        # With the neighbours of a chunk's words around it.
        chunks = []
        for first in range(0, num_words, _CHUNK):
            begin, end = max(first - WINDOW, 0), min(first + _CHUNK + WINDOW, num_words)
            tokens, part = words.choose(torch.arange(begin, end, device=input_ids.device))
            chunks.append(self._score(input_ids[tokens], part)[first - begin :][:_CHUNK])
        return torch.cat(chunks)

    def _score(self, input_ids: Tensor, words: Words) -> Tensor:
        """Score the labels of each word: `[num_words, num_labels]`."""
        features = self.word_features(input_ids, words)
        if self.training and self.dropout > 0:
            features = features * (torch.rand(features.shape, device=features.device) >= self.dropout)
        if self.before_reading is not None:
            self.before_reading(self, (features,))
        given = nn.functional.embedding_bag(  # [num_words, 5 * size]
            features, self.weight, mode="sum", padding_idx=0, sparse=self.sparse
        )
        num_words = len(words.firsts)
        parts = given.view(num_words, 2 * WINDOW + 1, self.size).unbind(1)
        scores = parts[WINDOW]
        for distance in range(1, min(WINDOW, num_words - 1) + 1):
            follows = (words.sequences[distance:] == words.sequences[:-distance]).unsqueeze(1)
            for offset in (-distance, distance):
                part = parts[WINDOW + offset]
                part = (part[:-distance] if offset < 0 else part[distance:]) * follows
                padding = (0, 0, distance, 0) if offset < 0 else (0, 0, 0, distance)
                scores = scores + nn.functional.pad(part, padding)
        return scores if self.projection is None else score_labels(self.projection, scores)

    def word_features(self, input_ids: Tensor, words: Words) -> Tensor:
        """Find the features of words; those of single entries are found once, until the tables change.

        Args:
            input_ids (`torch.LongTensor` of shape `[num_tokens]`): Packed token ids.
            words ([`Words`]): The words that they make.

        Returns:
            `torch.LongTensor` of shape `[num_words, 13]`: see [`LexicalFeatures.find_features`].
        """
        of_entries = self._features_of_entries(len(words.firsts))
        if of_entries is None:
            return self.find_features(*join_characters(self.character_codes, input_ids, words))
        features = of_entries.index_select(0, input_ids[words.order[words.firsts]]).long()
        if len(words.firsts) < len(words.order):
            begins, ends = words.bounds(torch.arange(len(words.firsts), device=input_ids.device))
            several = (ends - begins > 1).nonzero().flatten()
            tokens, part = words.choose(several)
            features[several] = self.find_features(*join_characters(self.character_codes, input_ids[tokens], part))
        return features

    def _features_of_entries(self, num_words: int) -> Tensor | None:
        """Return the features of each entry, `[vocab_size, 13]`; none where changes of the tables would not show.

        For few words they are not found anew, which would take longer.
        """
        tables = (self.character_codes, self.feature_rows)
        if torch.compiler.is_compiling() or any(table.is_inference() or table.is_meta for table in tables):
            return None
        state = [(id(table), table.data_ptr(), table._version) for table in tables]
        if self._of_entries is None or self._of_entries.state != state:
            if num_words < _LEAST_WORDS:
                return None
            with torch.inference_mode(False), torch.no_grad():
                codes = self.character_codes.long()
                features = self.find_features(codes, count_characters(codes)).int()
            self._of_entries = _EntryFeatures(features, tables, state)
        return self._of_entries.features

    def find_features(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """Find the rows of weights of the features of words: see [`hash_features`].

        Returns:
            `torch.LongTensor` of shape `[num_words, 13]`: from 1 to `num_lexical_features`, 0 for a feature that the
            vocabulary does not have.
        """
        chunks = zip(codes.split(_CHUNK), lengths.split(_CHUNK), strict=True)
        hashes = torch.cat([hash_features(*chunk) for chunk in chunks])
        return torch.where(hashes >= 0, self.feature_rows[hashes % NUM_CELLS], 0).long()

    @torch.no_grad()
    def set_characters(self, codes: Tensor) -> None:
        """Write the characters of the first vocabulary entries.

        The first time, their features have rows of weights, as many as there are, in the order of the entries. Later
        on the rows stay those that were trained.

        Args:
            codes (`torch.IntTensor` of shape `[num_entries, max_characters_per_token]`): Codes of characters, 0 behind
                the last.
        """
        self.character_codes[: len(codes)] = codes.to(self.character_codes.device)
        if not self.feature_rows.any():
            cells = feature_cells(codes)[: len(self.weight) - 1].to(self.feature_rows.device)
            self.feature_rows[cells] = torch.arange(1, len(cells) + 1, dtype=torch.int32, device=cells.device)


class _EntryFeatures(NamedTuple):
    """The features of entries, and what they were found by.

    Args:
        features (`torch.IntTensor` of shape `[vocab_size, 13]`): The features.
        tables (`tuple[torch.Tensor]`): The tables, kept so that no other ones take their addresses.
        state (`list`): Their identities and versions.
    """

    features: Tensor
    tables: tuple[Tensor, ...]
    state: list[Any]


def feature_cells(codes: Tensor) -> Tensor:
    """Find the cells of the features that vocabulary entries have.

    Args:
        codes (`torch.IntTensor` of shape `[num_entries, max_characters_per_token]`): Codes of characters.

    Returns:
        `torch.LongTensor` of shape `[num_features]`: each cell once, in the order of the entries.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.lexical import feature_cells
    >>> len(feature_cells(torch.tensor([[17, 34], [17, 34], [17, 0]])))
    11

    ```
    """
    codes = codes.long()
    hashes = hash_features(codes, count_characters(codes)).flatten()
    cells, inverse = (hashes[hashes >= 0] % NUM_CELLS).unique(return_inverse=True)
    firsts = torch.full_like(cells, len(inverse)).scatter_reduce(
        0, inverse, torch.arange(len(inverse), device=cells.device), "amin"
    )
    return cells[firsts.argsort()]


def join_characters(character_codes: Tensor, input_ids: Tensor, words: Words) -> tuple[Tensor, Tensor]:
    """Join the characters of the tokens of each word; of too many, those of the beginning and the end stay.

    Args:
        character_codes (`torch.IntTensor` of shape `[vocab_size, max_characters]`): Codes of entries' characters.
        input_ids (`torch.LongTensor` of shape `[num_tokens]`): Packed token ids.
        words ([`Words`]): The words that they make.

    Returns:
        `torch.LongTensor` of shape `[num_words, max_characters]` with the codes, and `[num_words]` with their numbers.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.lexical import join_characters
    >>> from rnn_hf.models.packing import Packing
    >>> from rnn_hf.models.pooled_words import Words
    >>> words = Words.find(torch.tensor([True, False, True]), Packing.from_mask(torch.ones(1, 3)))
    >>> codes = torch.tensor([[17, 33, 0, 0], [49, 65, 81, 0]])
    >>> join_characters(codes, torch.tensor([0, 0, 1]), words)
    (tensor([[17, 33, 17, 33],
            [49, 65, 81,  0]]), tensor([4, 3]))

    ```
    """
    room, num_words = character_codes.shape[1], len(words.firsts)
    ids, of_tokens = input_ids[words.order], words.of_tokens[words.order]
    codes = character_codes[ids].long()  # [num_tokens, room]
    counts = count_characters(codes)
    if num_words == len(ids):
        return codes, counts
    before = counts.cumsum(0) - counts
    columns = (before - before[words.firsts][of_tokens]).unsqueeze(1) + torch.arange(room, device=codes.device)
    lengths = torch.zeros(num_words, dtype=torch.long, device=codes.device).index_add_(0, of_tokens, counts)
    cut = (lengths - room).clamp(min=0)[of_tokens].unsqueeze(1)
    head = room - room // 2
    # Behind the head, so many characters are left out as are too many.
    columns = torch.where(
        (columns < head) | (cut == 0), columns, torch.where(columns < head + cut, room, columns - cut)
    )
    columns = torch.where(codes > 0, columns, room)
    joined = codes.new_zeros(num_words, room + 1)
    joined.index_put_((of_tokens.unsqueeze(1), columns), codes)
    return joined[:, :room], lengths.clamp(max=room)


def count_characters(codes: Tensor) -> Tensor:
    """Count the characters of entries or words: `[num_rows, max_characters]` with 0 behind the last to `[num_rows]`."""
    return ((codes > 0) * torch.arange(1, codes.shape[1] + 1, device=codes.device)).amax(dim=1)


def hash_features(codes: Tensor, lengths: Tensor) -> Tensor:
    """Hash the features of words: the form, five prefixes, five suffixes, the short and the long shape.

    Args:
        codes (`torch.LongTensor` of shape `[num_words, max_characters]`): Codes of characters.
        lengths (`torch.LongTensor` of shape `[num_words]`): Number of characters of each word.

    Returns:
        `torch.LongTensor` of shape `[num_words, 13]`: numbers below `PRIME`, -1 for affixes longer than the word.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.lexical import hash_features
    >>> the, The = hash_features(torch.tensor([[17, 34, 50], [18, 34, 50]]), torch.tensor([3, 3]))
    >>> (the == The).tolist()[:4], (the == The).tolist()[-2:], (the < 0).nonzero().flatten().tolist()
    ([True, True, True, True], [False, False], [4, 5, 9, 10])

    ```
    """
    device, room = codes.device, codes.shape[1]
    for_beginnings, for_endings, for_changes, for_classes, constants = _hash_weights(room, device)
    characters, classes = codes // NUM_CLASSES, codes % NUM_CLASSES
    beginnings = (characters.unsqueeze(2) * for_beginnings).sum(dim=1)
    steps = torch.arange(_AFFIXES, device=device)
    backwards = lengths.unsqueeze(1) - 1 - steps  # [num_words, 5]
    last = torch.where(backwards >= 0, characters.gather(1, backwards.clamp(min=0)), 0)
    endings = (last.unsqueeze(2) * for_endings).sum(dim=1)
    around = nn.functional.pad(classes, (1, 1))
    short_shapes = for_changes[around[:, :-1] * NUM_CLASSES + around[:, 1:]].sum(dim=1, keepdim=True)
    num_classes = min(_SHAPE_LENGTH, room)
    long_shapes = (classes[:, :num_classes] * for_classes[:num_classes]).sum(dim=1, keepdim=True)
    long_shapes = long_shapes + lengths.clamp(max=_SHAPE_LENGTH).unsqueeze(1)
    hashes = torch.cat([beginnings, endings, short_shapes, long_shapes], dim=1) + constants
    is_affix = steps < lengths.unsqueeze(1)
    always = torch.ones_like(is_affix[:, :1])
    there = torch.cat([always, is_affix, is_affix, always, always], dim=1)
    return torch.where(there, hashes % PRIME, -1)


__all__ = [
    "LARGEST_SIZE",
    "NUM_CELLS",
    "NUM_CLASSES",
    "NUM_FEATURES",
    "PRIME",
    "WINDOW",
    "HashWeights",
    "LexicalFeatures",
    "Words",
    "count_characters",
    "feature_cells",
    "hash_features",
    "join_characters",
]
