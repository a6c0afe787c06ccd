"""Split raw text as the words of a tagger's training data were split: punctuation apart where it stood apart there.

What stands apart is learnt from the words: `.` and `,` behind a word, `(` before it, `-` within, `'s` and `n't`. Words
that hold such marks, as `U.S.` and `...` do, stay whole.
"""

import contextlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from tokenizers import Regex, Tokenizer, pre_tokenizers
from transformers import PreTrainedTokenizerBase

# Begins the pattern, so that it is known again in a saved tokenizer.
_MARK = "(?#words)"
# Endings that English treebanks split off.
_CLITICS = tuple(one.replace("'", mark) for mark in "'\u2019" for one in ("n't", "'s", "'re", "'ve", "'ll", "'d", "'m"))
# A mark stands apart if it did so at least so often, and as often as there are different words with it,
_LEAST_APART = 2
# and a mark within words if it did so at least so often, and never stood in one.
_LEAST_APART_WITHIN = 5
# but not those of numbers, times, names and addresses.
_OFTEN_WITHIN = ".,:'\u2019@&_"
# Most marks behind a word, so that long rows of them take no time.
_MOST_ENDINGS = 30
# Most words with marks that are listed one by one.
_MOST_WORDS = 500
_MOST_TRIED = 50_000
# What tokenizers take white space for is between these: not the four separators that Python counts too.
_PARTS = re.compile(r"[\S\x1c-\x1f]+")
_MOST_CACHED = 65536
_MOST_TOKENIZERS = 16


def count_marked(words: Iterable[str], counts: Counter[str]) -> None:
    """Count the words that hold punctuation or symbols.

    Args:
        words (`Iterable[str]`): Words of training data.
        counts (`Counter`): What is added to.
    """
    counts.update(word for word in words if not word.isalnum() and not any(map(str.isspace, word)))


def learn_splitting(counts: Mapping[str, int], normalize: Callable[[str], str] = str) -> str | None:
    """Find a pattern of the words in a text without white space, from words that were split.

    Args:
        counts (`Mapping[str, int]`): How often the words occur that hold punctuation or symbols.
        normalize (`Callable`): What a tokenizer does to text before it splits it.

    Returns:
        `str`, *optional*: a regular expression; `None` where no mark stands apart.

    Example:
    ```python
    >>> from rnn_hf.text.raw_text import learn_splitting
    >>> learn_splitting({"Mr.": 3}) is None, learn_splitting({"Mr.": 3, ".": 9, ",": 9}) is None
    (True, False)

    ```
    """
    words: Counter[str] = Counter()
    for word, count in counts.items():
        words[normalize(word)] += count
    clitics = [one for one in _CLITICS if words[one] >= _LEAST_APART]
    apart, behind, before, within = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for word, count in words.items():
        if len(word) == 1:
            apart[word] += count
        elif word not in clitics and not all(map(_is_mark, word)):
            behind[word[-1]] += 1
            before[word[0]] += 1
            within.update(set(word[1:-1]))
    marks = [mark for mark, count in apart.items() if _is_mark(mark) and count >= _LEAST_APART]
    last = [mark for mark in marks if behind[mark] <= apart[mark] and not _opens(mark)]
    first = [mark for mark in marks if before[mark] <= apart[mark] and not _closes(mark)]
    inner = [
        mark
        for mark in marks
        if mark not in _OFTEN_WITHIN
        and apart[mark] >= _LEAST_APART_WITHIN
        and not behind[mark] + before[mark] + within[mark]
    ]
    if not (last or first):
        return None
    pattern = _pattern(first, last, inner, clitics, [])
    splitter = _splitter(pattern)
    whole = [
        word for word, _ in words.most_common(_MOST_TRIED) if len(word) > 1 and len(splitter.pre_tokenize_str(word)) > 1
    ]
    return _pattern(first, last, inner, clitics, whole)


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"


def _opens(mark: str) -> bool:
    return unicodedata.category(mark) in ("Ps", "Sc") or mark in "#@"


def _closes(mark: str) -> bool:
    return unicodedata.category(mark) == "Pe" or unicodedata.normalize("NFKC", mark) in (*".,;:!?%", "...")


def _pattern(first: list[str], last: list[str], inner: list[str], clitics: list[str], whole: list[str]) -> str:
    """Write the pattern of a word; what is tried first stands first."""
    endings = [f"(?i:{'|'.join(map(_escaped, clitics))})"] if clitics else []
    tail = f"(?:{'|'.join([_any_of(last), *endings])}){{0,{_MOST_ENDINGS}}}\\z" if last or endings else "\\z"
    listed = sorted(whole[:_MOST_WORDS], key=len, reverse=True)
    kept = [_escaped(word) for word in listed]
    if any(re.fullmatch(r"(?:[^\W\d_]\.){2,}", word) for word in whole):
        kept.append(r"(?:\p{L}\.){2,}")  # initials
    repeated = sorted({word[0] for word in whole if len(set(word)) == 1})
    kept += [f"(?>{_escaped(mark)}{{2,}})" for mark in repeated]
    parts = [f"(?:{'|'.join(kept)})(?={tail})"] if kept else []
    parts += [f"{ending}(?={tail})" for ending in endings]
    parts += [f"{_any_of(first)}(?=.)"] if first else []
    if inner:
        parts += [_any_of(inner), f"(?:(?!{_any_of(inner)}).)+?(?={_any_of(inner)}|{tail})"]
    else:
        parts.append(f".+?(?={tail})")
    return f"{_MARK}(?m:{'|'.join(parts)})"


