"""Refuse options that make no sense, before anything is read or written.

Out of range, of the other task, or without effect beside another option: each is named with what would be right.
"""

import copy
import json
import math
from dataclasses import MISSING, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import Trainer, get_scheduler
from transformers.integrations import get_available_reporting_integrations
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from ..data.text_corpus import TextArguments
from ..evaluation.task_metrics import score_names
from ..formats.arguments import MODELS_OF, DataArguments, Task, named_auxiliary
from ..models.configuration_rnn import RnnConfig
from ..text.transformer_vectors import is_transformer
from ..utils.command_line import describe
from ..utils.secrets import mask_options
from .arguments import RnnTrainingArguments, TokenizerArguments
from .self_training import chooses_self_training

# Packages of what `--report_to` names, where they have another name.
_PACKAGES = {
    "azure_ml": "azureml-mlflow",
    "comet_ml": "comet-ml",
    "flyte": "flytekit",
}
# The least value of each option, and whether it may be reached.
_LEAST: dict[str, tuple[float, bool]] = {
    "num_train_epochs": (0, False),
    "per_device_train_batch_size": (1, True),
    "per_device_eval_batch_size": (1, True),
    "gradient_accumulation_steps": (1, True),
    "max_tokens_per_batch": (1, True),
    "save_total_limit": (1, True),
    "eval_steps": (0, False),
    "save_steps": (0, False),
    "logging_steps": (0, False),
    "learning_rate": (0, True),
    "vectors_learning_rate": (0, True),
    "warmup_steps": (0, True),
    "weight_decay": (0, True),
    "max_grad_norm": (0, True),
    "adam_beta1": (0, True),
    "adam_beta2": (0, True),
    "adam_epsilon": (0, False),
    "label_smoothing_factor": (0, True),
    "layer_lr_decay": (0, False),
    "gradual_unfreezing": (0, True),
    "rdrop_loss_weight": (0, True),
    "unlabelled_loss_weight": (0, True),
    "lm_loss_weight": (0, True),
    "auxiliary_loss_weight": (0, True),
    "augment": (0, True),
    "self_training": (0, True),
    "distillation_loss_weight": (0, True),
    "distillation_temperature": (0, False),
    "early_stopping_patience": (0, True),
    "dataloader_num_workers": (0, True),
    "eval_delay": (0, True),
    "eval_accumulation_steps": (1, True),
    "dataloader_prefetch_factor": (1, True),
    "ddp_timeout": (1, True),
    "seed": (0, True),
    "data_seed": (0, True),
    "vocab_size": (4, True),
    "min_frequency": (1, True),
    "vectors_vocab_size": (1, True),
    "mimick_epochs": (0, True),
}
# Values that these must stay below.
_BOUND: dict[str, float] = {
    "label_smoothing_factor": 1,
    "adam_beta1": 1,
    "adam_beta2": 1,
    "seed": 2**32,
    "data_seed": 2**32,
}
_NEW_TOKENIZER = ("tokenizer_kind", "vocab_size", "min_frequency", "lowercase")


def check_arguments(
    task: Task,
    data: DataArguments,
    tokenizer: TokenizerArguments,
    config: Any,
    training: RnnTrainingArguments,
) -> None:
    """Check the options of a training run against each other.

    Args:
        task (`str`): `"text-classification"` or `"token-classification"`.
        data ([`DataArguments`]): The corpus.
        tokenizer ([`TokenizerArguments`]): The tokenizer, or a checkpoint to fine-tune.
        config (`ConfigArguments`): Fields of the configuration to override.
        training ([`RnnTrainingArguments`]): Everything else.

    Raises:
        ValueError: The first option that makes no sense.

    Example:
    ```python
    >>> from rnn_hf.training.argument_checks import check_arguments
    >>> from rnn_hf.data.corpus import DataArguments
    >>> from rnn_hf.training.arguments import ConfigArguments, RnnTrainingArguments, TokenizerArguments
    >>> tokenizer = TokenizerArguments(tokenizer_name="bert-base-uncased", vocab_size=500)
    >>> check_arguments("text-classification", DataArguments(), tokenizer, ConfigArguments(), RnnTrainingArguments())
    Traceback (most recent call last):
    ...
    ValueError: --vocab_size is for a new tokenizer, but --tokenizer_name gives one: leave one of them out.

    ```
    """
    _check_ranges(tokenizer, training)
    _check_task(task, data, config, training)
    _check_config(task, config)
    _check_tokenizer(data, tokenizer, training)
    if not training.output_dir or "\0" in training.output_dir:
        raise ValueError(f"--output_dir {training.output_dir!r} is no name of a folder.")
    if training.vectors_learning_rate and tokenizer.vectors is None and tokenizer.model_name_or_path is None:
        raise ValueError("--vectors_learning_rate has no effect without --vectors: leave it out.")
    _check_features(config, training)
    _check_metric(task, training)
    _check_schedule(data, training)
    _check_scheduler(training)
    _check_optimizer(training)
    _check_unfit(training)
    _check_losses(data, training)
    _check_teacher(data, training)
    _check_reports(training)


