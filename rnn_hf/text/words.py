"""The words of raw text: what stands between white space, without punctuation, which is words of its own."""

import json
from collections.abc import Iterable
from itertools import islice
from typing import Any

from tokenizers import Regex, Tokenizer, pre_tokenizers
from transformers import PreTrainedTokenizerBase

# White space, the zero-width space and the byte-order mark.
_SPACE = r"[\s\x{200B}\x{FEFF}]+"
# Punctuation and symbols, and characters of scripts that put no spaces between words; with their marks.
_ALONE = r"[\p{P}\p{S}][\p{M}\p{Cf}]*|[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]\p{M}*"
# Looked at to tell how words were split.
_MOST_SENTENCES = 5000


def word_splitter() -> pre_tokenizers.PreTokenizer:
    """Return what splits raw text into words, as a part of a fast tokenizer; see [`split_words`]."""
    return pre_tokenizers.Sequence(_steps())


def _steps() -> list[pre_tokenizers.PreTokenizer]:
    return [
        pre_tokenizers.Split(Regex(_SPACE), behavior="removed"),
        pre_tokenizers.Split(Regex(_ALONE), behavior="isolated"),
    ]


def split_words(text: str) -> list[tuple[int, int]]:
    """Find the words of a text.

    A word is a run of letters, digits and marks. Each mark of punctuation and each symbol is a word of its own, and so
    is each character of Chinese, Japanese, Thai, Lao, Khmer and Burmese, which have no spaces between words.

    Args:
        text (`str`): Any text.

    Returns:
        `list[tuple[int, int]]`: where each word begins and ends, in characters.

    Raises:
        ValueError: The text holds a lone surrogate, which is no character.

    Example:
    ```python
    >>> from rnn_hf.text.words import split_words
    >>> text = "Anna's 本, 2 €"
    >>> [text[start:end] for start, end in split_words(text)]
    ['Anna', "'", 's', '本', ',', '2', '€']

    ```
    """
    try:
        return [offsets for _, offsets in _SPLITTER.pre_tokenize_str(text)]
    except UnicodeEncodeError as error:
        raise ValueError(f"The text holds the lone surrogate {text[error.start]!a}, which is no character.") from error


def set_word_splitter(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let a tokenizer of [`~tokenization.train_tokenizer`] split raw text as [`split_words`] does.

    Words that [`split_words`] finds have the same tokens as before.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): A fast tokenizer that was trained on such words. It is changed.

    Example:
    ```python
    >>> from rnn_hf import train_tokenizer
    >>> from rnn_hf.text.words import set_word_splitter
    >>> tokenizer = train_tokenizer([["(", "Anna", ")"]], kind="word", min_frequency=1, is_split_into_words=True)
    >>> set_word_splitter(tokenizer)
    >>> tokenizer.tokenize("(Anna)")
    ['(', 'Anna', ')']

    ```
    """
    backend: Tokenizer = tokenizer.backend_tokenizer
    state = json.loads(backend.to_str())
    steps = _steps()
    for part in _parts(state["pre_tokenizer"]):
        if part["type"] == "ByteLevel":
            steps.append(pre_tokenizers.ByteLevel(add_prefix_space=part["add_prefix_space"]))
        elif part["type"] == "Metaspace":
            steps.append(pre_tokenizers.Metaspace(prepend_scheme=part["prepend_scheme"]))
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    # No word begins with a space of the text any more, which would be cut off its offsets.
    for part in _parts(state["post_processor"]):
        if part["type"] == "ByteLevel":
            part["trim_offsets"] = False
    backend.post_processor = Tokenizer.from_str(json.dumps(state)).post_processor


def _parts(state: dict[str, Any] | None) -> list[dict[str, Any]]:
    """List the steps of what splits text, or of what ends an encoding, in the state of a tokenizer."""
    if state is None or state["type"] != "Sequence":
        return [] if state is None else [state]
    steps = state["pretokenizers"] if "pretokenizers" in state else state["processors"]
    return [part for one in steps for part in _parts(one)]


def has_word_splitter(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell whether a tokenizer splits raw text as [`split_words`] does.

    Example:
    ```python
    >>> from rnn_hf import train_tokenizer
    >>> from rnn_hf.text.words import has_word_splitter, set_word_splitter
    >>> tokenizer = train_tokenizer([["a"]], kind="word", min_frequency=1, is_split_into_words=True)
    >>> before = has_word_splitter(tokenizer)
    >>> set_word_splitter(tokenizer)
    >>> before, has_word_splitter(tokenizer)
    (False, True)

    ```
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    parts = [] if backend is None else _parts(json.loads(backend.to_str())["pre_tokenizer"])
    return {"Regex": _ALONE} in [part.get("pattern") for part in parts]


def are_split(sentences: Iterable[list[str]]) -> bool:
    """Tell whether words are those that [`split_words`] finds: no punctuation within, as in texts with spans.

    Args:
        sentences (`Iterable[list[str]]`): Lists of words, of which some thousands are looked at.

    Example:
    ```python
    >>> from rnn_hf.text.words import are_split
    >>> are_split([["(", "Anna", ")"]]), are_split([["U.S.", "troops"]])
    (True, False)

    ```
    """
    words = {word for sentence in islice(sentences, _MOST_SENTENCES) for word in sentence}
    return bool(words) and all(split_words(word) == [(0, len(word))] for word in words)


_SPLITTER = word_splitter()

__all__ = ["are_split", "has_word_splitter", "set_word_splitter", "split_words", "word_splitter"]
