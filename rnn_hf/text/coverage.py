"""How well a kind of tokenizer fits texts."""

from collections.abc import Iterable

from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerBase

# From so many characters on, a word is likely to be a text without spaces.
_LONG_WORD = 50


def lacks_spaces(texts: Iterable[str]) -> bool:
    """Tell whether texts have no spaces between words, as in Thai, so that a tokenizer must find the words itself.

    Args:
        texts (`Iterable[str]`): Some texts.

    Returns:
        `bool`: whether half of their characters stand between spaces or punctuation that are far apart.

    Example:
    ```python
    >>> from rnn_hf.text.coverage import lacks_spaces
    >>> lacks_spaces(["ก" * 100]), lacks_spaces(["one two three"])
    (True, False)

    ```
    """
    splitter = pre_tokenizers.BertPreTokenizer()
    count = count_long = 0
    for text in texts:
        lengths = [end - start for _, (start, end) in splitter.pre_tokenize_str(text)]
        count += sum(lengths)
        count_long += sum(length for length in lengths if length > _LONG_WORD)
    return count_long * 2 > count


def unknown_share(tokenizer: PreTrainedTokenizerBase, inputs: list[str] | list[list[str]]) -> float:
    """Return the share of unknown tokens in texts.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): Any tokenizer.
        inputs (`list[str]` or `list[list[str]]`): Texts, or lists of words.

    Example:
    ```python
    >>> from rnn_hf.text.coverage import unknown_share
    >>> from rnn_hf.text.tokenization import train_tokenizer
    >>> unknown_share(train_tokenizer(["a a b b"], kind="word"), ["a b", "c d"])
    0.5

    ```
    """
    if not inputs or tokenizer.unk_token_id is None:
        return 0.0
    encoding = tokenizer(inputs, is_split_into_words=not isinstance(inputs[0], str), verbose=False)
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    ids = [index for one in encoding["input_ids"] for index in one if index not in special]
    return sum(index == tokenizer.unk_token_id for index in ids) / max(len(ids), 1)


__all__ = ["lacks_spaces", "unknown_share"]
