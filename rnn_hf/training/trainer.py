"""The Trainer of recurrent models: what `RnnTrainingArguments` promise, and runs that resume exactly."""

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from accelerate.data_loader import prepare_data_loader
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, SequentialSampler
from transformers import EarlyStoppingCallback, EvalPrediction, PreTrainedTokenizerBase, Trainer, TrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig
from transformers.trainer_utils import has_length, seed_worker

from ..data.collator import DataCollatorWithPacking
from ..data.validation import Task
from ..models.configuration_rnn import RnnConfig
from ..models.losses import infer_problem_type
from ..utils.messages import shown
from .arguments import DefaultMetric, RnnTrainingArguments
from .batching import (
    SeededLengthGroupedSampler,
    TokenBatchSampler,
    iterate_column,
    iterate_examples,
    set_epoch,
)
from .checkpoints import write_checksums
from .task_metrics import compute_metrics_for, score_names

# Schedules of the learning rate that read the metric for the best model.
_ADAPTIVE_SCHEDULES = ("reduce_lr_on_plateau", "greedy")


class RnnTrainer(Trainer):
    """A `Trainer` for classifiers and taggers.

    Beside what the stock Trainer does, it

    - packs batches, and measures what belongs to the task;
    - does what the fields of [`RnnTrainingArguments`] say: batches by tokens, early stopping, balanced class weights,
      weight decay that spares biases and embeddings, a learning rate of their own for pretrained word vectors;
    - resumes a run, in the middle of an epoch too, to the weights of the uninterrupted run: plain, by tokens, by
      length, of a stream, with workers, in several processes;
    - notes a checksum of each file of a checkpoint, so that damage is found.

    Args:
        model ([`RnnForSequenceClassification`] or [`RnnForTokenClassification`], *optional*): The model; or give
            `model_init`, which makes one.
        args ([`RnnTrainingArguments`]): The options; those of `TrainingArguments` do too. They stay as they are.
        data_collator (`Callable`, *optional*): What makes batches; [`DataCollatorWithPacking`] without it.
        train_dataset (*optional*): Encoded examples with `input_ids` and `labels` (or `label`): a `datasets.Dataset`,
            a dataset of torch, a list of dictionaries, or a stream. With `class_weights="balanced"` their labels are
            counted, and the weights are written into `model.config.class_weights`.
        eval_dataset (*optional*): Examples to evaluate on, or a dictionary of several datasets. Then the first one
            chooses the best model, unless `metric_for_best_model` names another's score (`"eval_b_accuracy"`).
        processing_class (`PreTrainedTokenizerBase`, *optional*): The tokenizer.
        label_names (`list[str]`, *optional*): Labels in the order of their ids, where validation data has some that
            the model does not know: those count as errors.
        options: See `transformers.Trainer`. Without `compute_metrics`, the metrics are those of the task, and the best
            model is that of the best first score; with it, that of the least loss, unless `metric_for_best_model` is
            given. An `EarlyStoppingCallback` among the `callbacks` takes the place of `early_stopping_patience`.

    Raises:
        ValueError: A model of another kind, data without examples or labels, or options that do not fit the model or
            each other, such as a metric that the task does not have.

    Example:
    ```python
    >>> from datasets import Dataset
    >>> from rnn_hf import RnnConfig, RnnForSequenceClassification, RnnTrainer, RnnTrainingArguments, train_tokenizer
    >>> rows = {"text": ["good film", "bad film"] * 8, "labels": [1, 0] * 8}
    >>> tokenizer = train_tokenizer(rows["text"], kind="word")
    >>> data = Dataset.from_dict(rows).map(lambda row: tokenizer(row["text"]), remove_columns="text")
    >>> model = RnnForSequenceClassification(RnnConfig(vocab_size=len(tokenizer), hidden_size=8, num_labels=2))
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     args = RnnTrainingArguments(folder, num_train_epochs=1, max_tokens_per_batch=9, eval_strategy="no")
    ...     trainer = RnnTrainer(model, args, train_dataset=data, processing_class=tokenizer)
    ...     trainer.get_train_dataloader().dataset.num_rows, len(trainer.get_train_dataloader())
    (16, 6)

    ```
    """

    def __init__(
        self,
        model: Any = None,
        args: TrainingArguments | None = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        *,
        label_names: list[str] | None = None,
        **options: Any,
    ):
        args = RnnTrainingArguments() if args is None else copy.copy(args)
        args.accelerator_config = _without_dispatching(args.accelerator_config)  # type: ignore[assignment]
        self._label_names = label_names
        self._class_weights: list[float] | None = None
        self._signature_columns = None  # the stock Trainer sets it too late for the checks of the first batch
        self._scores_task = options.get("compute_metrics") is None
        if self._scores_task:
            options["compute_metrics"] = self._score
            options.setdefault("preprocess_logits_for_metrics", self._keep_for_scores)
        callbacks = list(options.pop("callbacks", None) or [])
        self._has_given_stopping = any(map(_stops_early, callbacks))
        patience = getattr(args, "early_stopping_patience", 0)
        self._has_own_stopping = bool(patience and args.load_best_model_at_end and not self._has_given_stopping)
        if self._has_own_stopping:
            callbacks.append(EarlyStoppingCallback(patience))
        super().__init__(
            model=model,
            args=args,
            data_collator=DataCollatorWithPacking(processing_class) if data_collator is None else data_collator,  # type: ignore[arg-type]
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            callbacks=callbacks,
            **options,
        )

    def _validate_args(self) -> None:
        # Called in the constructor, as soon as it has the model.
        _check_model(self.model)
        self._check_data()
        self._check_options()
        self._check_smoothing()
        self._choose_metric()
        if getattr(self.args, "class_weights", None) == "balanced" and self.train_dataset is not None:
            self._class_weights = balanced_weights(self.train_dataset, self._num_labels, self._find_problem_type())
            self._config.class_weights = self._class_weights
        super()._validate_args()

    def call_model_init(self, trial: Any = None) -> nn.Module:
        """Make a model with `model_init`; see the stock Trainer. Balanced class weights go into each."""
        model: Any = super().call_model_init(trial)
        if self._class_weights is not None:
            model.config.class_weights = self._class_weights
        return model

    def add_callback(self, callback: Any) -> None:
        """Add a callback; an `EarlyStoppingCallback` takes the place of that of `early_stopping_patience`."""
        if self._has_own_stopping and _stops_early(callback):
            self.remove_callback(EarlyStoppingCallback)
            self._has_own_stopping = False
        super().add_callback(callback)

    @property
    def _config(self) -> RnnConfig:
        return self.model.config  # type: ignore[union-attr, return-value]

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
        if getattr(self.args, "class_weights", None) is not None or config.class_weights is not None:
            raise ValueError(
                "--label_smoothing_factor is for one label a text or word, and without --class_weights (class_weights "
                "in the model's configuration): leave one of them out."
            )
        is_tagger = self._task == "token-classification"
        losses = {
            "--rdrop_loss_weight": config.rdrop_loss_weight,
            "--lm_loss_weight": config.lm_loss_weight if is_tagger else 0,
            "--auxiliary_loss_weight": config.auxiliary_loss_weight if self._has_auxiliary_tags() else 0,
        }
        if given := [name for name, weight in losses.items() if weight > 0]:
            raise ValueError(
                f"--label_smoothing_factor replaces the model's own loss, and with it that of {' and '.join(given)}: "
                f"leave it out, or set {' and '.join(f'{name} 0' for name in given)}."
            )

    def _has_auxiliary_tags(self) -> bool:
        if self._task == "text-classification" or self._config.num_auxiliary_tags == 0:
            return False
        return "auxiliary_tags" in self._first_batch(self.train_dataset)

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

    def _score(self, prediction: EvalPrediction) -> dict[str, float]:
        names = self._config.label_names if self._label_names is None else self._label_names
        return compute_metrics_for(self._task, self._find_problem_type(), names, self._num_labels)(prediction)

    def _keep_for_scores(self, logits: Any, labels: Any) -> torch.Tensor:
        if not logits.isfinite().all():
            raise diverged("the model's logits are no numbers any more")
        # Labels of a regression may be whole numbers, and there may be none.
        is_class = self._find_problem_type(labels) == "single_label_classification"
        return logits.argmax(dim=-1) if is_class else logits

    @property
    def _order_seed(self) -> int:
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimizer that `args.optim` names.

        Its weight decay spares biases and embeddings. Pretrained word vectors have a learning rate of their own, or
        stay as they are.
        """
        if self.optimizer is None:
            trained: Any = self.model if model is None else model
            groups = _parameter_groups(trained, self.args)
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, trained)
            self.optimizer = optimizer_class(groups, **options)
        return self.optimizer

    def get_train_dataloader(self) -> DataLoader:
        """Make the batches of training: by tokens with `max_tokens_per_batch`, else as the stock Trainer does."""
        return self._with_own_generator(self._token_batches() or super().get_train_dataloader())

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """Make the batches of evaluation; see the stock Trainer."""
        with self._all_examples():
            return self._with_own_generator(super().get_eval_dataloader(eval_dataset))

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader:
        """Make the batches of prediction; see the stock Trainer."""
        with self._all_examples():
            return self._with_own_generator(super().get_test_dataloader(test_dataset))

    def _get_dataloader(self, dataset: Any, *args: Any, **kwargs: Any) -> DataLoader:
        if self.args.world_size > 1 and not kwargs.get("is_training") and isinstance(dataset, IterableDataset):
            # Else a stream's last batch is filled up with its first examples, which would count twice in the scores.
            dataset = list(dataset)
        return super()._get_dataloader(dataset, *args, **kwargs)

    @contextmanager
    def _all_examples(self) -> Iterator[None]:
        # The stock Trainer would drop the last batch of evaluation too, and with it a part of the scores.
        dropped = self.args.dataloader_drop_last
        self.args.dataloader_drop_last = False
        try:
            yield
        finally:
            self.args.dataloader_drop_last = dropped

    def _with_own_generator(self, loader: Any) -> DataLoader:
        # Otherwise a loader takes its seed from the numbers that dropout takes, whenever an iterator is made.
        loader.base_dataloader.generator = torch.Generator().manual_seed(self._order_seed)
        return loader

    def _token_batches(self) -> DataLoader | None:
        max_tokens = getattr(self.args, "max_tokens_per_batch", None)
        if max_tokens is None:
            return None
        if isinstance(self.train_dataset, IterableDataset):
            raise ValueError("max_tokens_per_batch needs to know all lengths: use it without streaming.")
        dataset: Any = self.train_dataset
        collator = self.data_collator
        if isinstance(dataset, datasets.Dataset):
            dataset = self._remove_unused_columns(dataset, description="Training")
        else:
            collator = self._get_collator_with_removed_columns(collator, description="Training")
        sampler = TokenBatchSampler(
            _lengths(dataset),
            max_tokens,
            self.args.per_device_train_batch_size,
            seed=self._order_seed,
            num_replicas=self.args.world_size,
            rank=self.args.process_index,
        )
        loader: DataLoader = DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_persistent_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            worker_init_fn=partial(
                seed_worker, num_workers=self.args.dataloader_num_workers, rank=self.args.process_index
            ),
        )
        # The sampler gives each process its own batches already.
        return prepare_data_loader(
            loader, self.accelerator.device, num_processes=1, process_index=0, put_on_device=True
        )

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        train_dataset = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length" or not has_length(train_dataset):
            return super()._get_train_sampler(train_dataset)
        return SeededLengthGroupedSampler(
            self._order_seed,
            batch_size=self.args.train_batch_size * self.args.gradient_accumulation_steps,
            lengths=_lengths(train_dataset),
        )

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        # The stock Trainer would sort predictions by length too.
        if self.args.world_size <= 1 and has_length(eval_dataset):
            return SequentialSampler(eval_dataset)
        return None

    def _run_epoch(self, **arguments: Any) -> None:  # type: ignore[override]
        epoch, is_resumed = arguments["epoch"], arguments["resume_from_checkpoint"] is not None
        # A loader that skips the batches before a checkpoint would forget the epoch.
        set_epoch(arguments["train_dataloader"], epoch)
        if is_resumed and epoch == arguments["epochs_trained"] and self._has_lost_patience():
            self.control.should_training_stop = True
            return
        super()._run_epoch(**arguments)

    def _has_lost_patience(self) -> bool:
        return any(
            callback.early_stopping_patience_counter >= callback.early_stopping_patience
            for callback in self.callback_handler.callbacks
            if isinstance(callback, EarlyStoppingCallback)
        )

    def _load_callback_state(self) -> None:
        before = list(filter(_stops_early, self.callback_handler.callbacks))
        super()._load_callback_state()
        after = filter(_stops_early, self.callback_handler.callbacks)
        for given, restored in zip(before, after, strict=True):
            # How long to wait is this run's to say; how long it has waited, the checkpoint's.
            restored.early_stopping_patience = given.early_stopping_patience
            restored.early_stopping_threshold = given.early_stopping_threshold
        if self.state.best_global_step and self.state.best_model_checkpoint is None:
            # The folder may have been moved since.
            best = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.best_global_step}"
            self.state.best_model_checkpoint = str(best) if best.is_dir() else None

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            checkpoint = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
            # Pickled options, which nothing reads and which could hold secrets.
            (checkpoint / "training_args.bin").unlink(missing_ok=True)
            write_checksums(checkpoint)

    def prediction_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Evaluate a batch; labels that the model does not know count in the metrics, and not in the loss."""
        labels: Any = inputs.get("labels")
        is_class = labels is not None and self._find_problem_type(labels) == "single_label_classification"
        if not is_class or not (labels >= self._num_labels).any():
            return super().prediction_step(model, inputs, *args, **kwargs)
        known = labels.masked_fill(labels >= self._num_labels, -100)
        loss, logits, _ = super().prediction_step(model, inputs | {"labels": known}, *args, **kwargs)
        return loss, logits, labels


