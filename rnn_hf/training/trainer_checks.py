"""What a trainer's model and data say of the task, and which options fit them."""

from collections import Counter
from typing import Any

import datasets
import torch
from torch.utils.data import IterableDataset
from transformers import TrainingArguments
from transformers.trainer_utils import has_length
from transformers.utils import logging

from ..data.collator import DataCollatorWithPacking
from ..data.examples import iterate_column, iterate_examples
from ..data.validation import Task
from ..evaluation.task_metrics import score_names
from ..models.configuration_rnn import RnnConfig
from ..models.losses import infer_problem_type
from ..utils.messages import shown
from .arguments import DefaultMetric

logger = logging.get_logger(__name__)

# How many times as many texts as the rarest label the most frequent one has, where labels are imbalanced.
IMBALANCE = 10
# Schedules of the learning rate that read the metric for the best model.
_ADAPTIVE_SCHEDULES = ("reduce_lr_on_plateau", "greedy")


class TrainerChecksMixin:
    """The checks of [`RnnTrainer`], which run in its constructor as soon as there is a model."""

    model: Any
    args: TrainingArguments
    train_dataset: Any
    eval_dataset: Any
    data_collator: Any
    _scores_task: bool
    _has_given_stopping: bool
    _num_auxiliary_tags: int | None
    _label_counts: list[int] | None
    _unlabelled_dataset: Any
    _get_collator_with_removed_columns: Any

    @property
    def _config(self) -> RnnConfig:
        return self.model.config

    @property
    def _num_labels(self) -> int:
        return len(self._config.label_names)

    @property
    def _task(self) -> Task:
        # Wrappers, of PEFT for instance, pass on what their model has.
        return "token-classification" if hasattr(self.model, "word_starts") else "text-classification"

    def _find_problem_type(self, labels: torch.Tensor | None = None) -> str:
        """Tell what the labels mean, as the model does when it first sees some: of the data, without others."""
        if self._task == "token-classification":
            return "single_label_classification"
        if self._config.problem_type is not None:
            return self._config.problem_type
        if labels is None and self._num_labels > 1:
            batches = map(self._first_batch, [self.train_dataset, *self._eval_datasets().values()])
            labels = next((batch["labels"] for batch in batches if "labels" in batch), None)
        return infer_problem_type(self._num_labels, torch.zeros(1, dtype=torch.long) if labels is None else labels)

    def _eval_datasets(self) -> dict[str, Any]:
        """Return the datasets for evaluation, by the prefixes of their scores."""
        if isinstance(self.eval_dataset, dict):
            return {f"{name}_": dataset for name, dataset in self.eval_dataset.items()}
        return {} if self.eval_dataset is None else {"": self.eval_dataset}

    def _first_batch(self, dataset: Any) -> dict[str, Any]:
        """Make a batch of a dataset's first example, or none."""
        example = None if dataset is None else next(iterate_examples(dataset), None)
        return {} if example is None else self._get_collator_with_removed_columns(self.data_collator)([example])

    def _check_data(self) -> None:
        evaluates = self.args.eval_strategy != "no"
        if isinstance(self.eval_dataset, dict) and not self.eval_dataset and evaluates:
            raise ValueError("eval_dataset is a dictionary without datasets: leave it out, with eval_strategy='no'.")
        used = self._eval_datasets() if evaluates else {}
        for dataset in (self.train_dataset, *used.values()):
            if has_length(dataset) and len(dataset) == 0:
                name = "train_dataset" if dataset is self.train_dataset else "eval_dataset"
                raise ValueError(f"{name} has no example.")
        for prefix, dataset in used.items():
            if has_length(dataset) and "labels" not in self._first_batch(dataset):
                name = f"eval_dataset[{prefix[:-1]!r}]" if prefix else "eval_dataset"
                raise ValueError(f"{name} has no labels to evaluate with: add them, or take eval_strategy='no'.")
        batch_size = self.args.train_batch_size * self.args.world_size
        drops = self.args.dataloader_drop_last and getattr(self.args, "max_tokens_per_batch", None) is None
        is_stream = isinstance(self.train_dataset, IterableDataset)
        if drops and not is_stream and has_length(self.train_dataset) and len(self.train_dataset) < batch_size:
            raise ValueError(
                f"--dataloader_drop_last true leaves nothing of {len(self.train_dataset):,} training examples, which "
                f"fill no batch of {batch_size:,}: take a smaller --per_device_train_batch_size, or leave it out."
            )

    def _check_options(self) -> None:
        """Refuse options that the metrics of the task, or packed batches, have no use for."""
        if self._scores_task and self.args.batch_eval_metrics:
            raise ValueError(
                "--batch_eval_metrics true needs a compute_metrics of your own, with the argument compute_result: "
                "leave it out. Of each batch only the best labels are kept anyway."
            )
        if self._scores_task and not self.args.eval_do_concat_batches:
            raise ValueError(
                "--eval_do_concat_batches false needs a compute_metrics of your own, which reads lists of batches: "
                "leave it out."
            )
        packs = isinstance(self.data_collator, DataCollatorWithPacking) and not self.data_collator.padding
        if packs and "inputs" in self.args.include_for_metrics:
            raise ValueError(
                "--include_for_metrics inputs needs padded batches, and a compute_metrics of your own that reads them: "
                "leave it out, or give data_collator=DataCollatorWithPacking(tokenizer, padding=True)."
            )
        if self._unlabelled_dataset is not None:
            sampling = self.args.train_sampling_strategy
            if getattr(self.args, "max_tokens_per_batch", None) is not None or sampling != "random":
                raise ValueError(
                    "Texts without labels fill half of each batch, drawn at random: leave --max_tokens_per_batch and "
                    "--train_sampling_strategy out, or learn from those texts by --self_training."
                )
            tables = (self.train_dataset, self._unlabelled_dataset)
            if not all(isinstance(one, datasets.Dataset) and len(one) > 0 for one in tables):
                raise ValueError(
                    "Texts without labels are drawn beside those with labels: give both as datasets.Dataset, with "
                    "examples; on the command line, leave --streaming out, or learn from those texts by "
                    "--self_training."
                )
        if self.args.save_strategy == "best" and self.args.eval_strategy == "no":
            raise ValueError("--save_strategy best needs evaluations: take an --eval_strategy other than no.")

    def _check_smoothing(self) -> None:
        """Refuse smoothed labels where their loss, which replaces the model's own, would drop a part of it."""
        if self.args.label_smoothing_factor == 0:
            return
        config = self._config
        if self._task == "token-classification" and config.use_crf:
            raise ValueError(
                "--label_smoothing_factor smooths single labels, but this tagger scores whole sequences of them: leave "
                "it out, or add --use_crf false."
            )
        problem_type = self._find_problem_type()
        if problem_type != "single_label_classification":
            raise ValueError(
                "--label_smoothing_factor is for one label a text or word, but here the problem is "
                f"{problem_type}: leave it out."
            )
        options, objectives = self._objective_options(), getattr(self.model, "objectives", None)
        has_weights = objectives is not None and objectives.class_weights is not None
        if options["class_weights"] is not None or has_weights:
            raise ValueError(
                "--label_smoothing_factor is for one label a text or word, and without --class_weights: leave one of "
                "them out."
            )
        losses = {
            "--rdrop_loss_weight": options["rdrop_loss_weight"],
            "--lm_loss_weight": options["lm_loss_weight"],
            "--auxiliary_loss_weight": options["auxiliary_loss_weight"] if options["num_auxiliary_tags"] else 0,
            "--distillation_loss_weight": options["distillation_loss_weight"],
        }
        if objectives is not None:
            losses |= {f"--{name}": getattr(objectives, name) for name in ("rdrop_loss_weight", "lm_loss_weight")}
        if given := [name for name, weight in losses.items() if weight > 0]:
            raise ValueError(
                f"--label_smoothing_factor replaces the model's own loss, and with it that of {' and '.join(given)}: "
                f"leave it out, or set {' and '.join(f'{name} 0' for name in given)}."
            )

    def _objective_options(self) -> dict[str, Any]:
        """Return the additional objectives that the options and the data ask for; those of a tagger for a tagger."""
        is_tagger = self._task == "token-classification"
        num_tags = self._count_auxiliary_tags() if is_tagger else 0
        return {
            "class_weights": getattr(self.args, "class_weights", None),
            "rdrop_loss_weight": getattr(self.args, "rdrop_loss_weight", 0.0),
            "lm_loss_weight": getattr(self.args, "lm_loss_weight", 0.0) if is_tagger else 0.0,
            "auxiliary_loss_weight": getattr(self.args, "auxiliary_loss_weight", 0.0) if num_tags else 0.0,
            "num_auxiliary_tags": num_tags if getattr(self.args, "auxiliary_loss_weight", 0.0) else 0,
            "distillation_loss_weight": self._distillation_loss_weight(),
            "distillation_temperature": getattr(self.args, "distillation_temperature", 1.0),
            "unlabelled_loss_weight": 0.0 if self._unlabelled_dataset is None else self.args.unlabelled_loss_weight,  # type: ignore[attr-defined]
            "is_tagger": is_tagger,
        }

    def _distillation_loss_weight(self) -> float:
        weight = getattr(self.args, "distillation_loss_weight", 0.0)
        return weight if weight and "teacher_logits" in self._first_batch(self.train_dataset) else 0.0

    def _count_auxiliary_tags(self) -> int:
        if self._num_auxiliary_tags is None:
            has_tags = "auxiliary_tags" in self._first_batch(self.train_dataset)
            columns = iterate_column(self.train_dataset, "auxiliary_tags") if has_tags else ()
            self._num_auxiliary_tags = max((max(tags, default=-1) for tags in columns), default=-1) + 1
        return self._num_auxiliary_tags

    def _choose_metric(self) -> None:
        """Let the best state be chosen by the metric that is named, or by the task's first score."""
        args = self.args
        schedule = getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)
        named = args.metric_for_best_model
        if isinstance(named, DefaultMetric):
            named = None
        needs_one = args.load_best_model_at_end or args.save_strategy == "best" or schedule in _ADAPTIVE_SCHEDULES
        if named is None and not needs_one and not self._has_given_stopping:
            args.metric_for_best_model = None
            return
        known: list[str] | None = None
        if args.prediction_loss_only:
            known = ["loss"]
        elif self._scores_task:
            known = score_names(self._task, self._find_problem_type(), self._config.label_names)
            if named is None and self._task == "text-classification" and known[0] == "accuracy":
                named = self._metric_of_imbalance()
        name = (named or (known or ["loss"])[0]).removeprefix("eval_")
        prefixes = list(self._eval_datasets()) or [""]
        prefix = max((one for one in prefixes if name.startswith(one)), key=len, default="")
        name = name.removeprefix(prefix)
        if known is not None and name not in known:
            reason = ", with --prediction_loss_only" if args.prediction_loss_only else ""
            of_several = f", each with one of the prefixes {', '.join(prefixes)}" if prefixes != [""] else ""
            raise ValueError(
                f"--metric_for_best_model {args.metric_for_best_model} is none of the scores of this task{reason}: "
                f"{', '.join(known)}{of_several}."
            )
        args.metric_for_best_model = f"eval_{prefix or prefixes[0]}{name}"
        if known is not None or named is None or args.greater_is_better is None:
            args.greater_is_better = not name.endswith(("loss", "mse"))
        if schedule in _ADAPTIVE_SCHEDULES:
            given: Any = args.lr_scheduler_kwargs or {}
            args.lr_scheduler_kwargs = {"mode": "max" if args.greater_is_better else "min"} | given

    def _metric_of_imbalance(self) -> str | None:
        """Name macro F1 where some labels are much rarer than others, and say so: accuracy would hardly see them."""
        counts = self._count_labels()
        if len(counts) < 2 or max(counts.values()) <= IMBALANCE * min(counts.values()):
            return None
        ends = [choose(counts, key=counts.__getitem__) for choose in (max, min)]
        names = self._config.label_names
        most, least = (f"{shown(names[index])} has {counts[index]:,}" for index in ends)
        hint = (
            ""
            if getattr(self.args, "class_weights", None)
            else " --class_weights balanced lets all labels count alike."
        )
        if self.args.process_index == 0:
            logger.warning(
                f"Labels are imbalanced: of the training texts, {most} and {least}. The best model is therefore chosen "
                f"by macro F1; --metric_for_best_model accuracy chooses it by that.{hint}"
            )
        return "f1"

    def _count_labels(self) -> dict[int, int]:
        """Count the training texts of each label that has some, where that takes no pass over a stream."""
        if self._label_counts is not None:
            counts = dict(enumerate(self._label_counts))
        elif isinstance(self.train_dataset, datasets.Dataset | list):
            counts = Counter(iterate_column(self.train_dataset, "labels", "label"))
        else:
            return {}
        known = range(self._num_labels)
        return {label: count for label, count in counts.items() if label in known and count > 0}


def check_model(model: Any) -> None:
    """Check that a model is a classifier or a tagger of this package.

    Args:
        model (`nn.Module`): Any model.

    Raises:
        ValueError: It is another one.
    """
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    if model_type != RnnConfig.model_type or not hasattr(model, "classifier"):
        raise ValueError(
            "RnnTrainer trains RnnForSequenceClassification and RnnForTokenClassification, got "
            f"{type(model).__name__}: for other models, use transformers.Trainer."
        )


def diverged(what: str) -> ValueError:
    """Make the error of a training that went wrong in its numbers.

    Args:
        what (`str`): What tells so.

    Example:
    ```python
    >>> from rnn_hf.training.trainer_checks import diverged
    >>> print(diverged("the loss is nan"))
    Training diverged: the loss is nan. Take a smaller --learning_rate, and check the labels of a regression.

    ```
    """
    advice = "Take a smaller --learning_rate, and check the labels of a regression."
    return ValueError(f"Training diverged: {what}. {advice}")


__all__ = ["TrainerChecksMixin", "check_model"]