def check_pretraining_arguments(
    texts: TextArguments, tokenizer: TokenizerArguments, config: Any, training: RnnTrainingArguments
) -> None:
    """Check the options of pretraining against each other.

    Args:
        texts ([`TextArguments`]): The texts.
        tokenizer ([`TokenizerArguments`]): The tokenizer, or a checkpoint to train further.
        config ([`ConfigArguments`]): Fields of the configuration to override.
        training ([`RnnTrainingArguments`]): Everything else.

    Raises:
        ValueError: The first option that makes no sense.

    Example:
    ```python
    >>> from rnn_hf.data.text_corpus import TextArguments
    >>> from rnn_hf.training.argument_checks import check_pretraining_arguments
    >>> from rnn_hf.training.arguments import ConfigArguments, RnnTrainingArguments, TokenizerArguments
    >>> training = RnnTrainingArguments(class_weights="balanced")
    >>> check_pretraining_arguments(TextArguments(), TokenizerArguments(), ConfigArguments(), training)
    Traceback (most recent call last):
    ...
    ValueError: --class_weights is for labels, which pretraining does not read: leave it out.

    ```
    """
    _check_ranges(tokenizer, training)
    for arguments in (config, training):
        for one in fields(arguments):
            of_task = one.metadata.get("task")
            if of_task is not None and _is_given(arguments, one.name):
                raise ValueError(f"--{one.name} is an option of {MODELS_OF[of_task]}: leave it out.")
    for name in ("class_weights", "label_smoothing_factor", "preset", "rdrop_loss_weight"):
        if _is_given(training, name):
            raise ValueError(f"--{name} is for labels, which pretraining does not read: leave it out.")
    if training.to_dict()["metric_for_best_model"] not in (None, "loss", "eval_loss"):
        raise ValueError("--metric_for_best_model: the best language model is that of the least loss. Leave it out.")
    _check_config("language-modeling", config)
    _check_tokenizer(DataArguments(), tokenizer, training)
    _check_schedule(texts, training)
    _check_scheduler(training)
    _check_optimizer(training)
    _check_unfit(training)
    _check_reports(training)


def _check_ranges(*arguments: Any) -> None:
    for one in arguments:
        for name, (least, reachable) in _LEAST.items():
            value = getattr(one, name, None)
            if value is None or isinstance(value, str):
                continue
            if not math.isfinite(value) or value < least or (value == least and not reachable):
                raise ValueError(f"--{name} must be {'at least' if reachable else 'above'} {least}, got {value}.")
            if name in _BOUND and value >= _BOUND[name]:
                raise ValueError(f"--{name} must be below {_BOUND[name]}, got {value}.")


def _check_task(task: Task, data: DataArguments, config: Any, training: RnnTrainingArguments) -> None:
    for arguments in (data, config, training):
        for one in fields(arguments):
            of_task = one.metadata.get("task") or task
            if of_task != task and _is_given(arguments, one.name):
                raise ValueError(f"--{one.name} is an option of {MODELS_OF[of_task]}: leave it out.")


def _check_config(task: Task, config: Any) -> None:
    given = {name: value for name, value in vars(config).items() if value is not None}
    try:
        RnnConfig(**given)
    except (StrictDataclassError, TypeError, ValueError) as error:
        message = describe(error)
        raise ValueError(f"--{message}" if message.split(" ")[0].split("=")[0] in given else message) from error


def _check_features(config: Any, training: RnnTrainingArguments) -> None:
    """Refuse options of n-grams and of lexical features where there are none."""
    for size, names in (
        ("ngram_buckets", ("max_ngram", "ngram_dropout", "ngram_learning_rate")),
        ("num_lexical_features", ("lexical_dropout", "lexical_learning_rate")),
    ):
        for name in names if getattr(config, size) == 0 else ():
            if getattr(training if name.endswith("rate") else config, name) is not None:
                raise ValueError(f"--{name} has no effect with --{size} 0: leave one of them out.")


