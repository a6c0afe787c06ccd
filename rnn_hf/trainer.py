"""The Trainer of recurrent models: what `RnnTrainingArguments` promise, and runs that resume exactly."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.data_loader import prepare_data_loader
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, SequentialSampler
from transformers import EarlyStoppingCallback, PreTrainedTokenizerBase, Trainer, TrainingArguments
from transformers.trainer_utils import has_length, seed_worker

from .batching import SeededLengthGroupedSampler, SizedStream, TokenBatchSampler, set_epoch
from .checkpoints import write_checksums
from .data_checks import Task
from .data_collator import DataCollatorWithPacking
from .modeling_rnn import RnnForTokenClassification
from .task_metrics import compute_metrics_for, preprocess_logits_for_metrics, score_names
from .training_args import RnnTrainingArguments


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
        model ([`RnnForSequenceClassification`] or [`RnnForTokenClassification`]): The model.
        args ([`RnnTrainingArguments`]): The options; those of `TrainingArguments` do too.
        processing_class (`PreTrainedTokenizerBase`, *optional*): The tokenizer.
        label_names (`list[str]`, *optional*): Labels in the order of their ids, where validation data has some that
            the model does not know: those count as errors.
        options: See `transformers.Trainer`. Without a `data_collator`, [`DataCollatorWithPacking`]; without
            `compute_metrics`, those of the task.

    Raises:
        ValueError: A metric for the best model that the task does not have.

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
        names = model.config.label_names if label_names is None else label_names
        self._num_labels = len(model.config.label_names)
        is_tagger = isinstance(model, RnnForTokenClassification)
        task: Task = "token-classification" if is_tagger else "text-classification"
        if options.get("compute_metrics") is None:
            options["compute_metrics"] = lambda prediction: compute_metrics_for(
                task, model.config.problem_type or "single_label_classification", names, self._num_labels
            )(prediction)
            options.setdefault("preprocess_logits_for_metrics", preprocess_logits_for_metrics)
            _choose_metric(args, score_names(task, str(model.config.problem_type), names[: self._num_labels]))
        callbacks = list(options.pop("callbacks", None) or [])
        patience = getattr(args, "early_stopping_patience", 0)
        if patience and args.load_best_model_at_end:
            callbacks.append(EarlyStoppingCallback(patience))
        if isinstance(train_dataset, IterableDataset):
            # Dispatched batches would be cut along their first dimension, which packed batches do not share.
            args.accelerator_config = copy.copy(args.accelerator_config)
            args.accelerator_config.dispatch_batches = False  # type: ignore[union-attr]
        if getattr(args, "class_weights", None) == "balanced" and train_dataset is not None:
            problem_type = "single_label_classification" if is_tagger else str(model.config.problem_type)
            model.config.class_weights = balanced_weights(train_dataset, self._num_labels, problem_type)
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
        dataset = self._remove_unused_columns(self.train_dataset, description="Training")
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
            collate_fn=self.data_collator,
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
        super()._load_callback_state()
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, EarlyStoppingCallback):
                # How long to wait is this run's to say; how long it has waited, the checkpoint's.
                callback.early_stopping_patience = getattr(self.args, "early_stopping_patience", None) or (
                    callback.early_stopping_patience
                )
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
        labels = inputs.get("labels")
        if labels is None or labels.is_floating_point() or not (labels >= self._num_labels).any():
            return super().prediction_step(model, inputs, *args, **kwargs)
        known = labels.masked_fill(labels >= self._num_labels, -100)
        loss, logits, _ = super().prediction_step(model, inputs | {"labels": known}, *args, **kwargs)
        return loss, logits, labels


def balanced_weights(train_dataset: Any, num_labels: int, problem_type: str) -> list[float]:
    """Weigh each label by how rare it is.

    Of one label a text or word, all count as much together as without weights; of several labels a text, a label that
    is there counts as much as its absence.

    Args:
        train_dataset (`datasets.Dataset` or [`SizedStream`]): Encoded examples with `labels`.
        num_labels (`int`): Number of labels.
        problem_type (`str`): As in the configuration.

    Returns:
        `list[float]`: a weight for each label.

    Raises:
        ValueError: A regression has no classes.

    Example:
    ```python
    >>> from datasets import Dataset
    >>> from rnn_hf.trainer import balanced_weights
    >>> balanced_weights(Dataset.from_dict({"labels": [0, 0, 0, 1]}), 2, "single_label_classification")
    [0.6666666666666666, 2.0]

    ```
    """
    if problem_type == "regression":
        raise ValueError("--class_weights balanced is for classes; a regression has none.")
    dataset = train_dataset.stream if isinstance(train_dataset, SizedStream) else train_dataset
    counts, num_rows = np.zeros(num_labels), 0
    for batch in dataset.select_columns(["labels"]).iter(batch_size=1000):
        labels = batch["labels"]
        if problem_type == "multi_label_classification":
            counts += np.asarray(labels).sum(axis=0)
            num_rows += len(labels)
            continue
        flat = np.concatenate([np.atleast_1d(one) for one in labels])
        counts += np.bincount(flat[flat >= 0], minlength=num_labels)
    present = counts > 0
    if problem_type == "multi_label_classification":
        return np.where(present, (num_rows - counts) / np.maximum(counts, 1), 1.0).clip(min=1e-3).tolist()
    weights = np.where(present, counts.sum() / (present.sum() * np.maximum(counts, 1)), 1.0)
    return weights.tolist()


def _lengths(dataset: Any) -> list[int]:
    return [len(ids) for batch in dataset.select_columns(["input_ids"]).iter(1000) for ids in batch["input_ids"]]


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


def _choose_metric(args: TrainingArguments, names: list[str]) -> None:
    """Let the best state be chosen by the task's first score, or by the one that is named."""
    scheduler = getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)
    needs_one = args.load_best_model_at_end or scheduler == "reduce_lr_on_plateau"
    if not needs_one and args.metric_for_best_model is None:
        return
    name = (args.metric_for_best_model or names[0]).removeprefix("eval_")
    if name not in names:
        raise ValueError(
            f"--metric_for_best_model {args.metric_for_best_model} is none of the scores of this task: "
            f"{', '.join(names)}."
        )
    args.metric_for_best_model = f"eval_{name}"
    args.greater_is_better = name not in ("loss", "mse")


__all__ = ["RnnTrainer", "balanced_weights"]
