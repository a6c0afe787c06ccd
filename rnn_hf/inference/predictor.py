"""Predict in bulk: batches of similar length, results in the order of the input, in constant memory."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import compress, islice
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from ..data.collator import DataCollatorWithPacking, cut_batches
from ..models.configuration_rnn import RnnConfig
from ..text.encoding import encode_texts, encode_words, max_length_of
from .bfloat16 import Precision, check_precision, computing_in
from .loading import RnnModelWithHead, is_tagger

_WINDOW = 4096


def predict(
    model: RnnModelWithHead | Any,
    tokenizer: PreTrainedTokenizerBase,
    inputs: Iterable[str] | Iterable[list[str]],
    *,
    batch_size: int | None = None,
    max_tokens_per_batch: int = 16384,
    rejection_threshold: float | None = None,
    all_scores: bool = False,
    precision: Precision = "float32",
) -> Iterator[dict[str, Any]]:
    """Classify texts, or tag sentences that are split into words.

    Inputs are read a few thousand at a time and run in batches of similar length, so that inputs of any number,
    from a generator for instance, take little memory. A classifier reads as many tokens of a text as it was trained
    to read, the tokenizer's `model_max_length`; a tagger reads every word. The model predicts in evaluation mode, and
    is in the mode it was in whenever a result is returned.

    Args:
        model ([`RnnForSequenceClassification`] or [`RnnForTokenClassification`]):
            A trained model, or one of the classes in `onnx_model` that run it with onnxruntime.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        inputs (`Iterable[str]` or `Iterable[list[str]]`): Texts for a classifier, lists of words for a tagger.
        batch_size (`int`, *optional*): Most sequences in a batch; by default 128, or 32 with onnxruntime, which is
            faster with small batches.
        max_tokens_per_batch (`int`): Most tokens in a batch; a longer sequence makes a batch of its own.
        rejection_threshold (`float`, *optional*): Of a classifier of one label a text, the probability below which a
            text is none of them: its label is then `None`. `rnn-hf evaluate --out_of_scope_file` finds one.
        all_scores (`bool`): Whether a classifier of several labels at once gives `all_scores` too, the probability of
            each label by its name.
        precision (`str`): Type of the numbers that the layers of a model of torch compute with: `"bfloat16"` rounds to
            three digits. [`~rnn_hf.inference.bfloat16.choose_precision`] finds the faster one.

    Yields:
        For each input, in order: of a classifier `{"text", "label", "score"}` with the label's probability, for
        several labels at once `{"text", "labels", "scores"}` of those above their threshold (one half, or that of the
        configuration), for a regression `{"text", "scores"}`; of a tagger `{"tokens", "tags"}`.

    Raises:
        TypeError: The inputs, or one of them, are not what the model takes; the message says which.
        ValueError: A bound below 1, text with lone surrogates, or a threshold or a precision that does not go with the
            model.

    Example:
    ```python
    >>> from rnn_hf import RnnConfig, RnnForTokenClassification, train_tokenizer
    >>> from rnn_hf.inference.predictor import predict
    >>> tokenizer = train_tokenizer([["a", "b", "a", "b"]], kind="word", is_split_into_words=True)
    >>> model = RnnForTokenClassification(RnnConfig(vocab_size=len(tokenizer), id2label={0: "X"}))
    >>> list(predict(model, tokenizer, [["a", "b"], [], ["c"]]))
    [{'tokens': ['a', 'b'], 'tags': ['X', 'X']}, {'tokens': [], 'tags': []}, {'tokens': ['c'], 'tags': ['X']}]

    ```
    """
    if batch_size is None:
        batch_size = default_batch_size(isinstance(model, torch.nn.Module))
    for name, bound in (("batch_size", batch_size), ("max_tokens_per_batch", max_tokens_per_batch)):
        if not isinstance(bound, int) or bound < 1:
            raise ValueError(f"{name} must be a number of at least 1, got {bound!r}.")
    if isinstance(inputs, str | bytes | Mapping) or not isinstance(inputs, Iterable):
        wanted = "lists of words" if is_tagger(model) else "texts"
        raise TypeError(f"The inputs must be a list or a generator of {wanted}, got {_shown(inputs)}.")
    check_precision(precision, model)
    results = _predict_all(model, tokenizer, inputs, batch_size, max_tokens_per_batch, all_scores, precision)
    if rejection_threshold is None:
        return results
    check_rejection(model, rejection_threshold)
    return (one if one["score"] >= rejection_threshold else one | {"label": None} for one in results)


def default_batch_size(runs_in_torch: bool) -> int:
    """Say how many sequences are in a batch without a bound of one's own: onnxruntime is faster with few.

    Example:
    ```python
    >>> from rnn_hf.inference.predictor import default_batch_size
    >>> default_batch_size(runs_in_torch=True), default_batch_size(runs_in_torch=False)
    (128, 32)

    ```
    """
    return 128 if runs_in_torch else 32


def check_rejection(model: Any, threshold: float | None = None) -> None:
    """Check that a model can reject texts by the probability of their label, and that a threshold is a probability.

    Args:
        model (`Any`): A model, of torch or of onnxruntime.
        threshold (`float`, *optional*): The probability below which a text is rejected.

    Raises:
        ValueError: A tagger, a regression, a classifier of several labels at once, or a number outside 0 and 1.
    """
    problem_type = "token-classification" if is_tagger(model) else model.config.problem_type
    if problem_type not in (None, "single_label_classification"):
        raise ValueError(
            f"Texts are rejected by a classifier of one label a text; the problem of this model is {problem_type}: "
            "leave the threshold, or the texts out of scope, out."
        )
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(f"rejection_threshold must be a probability, from 0 to 1; got {threshold}.")


def _predict_all(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    inputs: Iterable[Any],
    batch_size: int,
    max_tokens_per_batch: int,
    all_scores: bool,
    precision: Precision,
) -> Iterator[dict[str, Any]]:
    collator = DataCollatorWithPacking(tokenizer, padding=not isinstance(model, torch.nn.Module))
    find_fault = words_fault if is_tagger(model) else text_fault
    iterator, start = iter(inputs), 0
    while window := list(islice(iterator, _WINDOW)):
        for position, one in enumerate(window, start):
            if fault := find_fault(one):
                raise type(fault)(f"Input {position}{fault}") from fault.__cause__
        with _evaluating(model):
            results = _predict_window(
                model, tokenizer, collator, window, batch_size, max_tokens_per_batch, all_scores, precision
            )
        yield from results
        start += len(window)


def text_fault(text: Any, reason: str = ", as the model is a classifier;") -> TypeError | ValueError | None:
    """Tell what is wrong with a text to classify.

    Args:
        text (`Any`): What may be a text.
        reason (`str`): Why it must be one, for the message.

    Returns:
        `TypeError` or `ValueError`, *optional*: its message goes on after the name of the input.

    Example:
    ```python
    >>> from rnn_hf.inference.predictor import text_fault
    >>> text_fault("to be"), text_fault(None)
    (None, TypeError(' must be a text, as the model is a classifier; got None (NoneType).'))

    ```
    """
    if not isinstance(text, str):
        return TypeError(f" must be a text{reason} got {_shown(text)}.")
    return _characters_fault(text)


def words_fault(words: Any) -> TypeError | ValueError | None:
    """Tell what is wrong with a list of words to tag; see [`text_fault`].

    Example:
    ```python
    >>> from rnn_hf.inference.predictor import words_fault
    >>> words_fault(["to", "be"]), words_fault(["to", None])
    (None, TypeError(', word 1 must be a text, got None (NoneType).'))

    ```
    """
    if not isinstance(words, list | tuple):
        return TypeError(
            f" must be a list of words, as the model is a tagger; got {_shown(words)}. Text is split into words by "
            "text.split(), for instance."
        )
    for index, word in enumerate(words):
        if not isinstance(word, str):
            return TypeError(f", word {index} must be a text, got {_shown(word)}.")
    return _characters_fault("".join(words))


def _characters_fault(text: str) -> ValueError | None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        fault = ValueError(
            f" holds the lone surrogate {text[error.start]!a}, which is no character: decode the text anew, for "
            "instance as UTF-8."
        )
        fault.__cause__ = error
        return fault
    return None


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:59] + '…'} ({type(value).__name__})"


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Put a model into evaluation mode for a while."""
    modules = model.modules() if isinstance(model, torch.nn.Module) else ()
    training = [module for module in modules if module.training]
    if training:
        model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _predict_window(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    collator: DataCollatorWithPacking,
    window: list[Any],
    batch_size: int,
    max_tokens_per_batch: int,
    all_scores: bool,
    precision: Precision,
) -> list[dict[str, Any]]:
    firsts: list[list[int]] = []
    tags_tokens, labels = is_tagger(model), model.config.label_names
    if tags_tokens:
        ids, firsts = encode_words(tokenizer, [list(words) for words in window])
    else:
        ids = encode_texts(tokenizer, window, max_length_of(tokenizer))
    results: list[dict[str, Any]] = [{} for _ in window]
    lengths = [len(one) for one in ids]
    reads_words = tags_tokens and model.config.subword_pooling != "none"
    num_steps = list(map(len, firsts)) if reads_words else lengths
    longest_first = sorted(range(len(ids)), key=lambda position: (-num_steps[position], -lengths[position]))
    for positions in cut_batches(longest_first, lengths, batch_size, max_tokens_per_batch):
        batch = collator([{"input_ids": ids[position]} for position in positions])
        with torch.inference_mode(), computing_in(precision, model.device):
            logits = model(**{name: value.to(model.device) for name, value in batch.items()}).logits.float().cpu()
        if tags_tokens:
            for position, best in zip(positions, logits.argmax(dim=-1).tolist(), strict=True):
                tags = [labels[best[first]] for first in firsts[position]]
                results[position] = {"tokens": window[position], "tags": tags}
        else:
            for position, found in zip(positions, _classified(model.config, logits, all_scores), strict=True):
                results[position] = {"text": window[position]} | found
    return results


