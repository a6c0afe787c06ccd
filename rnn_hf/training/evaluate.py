"""Score a saved model on a split of a corpus, and print results."""

import json
from pathlib import Path
from typing import Any

import datasets
import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text
from transformers import EvalPrediction, PreTrainedTokenizerBase, TrainingArguments
from transformers.trainer_pt_utils import EvalLoopContainer
from transformers.utils import logging

from ..data.collator import DataCollatorWithPacking
from ..data.corpus import DataArguments, Task, load_corpus
from ..evaluation.rejection import read_texts, score_rejection
from ..evaluation.task_metrics import compute_metrics_for, labels_and_confidences, preprocess_logits_for_metrics
from ..inference.bfloat16 import check_precision, choose_precision
from ..inference.loading import is_tagger, load
from ..inference.predictor import check_rejection
from ..utils.display import printable
from ..utils.files import replace_file
from .precision import agree, set_precision
from .trainer import RnnTrainer

# Columns of a table of results, by the prefixes of measures.
_SPLITS = {"train": "training", "eval": "validation", "test": "test"}
# What the Trainer measures beside, and nobody asks for.
_NOT_SHOWN = ("model_preparation_time",)


def evaluate_checkpoint(
    model_name_or_path: str,
    data_arguments: DataArguments,
    split: str = "test",
    output_dir: str = "outputs/evaluation",
    batch_size: int = 128,
    revision: str | None = None,
    onnx_file_name: str | None = None,
    out_of_scope_file: str | None = None,
    rejection_threshold: float | None = None,
    precision: str | None = None,
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
        out_of_scope_file (`str`, *optional*): Texts with none of the model's labels, in a format of the data: how well
            their low probability tells them from the split is scored too.
        rejection_threshold (`float`, *optional*): The probability below which texts are rejected; without it the
            highest that keeps 95 % of the right predictions.
        precision (`str`, *optional*): What the layers of a model of torch compute with: `"float32"`, also without it,
            `"bfloat16"`, or `"auto"` for the faster one: see [`~rnn_hf.inference.bfloat16.choose_precision`].

    Returns:
        `dict[str, float]`: results with the split's prefix (`eval_` for `"validation"`), and those of
        [`~rnn_hf.evaluation.rejection.rejection_scores`].

    Raises:
        ValueError: A folder that holds no model of this package, data that does not fit, or an output folder that
            cannot be written to; a precision for a graph.
    """
    if batch_size < 1:
        raise ValueError(f"--batch_size must be at least 1, got {batch_size}.")
    if rejection_threshold is not None and out_of_scope_file is None:
        raise ValueError("--rejection_threshold has no effect without --out_of_scope_file: leave it out.")
    if precision is not None and onnx_file_name is not None:
        raise ValueError(f"--precision {precision} is for models of torch: a graph has its own. Leave it out.")
    quieten()
    folder = Path(output_dir)
    try:
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for path in made:
            path.rmdir()  # until there are scores
    except OSError as error:
        raise ValueError(f"--output_dir {output_dir} cannot be written to: {error.strerror}.") from error
    model: Any
    if onnx_file_name is None:
        model, tokenizer = load(model_name_or_path, revision)
    else:
        from ..export.runtime import load as load_onnx

        model, tokenizer = load_onnx(model_name_or_path, file_name=onnx_file_name, revision=revision)
    task: Task = "token-classification" if is_tagger(model) else "text-classification"
    problem_type = model.config.problem_type if task == "text-classification" else None
    if out_of_scope_file is not None:
        check_rejection(model, rejection_threshold)
    corpus = load_corpus(data_arguments, task, problem_type, model.config.label_names, needed=(split,))
    if task == "text-classification":
        model.config.problem_type = corpus.problem_type  # which a model of one's own Trainer may not say
    label_names = corpus.label_names + corpus.unseen_names
    encoded = corpus.encode(tokenizer, data_arguments.max_seq_length)[split]
    prefix = "eval" if split == "validation" else split
    computed_in, kind = None, None  # a graph has its own precision
    if onnx_file_name is None:
        args = TrainingArguments(
            output_dir=output_dir,
            per_device_eval_batch_size=batch_size,
            report_to="none",
            dataloader_pin_memory=torch.cuda.is_available(),
        )
        computed_in = agree(args, choose_precision(precision or "float32", model.config, args.device))
        check_precision(computed_in, model)
        set_precision(args, computed_in == "bfloat16")
        # Without autocast, layers compute in the type of their weights.
        kind = computed_in if computed_in == "bfloat16" else str(model.dtype).removeprefix("torch.")
        trainer = RnnTrainer(model, args, processing_class=tokenizer, label_names=label_names)
        metrics = trainer.predict(encoded, metric_key_prefix=prefix).metrics or {}
        name, is_first = f"{split}_results.json", trainer.is_world_process_zero()
    else:
        calibration = {"temperature": model.config.temperature, "label_thresholds": model.config.label_thresholds}
        compute_metrics = compute_metrics_for(
            task, corpus.problem_type, label_names, len(corpus.label_names), **calibration
        )
        found = compute_metrics(_predict_with_labels(model, tokenizer, encoded, batch_size))
        metrics = {f"{prefix}_{key}": value for key, value in found.items()}
        name, is_first = f"{Path(onnx_file_name).stem}_{split}_results.json", True
    metrics = {key: value for key, value in metrics.items() if not key.endswith(_NOT_SHOWN)}
    metrics[f"{prefix}_samples"] = corpus.num_rows[split]
    if out_of_scope_file is not None:
        if data_arguments.max_seq_length is not None:
            tokenizer.model_max_length = data_arguments.max_seq_length
        found = score_rejection(
            model,
            tokenizer,
            corpus.inputs(split),
            [label_names[index] for index in encoded["labels"]],
            read_texts(out_of_scope_file, data_arguments),
            batch_size=batch_size,
            threshold=rejection_threshold,
            precision=computed_in or "float32",
        )
        metrics |= {f"{prefix}_{key}": value for key, value in found.items()}
    if is_first:
        folder.mkdir(parents=True, exist_ok=True)
        replaced = ", in place of earlier ones" if (folder / name).exists() else ""
        recorded = metrics if kind is None else metrics | {"precision": kind}
        replace_file(folder / name, json.dumps(recorded, indent=4, sort_keys=True))
        print_results(metrics, f"{model_name_or_path} on {split}, {onnx_file_name or kind}")
        print(f"The scores are in {printable(str(folder / name))}{replaced}.")
    return metrics


def print_results(metrics: dict[str, float], title: str) -> None:
    """Print a table of results, a row for each measure and a column for each split.

    Args:
        metrics (`dict[str, float]`): Measures with the prefixes `train_`, `eval_` and `test_`.
        title (`str`): Stands above the table.

    Example:
    ```python
    >>> from rnn_hf.training.evaluate import print_results
    >>> print_results({"test_accuracy": 0.5}, "outputs/pos on test")
    outputs/pos on test
    ┏━━━━━━━━━━┳━━━━━━━━┓
    ┃          ┃ test   ┃
    ┡━━━━━━━━━━╇━━━━━━━━┩
    │ accuracy │ 0.5000 │
    └──────────┴────────┘

    ```
    """
    shown = {key: value for key, value in metrics.items() if not key.endswith(_NOT_SHOWN)}
    columns = [prefix for prefix in _SPLITS if any(key.startswith(f"{prefix}_") for key in shown)]
    table = Table("", *(_SPLITS[column] for column in columns))
    measures = dict.fromkeys(key.split("_", 1)[1] for key in shown if key.split("_", 1)[0] in columns)
    for measure in measures:
        values = [shown.get(f"{column}_{measure}") for column in columns]
        table.add_row(measure.replace("_", " "), *("" if value is None else _formatted(value) for value in values))
    console = Console(soft_wrap=True)
    console.print(Text(printable(title)))
    console.print(table)


def quieten(shows_progress: bool = True) -> None:
    """Show no progress of files that are read and written.

    Args:
        shows_progress (`bool`): Whether that of rows that are prepared stays, beside the Trainer's own.
    """
    datasets.utils.logging.set_verbosity_error()
    logging.disable_progress_bar()
    if not shows_progress:
        datasets.disable_progress_bars()


def _formatted(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"


def _predict_with_labels(model: Any, tokenizer: PreTrainedTokenizerBase, rows: Any, batch_size: int) -> EvalPrediction:
    """Do what `Trainer.predict` does, for a model that is no module of torch."""
    collator = DataCollatorWithPacking(tokenizer, padding=True)
    predictions, references = (EvalLoopContainer(padding_index=-100) for _ in range(2))
    for start in range(0, len(rows), batch_size):
        batch = collator(rows.select(range(start, min(start + batch_size, len(rows)))).to_list())
        labels = batch.pop("labels")
        logits, has_classes = model(**batch).logits, not is_tagger(model) and not labels.is_floating_point()
        predictions.add(
            labels_and_confidences(logits, model.config.temperature)
            if has_classes
            else preprocess_logits_for_metrics(logits, labels)
        )
        references.add(labels)
    return EvalPrediction(predictions.get_arrays(), references.get_arrays())


__all__ = ["evaluate_checkpoint", "print_results", "quieten"]
