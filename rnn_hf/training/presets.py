"""Sizes, batch and schedule that follow from the task and its data."""

import copy
import dataclasses
import math
from collections.abc import Sequence
from itertools import islice
from typing import Any

from datasets import Dataset

from ..data.corpus import Corpus
from ..models.labels import span_labels
from ..models.lexical import LARGEST_SIZE
from ..models.ngrams import MOST_LABELS
from .arguments import ConfigArguments, RnnTrainingArguments

# Texts whose lengths are measured.
_MEASURED = 1000
# Characters from which on texts are long documents.
_LONG = 1000
# Characters that are read in training, where that makes neither too few nor too many passes; fewer of many texts whose
# n-grams are solved.
_NUM_READ, _NUM_READ_OF_MANY = 6_000_000, 3_300_000
_FEWEST_EPOCHS, _FEWEST_OF_MANY_LABELS, _MOST_EPOCHS = 2, 6, 20
# Dropout where so few are read.
_LITTLE_DROPOUT = {"word_dropout": 0.15, "embedding_dropout": 0.3, "classifier_dropout": 0.3}
# Texts from which on fewer are read, and from which on batches are larger.
_ENOUGH = 9_000
_SOME, _MANY, _VERY_MANY = 2_000, 8_000, 50_000
# Sentences up to which a tagger is small.
_FEW = 4_000
_OF_ENCODER = ("hidden_size", "embedding_size", "char_num_filters", "subword_pooling")
# Options that say what makes a batch.
_OF_BATCHES = ("max_tokens_per_batch", "per_device_train_batch_size", "train_sampling_strategy")
# Of a tagger's batches, whose sentences have similar lengths: tokens for each word, what their number is a multiple of,
# and how many times as many sentences as of mean length there may be.
_TOKENS_A_WORD, _MULTIPLE, _MOST_TIMES = 1.25, 64, 4
# Options that say which state is kept, or how long to train.
_OF_CHOICE = (
    *("early_stopping_patience", "greater_is_better", "load_best_model_at_end", "max_steps"),
    *("metric_for_best_model", "num_train_epochs", "save_strategy"),
)


def choose_settings(num_texts: int | None, num_characters: float, num_labels: int) -> dict[str, Any]:
    """Choose settings of a new classifier by its training data.

    More texts make larger batches. More text makes fewer passes, and so do few labels: as many at least as the
    logarithm of the number of labels to the base 2, from two to six. Few passes over many texts go with less dropout,
    which slows learning, and with a smaller character CNN. Of long documents, n-grams say the most, and all is small.
    The learning rate falls to zero in the passes, and the last state is kept: on little validation data, the best one
    is best by chance.

    Args:
        num_texts (`int`, *optional*): Number of texts; `None` where it is not known.
        num_characters (`float`): Characters of a text, on average.
        num_labels (`int`): Number of labels.

    Returns:
        `dict[str, Any]`: fields of [`ConfigArguments`] and [`RnnTrainingArguments`].

    Example:
    ```python
    >>> from rnn_hf.training.presets import choose_settings
    >>> settings = choose_settings(num_texts=9_000, num_characters=58, num_labels=77)
    >>> settings["per_device_train_batch_size"], settings["num_train_epochs"]
    (64, 6.0)

    ```
    """
    num_texts = _VERY_MANY if num_texts is None else num_texts
    is_long = num_characters >= _LONG
    batch_size = 16 if num_texts < _SOME else 32 if num_texts < _MANY else 64 if num_texts < _VERY_MANY else 128
    is_quick = num_texts >= _ENOUGH and num_labels <= MOST_LABELS
    num_read = _NUM_READ_OF_MANY if is_quick else _NUM_READ
    epochs = round(num_read / max(num_texts * num_characters, 1))
    bits = math.log2(max(num_labels, 2))
    most_epochs = min(1 + round(5 * bits), _MOST_EPOCHS)
    fewest_epochs = min(max(round(bits), _FEWEST_EPOCHS), _FEWEST_OF_MANY_LABELS)
    size = 64 if is_long else 128
    settings = {
        "hidden_size": size,
        "embedding_size": size,
        "char_num_filters": size // 4 if is_long or is_quick else size // 2,
        "per_device_train_batch_size": batch_size,
        "learning_rate": round(2e-3 * math.sqrt(max(batch_size, 32) / 32), 4),
        "num_train_epochs": float(min(max(epochs, fewest_epochs), most_epochs)),
        "early_stopping_patience": 0,
        "load_best_model_at_end": False,
    }
    if is_quick:
        settings |= _LITTLE_DROPOUT
    if num_labels > MOST_LABELS:
        settings["ngram_learning_rate"] = 5e-3
    return settings