def _classified(config: RnnConfig, logits: torch.Tensor, all_scores: bool = False) -> Iterator[dict[str, Any]]:
    """Yield what logits `[batch_size, num_labels]` say of each text."""
    labels = config.label_names
    if config.problem_type == "regression":
        yield from ({"scores": scores} for scores in logits.tolist())
    elif config.problem_type == "multi_label_classification":
        applies = labels_that_apply(logits, config.label_thresholds).tolist()
        for scores, chosen in zip(logits.sigmoid().tolist(), applies, strict=True):
            found: dict[str, Any] = {"labels": list(compress(labels, chosen)), "scores": list(compress(scores, chosen))}
            yield found | {"all_scores": dict(zip(labels, scores, strict=True))} if all_scores else found
    else:
        highest, best = logits.softmax(dim=-1).max(dim=-1)
        for score, index in zip(highest.tolist(), best.tolist(), strict=True):
            yield {"label": labels[index], "score": score}


def labels_that_apply(logits: torch.Tensor, label_thresholds: Sequence[float] | None = None) -> torch.Tensor:
    """Choose, of several labels at once, those whose probability is above their threshold.

    Args:
        logits (`torch.FloatTensor` of shape `[…, num_labels]`): What a model returns.
        label_thresholds (`Sequence[float]`, *optional*): A threshold for each label; 0.5 without them.

    Returns:
        `torch.BoolTensor` of the same shape: which labels apply.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.inference.predictor import labels_that_apply
    >>> logits = torch.tensor([[-1.0, 1.0]])
    >>> labels_that_apply(logits).tolist(), labels_that_apply(logits, [0.2, 0.8]).tolist()
    ([[False, True]], [[True, False]])

    ```
    """
    if label_thresholds is None:
        return logits > 0
    return logits.sigmoid() > logits.new_tensor(label_thresholds)


__all__ = ["check_rejection", "default_batch_size", "labels_that_apply", "predict", "text_fault", "words_fault"]
