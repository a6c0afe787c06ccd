"""Sizes, batch and schedule of a classifier that follow from its data."""

import copy
import dataclasses
import math
from itertools import islice
from typing import Any

from ..data.corpus import Corpus
from ..models.ngrams import LARGEST_SIZE
from .arguments import ConfigArguments, RnnTrainingArguments

# Texts whose lengths are measured.
_MEASURED = 1000
# Characters from which on texts are long documents.
_LONG = 1000
# Texts from which on batches are larger.
_MANY, _VERY_MANY = 8_000, 50_000


def choose_settings(num_texts: int | None, num_characters: float, num_labels: int) -> dict[str, Any]:
    """Choose settings of a new classifier by its training data.

    More texts make larger batches and fewer passes, more labels more passes; of long documents, n-grams say the most,
    and the recurrent layers are small. Passes are all used: the learning rate falls to zero in them, and the best state
    on validation is kept.

    Args:
        num_texts (`int`, *optional*): Number of texts; `None` where it is not known.
        num_characters (`float`): Characters of a text, on average.
        num_labels (`int`): Number of labels.

    Returns:
        `dict[str, Any]`: fields of [`ConfigArguments`] and [`RnnTrainingArguments`].

    Example:
    ```python
    >>> from rnn_hf.training.presets import choose_settings
    >>> settings = choose_settings(num_texts=10_000, num_characters=60, num_labels=77)
    >>> settings["per_device_train_batch_size"], settings["num_train_epochs"]
    (64, 8.0)

    ```
    """
    num_texts = _VERY_MANY if num_texts is None else num_texts
    is_long = num_characters >= _LONG
    batch_size = 32 if num_texts < _MANY else 64 if num_texts < _VERY_MANY else 128
    epochs = 3 + 2 * math.log10(max(num_labels, 2)) + max(math.log2(_MANY / num_texts), 0)
    if is_long or num_texts >= _VERY_MANY:
        epochs = 3
    size = 64 if is_long else 128
    return {
        "hidden_size": size,
        "embedding_size": size,
        "char_num_filters": size // 2,
        "per_device_train_batch_size": batch_size,
        "learning_rate": round(2e-3 * math.sqrt(batch_size / 32), 4),
        "ngram_learning_rate": 1e-2 if num_labels <= LARGEST_SIZE else 5e-3,
        "num_train_epochs": float(round(min(epochs, 20))),
        "early_stopping_patience": 0,
    }


def apply_preset(
    corpus: Corpus, config_arguments: ConfigArguments, training_arguments: RnnTrainingArguments
) -> tuple[ConfigArguments, RnnTrainingArguments, dict[str, Any]]:
    """Set what [`choose_settings`] chooses and nobody gave.

    Args:
        corpus ([`Corpus`]): The data of a classifier.
        config_arguments ([`ConfigArguments`]): Given fields of the configuration, which stay.
        training_arguments ([`RnnTrainingArguments`]): Options. Those stay that its `given_options` name; without that,
            those that are not the default.

    Returns:
        Copies of both, and what was set.
    """
    config, training = copy.copy(config_arguments), copy.copy(training_arguments)
    texts = [str(text) for text in islice(corpus.inputs("train"), _MEASURED)]
    mean_length = sum(map(len, texts)) / max(len(texts), 1)
    settings = choose_settings(corpus.num_rows["train"], mean_length, len(corpus.label_names))
    defaults = {one.name: one.default for one in dataclasses.fields(RnnTrainingArguments)}
    given: Any = getattr(training, "given_options", None)
    chosen = {}
    if given is not None and not given.isdisjoint(("num_train_epochs", "max_steps")):
        del settings["early_stopping_patience"]  # of a schedule of one's own
    for name, value in settings.items():
        if hasattr(config, name):
            is_free, target = getattr(config, name) is None, config
        elif given is None:
            is_free, target = getattr(training, name) == defaults[name], training
        else:
            is_free, target = name not in given, training
        if is_free:
            setattr(target, name, value)
            chosen[name] = value
    return config, training, chosen


__all__ = ["apply_preset", "choose_settings"]
