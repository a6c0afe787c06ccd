"""More texts from those that are there, for a teacher to label: masked words, other words of their class, n-grams."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

# Stands for a masked word, until a tokenizer says what that is: no character of texts.
MASK = "\ufffc"

# Tang et al. mask a word, or put another in its place, each with this probability, and take an n-gram of a text.
_OF_MASK, _OF_SWAP, _OF_NGRAM = 0.1, 0.1, 0.25
_LONGEST_NGRAM = 5
# Texts from which the classes of words are learnt, and tries to make a new text.
_NUM_READ = 100_000
_NUM_TRIES = 3


class Augmentation:
    """Make further texts of each text (https://arxiv.org/abs/1903.12136).

    Words are masked, or replaced by others that stand between the same two words somewhere in the texts, and are so of
    their class (https://doi.org/10.1016/S0010-0277(03)00140-9). Of a quarter of the texts a few words in a row are
    taken.

    Args:
        inputs (`Callable`): Gives the texts, or lists of words, anew each time that it is called.
        copies (`int`): Most further texts of each; those that come out as the text itself are left out.
        seed (`int`): Seed of all choices.

    Example:
    ```python
    >>> from rnn_hf.data.augmentation import Augmentation
    >>> texts = ["a good film", "a bad film", "a good plot"]
    >>> list(Augmentation(lambda: texts, copies=1, seed=4))
    ['a good plot', 'a good film']

    ```
    """

    def __init__(self, inputs: Callable[[], Iterable[Any]], copies: int, seed: int):
        self.inputs = inputs
        self.copies = copies
        self.seed = seed
        self._frames: dict[tuple[str, str], list[str]] | None = None

    def __iter__(self) -> Iterator[Any]:
        source = np.random.default_rng(self.seed)
        for text in self.inputs():
            words = text.split() if isinstance(text, str) else list(text)
            made = {tuple(words)}
            for _ in range(self.copies):
                for _ in range(_NUM_TRIES):
                    new = self._vary(words, source)
                    if tuple(new) not in made:
                        made.add(tuple(new))
                        yield " ".join(new) if isinstance(text, str) else new
                        break

    def _vary(self, words: list[str], source: np.random.Generator) -> list[str]:
        new = list(words)
        for position, (before, word, after) in enumerate(_with_neighbours(words)):
            chance = source.random()
            if chance < _OF_MASK:
                new[position] = MASK
            elif chance < _OF_MASK + _OF_SWAP:
                others = self.frames.get((before, after), [word])
                new[position] = others[source.integers(len(others))]
        if source.random() < _OF_NGRAM:
            size = int(source.integers(1, _LONGEST_NGRAM + 1))
            start = int(source.integers(max(len(new) - size, 0) + 1))
            new = new[start : start + size]
        return new

    @property
    def frames(self) -> dict[tuple[str, str], list[str]]:
        """`dict`: between which two words which words stand, where there are several; as often as they do."""
        if self._frames is None:
            found: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
            for text in islice(self.inputs(), _NUM_READ):
                for before, word, after in _with_neighbours(text.split() if isinstance(text, str) else text):
                    found[before, after][word] += 1
            self._frames = {frame: list(words.elements()) for frame, words in found.items() if len(words) > 1}
        return self._frames


def _with_neighbours(words: list[str]) -> Iterator[tuple[str, str, str]]:
    return zip(["", *words], words, [*words[1:], ""], strict=False)


def fill_masks(inputs: list[Any], tokenizer: PreTrainedTokenizerBase) -> list[Any]:
    """Put a tokenizer's mask in the place of masked words, or its unknown token where it has none.

    Args:
        inputs (`list[str]` or `list[list[str]]`): Texts, or lists of words.
        tokenizer (`PreTrainedTokenizerBase`): The tokenizer.

    Example:
    ```python
    >>> from rnn_hf import train_tokenizer
    >>> from rnn_hf.data.augmentation import MASK, fill_masks
    >>> fill_masks([f"a {MASK} film"], train_tokenizer(["a film"], kind="word", min_frequency=1))
    ['a <unk> film']

    ```
    """
    token = str(tokenizer.mask_token or tokenizer.unk_token or "")
    return [
        one.replace(MASK, token) if isinstance(one, str) else [word.replace(MASK, token) for word in one]
        for one in inputs
    ]


__all__ = ["MASK", "Augmentation", "fill_masks"]