def _check_tokenizer(data: DataArguments, tokenizer: TokenizerArguments, training: RnnTrainingArguments) -> None:
    base = next((name for name in ("tokenizer_name", "model_name_or_path") if _is_given(tokenizer, name)), None)
    if base is not None:
        for name in _NEW_TOKENIZER:
            if _is_given(tokenizer, name):
                raise ValueError(f"--{name} is for a new tokenizer, but --{base} gives one: leave one of them out.")
    if _is_given(tokenizer, "model_name_or_path"):
        for name in ("tokenizer_name", "char_cnn", "vectors", "mimick_epochs"):
            if _is_given(tokenizer, name):
                raise ValueError(f"--{name} is for new models: the checkpoint of --model_name_or_path has its own.")
    if tokenizer.vectors is None:
        for name in ("vectors_vocab_size", "mimick_epochs"):
            if _is_given(tokenizer, name):
                raise ValueError(f"--{name} needs --vectors: name some, or leave it out.")
    elif not (Path(tokenizer.vectors).is_file() or is_transformer(tokenizer.vectors) or _is_package(tokenizer.vectors)):
        raise ValueError(
            f"--vectors {tokenizer.vectors} is neither a file nor an installed package nor a transformer's folder."
        )
    if data.auxiliary_tags_column == "none" and _is_given(training, "auxiliary_loss_weight"):
        raise ValueError("--auxiliary_loss_weight has no effect without --auxiliary_tags_column.")


def _check_metric(task: Task, training: RnnTrainingArguments) -> None:
    if training.metric_for_best_model is None:
        return
    names = {
        name
        for problem_type in ("single_label_classification", "multi_label_classification", "regression")
        for label_names in (["O", "B-X"], ["X"])
        for name in score_names(task, problem_type, label_names)
    }
    if training.metric_for_best_model.removeprefix("eval_") not in names:
        raise ValueError(
            f"--metric_for_best_model {training.metric_for_best_model} is no score of this task: "
            f"{', '.join(sorted(names))}."
        )


def _check_schedule(data: DataArguments | TextArguments, training: RnnTrainingArguments) -> None:
    if training.max_steps > 0 and _is_given(training, "num_train_epochs"):
        raise ValueError("--num_train_epochs has no effect beside --max_steps: leave one of them out.")
    if training.max_steps == 0 or training.max_steps < -1:
        raise ValueError(f"--max_steps must be at least 1, got {training.max_steps}.")
    if str(getattr(training.eval_strategy, "value", training.eval_strategy)) == "no":
        for name in ("metric_for_best_model", "early_stopping_patience"):
            if _is_given(training, name) and getattr(training, name):
                raise ValueError(f"--{name} needs evaluations on validation data: leave it or --eval_strategy no out.")
    strategy = training.train_sampling_strategy
    if training.max_tokens_per_batch is not None:
        if data.streaming:
            raise ValueError("--max_tokens_per_batch needs to know all lengths: use it without --streaming.")
        if strategy != "random":
            raise ValueError(
                f"--train_sampling_strategy {strategy} has no effect beside --max_tokens_per_batch, which gathers "
                "texts of similar length already: leave one of them out."
            )
    if data.streaming and strategy != "random":
        raise ValueError(f"--train_sampling_strategy {strategy} needs to know all rows: use it without --streaming.")
    if strategy == "batch_rebalance":
        raise ValueError(
            "--train_sampling_strategy batch_rebalance is made for padded batches: use --max_tokens_per_batch."
        )


def _check_scheduler(training: RnnTrainingArguments) -> None:
    name = str(getattr(training.lr_scheduler_type, "value", training.lr_scheduler_type))
    if name == "reduce_lr_on_plateau":
        return
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    options: Any = training.lr_scheduler_kwargs or {}
    try:
        get_scheduler(name, optimizer, num_warmup_steps=1, num_training_steps=10, scheduler_specific_kwargs=options)
    except (TypeError, ValueError, KeyError) as error:
        given = json.dumps(mask_options(options))
        raise ValueError(f"--lr_scheduler_type {name} with --lr_scheduler_kwargs {given}: {error}.") from error