def _escaped(text: str) -> str:
    # Capitals too, lest the pattern holds the name of a part of a tokenizer.
    return "".join(one if one.islower() or one.isdigit() else f"\\x{{{ord(one):X}}}" for one in text)


def _any_of(marks: list[str]) -> str:
    return f"[{''.join(map(_escaped, marks))}]" if marks else "(?!)"


@lru_cache(maxsize=8)
def _splitter(pattern: str) -> pre_tokenizers.PreTokenizer:
    steps = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(pattern), behavior="isolated")]
    return pre_tokenizers.Sequence(steps)


def set_splitting(tokenizer: Tokenizer, pattern: str) -> None:
    """Let a tokenizer split raw text by a pattern, before it does what it did.

    Args:
        tokenizer (`tokenizers.Tokenizer`): It is changed.
        pattern (`str`): That of [`learn_splitting`].
    """
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            tokenizer.pre_tokenizer,
        ]
    )


def split_raw_text(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> Iterator[list[str]]:
    """Split texts into words: at white space, and as the tokenizer's training data was split.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): A tagger's tokenizer.
        texts (`Iterable[str]`): Any texts.

    Yields:
        `list[str]`: the words of each text.

    Example:
    ```python
    >>> from rnn_hf import train_tokenizer
    >>> from rnn_hf.text.raw_text import split_raw_text
    >>> sentence = ["Mr.", "Lee", ",", "of", "the", "U.S.", ",", "left", "."]
    >>> tokenizer = train_tokenizer([sentence] * 2, min_frequency=1, is_split_into_words=True)
    >>> list(split_raw_text(tokenizer, ["Anna left Oslo, in the U.S."]))
    [['Anna', 'left', 'Oslo', ',', 'in', 'the', 'U.S.']]

    ```
    """
    find_words = word_finder(tokenizer)
    for text in texts:
        yield [text[start:end] for start, end in find_words(text)]


def word_finder(tokenizer: PreTrainedTokenizerBase) -> Callable[[str], list[tuple[int, int]]]:
    """Return what finds the words of many texts: see [`split_raw_text`].

    Args:
        tokenizer (`PreTrainedTokenizerBase`): A tagger's tokenizer.

    Returns:
        `Callable`: takes a text, and gives where each word begins and ends, in characters.

    Example:
    ```python
    >>> from rnn_hf import train_tokenizer
    >>> from rnn_hf.text.raw_text import word_finder
    >>> word_finder(train_tokenizer([["a", "b"]], min_frequency=1, is_split_into_words=True))("a  b")
    [(0, 1), (3, 4)]

    ```
    """
    pattern = word_pattern(tokenizer)
    if pattern is None:
        return lambda text: [match.span() for match in re.finditer(r"\S+", text)]
    splitter = _splitter(pattern)

    @lru_cache(maxsize=_MOST_CACHED)
    def split(part: str) -> list[tuple[int, int]]:
        return [offsets for _, offsets in splitter.pre_tokenize_str(part)]

    # What stands between white space is split by itself, and most of it comes again.
    return lambda text: [
        (found.start() + start, found.start() + end)
        for found in _PARTS.finditer(text)
        for start, end in split(found[0])
    ]


@contextlib.contextmanager
def words_kept_whole(tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """Let a tokenizer take words as they are for a while, however raw text is split.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): A tagger's tokenizer.
    """
    kept_whole = _without_pattern(_state_of(tokenizer))
    if kept_whole is None:
        yield
        return
    backend: Tokenizer = tokenizer.backend_tokenizer
    before = backend.pre_tokenizer
    backend.pre_tokenizer = kept_whole
    try:
        yield
    finally:
        backend.pre_tokenizer = before


def _state_of(tokenizer: PreTrainedTokenizerBase) -> bytes:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return b"{}" if backend is None or backend.pre_tokenizer is None else backend.pre_tokenizer.__getstate__()


def _steps_of(state: bytes) -> list[dict[str, Any]]:
    parts = json.loads(state).get("pretokenizers", ())
    return [one for part in parts for one in part.get("pretokenizers", [part])]


@lru_cache(maxsize=_MOST_TOKENIZERS)
def _pattern_of(state: bytes) -> str | None:
    steps = _steps_of(state)
    pattern = steps[1].get("pattern", {}).get("Regex", "") if len(steps) > 2 else ""
    return pattern if pattern.startswith(_MARK) else None


@lru_cache(maxsize=_MOST_TOKENIZERS)
def _without_pattern(state: bytes) -> pre_tokenizers.PreTokenizer | None:
    """Make a pre-tokenizer without the steps that split raw text; `None` where there are none."""
    if _pattern_of(state) is None:
        return None
    steps = [_made(one) for one in _steps_of(state)[2:]]
    return steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)


def word_pattern(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return the pattern by which a tokenizer splits raw text, or `None` where white space alone does.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): A tagger's tokenizer.
    """
    return _pattern_of(_state_of(tokenizer))


def _made(step: dict[str, Any]) -> pre_tokenizers.PreTokenizer:
    if step["type"] == "ByteLevel":
        return pre_tokenizers.ByteLevel(add_prefix_space=step["add_prefix_space"], use_regex=step["use_regex"])
    if step["type"] == "Metaspace":
        return pre_tokenizers.Metaspace(replacement=step["replacement"], prepend_scheme=step["prepend_scheme"])
    if step["type"] == "Split":
        return pre_tokenizers.Split(Regex(step["pattern"]["Regex"]), behavior=step["behavior"].lower())
    return pre_tokenizers.WhitespaceSplit()


__all__ = [
    "count_marked",
    "learn_splitting",
    "set_splitting",
    "split_raw_text",
    "word_finder",
    "word_pattern",
    "words_kept_whole",
]
