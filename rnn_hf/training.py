"""Train and evaluate classifiers and taggers with the stock `Trainer`."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import (
    EarlyStoppingCallback,
    EvalPrediction,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_pt_utils import EvalLoopContainer
from transformers.utils import logging

from .building import build
from .crf_rnn import tagging_scheme
from .data import Corpus, DataArguments, Task, load_corpus
from .data_collator import DataCollatorWithPacking, TokenBudgetDataset
from .hub import check_access, push_folder
from .metrics import F1, Accuracy, ExactMatch, SpanF1, SquaredError, TokenAccuracy
from .model_card import write_model_card
from .modeling_rnn import RnnForTokenClassification
from .prediction import RnnModelWithHead, is_tagger, load
from .run_record import record_run
from .training_args import RnnTrainingArguments, TokenizerArguments

logger = logging.get_logger(__name__)


def train(
    task: Task,
    data_arguments: DataArguments,
    tokenizer_arguments: TokenizerArguments,
    config_arguments: Any,
    training_arguments: RnnTrainingArguments,
) -> dict[str, float]:
    """Train a model on a corpus, keep the best on validation, test it, and save it.

    With `eval_strategy="no"`, nothing is held out of the training data, and the last state is kept.

    The output folder holds `config.json`, `model.safetensors`, the code, the tokenizer, `all_results.json`, the
    arguments in `training_args.json`, the model card with what it is made from, and the Trainer's `checkpoint-*`
    folders.

    Args:
        task (`str`): `"text-classification"` or `"token-classification"`.
        data_arguments ([`DataArguments`]): The corpus.
        tokenizer_arguments ([`TokenizerArguments`]): The tokenizer, or a checkpoint to fine-tune.
        config_arguments (`ConfigArguments`): Fields of the configuration to override.
        training_arguments ([`RnnTrainingArguments`]): Everything else.

    Returns:
        `dict[str, float]`: results with the prefixes `train_`, `eval_` and, where there is test data, `test_`.

    Raises:
        ValueError: For data, arguments or folders that do not fit; the message says what to do.
    """
    args = training_arguments
    output_dir = Path(str(args.output_dir))
    checkpoint = _checkpoint_to_resume(output_dir, args.resume_from_checkpoint)
    _check_arguments(data_arguments, args)
    push_to, args.push_to_hub = _repository(args), False
    _quieten()
    set_seed(args.seed)
    with args.main_process_first(desc="loading the corpus"):
        needed = ("train",) if args.eval_strategy == "no" else ("train", "validation")
        corpus = load_corpus(data_arguments, task, config_arguments.problem_type, needed=needed)
        trained_already = checkpoint is not None or args.process_index > 0
        tokenizer, model = build(corpus, tokenizer_arguments, config_arguments, output_dir, trained_already)
        encoded = corpus.encode(tokenizer, data_arguments.max_seq_length)

    if args.label_smoothing_factor > 0 and model.config.use_crf:
        raise ValueError(
            "--label_smoothing_factor smooths single labels, but this tagger scores whole sequences of them: leave it "
            "out, or add --use_crf false."
        )
    if args.label_smoothing_factor > 0 and (args.class_weights or corpus.problem_type != "single_label_classification"):
        raise ValueError("--label_smoothing_factor is for one label a text or word, and without --class_weights.")
    if args.class_weights == "balanced":
        model.config.class_weights = _balanced_weights(encoded["train"], len(corpus.label_names), corpus.problem_type)
    _set_schedule(corpus, args)
    given_arguments = args.to_json_string()  # before the Trainer is told of batches by tokens
    trainer = _trainer(model, tokenizer, corpus.label_names, args, encoded.get("train"), encoded.get("validation"))
    result = trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.is_world_process_zero():
        model.save_pretrained(output_dir)
        tokenizer.save_pretrained(output_dir)
        (output_dir / "training_args.json").write_text(given_arguments, encoding="utf-8")
    trainer.save_state()

    num_parameters = model.num_parameters()
    metrics = {key: value for key, value in result.metrics.items() if key != "total_flos"}
    metrics |= {"num_parameters": num_parameters, "train_samples": corpus.num_rows["train"]}
    predictions = {}
    for split, prefix in (("validation", "eval"), ("test", "test")):
        if split in encoded:
            predictions[split] = trainer.predict(encoded[split], metric_key_prefix=prefix)
            metrics |= predictions[split].metrics or {}
            metrics[f"{prefix}_samples"] = corpus.num_rows[split]
    trainer.save_metrics("all", metrics, combined=False)
    if trainer.is_world_process_zero():
        print_results(metrics, f"{model.__class__.__name__}, {num_parameters:,} parameters, saved in {output_dir}")
        base_model = tokenizer_arguments.model_name_or_path
        record_run(output_dir, corpus, data_arguments, base_model, args.device, args.world_size, predictions)
        write_model_card(output_dir)
        if push_to is not None:
            private, revision, token = bool(args.hub_private_repo), args.hub_revision, args.hub_token
            print(push_folder(output_dir, push_to, private=private, revision=revision, token=token))
    return metrics


def evaluate_checkpoint(
    model_name_or_path: str,
    data_arguments: DataArguments,
    split: str = "test",
    output_dir: str = "outputs/evaluation",
    batch_size: int = 128,
    revision: str | None = None,
    onnx_file_name: str | None = None,
) -> dict[str, float]:
    """Score a saved model on a split of a corpus.

    Args:
        model_name_or_path (`str`): Folder or hub id of the model.
        data_arguments ([`DataArguments`]): The corpus.
        split (`str`): `"train"`, `"validation"` or `"test"`.
        output_dir (`str`): Folder for `{split}_results.json`, of a graph `{graph}_{split}_results.json`; in the model's
            folder `onnx`, the model card reads it.
        batch_size (`int`): Examples in a batch.
        revision (`str`, *optional*): Branch, tag or commit on the hub.
        onnx_file_name (`str`, *optional*): An exported graph in the folder, to run it instead of the weights.

    Returns:
        `dict[str, float]`: results with the split's prefix (`eval_` for `"validation"`).

    Raises:
        ValueError: A folder that holds no model of this package, or data that does not fit.
    """
    _quieten()
    model: Any
    if onnx_file_name is None:
        model, tokenizer = load(model_name_or_path, revision)
    else:
        from .onnx_model import load as load_onnx

        model, tokenizer = load_onnx(model_name_or_path, file_name=onnx_file_name, revision=revision)
    task: Task = "token-classification" if is_tagger(model) else "text-classification"
    problem_type = model.config.problem_type if task == "text-classification" else None
    label_names = model.config.label_names
    corpus = load_corpus(data_arguments, task, problem_type, label_names, needed=(split,))
    if task == "text-classification":
        model.config.problem_type = corpus.problem_type  # which a model of one's own Trainer may not say
    encoded = corpus.encode(tokenizer, data_arguments.max_seq_length)
    prefix = "eval" if split == "validation" else split
    title = f"{model_name_or_path} on {split}"
    if onnx_file_name is not None:
        compute_metrics = compute_metrics_for(task, corpus.problem_type, label_names)
        found = compute_metrics(_predict_with_labels(model, tokenizer, encoded[split], batch_size))
        metrics = {f"{prefix}_{name}": value for name, value in found.items()}
        metrics[f"{prefix}_samples"] = corpus.num_rows[split]
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        path = Path(output_dir) / f"{Path(onnx_file_name).stem}_{split}_results.json"
        path.write_text(json.dumps(metrics, indent=4), encoding="utf-8")
        print_results(metrics, f"{title}, {onnx_file_name}")
        return metrics
    args = TrainingArguments(
        output_dir=output_dir,
        per_device_eval_batch_size=batch_size,
        report_to="none",
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    trainer = _trainer(model, tokenizer, label_names, args)
    metrics = trainer.predict(encoded[split], metric_key_prefix=prefix).metrics or {}
    metrics[f"{prefix}_samples"] = corpus.num_rows[split]
    trainer.save_metrics(split, metrics, combined=False)
    if trainer.is_world_process_zero():
        print_results(metrics, title)
    return metrics


def _predict_with_labels(
    model: Any, tokenizer: PreTrainedTokenizerBase, rows: datasets.Dataset, batch_size: int
) -> EvalPrediction:
    """Do what `Trainer.predict` does, for a model that is no module of torch."""
    collator = DataCollatorWithPacking(tokenizer, padding=True)
    predictions, references = (EvalLoopContainer(padding_index=-100) for _ in range(2))
    for start in range(0, len(rows), batch_size):
        batch = collator(rows.select(range(start, min(start + batch_size, len(rows)))).to_list())
        labels = batch.pop("labels")
        predictions.add(preprocess_logits_for_metrics(model(**batch).logits, labels))
        references.add(labels)
    return EvalPrediction(predictions.get_arrays(), references.get_arrays())


def compute_metrics_for(
    task: Task, problem_type: str, label_names: list[str]
) -> Callable[[EvalPrediction], dict[str, float]]:
    """Choose the metrics of a task.

    Args:
        task (`str`): `"text-classification"` or `"token-classification"`.
        problem_type (`str`): As in the configuration.
        label_names (`list[str]`): Labels in the order of their ids.

    Returns:
        A function for `Trainer(compute_metrics=...)` that reads predictions made by
        [`preprocess_logits_for_metrics`]: accuracy and macro F1 of a classifier; exact match, macro and micro
        F1 of several labels at once; error and r² of a regression; token accuracy of a tagger, with span F1
        where the labels are IOB2 or IOBES, else macro F1.
    """
    if task == "token-classification":
        return _SpanMetrics(label_names) if tagging_scheme(label_names) else _TagMetrics(label_names)
    return {
        "single_label_classification": _class_metrics,
        "multi_label_classification": _multi_label_metrics,
        "regression": _regression_metrics,
    }[problem_type]


def preprocess_logits_for_metrics(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Keep of the logits only what metrics read, so that evaluation takes little memory.

    Args:
        logits (`torch.FloatTensor` of shape `[..., num_labels]`): What the model returns.
        labels (`torch.Tensor`): Class ids, or floats of the logits' shape, or of shape `[batch_size]`.

    Returns:
        `torch.Tensor`: the best class for class ids; for floats, the logits.
    """
    return logits if labels.is_floating_point() else logits.argmax(dim=-1)


