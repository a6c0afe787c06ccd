"""Encode texts, and sentences that are split into words, with any tokenizer."""

from itertools import chain
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..utils.messages import shown
from .raw_text import words_kept_whole

# What a tokenizer says that cuts nothing; transformers writes it so too.
NO_LIMIT = int(1e30)
_LARGEST_LIMIT = 10**9

# From so many sentences on, each distinct word is encoded once, so many of them at a time.
_LEAST_SENTENCES, _WORDS_AT_ONCE = 32, 256


def max_length_of(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return how many tokens of a text a tokenizer's model was trained to read.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): Any tokenizer.

    Returns:
        `int`, *optional*: its `model_max_length`; `None` where texts are not cut.

    Example:
    ```python
    >>> from rnn_hf import train_tokenizer
    >>> from rnn_hf.text.encoding import max_length_of
    >>> tokenizer = train_tokenizer(["a a b b"], kind="word")
    >>> max_length_of(tokenizer)
    >>> tokenizer.model_max_length = 100
    >>> max_length_of(tokenizer)
    100

    ```
    """
    limit = tokenizer.model_max_length
    return int(limit) if limit is not None and limit < _LARGEST_LIMIT else None


def encode_texts(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], max_length: int | None = None
) -> list[list[int]]:
    """Encode texts so that each has at least one token.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): Any tokenizer.
        texts (`list[str]`): Texts, which may be empty.
        max_length (`int`, *optional*): Cut longer encodings at this many tokens; without it nothing is cut.

    Returns:
        `list[list[int]]`: ids of each text's tokens.

    Raises:
        TypeError: A single text in place of a list.
        ValueError: A length below 1, or the tokenizer has no token to stand for an empty text.

    Example:
    ```python
    >>> from rnn_hf import train_tokenizer
    >>> from rnn_hf.text.encoding import encode_texts
    >>> encode_texts(train_tokenizer(["a a b b"], kind="word"), ["a b a", ""])
    [[3, 4, 3, 2], [2]]

    ```
    """
    if isinstance(texts, str):
        raise TypeError(f"encode_texts takes a list of texts, got a single one: {shown(texts)}.")
    if max_length is not None and max_length < 1:
        raise ValueError(f"max_length must be at least 1, got {max_length}.")
    if not texts:
        return []
    limit = {"truncation": max_length is not None, "max_length": max_length}
    encoding = tokenizer(texts, **limit, return_attention_mask=False, verbose=False)
    return [ids or [_stand_in(tokenizer)[1]] for ids in encoding["input_ids"]]


def encode_words(
    tokenizer: PreTrainedTokenizerBase, sentences: list[list[str]]
) -> tuple[list[list[int]], list[list[int]]]:
    """Encode sentences that are split into words, so that each word has at least one token.

    A word without a token (empty, white space, a lone control character) is read as the unknown token.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): A fast tokenizer.
        sentences (`list[list[str]]`): Words of each sentence.

    Returns:
        Ids of each sentence's tokens, and for each word the position of its first token among them.

    Raises:
        ValueError: The tokenizer is not a fast one, or has no token to stand for a word without one.

    Example:
    ```python
    >>> from rnn_hf import train_tokenizer
    >>> from rnn_hf.text.encoding import encode_words
    >>> tokenizer = train_tokenizer([["a", "a", "b", "b"]], kind="word", is_split_into_words=True)
    >>> encode_words(tokenizer, [["a", "", "b a"]])
    ([[3, 1, 4, 3, 2]], [[0, 1, 2]])

    ```
    """
    if not tokenizer.is_fast:
        raise ValueError(f"Aligning words with tokens needs a fast tokenizer, got {type(tokenizer).__name__}.")
    if not sentences:
        return [], []
    with words_kept_whole(tokenizer):
        found = _encode_distinct(tokenizer, sentences) if len(sentences) >= _LEAST_SENTENCES else None
        return _encode_words(tokenizer, sentences) if found is None else found


def _encode_distinct(
    tokenizer: PreTrainedTokenizerBase, sentences: list[list[str]]
) -> tuple[list[list[int]], list[list[int]]] | None:
    """Encode each distinct word once: tokenizers encode the words of a sentence one by one.

    Returns:
        What [`encode_words`] returns, or `None` where a sentence is not made of its words' tokens after all.
    """
    words = list(dict.fromkeys(chain.from_iterable(sentences)))
    if not words:
        return None
    parts = [words[first : first + _WORDS_AT_ONCE] for first in range(0, len(words), _WORDS_AT_ONCE)]
    ids_of: dict[str, list[int]] = {}
    for part, ids, firsts in zip(parts, *_encode_words(tokenizer, parts, add_special_tokens=False), strict=True):
        ends = [*firsts[1:], len(ids)]
        ids_of |= {word: ids[first:end] for word, first, end in zip(part, firsts, ends, strict=True)}
    # The tokens around the words are those of any sentence, in which no word's tokens depend on where it stands.
    sentence = next(sentence for sentence in sentences if sentence)
    (whole, turned), (firsts, _) = _encode_words(tokenizer, [sentence, sentence[::-1]])
    inner, backwards = ([index for word in words for index in ids_of[word]] for words in (sentence, sentence[::-1]))
    before, behind = whole[: firsts[0]], whole[firsts[0] + len(inner) :]
    if whole != before + inner + behind or turned != before + backwards + behind:
        return None
    all_ids, all_firsts = [], []
    for sentence in sentences:
        ids, firsts = before.copy(), []
        for word in sentence:
            firsts.append(len(ids))
            ids += ids_of[word]
        ids += behind
        all_ids.append(ids or [_stand_in(tokenizer)[1]])
        all_firsts.append(firsts)
    return all_ids, all_firsts


def _encode_words(
    tokenizer: PreTrainedTokenizerBase, sentences: list[list[str]], add_special_tokens: bool = True
) -> tuple[list[list[int]], list[list[int]]]:
    options: Any = {"is_split_into_words": True, "add_special_tokens": add_special_tokens, "verbose": False}
    encoding = tokenizer(sentences, return_attention_mask=False, **options)
    all_ids: list[list[int]] = []
    all_firsts: list[list[int]] = []
    for position, words in enumerate(sentences):
        ids, firsts = encoding["input_ids"][position], _first_tokens(encoding.word_ids(position))
        if len(firsts) < len(words):
            unknown = _stand_in(tokenizer)[0]
            filled = [word if index in firsts else unknown for index, word in enumerate(words)]
            repaired = tokenizer(filled, **options)
            ids, firsts = repaired["input_ids"], _first_tokens(repaired.word_ids(0))
        all_ids.append(ids or [_stand_in(tokenizer)[1]])
        all_firsts.append([firsts[index] for index in range(len(words))])
    return all_ids, all_firsts


def _first_tokens(word_ids: list[int | None]) -> dict[int, int]:
    firsts: Any = dict(zip(reversed(word_ids), range(len(word_ids) - 1, -1, -1), strict=True))
    firsts.pop(None, None)
    return firsts


def _stand_in(tokenizer: PreTrainedTokenizerBase) -> tuple[str, int]:
    """Return the token, and its id, that stands where text gives none."""
    for token in (tokenizer.unk_token, tokenizer.eos_token, tokenizer.sep_token, tokenizer.pad_token):
        if token is not None:
            return str(token), int(tokenizer.convert_tokens_to_ids(token))  # type: ignore[arg-type]
    raise ValueError("The tokenizer has neither an unknown nor an end token to stand for an empty text or word.")


__all__ = ["NO_LIMIT", "encode_texts", "encode_words", "max_length_of"]
