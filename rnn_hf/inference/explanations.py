"""What each word does for a prediction: how much it moves the log-odds of a label."""

import html
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..data.collator import DataCollatorWithPacking
from ..text.encoding import encode_texts, encode_words, max_length_of
from ..text.words import split_words
from .loading import RnnModelWithHead, is_tagger

# Colours of words that speak for a label, and against it; they can be read on light and on dark pages.
_FOR, _AGAINST = "63, 91, 217", "217, 106, 32"


@dataclass
class Explanation:
    """How much each word of a text moves the log-odds of a label; a notebook shows it in colours.

    Args:
        text (`str`): The text; of a tagger its words, joined by spaces.
        label (`str`): The label that is explained.
        words (`list[tuple[int, int, float]]`): Of each word where it begins and ends in the text, and the log-odds that
            are lost without it. What is negative speaks against the label.
    """

    text: str
    label: str
    words: list[tuple[int, int, float]]

    def scores(self) -> list[tuple[str, float]]:
        """Return each word with its number."""
        return [(self.text[start:end], moved) for start, end, moved in self.words]

    def to_html(self) -> str:
        """Write the text as HTML: words that speak for the label in blue, against it in orange.

        Example:
        ```python
        >>> from rnn_hf.inference.explanations import Explanation
        >>> "rgba(63, 91, 217, 0.75)" in Explanation("a film", "good", [(0, 1, 0.0), (2, 6, 2.0)]).to_html()
        True

        ```
        """
        largest = max((abs(moved) for _, _, moved in self.words), default=0.0) or 1.0
        bounds = [0, *(bound for start, end, _ in self.words for bound in (start, end)), len(self.text)]
        pieces = [html.escape(self.text[start:end]) for start, end in pairwise(bounds)]
        for position, (_, _, moved) in enumerate(self.words):
            colour = f"rgba({_FOR if moved >= 0 else _AGAINST}, {0.75 * abs(moved) / largest:.2f})"
            style = f"background: {colour}; border-radius: 0.25em; padding: 0.1em"
            word = pieces[2 * position + 1]
            pieces[2 * position + 1] = f'<span style="{style}" title="{moved:+.2f}">{word}</span>'
        label = html.escape(self.label)
        return f'<p style="line-height: 1.9; white-space: pre-wrap"><b>{label}</b> {"".join(pieces)}</p>'

    _repr_html_ = to_html