def balanced_weights(train_dataset: Any, num_labels: int, problem_type: str) -> list[float]:
    """Weigh each label by how rare it is.

    Of one label a text or word, all count as much together as without weights; of several labels a text, a label that
    is there counts as much as its absence.

    Args:
        train_dataset: Encoded examples with `labels` or `label`: a `datasets.Dataset`, a dataset of torch, a list of
            dictionaries, or a stream, which is read to its end.
        num_labels (`int`): Number of labels.
        problem_type (`str`): As in the configuration.

    Returns:
        `list[float]`: a weight for each label.

    Raises:
        ValueError: A regression, which has no classes, or labels that do not fit.

    Example:
    ```python
    >>> from datasets import Dataset
    >>> from rnn_hf.training.trainer import balanced_weights
    >>> balanced_weights(Dataset.from_dict({"labels": [0, 0, 0, 1]}), 2, "single_label_classification")
    [0.6666666666666666, 2.0]

    ```
    """
    if problem_type == "regression":
        raise ValueError("--class_weights balanced is for classes; a regression has none.")
    is_multi_label = problem_type == "multi_label_classification"
    counts, num_rows = np.zeros(num_labels), 0
    for labels in iterate_column(train_dataset, "labels", "label"):
        values = np.asarray(labels)
        num_rows += 1
        if is_multi_label:
            fits = values.shape == (num_labels,) and np.isin(values, (0, 1)).all()
        else:
            values = values.reshape(-1)
            fits = values.dtype.kind in "iu" and (values < num_labels).all()
            values = values[values >= 0] if fits else values
        if not fits:
            wanted = f"{num_labels} numbers 0 or 1" if is_multi_label else f"whole numbers below {num_labels}"
            raise ValueError(
                f"--class_weights balanced counts labels, which must be {wanted}; those of example {num_rows - 1} are "
                f"{shown(labels)}."
            )
        counts += values if is_multi_label else np.bincount(values, minlength=num_labels)
    present = counts > 0
    if is_multi_label:
        return np.where(present, (num_rows - counts) / np.maximum(counts, 1), 1.0).clip(min=1e-3).tolist()
    weights = np.where(present, counts.sum() / (max(present.sum(), 1) * np.maximum(counts, 1)), 1.0)
    return weights.tolist()