def _check_optimizer(training: RnnTrainingArguments) -> None:
    if not training.optim_args:
        return
    name = str(getattr(training.optim, "value", training.optim))

    def settings(pairs: list[str]) -> dict[str, Any]:
        args = copy.copy(training)
        args.optim_args = ",".join(pairs) or None
        return dict(Trainer.get_optimizer_cls_and_kwargs(args)[1])

    pairs = training.optim_args.split(",")
    try:
        in_effect = settings(pairs)
        without_effect = [one for one in pairs if settings([other for other in pairs if other != one]) == in_effect]
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"--optim_args {training.optim_args} does not fit --optim {name}: {error}.") from error
    if without_effect:
        raise ValueError(
            f"--optim_args {without_effect[0]} has no effect on --optim {name}: correct it, or leave it out."
        )


def _check_unfit(training: RnnTrainingArguments) -> None:
    """Refuse options of the Trainer that these models, or the metrics, have no use for."""
    if training.neftune_noise_alpha is not None:
        raise ValueError("--neftune_noise_alpha is for embeddings of transformers: use --embedding_dropout.")
    if training.prediction_loss_only and training.load_best_model_at_end:
        raise ValueError("--prediction_loss_only leaves no scores to choose the best model by: leave it out.")
    if training.label_names is not None and training.label_names != ["labels"]:
        raise ValueError(f"--label_names {' '.join(training.label_names)}: the labels are called labels; leave it out.")


def _check_losses(data: DataArguments, training: RnnTrainingArguments) -> None:
    if training.label_smoothing_factor == 0:
        return
    if training.class_weights is not None:
        raise ValueError(
            "--label_smoothing_factor is for one label a text or word, and without --class_weights: leave one of them "
            "out."
        )
    others = {
        "--rdrop_loss_weight": training.rdrop_loss_weight,
        "--lm_loss_weight": training.lm_loss_weight,
        "--auxiliary_tags_column": named_auxiliary(data),
        "--teacher": training.teacher,
        "--unlabelled_file": data.unlabelled_file,
    }
    for name, value in others.items():
        if value:
            raise ValueError(
                f"--label_smoothing_factor replaces the model's own loss, and with it that of {name}: leave one of "
                "them out."
            )


def _check_teacher(data: DataArguments, training: RnnTrainingArguments) -> None:
    if training.self_training:
        if training.teacher is not None:
            raise ValueError("--self_training makes the teachers, and --teacher names some: leave one of them out.")
        if data.unlabelled_file is None:
            raise ValueError("--self_training has no effect without --unlabelled_file: name one, or leave it out.")
    if training.teacher is not None or training.self_training or chooses_self_training(data, training):
        name = "--teacher" if training.teacher is not None else "--self_training"
        if training.distillation_loss_weight == 0:
            raise ValueError(f"--distillation_loss_weight 0 leaves nothing of the {name}: leave one of them out.")
        if _is_given(training, "unlabelled_loss_weight"):
            raise ValueError(f"--unlabelled_loss_weight has no effect beside {name}: leave it out.")
        return
    if data.unlabelled_file is None and _is_given(training, "unlabelled_loss_weight"):
        raise ValueError("--unlabelled_loss_weight has no effect without --unlabelled_file: name one, or leave it out.")
    for name in ("augment", "distillation_loss_weight", "distillation_temperature"):
        if _is_given(training, name):
            raise ValueError(
                f"--{name} has no effect without --teacher or --self_training: give one of them, or leave it out."
            )


def _check_reports(training: RnnTrainingArguments) -> None:
    reports = [training.report_to] if isinstance(training.report_to, str) else list(training.report_to or [])
    available = get_available_reporting_integrations()
    for name in reports:
        others = f"none{''.join(f', {one}' for one in available)}"
        if name not in ("none", "all", *INTEGRATION_TO_CALLBACK):
            raise ValueError(f"--report_to {name}: transformers cannot report to it. Name one of: {others}.")
        if name in INTEGRATION_TO_CALLBACK and name not in available:
            raise ValueError(
                f"--report_to {name}: its package is not installed. Install it with pip install "
                f"{_PACKAGES.get(name, name)}, or name one of: {others}."
            )


def _is_package(name: str) -> bool:
    return name.isidentifier() and find_spec(name) is not None


def _is_given(arguments: Any, name: str) -> bool:
    """Tell whether an option has another value than its default."""
    default = next(one.default for one in fields(arguments) if one.name == name)
    return default is not MISSING and getattr(arguments, name) != default


__all__ = ["check_arguments", "check_pretraining_arguments"]