def explain(
    model: RnnModelWithHead | Any,
    tokenizer: PreTrainedTokenizerBase,
    text: str | list[str],
    *,
    label: str | None = None,
    word: int | None = None,
    max_tokens_per_batch: int = 16384,
) -> Explanation:
    """Tell how much each word of a text moves a prediction, by leaving it out (occlusion).

    The log-odds of a label are those against all others. Of a classifier of several labels at once they are those of
    the label by itself, and of a regression the value takes their place. The numbers of several words need not add up.
    Of a pipeline, give its `model` and `tokenizer`.

    Args:
        model ([`RnnForSequenceClassification`] or [`RnnForTokenClassification`]):
            A trained model, or one that onnxruntime runs.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        text (`str` or `list[str]`): A text for a classifier, a list of words for a tagger.
        label (`str`, *optional*): The label to explain; without it the predicted one.
        word (`int`, *optional*): Of a tagger, the index of the word whose label is explained.
        max_tokens_per_batch (`int`): Most tokens in a batch, or those of the text twice if it is longer.

    Returns:
        [`Explanation`]. Of a tagger, the word itself moves its label by 0.

    Raises:
        TypeError: The text is not what the model takes.
        ValueError: No such label or word.

    Example:
    ```python
    >>> from rnn_hf import RnnConfig, RnnForSequenceClassification, train_tokenizer
    >>> from rnn_hf.inference.explanations import explain
    >>> tokenizer = train_tokenizer(["a good film", "a bad film"], kind="word", min_frequency=1)
    >>> config = RnnConfig(vocab_size=len(tokenizer), id2label={0: "bad", 1: "good"})
    >>> explanation = explain(RnnForSequenceClassification(config), tokenizer, "a good film", label="good")
    >>> explanation.label, [word for word, _ in explanation.scores()]
    ('good', ['a', 'good', 'film'])

    ```
    """
    names = model.config.label_names
    if label is not None and label not in names:
        raise ValueError(f"The model has no label {label!r}, only {', '.join(names[:20])}.")
    if is_tagger(model):
        if isinstance(text, str) or not all(isinstance(one, str) for one in text):
            raise TypeError("The text must be a list of words, as the model is a tagger: split it, with text.split().")
        words = list(text)
        if word is None or not 0 <= word < len(words):
            raise ValueError(f"word must be the index of one of the {len(words)} words, got {word}.")
        others = [index for index in range(len(words)) if index != word]
        sentences = [words, *(words[:index] + words[index + 1 :] for index in others)]
        rows, firsts = encode_words(tokenizer, sentences)
        targets = [word, *(word - (index < word) for index in others)]
        positions: list[int | None] = [of_row[target] for of_row, target in zip(firsts, targets, strict=True)]
        shown, spans = " ".join(words), _spans(words)
    else:
        if not isinstance(text, str):
            raise TypeError("The text must be a str, as the model is a classifier.")
        if word is not None:
            raise ValueError("A classifier explains a label of the whole text: leave word out.")
        shown, spans = text, split_words(text)
        others = list(range(len(spans)))
        without = [text[:start] + text[end:] for start, end in spans]
        rows = encode_texts(tokenizer, [text, *without], max_length_of(tokenizer))
        positions = [None] * len(rows)

    size = max(1, max_tokens_per_batch // len(rows[0]) - 1)
    moved, index = [0.0] * len(spans), None if label is None else names.index(label)
    # The text itself is in each batch, for int8 graphs depend a little on the batch.
    for start in range(1, max(len(rows), 2), size):
        batch = slice(start, start + size)
        logits = _run(model, tokenizer, [rows[0], *rows[batch]], [positions[0], *positions[batch]])
        index = int(logits[0].argmax()) if index is None else index
        changes = _log_odds(logits[:1], index, model) - _log_odds(logits[1:], index, model)
        for position, change in zip(others[start - 1 : start - 1 + size], changes.tolist(), strict=True):
            moved[position] = change
    found = [(start, end, change) for (start, end), change in zip(spans, moved, strict=True)]
    return Explanation(shown, names[index or 0], found)


def _spans(words: list[str]) -> list[tuple[int, int]]:
    """Find words in a text that joins them by spaces."""
    spans, position = [], 0
    for word in words:
        spans.append((position, position + len(word)))
        position += len(word) + 1
    return spans


def _run(model: Any, tokenizer: Any, rows: list[list[int]], positions: list[int | None]) -> Tensor:
    """Return the logits of each row, or of a position in it: `[num_rows, num_labels]`."""
    collator = DataCollatorWithPacking(tokenizer, padding=not isinstance(model, torch.nn.Module))
    batch = collator([{"input_ids": row} for row in rows])
    training = isinstance(model, torch.nn.Module) and model.training
    if training:
        model.eval()
    try:
        with torch.inference_mode():
            logits = model(**{name: value.to(model.device) for name, value in batch.items()}).logits.float().cpu()
    finally:
        if training:
            model.train()
    if positions[0] is None:
        return logits
    return logits[torch.arange(len(rows)), torch.tensor(positions)]


def _log_odds(logits: Tensor, label: int, model: Any) -> Tensor:
    """Return the log-odds of a label in each row of logits."""
    if not is_tagger(model) and model.config.problem_type in ("multi_label_classification", "regression"):
        return logits[:, label]
    others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
    return logits[:, label] - others.logsumexp(dim=1) if others.shape[1] else torch.zeros(len(logits))


__all__ = ["Explanation", "explain"]