def diverged(what: str) -> ValueError:
    """Make the error of a training that went wrong in its numbers.

    Args:
        what (`str`): What tells so.

    Example:
    ```python
    >>> from rnn_hf.training.trainer import diverged
    >>> print(diverged("the loss is nan"))
    Training diverged: the loss is nan. Take a smaller --learning_rate, and check the labels of a regression.

    ```
    """
    advice = "Take a smaller --learning_rate, and check the labels of a regression."
    return ValueError(f"Training diverged: {what}. {advice}")


def _check_model(model: Any) -> None:
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    if model_type != RnnConfig.model_type or not hasattr(model, "classifier"):
        raise ValueError(
            "RnnTrainer trains RnnForSequenceClassification and RnnForTokenClassification, got "
            f"{type(model).__name__}: for other models, use transformers.Trainer."
        )


def _without_dispatching(config: Any) -> AcceleratorConfig:
    """Copy the options of accelerate, with batches that each process makes itself.

    Dispatched batches would be cut along their first dimension, which packed batches do not share.
    """
    if isinstance(config, str) and config.lstrip().startswith("{"):
        config = json.loads(config)
    if isinstance(config, str):
        config = AcceleratorConfig.from_json_file(config)
    elif config is None or isinstance(config, dict):
        config = AcceleratorConfig(**(config or {}))
    config = copy.deepcopy(config)
    config.dispatch_batches = False
    return config


def _stops_early(callback: Any) -> bool:
    kind = callback if isinstance(callback, type) else type(callback)
    return issubclass(kind, EarlyStoppingCallback)


def _lengths(dataset: Any) -> list[int]:
    return [len(ids) for ids in iterate_column(dataset, "input_ids")]


def _parameter_groups(model: nn.Module, args: TrainingArguments) -> list[dict[str, Any]]:
    vectors_rate = getattr(args, "vectors_learning_rate", 0.0)
    decayed: dict[str, Any] = {"params": [], "weight_decay": args.weight_decay}
    spared: dict[str, Any] = {"params": [], "weight_decay": 0.0}
    vectors: dict[str, Any] = {"params": [], "weight_decay": 0.0, "lr": vectors_rate}
    for name, parameter in model.named_parameters():
        if "static_embeddings" in name:
            parameter.requires_grad_(vectors_rate > 0)
            group = vectors
        else:
            spare = name.endswith("embeddings.weight") or parameter.dim() < 2
            group = spared if spare else decayed
        if parameter.requires_grad:
            group["params"].append(parameter)
    return [group for group in (decayed, spared, vectors) if group["params"]]


__all__ = ["RnnTrainer", "balanced_weights", "diverged"]
