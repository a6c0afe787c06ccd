"""The characters of a tokenizer's vocabulary entries, and which of them begin a word."""

import json
import unicodedata
from functools import lru_cache
from typing import NamedTuple

import torch
from transformers import PreTrainedTokenizerBase

from ..models import ngrams
from ..models.embeddings import BEGINNING, CONTINUATION, END, UNKNOWN
from ..models.lexical import NUM_CLASSES, LexicalFeatures, feature_cells
from ..models.modeling_rnn import RnnForSequenceClassification, RnnForTokenClassification, RnnPreTrainedModel


class VocabularyEntry(NamedTuple):
    """A vocabulary entry without the marks of its tokenizer.

    Args:
        text (`str`): Its characters, without the marks that a tokenizer adds; empty for special tokens.
        starts_word (`bool`): Whether it is the first token of a word.
    """

    text: str
    starts_word: bool


def vocabulary_entries(tokenizer: PreTrainedTokenizerBase) -> list[VocabularyEntry]:
    """List the entries of a fast tokenizer, whichever marks it uses for the pieces of words.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): A fast tokenizer.

    Returns:
        `list[VocabularyEntry]`: in the order of the ids.

    Raises:
        ValueError: The tokenizer is not a fast one.

    Example:
    ```python
    >>> from rnn_hf import train_tokenizer
    >>> from rnn_hf.text.characters import vocabulary_entries
    >>> tokenizer = train_tokenizer(["tokens of a token"], kind="wordpiece", vocab_size=20, min_frequency=1)
    >>> entries = vocabulary_entries(tokenizer)
    >>> [tuple(entries[tokenizer.convert_tokens_to_ids(token)]) for token in ("<pad>", "t", "##o")]
    [('', False), ('t', True), ('o', False)]

    ```
    """
    if not tokenizer.is_fast:
        raise ValueError(f"Reading a vocabulary needs a fast tokenizer, got {type(tokenizer).__name__}.")
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    kind, prefix = backend["model"]["type"], backend["model"].get("continuing_subword_prefix")
    splitter = json.dumps(backend["pre_tokenizer"])
    special = set(tokenizer.all_special_ids)
    entries = []
    tokens: list[str] = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))  # type: ignore[assignment]
    for index, token in enumerate(tokens):
        if index in special or token is None:
            # An unknown token stands for a whole word in these kinds, for a character in the others.
            stands_for_words = kind in ("WordLevel", "WordPiece") or "ByteLevel" in splitter
            entry = VocabularyEntry("", index == tokenizer.unk_token_id and stands_for_words)
        elif kind == "WordPiece":
            continues = token.startswith(prefix)
            entry = VocabularyEntry(token[len(prefix) :] if continues else token, not continues)
        elif "ByteLevel" in splitter:
            text = tokenizer.convert_tokens_to_string([token]).strip()
            entry = VocabularyEntry(text, token.startswith("Ġ"))
        elif "Metaspace" in splitter:
            entry = VocabularyEntry(token.removeprefix("▁"), token.startswith("▁"))
        else:
            entry = VocabularyEntry(token, True)
        entries.append(entry)
    return entries


def collect_characters(tokenizer: PreTrainedTokenizerBase) -> str:
    """Collect the characters of a vocabulary, for `RnnConfig.characters`.

    Example:
    ```python
    >>> from rnn_hf import train_tokenizer
    >>> from rnn_hf.text.characters import collect_characters
    >>> collect_characters(train_tokenizer(["abba cab cab abba"], kind="word"))
    'abc'

    ```
    """
    return "".join(sorted({character for entry in vocabulary_entries(tokenizer) for character in entry.text}))