def apply_preset(
    corpus: Corpus,
    config_arguments: ConfigArguments,
    training_arguments: RnnTrainingArguments,
    chooses_sizes: bool = True,
) -> tuple[ConfigArguments, RnnTrainingArguments, dict[str, Any]]:
    """Set what [`choose_settings`] chooses for a classifier and nobody gave.

    Of a tagger, all passes are used, and it has a conditional random field, unless it has many labels or they are
    smoothed; that of spans also tells where they end. On few sentences it is small, and its lexical features are solved
    before training; on more they are trained with the rest, and a solution joins them afterwards. Of many sentences,
    those of a batch have similar lengths: there are as many tokens in it as 32 sentences have on average.

    Args:
        corpus ([`Corpus`]): The data.
        config_arguments ([`ConfigArguments`]): Given fields of the configuration, which stay.
        training_arguments ([`RnnTrainingArguments`]): Options. Those stay that its `given_options` name; without that,
            those that are not the default.
        chooses_sizes (`bool`): Whether to choose sizes too, which a pretrained encoder has already.

    Returns:
        Copies of both, and what was set.
    """
    config, training = copy.copy(config_arguments), copy.copy(training_arguments)
    # Without a teacher, an epoch is a pass over the texts with labels.
    num_rows = corpus.num_training_rows if training.teacher else corpus.num_rows["train"]
    if corpus.task == "text-classification":
        texts = [str(text) for text in islice(corpus.inputs("train"), _MEASURED)]
        mean_length = sum(map(len, texts)) / max(len(texts), 1)
        settings = choose_settings(num_rows * (1 + training.augment), mean_length, len(corpus.label_names))
    else:
        settings = _of_tagger(corpus, config, training, num_rows)
    if not chooses_sizes:
        settings = {name: value for name, value in settings.items() if name not in _OF_ENCODER}
    given: Any = getattr(training, "given_options", None)
    if given is None:
        options = training.to_dict()
        fields = [one for one in dataclasses.fields(RnnTrainingArguments) if one.name in options]
        given = {one.name for one in fields if options[one.name] != one.default}
    chosen = {}
    if "max_tokens_per_batch" in settings and given.isdisjoint(_OF_BATCHES):
        settings["per_device_train_batch_size"] = _MOST_TIMES * training.per_device_train_batch_size
    else:
        settings.pop("max_tokens_per_batch", None)
    if "learning_rate" in given:  # from which the others follow
        settings = {name: value for name, value in settings.items() if not name.endswith("learning_rate")}
    if corpus.task == "token-classification" and (num_rows or _FEW) >= _FEW:
        settings["lexical_learning_rate"] = training.learning_rate
    if not given.isdisjoint(_OF_CHOICE):
        # Whoever says how to choose wants a choice.
        settings = {name: value for name, value in settings.items() if name not in _OF_CHOICE}
    for name, value in settings.items():
        target: Any = config if hasattr(config, name) else training
        if (getattr(config, name) is None) if target is config else (name not in given):
            setattr(target, name, value)
            chosen[name] = value
    return config, training, chosen


def may_tell_ends(label_names: Sequence[str]) -> bool:
    """Say whether a new conditional random field tells where spans end: of IOB2 labels that are not too many.

    Args:
        label_names (`Sequence[str]`): Labels in the order of their ids.

    Example:
    ```python
    >>> from rnn_hf.training.presets import may_tell_ends
    >>> may_tell_ends(["O", "B-LOC", "I-LOC"]), may_tell_ends(["NOUN", "VERB"])
    (True, False)

    ```
    """
    refined = span_labels(tuple(label_names))
    return refined is not None and len(refined.names) <= LARGEST_SIZE


def _of_tagger(
    corpus: Corpus, config: ConfigArguments, training: RnnTrainingArguments, num_rows: int | None
) -> dict[str, Any]:
    """Choose settings of a new tagger, of so many sentences; `None` where their number is not known."""
    is_few = (num_rows or _FEW) < _FEW
    settings: dict[str, Any] = {"early_stopping_patience": 0, "subword_pooling": "mean"}
    if training.label_smoothing_factor == 0 and (is_few or len(corpus.label_names) <= LARGEST_SIZE):
        settings["use_crf"] = True
    has_crf = config.use_crf is not False and training.label_smoothing_factor == 0
    if has_crf and may_tell_ends(corpus.label_names):
        settings["crf_tag_scheme"] = "iobes"
    if is_few:
        settings |= {"hidden_size": 128, "load_best_model_at_end": False, "per_device_train_batch_size": 16}
    split = corpus.splits["train"]
    is_mixed = corpus.unlabelled is not None and not training.teacher and not training.self_training
    if isinstance(split, Dataset) and (num_rows or 0) >= _MANY and not is_mixed:
        some = split.select(range(0, len(split), max(len(split) // _MEASURED, 1)))[corpus.input_column]
        num_words = sum(map(len, some)) / max(len(some), 1)
        num_tokens = training.per_device_train_batch_size * num_words * _TOKENS_A_WORD
        settings["max_tokens_per_batch"] = max(_MULTIPLE * round(num_tokens / _MULTIPLE), _MULTIPLE)
    return settings


__all__ = ["apply_preset", "choose_settings", "may_tell_ends"]
