"""Train a fast tokenizer from a corpus."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any, Literal, get_args

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from ..utils.messages import shown
from .raw_text import count_marked, learn_splitting, set_splitting

TokenizerKind = Literal["word", "wordpiece", "bpe", "unigram"]

_PAD = "<pad>"
_UNK = "<unk>"
_EOS = "</s>"
_SPECIAL_TOKENS = (_PAD, _UNK, _EOS)
_BETWEEN_SPECIAL_TOKENS = re.compile("|".join(map(re.escape, _SPECIAL_TOKENS)))
# The unigram trainer calls its own unknown piece <UNK>, and fails on text that holds it.
_BETWEEN_UNIGRAM_TOKENS = re.compile(f"{_BETWEEN_SPECIAL_TOKENS.pattern}|(?<=<UN)(?=K>)")


def train_tokenizer(
    corpus: Iterable[str] | Iterable[list[str]],
    kind: TokenizerKind = "wordpiece",
    *,
    vocab_size: int = 30000,
    min_frequency: int = 2,
    lowercase: bool = False,
    is_split_into_words: bool = False,
    additional_words: Iterable[str] = (),
    show_progress: bool = False,
) -> PreTrainedTokenizerFast:
    """Train a fast tokenizer on texts, or on texts that are already split into words.

    Every encoding ends with `</s>`, so that the empty text has a token too. Text is brought to Unicode's
    composed form (NFC) first; nothing else about it changes unless `lowercase` is set. Where the text itself holds
    `<pad>`, `<unk>` or `</s>`, as the Penn Treebank does, it is read as that special token, and the tokenizer learns
    nothing from it.

    Args:
        corpus (`Iterable[str]` or `Iterable[list[str]]`):
            Texts, or with `is_split_into_words` lists of words. Read once; it may be a generator.
            The same corpus gives the same tokenizer, but for `"unigram"`, whose rare entries vary in order.
        kind (`str`):
            - `"word"`: whole words; what is rarer than `min_frequency` becomes `<unk>`.
            - `"wordpiece"`: pieces of words, with `##` before a continuing one
              (https://arxiv.org/abs/1609.08144).
            - `"bpe"`: byte pairs over bytes, so that nothing is unknown (https://arxiv.org/abs/1508.07909).
            - `"unigram"`: pieces chosen by a unigram model, with `▁` at the beginning of a word
              (https://arxiv.org/abs/1804.10959).
        vocab_size (`int`):
            Largest number of entries, special tokens included. `"wordpiece"` keeps all single letters and `"bpe"`
            all 256 bytes, even beyond it.
        min_frequency (`int`):
            Least number of times that a word, or a pair to be merged, must occur; without effect on `"unigram"`.
        lowercase (`bool`):
            Whether to lowercase all text.
        is_split_into_words (`bool`):
            Whether the corpus holds lists of words. Words are then split at white space only. Raw text is split as
            these words were: punctuation stands apart where it mostly does so there.
        additional_words (`Iterable[str]`):
            Words to append to the vocabulary of a `"word"` or `"wordpiece"` tokenizer, beyond `vocab_size`; where
            they begin is kept as `init_kwargs["num_corpus_entries"]`.
        show_progress (`bool`):
            Whether to show a progress bar.

    Returns:
        `PreTrainedTokenizerFast`: loads with `AutoTokenizer` after `save_pretrained`.

    Raises:
        ValueError: An unknown kind, a size or a frequency out of range, a corpus without text, a vocabulary too small
            for it, or one without a word.
        TypeError: An element of the corpus is neither a text nor a list of words, whichever was announced.

    Example:
    ```python
    >>> from rnn_hf import train_tokenizer
    >>> tokenizer = train_tokenizer(["to be or not to be"], kind="word")
    >>> tokenizer.tokenize("be or to")
    ['be', '<unk>', 'to']
    >>> tokenizer("")["input_ids"] == [tokenizer.eos_token_id]
    True

    ```
    """
    if kind not in get_args(TokenizerKind):
        raise ValueError(f"Unknown kind of tokenizer {kind!r}; choose from {', '.join(get_args(TokenizerKind))}.")
    _check_range("vocab_size", vocab_size, 4, "it must leave room for three special tokens and one more")
    _check_range("min_frequency", min_frequency, 1, "1 keeps all there is")
    tokenizer, trainer = _BUILDERS[kind](vocab_size, min_frequency, is_split_into_words, show_progress)
    steps = [normalizers.NFC()] + ([normalizers.Lowercase()] if lowercase else [])
    tokenizer.normalizer = normalizers.Sequence(steps)
    separator = _BETWEEN_UNIGRAM_TOKENS if kind == "unigram" else _BETWEEN_SPECIAL_TOKENS
    marked: Counter[str] = Counter()
    checked = _checked(corpus, is_split_into_words, separator, marked)
    if kind == "wordpiece":
        tokenizer = _train_wordpiece(tokenizer, trainer, checked)
    else:
        _train(tokenizer, trainer, checked, vocab_size)
    if kind == "word":
        tokenizer = _with_special_tokens_first(tokenizer)

    num_corpus_entries = tokenizer.get_vocab_size()
    tokenizer = _with_words(tokenizer, additional_words)
    if tokenizer.get_vocab_size() == len(_SPECIAL_TOKENS):
        raise ValueError(
            f"No word of the corpus occurs {min_frequency} times, so that all would be unknown: lower --min_frequency, "
            "or take another --tokenizer_kind."
        )
    if (pattern := learn_splitting(marked, tokenizer.normalizer.normalize_str)) is not None:
        set_splitting(tokenizer, pattern)
    end = processors.TemplateProcessing(
        single=f"$A {_EOS}",
        pair=f"$A {_EOS} $B:1 {_EOS}:1",
        special_tokens=[(_EOS, tokenizer.token_to_id(_EOS))],
    )
    tokenizer.post_processor = (
        processors.Sequence([processors.ByteLevel(trim_offsets=pattern is None), end]) if kind == "bpe" else end
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=_PAD,
        unk_token=_UNK,
        eos_token=_EOS,
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        num_corpus_entries=num_corpus_entries,
    )


def _check_range(name: str, value: Any, least: int, reason: str) -> None:
    most = 2**31 - 1
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"--{name} must be a whole number from {least:,} to {most:,} ({reason}), got {value!r}.")


def _checked(
    corpus: Iterable[str] | Iterable[list[str]],
    is_split_into_words: bool,
    separator: re.Pattern[str],
    marked: Counter[str],
) -> Iterator[list[str]]:
    """Yield batches for the trainer, which takes each word of a split text for a text of its own.

    Special tokens in it are left out: the tokenizer cuts them off before its model sees the text around them.
    """
    empty = True
    if isinstance(corpus, str):
        raise TypeError(f"The corpus must be a list of texts, got a single one: {shown(corpus)}.")
    for position, text in enumerate(corpus):
        words: list[str] = list(text) if is_split_into_words and not isinstance(text, str) else [text]  # type: ignore[list-item]
        if isinstance(text, str) == is_split_into_words or not all(isinstance(word, str) for word in words):
            wanted = "a list of words" if is_split_into_words else "a text"
            raise TypeError(f"Element {position} of the corpus must be {wanted}, got {shown(text)}.")
        _check_unicode(words, f"Element {position} of the corpus")
        empty = empty and not any(word.strip() for word in words)
        if is_split_into_words:
            count_marked(words, marked)
        yield [part for word in words for part in separator.split(word)]
    if empty:
        raise ValueError("The corpus holds no text to train a tokenizer on.")


def _check_unicode(words: list[str], what: str) -> None:
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{what} holds a lone surrogate, which is no character: {shown(word)}.") from error


def _special_tokens() -> list[AddedToken]:
    return [AddedToken(token, special=True) for token in _SPECIAL_TOKENS]


def _train(tokenizer: Tokenizer, trainer: trainers.Trainer, corpus: Iterator[list[str]], vocab_size: int) -> None:
    try:
        tokenizer.train_from_iterator(corpus, trainer=trainer)
    except BaseException as error:
        # The unigram trainer's errors have no class of their own, and one of them is no Exception.
        if "vocabulary is not large enough" in str(error):
            raise ValueError(f"vocab_size={vocab_size} is too small for the characters of the corpus.") from error
        if type(error).__name__ == "PanicException":
            raise ValueError(f"No tokenizer of this kind can be trained on the corpus: {error}") from error
        raise


def _with_special_tokens_first(tokenizer: Tokenizer) -> Tokenizer:
    """Number the vocabulary anew, since words that lowercasing turns into a special token take its number."""
    state = json.loads(tokenizer.to_str())
    words = sorted(state["model"]["vocab"].items(), key=lambda entry: entry[1])
    state["model"]["vocab"] = {
        token: index for index, token in enumerate(dict.fromkeys([*_SPECIAL_TOKENS, *(word for word, _ in words)]))
    }
    state["added_tokens"] = []
    renumbered = Tokenizer.from_str(json.dumps(state))
    renumbered.add_special_tokens(_special_tokens())
    return renumbered


def _splitter(is_split_into_words: bool) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.WhitespaceSplit() if is_split_into_words else pre_tokenizers.BertPreTokenizer()


_Built = tuple[Tokenizer, trainers.Trainer]


def _word(vocab_size: int, min_frequency: int, is_split_into_words: bool, show_progress: bool) -> _Built:
    tokenizer = Tokenizer(models.WordLevel(unk_token=_UNK))
    tokenizer.pre_tokenizer = _splitter(is_split_into_words)
    return tokenizer, trainers.WordLevelTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=_special_tokens(),
        show_progress=show_progress,
    )


def _wordpiece(vocab_size: int, min_frequency: int, is_split_into_words: bool, show_progress: bool) -> _Built:
    tokenizer = Tokenizer(models.WordPiece(unk_token=_UNK, max_input_chars_per_word=1000))
    cut = pre_tokenizers.Split(Regex(r"\S{200}"), "isolated")  # time grows with the cube of a word's length
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([_splitter(is_split_into_words), cut])
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return tokenizer, trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=_special_tokens(),
        continuing_subword_prefix="##",
        show_progress=show_progress,
    )


def _train_wordpiece(tokenizer: Tokenizer, trainer: Any, corpus: Iterator[list[str]]) -> Tokenizer:
    """Train so that the same corpus always gives the same vocabulary.

    The trainer numbers the continuing letters (`##a`) in the random order of a hash map, and breaks ties between
    pairs by these numbers. Naming the letters first, as special tokens, fixes the numbers; the vocabulary then
    moves to a tokenizer in which they are not special.
    """
    counts: Counter[str] = Counter()
    for batch in corpus:
        for text in batch:
            words = tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
            counts.update(word for word, _ in words)
    letters = sorted({letter for word in counts for letter in word[1:]})
    trainer.special_tokens = [*_special_tokens(), *(AddedToken(f"##{letter}") for letter in letters)]
    repeated = (list(repeat(word, count)) for word, count in counts.items())
    tokenizer.train_from_iterator(repeated, trainer=trainer)
    trained = Tokenizer(
        models.WordPiece(
            tokenizer.get_vocab(),
            unk_token=_UNK,
            max_input_chars_per_word=tokenizer.model.max_input_chars_per_word,
        )
    )
    trained.normalizer, trained.pre_tokenizer, trained.decoder = (
        tokenizer.normalizer,
        tokenizer.pre_tokenizer,
        tokenizer.decoder,
    )
    trained.add_special_tokens(_special_tokens())
    return trained


def _with_words(tokenizer: Tokenizer, words: Iterable[str]) -> Tokenizer:
    """Append words to a vocabulary of words."""
    words = [words] if isinstance(words, str) else list(words)
    if not all(isinstance(word, str) for word in words):
        raise TypeError(f"additional_words must be texts, got {shown(words)}.")
    _check_unicode(words, "additional_words")
    words = [word for word in words if word and not any(map(str.isspace, word))]
    if not words:
        return tokenizer
    state = json.loads(tokenizer.to_str())
    if state["model"]["type"] not in ("WordLevel", "WordPiece"):
        raise ValueError("Words can be added to a tokenizer of the kind 'word' or 'wordpiece' only.")
    vocabulary = state["model"]["vocab"]
    for word in words:
        vocabulary.setdefault(word, len(vocabulary))
    return Tokenizer.from_str(json.dumps(state))


def _bpe(vocab_size: int, min_frequency: int, is_split_into_words: bool, show_progress: bool) -> _Built:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=_special_tokens(),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=show_progress,
    )


def _unigram(vocab_size: int, min_frequency: int, is_split_into_words: bool, show_progress: bool) -> _Built:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    return tokenizer, trainers.UnigramTrainer(
        vocab_size=vocab_size,
        unk_token=_UNK,
        special_tokens=_special_tokens(),
        show_progress=show_progress,
    )


_BUILDERS = {"word": _word, "wordpiece": _wordpiece, "bpe": _bpe, "unigram": _unigram}


__all__ = ["TokenizerKind", "train_tokenizer"]