def print_results(metrics: dict[str, float], title: str) -> None:
    """Print a table of results, a row for each measure and a column for each split."""
    columns = [prefix for prefix in ("train", "eval", "test") if any(key.startswith(f"{prefix}_") for key in metrics)]
    names = {"train": "training", "eval": "validation", "test": "test"}
    table = Table("", *(names[column] for column in columns))
    measures = dict.fromkeys(key.split("_", 1)[1] for key in metrics if key.split("_", 1)[0] in columns)
    for measure in measures:
        values = [metrics.get(f"{column}_{measure}") for column in columns]
        table.add_row(measure.replace("_", " "), *("" if value is None else _formatted(value) for value in values))
    console = Console(soft_wrap=True)
    console.print(title)
    console.print(table)


def _formatted(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"


def _check_arguments(data_arguments: DataArguments, args: RnnTrainingArguments) -> None:
    if args.max_tokens_per_batch is not None and data_arguments.streaming:
        raise ValueError("--max_tokens_per_batch needs to know all lengths: use it without --streaming.")
    if data_arguments.streaming:
        # Dispatched batches would be cut along their first dimension, which packed batches do not share.
        args.accelerator_config.dispatch_batches = False  # type: ignore[union-attr]


def _repository(args: RnnTrainingArguments) -> str | None:
    """Return where the model shall be pushed when it is trained, after checking that it may be.

    The Trainer's own pushing would replace the card by its own, and add pickled arguments.
    """
    if not args.push_to_hub:
        return None
    if args.hub_strategy in ("checkpoint", "all_checkpoints"):
        raise ValueError(
            "--hub_strategy checkpoint and all_checkpoints would upload pickled states of optimizers: leave it out. "
            "The model is pushed once, at the end of training."
        )
    repo_id = args.hub_model_id or Path(str(args.output_dir)).resolve().name
    if args.process_index == 0:
        check_access(repo_id, token=args.hub_token)
    return repo_id


def _quieten() -> None:
    datasets.utils.logging.set_verbosity_error()
    logging.disable_progress_bar()  # of files read and written; the Trainer's own stays


def _checkpoint_to_resume(output_dir: Path, resume: str | None) -> str | None:
    """Find the checkpoint to go on from, and refuse to mix two runs in one folder."""
    folders = sorted(output_dir.glob("checkpoint-*"), key=lambda folder: int(folder.name.rpartition("-")[2]))
    complete = [folder for folder in folders if _is_complete(folder)]
    if resume is None or resume.lower() == "false":
        if folders:
            raise ValueError(
                f"{output_dir} holds checkpoints of an earlier run. Go on with it by --resume_from_checkpoint true, "
                "or name another --output_dir, or remove the folder."
            )
        return None
    if resume.lower() != "true":
        if not _is_complete(Path(resume)):
            raise ValueError(f"--resume_from_checkpoint {resume} is no complete checkpoint of a run.")
        return resume
    if not complete:
        logger.warning(f"{output_dir} holds no complete checkpoint yet: training starts from the beginning.")
        return None
    logger.warning(f"Training goes on from {complete[-1]}.")
    return str(complete[-1])


def _is_complete(folder: Path) -> bool:
    # The Trainer writes its state last, so a run that was killed while saving leaves a folder without it.
    try:
        json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def _set_schedule(corpus: Corpus, args: RnnTrainingArguments) -> None:
    """Count the steps of a stream, whose length the Trainer cannot ask for."""
    if isinstance(corpus.splits["train"], datasets.Dataset):
        return
    examples = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    steps = math.ceil(corpus.num_rows["train"] / examples)
    if args.max_steps <= 0:
        args.max_steps = math.ceil(steps * args.num_train_epochs)
    for kind in ("eval", "save", "logging"):
        if getattr(args, f"{kind}_strategy") == "epoch":
            setattr(args, f"{kind}_strategy", type(args.eval_strategy)("steps"))
            setattr(args, f"{kind}_steps", steps)


def _trainer(
    model: RnnModelWithHead,
    tokenizer: PreTrainedTokenizerBase,
    label_names: list[str],
    args: TrainingArguments,
    train_dataset: Any = None,
    eval_dataset: Any = None,
) -> Trainer:
    is_tagger = isinstance(model, RnnForTokenClassification)
    task: Task = "token-classification" if is_tagger else "text-classification"
    callbacks: list[TrainerCallback] = []
    if isinstance(args, RnnTrainingArguments):
        if args.load_best_model_at_end:
            args.metric_for_best_model = args.metric_for_best_model or _best_metric(model, label_names)
            args.greater_is_better = not args.metric_for_best_model.endswith(("loss", "mse"))
            if args.early_stopping_patience:
                callbacks.append(EarlyStoppingCallback(args.early_stopping_patience))
        if args.max_tokens_per_batch is not None:
            train_dataset = TokenBudgetDataset(
                train_dataset,
                args.max_tokens_per_batch,
                args.per_device_train_batch_size,
                group_by_length=True,
                seed=args.data_seed if args.data_seed is not None else args.seed,
            )
            args.per_device_train_batch_size = 1
    if isinstance(train_dataset, datasets.IterableDataset):
        train_dataset = train_dataset.shuffle(seed=args.seed, buffer_size=10_000)
    return Trainer(
        model=model,
        args=args,
        optimizers=(_optimizer(model, args) if train_dataset is not None else None, None),
        data_collator=DataCollatorWithPacking(tokenizer),
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        processing_class=tokenizer,
        compute_metrics=compute_metrics_for(task, str(model.config.problem_type), label_names),
        preprocess_logits_for_metrics=preprocess_logits_for_metrics,
        callbacks=callbacks,
    )


def _optimizer(model: RnnModelWithHead, args: TrainingArguments) -> torch.optim.Optimizer:
    """Make the optimizer that `--optim` names.

    Its weight decay spares biases and embeddings. Vectors from outside have a learning rate of their own, or stay.
    """
    vectors_rate = args.vectors_learning_rate if isinstance(args, RnnTrainingArguments) else 0.0
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
    optimizer_class, options = Trainer.get_optimizer_cls_and_kwargs(args, model)
    return optimizer_class([group for group in (decayed, spared, vectors) if group["params"]], **options)


def _balanced_weights(train_dataset: Any, num_labels: int, problem_type: str) -> list[float]:
    """Weigh each label by how rare it is.

    Of one label a text or word, all count as much together as without weights; of several labels a text, a label that
    is there counts as much as its absence.
    """
    if problem_type == "regression":
        raise ValueError("--class_weights balanced is for classes; a regression has none.")
    counts, num_rows = np.zeros(num_labels), 0
    for batch in train_dataset.select_columns(["labels"]).iter(batch_size=1000):
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


def _best_metric(model: RnnModelWithHead, label_names: list[str]) -> str:
    if isinstance(model, RnnForTokenClassification):
        return "eval_f1" if tagging_scheme(label_names) else "eval_accuracy"
    return {"multi_label_classification": "eval_f1", "regression": "eval_mse"}.get(
        str(model.config.problem_type), "eval_accuracy"
    )


def _class_metrics(prediction: EvalPrediction) -> dict[str, float]:
    values = {"predictions": prediction.predictions, "references": prediction.label_ids}
    return Accuracy().compute(**values) | F1().compute(**values)


def _multi_label_metrics(prediction: EvalPrediction) -> dict[str, float]:
    predictions = (np.asarray(prediction.predictions) > 0).astype(int).tolist()
    values = {"predictions": predictions, "references": np.asarray(prediction.label_ids).astype(int).tolist()}
    micro = F1("multilabel").compute(**values, average="micro")["f1"]
    return F1("multilabel").compute(**values) | {"f1_micro": micro} | ExactMatch().compute(**values)


def _regression_metrics(prediction: EvalPrediction) -> dict[str, float]:
    predictions, references = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
    return SquaredError().compute(predictions=predictions.reshape(-1), references=references.reshape(-1))


class _TagMetrics:
    def __init__(self, label_names: list[str]):
        self.label_names = np.array(label_names)

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        labelled = np.asarray(prediction.label_ids) != -100
        flat = {
            "predictions": np.asarray(prediction.predictions)[labelled],
            "references": np.asarray(prediction.label_ids)[labelled],
        }
        return Accuracy().compute(**flat) | F1().compute(**flat)


class _SpanMetrics(_TagMetrics):
    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        predictions, references = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
        tags: dict[str, list[list[str]]] = {"predictions": [], "references": []}
        for predicted, expected in zip(predictions, references, strict=True):
            labelled = expected != -100
            tags["predictions"].append(self.label_names[predicted[labelled]].tolist())
            tags["references"].append(self.label_names[expected[labelled]].tolist())
        return TokenAccuracy().compute(**tags) | SpanF1().compute(**tags)


__all__ = [
    "compute_metrics_for",
    "evaluate_checkpoint",
    "preprocess_logits_for_metrics",
    "print_results",
    "train",
]