def set_vocabulary(model: RnnPreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write into a model the characters of its vocabulary entries, and which of them begin a word.

    Args:
        model ([`RnnPreTrainedModel`]): A model, whose `config.characters` and `config.use_crf` say what it needs.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.

    Raises:
        ValueError: The tokenizer has more entries than the model.

    Example:
    ```python
    >>> from rnn_hf import RnnConfig, RnnModel, train_tokenizer
    >>> from rnn_hf.text.characters import collect_characters, set_vocabulary
    >>> tokenizer = train_tokenizer(["abba cab cab abba"], kind="word")
    >>> characters = collect_characters(tokenizer)
    >>> config = RnnConfig(vocab_size=len(tokenizer), characters=characters, max_characters_per_token=6)
    >>> model = RnnModel(config)
    >>> set_vocabulary(model, tokenizer)
    >>> model.embeddings.character_cnn.character_ids[tokenizer.convert_tokens_to_ids("cab")]
    tensor([2, 7, 5, 6, 4, 0], dtype=torch.int32)

    ```
    """
    if isinstance(model, RnnForTokenClassification | RnnForSequenceClassification):
        model.match_vocabulary()
    tables = dict(model.named_buffers())
    wanted = {name.rpartition(".")[2]: table for name, table in tables.items()}
    if not wanted.keys() & {"character_codes", "character_ids", "spellings", "word_starts"}:
        return
    entries = vocabulary_entries(tokenizer)
    if len(entries) > model.config.vocab_size:
        raise ValueError(
            f"The tokenizer has {len(entries)} entries, the model {model.config.vocab_size}: resize the model first, "
            f"with model.resize_token_embeddings({len(entries)})."
        )
    if "character_ids" in wanted:
        length = model.config.max_characters_per_token
        codes = {character: code for code, character in enumerate(model.config.characters or "", start=END + 1)}
        rows = torch.zeros(len(entries), length, dtype=torch.int32)
        for row, entry in zip(rows, entries, strict=True):
            if entry.text:
                coded = _codes(entry, codes, length)
                row[: len(coded)] = torch.tensor(coded)
        wanted["character_ids"][: len(rows)] = rows
    if "spellings" in wanted:
        wanted["spellings"][: len(entries)] = _spellings(entries, wanted["spellings"].shape[1])
    if "character_codes" in wanted:
        lexical: LexicalFeatures = model.lexical  # type: ignore[assignment]
        lexical.set_characters(_character_codes(entries, model.config.max_characters_per_token))
    if "word_starts" in wanted:
        wanted["word_starts"][: len(entries)] = torch.tensor([entry.starts_word for entry in entries])
        if model.config.subword_pooling != "none":  # the end of a sentence is left out; within it, it is a word
            special = [index for index in tokenizer.all_special_ids if index != tokenizer.unk_token_id]
            wanted["word_starts"][special] = True


def _spellings(entries: list[VocabularyEntry], length: int) -> torch.Tensor:
    """Encode characters in lower case, by their code points, for n-grams."""
    rows = torch.zeros(len(entries), length, dtype=torch.int32)
    for row, entry in zip(rows, entries, strict=True):
        if entry.text:
            codes = _cut([ngrams.NUM_CODES + ord(character) for character in entry.text.lower()], length - 2)
            marks = (ngrams.BEGINNING if entry.starts_word else ngrams.CONTINUATION, ngrams.END)
            coded = [marks[0], *codes, marks[1]][:length]
            row[: len(coded)] = torch.tensor(coded)
    return rows


def _codes(entry: VocabularyEntry, codes: dict[str, int], length: int) -> list[int]:
    """Encode an entry's characters between marks; of too many, those of the beginning and the end."""
    characters = _cut([codes.get(character, UNKNOWN) for character in entry.text], length - 2)
    return [BEGINNING if entry.starts_word else CONTINUATION, *characters, END][:length]


def _cut(characters: list[int], room: int) -> list[int]:
    """Leave out the middle where there are too many."""
    room = max(room, 0)
    if len(characters) <= room:
        return characters
    return characters[: room - room // 2] + characters[len(characters) - room // 2 :]


def count_lexical_features(tokenizer: PreTrainedTokenizerBase, max_characters: int) -> int:
    """Count the lexical features of a vocabulary's entries.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): A fast tokenizer.
        max_characters (`int`): `config.max_characters_per_token`.

    Returns:
        `int`: the number of different forms, affixes and shapes.

    Example:
    ```python
    >>> from rnn_hf import train_tokenizer
    >>> from rnn_hf.text.characters import count_lexical_features
    >>> count_lexical_features(train_tokenizer(["ab ab"], kind="word"), max_characters=8)
    10

    ```
    """
    return len(feature_cells(_character_codes(vocabulary_entries(tokenizer), max_characters)))


def _character_codes(entries: list[VocabularyEntry], room: int) -> torch.Tensor:
    rows = torch.zeros(len(entries), room, dtype=torch.int32)
    for row, entry in zip(rows, entries, strict=True):
        if entry.text:
            codes = _cut([character_code(character) for character in entry.text], room)
            row[: len(codes)] = torch.tensor(codes)
    return rows


@lru_cache(maxsize=10_000)
def character_code(character: str) -> int:
    """Encode a character for lexical features: its lower case, and its class, on which the shape of a word depends.

    Args:
        character (`str`): One character.

    Returns:
        `int`: `NUM_CLASSES` times the code point of its lower case, plus the class.

    Example:
    ```python
    >>> from rnn_hf.text.characters import character_code
    >>> from rnn_hf.models.lexical import NUM_CLASSES
    >>> [divmod(character_code(character), NUM_CLASSES) for character in "aA1"]
    [(97, 2), (97, 1), (49, 6)]

    ```
    """
    return NUM_CLASSES * ord(character.lower()[0]) + _character_class(character)


def _character_class(character: str) -> int:
    category = unicodedata.category(character)
    if category == "Lo":  # letters without case, of which some languages mix scripts
        for number, (first, last) in enumerate(_SCRIPTS, start=10):
            if first <= character <= last:
                return number
    classes = {"Lu": 1, "Lt": 1, "Ll": 2, "Lo": 3, "Lm": 4, "Pd": 8}
    return classes.get(category) or {"M": 5, "N": 6, "P": 7}.get(category[0], 9)


# Hiragana, katakana, Han, Hangul.
_SCRIPTS = (("\u3040", "\u309f"), ("\u30a0", "\u30ff"), ("\u3400", "\u9fff"), ("\uac00", "\ud7a3"))


__all__ = [
    "VocabularyEntry",
    "character_code",
    "collect_characters",
    "count_lexical_features",
    "set_vocabulary",
    "vocabulary_entries",
]
