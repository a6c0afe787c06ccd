"""Tokenizers in the form that transformers.js reads as the tokenizers library does.

transformers.js knows fewer parts of a tokenizer, and takes white space and regular expressions as JavaScript does.
"""

import re
from typing import Any

# What begins no word: noncharacters, which are no text.
_NEVER = "\ufdd0"
_WHITE_SPACE = r"\s+"
_BERT_PUNCTUATION = r"[\p{P}!-/:-@\[-`{-~]"
_MODELS = ("BPE", "Unigram", "WordLevel", "WordPiece")
_NORMALIZERS = (
    *("BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Precompiled", "Prepend", "Replace", "Sequence"),
    *("Strip", "StripAccents"),
)
_PRE_TOKENIZERS = (
    *("BertPreTokenizer", "ByteLevel", "Digits", "FixedLength", "Metaspace", "Punctuation", "Sequence", "Split"),
    *("Whitespace", "WhitespaceSplit"),
)


def browser_tokenizer(state: dict[str, Any]) -> dict[str, Any]:
    """Rewrite a tokenizer so that transformers.js gives a text the ids that the tokenizers library gives it.

    - White space is that of Unicode, where JavaScript's is another.
    - The final sigma of Greek is lowercased as any other, which JavaScript does not.
    - A model of whole words becomes WordPiece without pieces.
    - Regular expressions have no comments, flags and atomic groups.

    Args:
        state (`dict[str, Any]`): What a `tokenizer.json` holds. It stays as it is.

    Returns:
        `dict[str, Any]`: what another `tokenizer.json` holds. The tokenizers library gives the same ids with it.

    Raises:
        ValueError: The tokenizer has parts that transformers.js does not know.

    Example:
    ```python
    >>> import json
    >>> from rnn_hf import train_tokenizer
    >>> from rnn_hf.export.browser_tokenizer import browser_tokenizer
    >>> state = json.loads(train_tokenizer(["a a b b"], kind="word").backend_tokenizer.to_str())
    >>> state["model"]["type"], browser_tokenizer(state)["model"]["type"]
    ('WordLevel', 'WordPiece')

    ```
    """
    normalizer, pre_tokenizer = _steps(state["normalizer"]), _steps(state["pre_tokenizer"])
    for kind, known in (("normalizer", _NORMALIZERS), ("pre_tokenizer", _PRE_TOKENIZERS)):
        for step in normalizer if kind == "normalizer" else pre_tokenizer:
            _check(kind, step["type"], known)
    _check("model", state["model"]["type"], _MODELS)
    return {
        **state,
        "truncation": None,
        "padding": None,
        "normalizer": _joined([one for step in normalizer for one in _normalizer(step)], "normalizers"),
        "pre_tokenizer": _joined([one for step in pre_tokenizer for one in _pre_tokenizer(step)], "pretokenizers"),
        "model": _model(state["model"]),
    }


def _check(kind: str, found: str, known: tuple[str, ...]) -> None:
    if found not in known:
        raise ValueError(
            f"transformers.js knows no {kind} of the type {found}, which this tokenizer has, only "
            f"{', '.join(known)}: train the model with a tokenizer of this package."
        )


def _steps(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    """List the steps of what may be a sequence of sequences."""
    if part is None or part["type"] != "Sequence":
        return [] if part is None else [part]
    nested = part["normalizers"] if "normalizers" in part else part["pretokenizers"]
    return [step for one in nested for step in _steps(one)]


def _joined(steps: list[dict[str, Any]], key: str) -> dict[str, Any] | None:
    return {"type": "Sequence", key: steps} if steps else None


def _normalizer(step: dict[str, Any]) -> list[dict[str, Any]]:
    lowers = step["type"] == "Lowercase" or (step["type"] == "BertNormalizer" and step["lowercase"])
    # Of a capital sigma at the end of a word JavaScript makes another letter than the tokenizers library.
    return [{"type": "Replace", "pattern": {"String": "\u03a3"}, "content": "\u03c3"}, step] if lowers else [step]


def _pre_tokenizer(step: dict[str, Any]) -> list[dict[str, Any]]:
    if step["type"] == "WhitespaceSplit":
        return [_split(_WHITE_SPACE, "Removed")]
    if step["type"] == "BertPreTokenizer":
        return [_split(_WHITE_SPACE, "Removed"), _split(_BERT_PUNCTUATION, "Isolated")]
    if step["type"] == "Split" and "Regex" in step["pattern"]:
        return [{**step, "pattern": {"Regex": portable_regex(step["pattern"]["Regex"])}}]
    return [step]


def word_splits(pre_tokenizer: dict[str, Any], count: int = 2) -> list[dict[str, str]]:
    r"""Say by what the first steps of a tokenizer split raw text into words.

    Args:
        pre_tokenizer (`dict[str, Any]`): What splits text, as in a `tokenizer.json`.
        count (`int`): How many of its steps split into words.

    Returns:
        `list[dict[str, str]]`: the `pattern` of each step, which JavaScript understands, and its `behavior`.

    Example:
    ```python
    >>> from rnn_hf.export.browser_tokenizer import word_splits
    >>> word_splits({"type": "WhitespaceSplit"})
    [{'pattern': '\\s+', 'behavior': 'Removed'}]

    ```
    """
    steps = [one for step in _steps(pre_tokenizer) for one in _pre_tokenizer(step)][:count]
    return [{"pattern": step["pattern"]["Regex"], "behavior": step["behavior"]} for step in steps]


def _split(pattern: str, behavior: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": False}


def portable_regex(pattern: str) -> str:
    r"""Write a pattern of [`~text.raw_text.learn_splitting`] so that JavaScript understands it too.

    It must be matched against text without line breaks.

    Args:
        pattern (`str`): A regular expression of Oniguruma.

    Example:
    ```python
    >>> from rnn_hf.export.browser_tokenizer import portable_regex
    >>> portable_regex(r"(?#words)(?m:(?>\x{2E}{2,})|.)")
    '(?:\\x{2E}{2,}(?!\\x{2E})|.)'

    ```
    """
    pattern = re.sub(r"^\(\?#\w*\)\(\?m:", "(?:", pattern)
    # As many as there are of one character, and no fewer.
    return re.sub(r"\(\?>(\\x\{[0-9A-F]+\}|[^\\()\[\]])\{2,\}\)", r"\1{2,}(?!\1)", pattern)


def _model(model: dict[str, Any]) -> dict[str, Any]:
    if model["type"] != "WordLevel":
        return model
    return {
        "type": "WordPiece",
        "unk_token": model["unk_token"],
        "continuing_subword_prefix": _NEVER,
        "max_input_chars_per_word": max(map(len, model["vocab"])),
        "vocab": model["vocab"],
    }


__all__ = ["browser_tokenizer", "portable_regex", "word_splits"]
