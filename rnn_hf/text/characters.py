"""How the entries of a tokenizer's vocabulary are spelled, and which of them begin a word."""

import json
from typing import NamedTuple

import torch
from transformers import PreTrainedTokenizerBase

from ..models.embeddings import BEGINNING, CONTINUATION, END, UNKNOWN
from ..models.modeling_rnn import RnnForTokenClassification, RnnPreTrainedModel


class Spelling(NamedTuple):
    """Spelling of a vocabulary entry.

    Args:
        text (`str`): Its characters, without the marks that a tokenizer adds; empty for special tokens.
        starts_word (`bool`): Whether it is the first token of a word.
    """

    text: str
    starts_word: bool


def spell_vocabulary(tokenizer: PreTrainedTokenizerBase) -> list[Spelling]:
    """Spell all entries of a fast tokenizer, whichever marks it uses for the pieces of words.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): A fast tokenizer.

    Returns:
        `list[Spelling]`: in the order of the ids.

    Raises:
        ValueError: The tokenizer is not a fast one.

    Example:
    ```python
    >>> from rnn_hf import train_tokenizer
    >>> from rnn_hf.text.characters import spell_vocabulary
    >>> tokenizer = train_tokenizer(["tokens of a token"], kind="wordpiece", vocab_size=20, min_frequency=1)
    >>> spellings = spell_vocabulary(tokenizer)
    >>> [tuple(spellings[tokenizer.convert_tokens_to_ids(token)]) for token in ("<pad>", "t", "##o")]
    [('', False), ('t', True), ('o', False)]

    ```
    """
    if not tokenizer.is_fast:
        raise ValueError(f"Spelling a vocabulary needs a fast tokenizer, got {type(tokenizer).__name__}.")
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    kind, prefix = backend["model"]["type"], backend["model"].get("continuing_subword_prefix")
    splitter = json.dumps(backend["pre_tokenizer"])
    special = set(tokenizer.all_special_ids)
    spellings = []
    tokens: list[str] = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))  # type: ignore[assignment]
    for index, token in enumerate(tokens):
        if index in special or token is None:
            # An unknown token stands for a whole word in these kinds, for a character in the others.
            spelling = Spelling("", index == tokenizer.unk_token_id and kind in ("WordLevel", "WordPiece"))
        elif kind == "WordPiece":
            continues = token.startswith(prefix)
            spelling = Spelling(token[len(prefix) :] if continues else token, not continues)
        elif "ByteLevel" in splitter:
            text = tokenizer.convert_tokens_to_string([token]).strip()
            spelling = Spelling(text, token.startswith("Ġ"))
        elif "Metaspace" in splitter:
            spelling = Spelling(token.removeprefix("▁"), token.startswith("▁"))
        else:
            spelling = Spelling(token, True)
        spellings.append(spelling)
    return spellings


def collect_characters(tokenizer: PreTrainedTokenizerBase) -> str:
    """Collect the characters that a vocabulary is spelled with, for `RnnConfig.characters`.

    Example:
    ```python
    >>> from rnn_hf import train_tokenizer
    >>> from rnn_hf.text.characters import collect_characters
    >>> collect_characters(train_tokenizer(["abba cab cab abba"], kind="word"))
    'abc'

    ```
    """
    return "".join(sorted({character for spelling in spell_vocabulary(tokenizer) for character in spelling.text}))


def set_vocabulary(model: RnnPreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write into a model how its vocabulary is spelled, and which entries begin a word.

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
    >>> config = RnnConfig(vocab_size=len(tokenizer), characters=collect_characters(tokenizer), max_spelling_length=6)
    >>> model = RnnModel(config)
    >>> set_vocabulary(model, tokenizer)
    >>> model.embeddings.spelling.spellings[tokenizer.convert_tokens_to_ids("cab")]
    tensor([2, 7, 5, 6, 4, 0], dtype=torch.int32)

    ```
    """
    if isinstance(model, RnnForTokenClassification):
        model.match_vocabulary()
    tables = dict(model.named_buffers())
    wanted = {name.rpartition(".")[2]: table for name, table in tables.items()}
    if not wanted.keys() & {"spellings", "word_starts"}:
        return
    spellings = spell_vocabulary(tokenizer)
    if len(spellings) > model.config.vocab_size:
        raise ValueError(
            f"The tokenizer has {len(spellings)} entries, the model {model.config.vocab_size}: resize the model first, "
            f"with model.resize_token_embeddings({len(spellings)})."
        )
    if "spellings" in wanted:
        length = model.config.max_spelling_length
        codes = {character: code for code, character in enumerate(model.config.characters or "", start=END + 1)}
        rows = torch.zeros(len(spellings), length, dtype=torch.int32)
        for row, spelling in zip(rows, spellings, strict=True):
            if spelling.text:
                coded = _codes(spelling, codes, length)
                row[: len(coded)] = torch.tensor(coded)
        wanted["spellings"][: len(rows)] = rows
    if "word_starts" in wanted:
        wanted["word_starts"][: len(spellings)] = torch.tensor([spelling.starts_word for spelling in spellings])


def _codes(spelling: Spelling, codes: dict[str, int], length: int) -> list[int]:
    """Encode a spelling between marks; of one that is too long, the beginning and the end."""
    characters = [codes.get(character, UNKNOWN) for character in spelling.text]
    room = max(length - 2, 0)
    if len(characters) > room:
        characters = characters[: room - room // 2] + characters[len(characters) - room // 2 :]
    return [BEGINNING if spelling.starts_word else CONTINUATION, *characters, END][:length]


__all__ = ["Spelling", "collect_characters", "set_vocabulary", "spell_vocabulary"]
