"""Examples of a corpus as the model reads them, safe to show."""

from collections.abc import Collection, Iterator
from itertools import islice

from transformers import PreTrainedTokenizerBase

from ..text.encoding import encode_texts, encode_words
from ..utils.secrets import MASK, mask
from .corpus import Corpus
from .validation import label_name

_NUM_EXAMPLES = 2
_NUM_EXAMPLE_TOKENS = 16
# As much of a text is looked at.
_MOST_CHARACTERS = 2000


def examples_of(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase | None = None, secrets: Collection[str] = ()
) -> Iterator[tuple[str, str]]:
    """Cut the first two training texts into tokens, as the model reads them, with their labels.

    Args:
        corpus ([`Corpus`]): With training data.
        tokenizer (`PreTrainedTokenizerBase`, *optional*): Words are shown without it.
        secrets (`Collection[str]`): Values to mask, as [`~secrets.find_secrets`] gives them. A text is masked before it
            is cut, so that no part of a secret is left.

    Returns:
        `Iterator[tuple[str, str]]`: the first tokens of a text, and its label; of a tagger, tokens with a tag at the
        first one of each word, and an empty label.

    Example:
    ```python
    >>> import json, tempfile
    >>> from rnn_hf.data.corpus import DataArguments, load_corpus
    >>> from rnn_hf.data.report_examples import examples_of
    >>> with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
    ...     _ = file.write(json.dumps({"tokens": ["in", "Oslo"], "tags": ["O", "B-LOC"]}))
    ...     file.flush()
    ...     arguments = DataArguments(train_file=file.name, validation_file=file.name)
    ...     list(examples_of(load_corpus(arguments, "token-classification")))
    [('in/O Oslo/B-LOC', '')]

    ```
    """
    feature = (corpus.splits["train"].features or {}).get(corpus.label_column)
    show = _words_with_tags if corpus.task == "token-classification" else _text_with_label
    columns = [corpus.input_column, corpus.label_column]
    for row in islice(corpus.splits["train"].select_columns(columns), _NUM_EXAMPLES):
        one, label = row[corpus.input_column], row[corpus.label_column]
        names = [label_name(name, feature) for name in (label if isinstance(label, list) else [label])]
        tokens, text = show(one, names, tokenizer, secrets)
        yield " ".join(tokens[:_NUM_EXAMPLE_TOKENS]) + (" …" if len(tokens) > _NUM_EXAMPLE_TOKENS else ""), text


def _text_with_label(
    text: str, names: list[str], tokenizer: PreTrainedTokenizerBase | None, secrets: Collection[str]
) -> tuple[list[str], str]:
    text = mask(text[:_MOST_CHARACTERS], secrets)
    tokens = text.split() if tokenizer is None else _shown_tokens(tokenizer, encode_texts(tokenizer, [text])[0])
    return tokens, ", ".join(names)


def _words_with_tags(
    words: list[str], tags: list[str], tokenizer: PreTrainedTokenizerBase | None, secrets: Collection[str]
) -> tuple[list[str], str]:
    # One word more than is shown, so that it can be seen that there are more.
    tags = tags[: _NUM_EXAMPLE_TOKENS + 1]
    words = _masked_words(words[: len(tags)], secrets)
    tokens, firsts = words, list(range(len(words)))
    if tokenizer is not None:
        (ids,), (firsts,) = encode_words(tokenizer, [words])
        tokens = _shown_tokens(tokenizer, ids)
    tag_at = dict(zip(firsts, tags, strict=True))
    return [f"{token}/{tag_at[index]}" if index in tag_at else token for index, token in enumerate(tokens)], ""


def _masked_words(words: list[str], secrets: Collection[str]) -> list[str]:
    """Mask words that are a secret, or a part of one that goes over several words."""
    kept = set(mask(" ".join(words), secrets).split())
    return [word if not word.split() or kept.issuperset(word.split()) else MASK for word in words]


def _shown_tokens(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    """Write tokens so that they can be read, those of bytes too."""
    ids = ids[: _NUM_EXAMPLE_TOKENS + 1]
    texts = [str(tokenizer.decode([index])).strip() for index in ids]
    return [text or str(tokenizer.convert_ids_to_tokens(index)) for text, index in zip(texts, ids, strict=True)]


__all__ = ["examples_of"]
