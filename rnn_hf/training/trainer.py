"""The Trainer of recurrent models: what `RnnTrainingArguments` promise, and runs that resume exactly."""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import EarlyStoppingCallback, EvalPrediction, PreTrainedTokenizerBase, TrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig

from ..data.collator import DataCollatorWithPacking
from ..evaluation.calibration import calibrate
from ..evaluation.task_metrics import compute_metrics_for, labels_and_confidences
from ..objectives.distillation import count_targets
from ..objectives.semi_supervised import DEFAULT_WEIGHT, RampUp
from ..objectives.training_objectives import TrainingObjectives, balanced_weights
from ..optimizers.parameter_groups import GradualUnfreezing, parameter_groups
from ..optimizers.sparse_tables import SparseTables
from ..utils.processor import without_denormals
from .arguments import RnnTrainingArguments
from .batching import set_epoch
from .checkpoints import write_checksums
from .data_loaders import SeededTrainer
from .precision import settle_precision
from .trainer_checks import TrainerChecksMixin, check_model, diverged

# Objectives that need a part of a model's own.
_OBJECTIVES = (
    *("rdrop_loss_weight", "lm_loss_weight", "num_auxiliary_tags", "distillation_loss_weight"),
    "unlabelled_loss_weight",
)


class RnnTrainer(TrainerChecksMixin, SeededTrainer):
    """A `Trainer` for classifiers and taggers.

    Beside what the stock Trainer does, it

    - packs batches, and measures what belongs to the task;
    - adds the objectives that the options ask for (class weights, R-Drop, a language model, auxiliary labels, a
      teacher), as `model.objectives`, which checkpoints hold and saved models do not;
    - does what the fields of [`RnnTrainingArguments`] say: batches by tokens, early stopping, weight
      decay that spares biases and embeddings, a learning rate of their own for pretrained word vectors;
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
            counted; with a column `teacher_logits`, a teacher's are learnt too.
        eval_dataset (*optional*): Examples to evaluate on, or a dictionary of several datasets. Then the first one
            chooses the best model, unless `metric_for_best_model` names another's score (`"eval_b_accuracy"`).
        processing_class (`PreTrainedTokenizerBase`, *optional*): The tokenizer.
        label_names (`list[str]`, *optional*): Labels in the order of their ids, where validation data has some that
            the model does not know: those count as errors.
        num_auxiliary_tags (`int`, *optional*): Number of auxiliary labels; without it they are counted in the column
            `auxiliary_tags` of the training data, where there is one.
        unlabelled_dataset (`datasets.Dataset`, *optional*): Encoded examples without labels, with `labels` of -100 or
            NaN. Each batch has as many of them as of the others, and `unlabelled_loss_weight` says how much they count.
        label_counts (`list[int]`, *optional*): Training texts of each label, by which imbalance is noticed; without it
            they are counted in a `datasets.Dataset` or a list.
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
        num_auxiliary_tags: int | None = None,
        label_counts: list[int] | None = None,
        unlabelled_dataset: Any = None,
        **options: Any,
    ):
        args = RnnTrainingArguments() if args is None else copy.copy(args)
        args.accelerator_config = _without_dispatching(args.accelerator_config)  # type: ignore[assignment]
        settle_precision(args, getattr(model, "config", None))
        self._label_names = label_names
        self._num_auxiliary_tags = num_auxiliary_tags
        self._label_counts = label_counts
        if getattr(args, "unlabelled_loss_weight", 0.0) is None:
            args.unlabelled_loss_weight = DEFAULT_WEIGHT  # type: ignore[attr-defined]
        has_weight = getattr(args, "unlabelled_loss_weight", 0.0) > 0
        self._unlabelled_dataset = unlabelled_dataset if has_weight else None
        self._objectives: Any = None
        self._tables: SparseTables | None = None
        self._trains = False
        self._saves_checkpoint = False
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
        if self._unlabelled_dataset is not None:
            callbacks.append(RampUp())
        if (epochs := getattr(args, "gradual_unfreezing", 0.0)) > 0:
            callbacks.append(GradualUnfreezing(epochs))
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
        self._prepare_task()
        super()._validate_args()

    def _prepare_task(self) -> None:
        """Check model, data and options against each other, and attach the additional objectives."""
        check_model(self.model)
        self._check_data()
        self._check_options()
        self._check_smoothing()
        self._choose_metric()
        options = self._objective_options()
        if options["class_weights"] == "balanced":
            weights = None
            if self.train_dataset is not None:
                weights = balanced_weights(self.train_dataset, self._num_labels, self._find_problem_type())
            options["class_weights"] = weights
        self._objectives = options
        self._attach_objectives(self.model)

    def _attach_objectives(self, model: Any) -> None:
        """Let a model have the additional objectives that are asked for; others that it has stay."""
        if self._objectives["class_weights"] is None and not any(self._objectives[name] for name in _OBJECTIVES):
            return
        model = model.get_base_model() if hasattr(model, "get_base_model") else model  # of the adapters of peft
        model.objectives = TrainingObjectives(model.config, **self._objectives).to(model.device, model.dtype)

    def call_model_init(self, trial: Any = None) -> nn.Module:
        """Make a model with `model_init`, and attach the additional objectives; see the stock Trainer."""
        model: Any = super().call_model_init(trial)
        if self._objectives is not None:
            self._attach_objectives(model)
        return model

    def add_callback(self, callback: Any) -> None:
        """Add a callback; an `EarlyStoppingCallback` takes the place of that of `early_stopping_patience`."""
        if self._has_own_stopping and _stops_early(callback):
            self.remove_callback(EarlyStoppingCallback)
            self._has_own_stopping = False
        super().add_callback(callback)

    def _score(self, prediction: EvalPrediction) -> dict[str, float]:
        config = self._config
        names = config.label_names if self._label_names is None else self._label_names
        calibration: dict[str, Any] = {"temperature": config.temperature, "label_thresholds": config.label_thresholds}
        return compute_metrics_for(self._task, self._find_problem_type(), names, self._num_labels, **calibration)(
            prediction
        )

    def _keep_for_scores(self, logits: Any, labels: Any) -> Any:
        if not logits.isfinite().all():
            raise diverged("the model's logits are no numbers any more")
        # Labels of a regression may be whole numbers, and there may be none.
        if self._find_problem_type(labels) != "single_label_classification":
            return logits
        is_text = self._task == "text-classification"
        return labels_and_confidences(logits, self._config.temperature) if is_text else logits.argmax(dim=-1)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Predict and score, see the stock Trainer; of a classifier's predictions, the best classes are returned."""
        output = super().evaluation_loop(*args, **kwargs)
        has_confidences = self._scores_task and isinstance(output.predictions, tuple)
        return output._replace(predictions=output.predictions[0]) if has_confidences else output

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, at temperature 1 and without thresholds of labels: see the stock Trainer."""
        if self.model is not None:
            self._config.temperature, self._config.label_thresholds = 1.0, None
        if self.model_init is not None:
            self._tables = None
        elif self._tables is not None:
            self._tables.attach()
        self._trains = True
        try:
            with without_denormals():
                return super().train(*args, **kwargs)
        finally:
            self._trains = False
            if self._tables is not None:
                self._tables.detach()

    def calibrate(self, dataset: Any = None) -> str:
        """Calibrate the probabilities of a trained classifier, see [`~rnn_hf.evaluation.calibration.calibrate`].

        Args:
            dataset (*optional*): Encoded validation data; `eval_dataset`, or the first of several, without it.

        Returns:
            `str`: what was done, for people.

        Raises:
            ValueError: A tagger or a regression, or no data.
        """
        if dataset is None:
            dataset = next(iter(self._eval_datasets().values()), None)
        if self._task != "text-classification" or self._find_problem_type() == "regression":
            raise ValueError("The probabilities of a classifier are calibrated, and this model has none: leave it out.")
        if dataset is None:
            raise ValueError("Probabilities are calibrated on validation data: give some, or an eval_dataset.")
        return calibrate(self, dataset)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimizer that `args.optim` names, or that of the argument `optimizer_cls_and_kwargs`.

        Its weight decay spares biases and embeddings. Pretrained word vectors have a learning rate of their own, or
        stay as they are.
        """
        if self.optimizer is None:
            trained: Any = self.model if model is None else model
            groups = parameter_groups(trained, self.args)
            if self.optimizer_cls_and_kwargs is not None:
                optimizer_class, options = self.optimizer_cls_and_kwargs
                self.optimizer = optimizer_class(groups, **options)
                return self.optimizer
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, trained)
            self._tables = SparseTables(trained, self.args, self.callback_handler.callbacks) if self._trains else None
            make = self._tables.make_optimizer if self._tables is not None and self._tables.modules else optimizer_class
            self.optimizer = make(groups, **options)
        return self.optimizer

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        if self._tables is None or self._tables.optimizer is None:
            return super()._clip_grad_norm(model)
        return self._tables.clip(model.parameters(), self.args.max_grad_norm)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        if grad_norm is None and self._tables is not None and self._tables.optimizer is not None:
            grad_norm = self._tables.clip(model.parameters(), float("inf"))
        return super()._get_grad_norm(model, grad_norm)

    def _run_epoch(self, **arguments: Any) -> None:  # type: ignore[override]
        epoch, is_resumed = arguments["epoch"], arguments["resume_from_checkpoint"] is not None
        # A loader that skips the batches before a checkpoint would forget the epoch.
        set_epoch(arguments["train_dataloader"], epoch)
        # The stock Trainer would take a step more before it looks.
        has_ended = self.state.global_step >= self.state.max_steps or self._has_lost_patience()
        if is_resumed and epoch == arguments["epochs_trained"] and has_ended:
            self.control.should_training_stop = True
            return
        super()._run_epoch(**arguments)
        # Before the best weights of all are loaded.
        self._update_tables()

    def _update_tables(self) -> None:
        if self._tables is not None:
            self._tables.bring_up_to_date()

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate the model, see the stock Trainer."""
        self._update_tables()
        return super().evaluate(*args, **kwargs)

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

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> Any:
        if self._unlabelled_dataset is not None:
            batch_samples = [{"labels": batch["labels"].nan_to_num(-100)} for batch in batch_samples]
        if not batch_samples or "teacher_logits" not in batch_samples[0]:
            return super()._get_num_items_in_batch(batch_samples, device)
        # What a teacher has scored counts, with and without a label.
        problem_type: Any = self._find_problem_type()
        counts = [count_targets(batch["teacher_logits"], problem_type) for batch in batch_samples]
        return super()._get_num_items_in_batch([{"labels": torch.zeros(int(sum(counts)))}], device)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._saves_checkpoint = True
        self._update_tables()
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._saves_checkpoint = False
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            checkpoint = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
            # Pickled options, which nothing reads and which could hold secrets.
            (checkpoint / "training_args.bin").unlink(missing_ok=True)
            if checkpoint.is_dir():  # not where newer ones of an earlier run fill --save_total_limit
                write_checksums(checkpoint)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if self._saves_checkpoint and state_dict is None:
            state_dict = self.model.state_dict()  # with the additional objectives
        super()._save(output_dir, state_dict)

    def prediction_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Evaluate a batch; labels that the model does not know count in the metrics, and not in the loss."""
        labels: Any = inputs.get("labels")
        is_class = labels is not None and self._find_problem_type(labels) == "single_label_classification"
        if not is_class or not (labels >= self._num_labels).any():
            return super().prediction_step(model, inputs, *args, **kwargs)
        known = labels.masked_fill(labels >= self._num_labels, -100)
        loss, logits, _ = super().prediction_step(model, inputs | {"labels": known}, *args, **kwargs)
        return loss, logits, labels


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


__all__ = ["RnnTrainer"]
