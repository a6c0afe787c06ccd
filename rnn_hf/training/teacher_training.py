"""Fine-tune a transformer on a corpus with the stock Trainer, as a teacher for recurrent models."""

import copy
import dataclasses
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.utils import logging

from ..data.collator import DataCollatorWithPacking
from ..data.corpus import Corpus, DataArguments, load_corpus
from ..evaluation.task_metrics import compute_metrics_for, preprocess_logits_for_metrics, score_names
from ..formats.arguments import Task
from ..formats.conll_columns import WORD_NAMES
from ..formats.loading import format_of, load_splits
from ..formats.sniffing import content_format
from ..formats.span_files import find_span_file
from ..text.encoding import max_length_of
from ..utils.display import one_line
from ..utils.files import replace_file
from ..utils.secrets import mask_options
from .checkpoints import ARGUMENTS, RESULTS
from .evaluate import print_results, quieten
from .locks import locked

logger = logging.get_logger(__name__)

AUTO_CLASSES: dict[Task, Any] = {
    "text-classification": AutoModelForSequenceClassification,
    "token-classification": AutoModelForTokenClassification,
}

# Rows that are read in fine-tuning, where that makes 3 to 12 passes; the highest learning rate.
_NUM_READ, _HIGHEST_RATE = 40_000, 3e-4


@dataclass
class TeacherTrainingArguments(TrainingArguments):
    """`TrainingArguments` with defaults that suit the fine-tuning of a transformer."""

    _argument_group_name = "training"

    learning_rate: float | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Peak learning rate. (default: by the model's hidden size)"}
    )
    warmup_steps: float = field(default=0.1, metadata={"help": "Warm-up: steps, or below 1 a share of all steps."})
    weight_decay: float = field(default=0.01, metadata={"help": "Weight decay of AdamW."})
    num_train_epochs: float | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Passes over the training data. (default: by its number of rows, 3 to 12)"}
    )
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Training examples in a batch."})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Evaluation examples in a batch."})
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate: no, steps or epoch."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save: no, steps, epoch or best."})
    logging_strategy: str = field(default="epoch", metadata={"help": "When to log: no, steps or epoch."})
    save_total_limit: int | None = field(default=1, metadata={"help": "Checkpoints to keep."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Keep the best model on validation."})
    report_to: str = field(default="none", metadata={"help": "Where to report: none, tensorboard, wandb …"})

    def __post_init__(self) -> None:
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        if "no" in (self.eval_strategy, self.save_strategy):
            self.load_best_model_at_end = False
        super().__post_init__()


def train_teacher(
    model_name_or_path: str,
    data_arguments: DataArguments,
    training_arguments: TeacherTrainingArguments,
    task: Task | None = None,
    problem_type: str | None = None,
) -> dict[str, float]:
    """Fine-tune a transformer on a corpus, keep the best state on validation, test it, and save a stock checkpoint.

    Args:
        model_name_or_path (`str`): Folder or hub id of a transformer with its tokenizer.
        data_arguments ([`DataArguments`]): The corpus.
        training_arguments ([`TeacherTrainingArguments`]): Options of the stock Trainer.
        task (`str`, *optional*): `"text-classification"` or `"token-classification"`; what [`choose_task`] chooses
            without it.
        problem_type (`str`, *optional*): As in the configuration; seen from the labels without it.

    Returns:
        `dict[str, float]`: results with the prefixes `train_`, `eval_` and, where there is test data, `test_`; also
        written to `all_results.json` in the folder.

    Raises:
        ValueError: A model that cannot be loaded, or data that does not fit.
    """
    quieten(not training_arguments.disable_tqdm)
    args = copy.copy(training_arguments)
    output_dir = Path(str(args.output_dir))
    task = choose_task(data_arguments) if task is None else task
    if task == "token-classification":
        data_arguments = dataclasses.replace(data_arguments, auxiliary_tags_column="none")
    if problem_type is not None and task == "token-classification":
        raise ValueError("--problem_type is for classifiers: each word has one tag. Leave it out.")
    if data_arguments.unlabelled_file is not None:
        raise ValueError("--unlabelled_file is for the student, which the teacher labels it for. Leave it out.")
    if args.push_to_hub:
        raise ValueError("--push_to_hub is for recurrent models: upload the teacher's folder with hf upload.")
    set_seed(args.seed)
    with locked(output_dir):
        needed = ("train",) if args.eval_strategy == "no" else ("train", "validation")
        corpus = load_corpus(data_arguments, task, problem_type, needed=needed)
        tokenizer, model = _load(model_name_or_path, corpus)
        encoded = _encode(corpus, tokenizer, model, data_arguments.max_seq_length)
        names = corpus.label_names + corpus.unseen_names
        settings = choose_settings(corpus.num_rows["train"], getattr(model.config, "hidden_size", None))
        chosen = {name: value for name, value in settings.items() if getattr(args, name) is None}
        for name, value in chosen.items():
            setattr(args, name, value)
        if chosen:
            logger.warning(f"By model and data: {', '.join(f'{name} {value}' for name, value in chosen.items())}.")
        if args.metric_for_best_model in (None, "loss"):
            args.metric_for_best_model = score_names(task, corpus.problem_type, corpus.label_names)[0]
            args.greater_is_better = args.metric_for_best_model != "mse"
        trainer = Trainer(
            model,
            args,
            DataCollatorWithPacking(tokenizer, padding=True),
            train_dataset=encoded["train"],
            eval_dataset=encoded.get("validation"),
            processing_class=tokenizer,
            compute_metrics=compute_metrics_for(task, corpus.problem_type, names, len(corpus.label_names)),
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
        )
        metrics = dict(trainer.train(resume_from_checkpoint=args.resume_from_checkpoint).metrics)
        for split, prefix in (("validation", "eval"), ("test", "test")):
            if split in encoded:
                metrics |= trainer.predict(encoded[split], metric_key_prefix=prefix).metrics or {}
                metrics[f"{prefix}_samples"] = corpus.num_rows[split]
        metrics |= {"num_parameters": model.num_parameters(), "train_samples": corpus.num_rows["train"]}
        metrics = {name: value for name, value in metrics.items() if not name.endswith(("_flos", "_preparation_time"))}
        if args.process_index == 0:
            model.save_pretrained(output_dir)
            tokenizer.save_pretrained(output_dir)
            replace_file(output_dir / ARGUMENTS, json.dumps(mask_options(args.to_dict()), indent=2))
            replace_file(output_dir / RESULTS, json.dumps(metrics, indent=4, sort_keys=True))
            for checkpoint in output_dir.glob("checkpoint-*"):
                shutil.rmtree(checkpoint)
            size = f"{metrics['num_parameters']:,} parameters"
            print_results(metrics, f"{type(model).__name__}, {size}, saved in {output_dir}")
    return metrics


def choose_settings(num_rows: int | None, hidden_size: int | None) -> dict[str, float]:
    """Choose how to fine-tune a transformer.

    Few rows are read more often. The wider a model is, the smaller its steps are.

    Args:
        num_rows (`int`, *optional*): Rows of the training data; `None` where it is not known.
        hidden_size (`int`, *optional*): Of the transformer; `None` where its configuration does not tell.

    Returns:
        `dict[str, float]`: `learning_rate` and `num_train_epochs`.

    Example:
    ```python
    >>> from rnn_hf.training.teacher_training import choose_settings
    >>> choose_settings(num_rows=1_500, hidden_size=384)
    {'learning_rate': 0.0002, 'num_train_epochs': 12.0}
    >>> choose_settings(num_rows=77_000, hidden_size=768)
    {'learning_rate': 5e-05, 'num_train_epochs': 3.0}

    ```
    """
    rate = 5e-5 * (768 / (hidden_size or 768)) ** 2
    epochs = 3 if num_rows is None else round(_NUM_READ / max(num_rows, 1))
    return {"learning_rate": round(min(rate, _HIGHEST_RATE), 6), "num_train_epochs": float(min(max(epochs, 3), 12))}


def choose_task(arguments: DataArguments) -> Task:
    """Choose the task by the data: files of tagged words and a column of lists of words are a tagger's.

    Args:
        arguments ([`DataArguments`]): The corpus.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf.training.teacher_training import DataArguments, choose_task
    >>> with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
    ...     _ = file.write('{"tokens": ["Anna", "lives"], "tags": ["B-PER", "O"]}')
    ...     file.flush()
    ...     choose_task(DataArguments(train_file=file.name))
    'token-classification'

    ```
    """
    file = arguments.train_file
    if arguments.tokens_column is not None or arguments.tags_column is not None:
        return "token-classification"
    if file is not None:
        is_local = Path(file).is_file()
        found = arguments.dataset_format or format_of(file)
        if found is None and is_local:
            found = content_format(file, "token-classification", needs_spans=True)
        if found in ("conll", "conllu") or find_span_file(file) is not None:
            return "token-classification"
    splits, _ = load_splits(arguments)
    row: dict[str, Any] = next(iter(next(iter(splits.values()))), {})
    has_words = any(isinstance(value, list) and name.lower() in WORD_NAMES for name, value in row.items())
    return "token-classification" if has_words else "text-classification"


def _load(name: str, corpus: Corpus) -> tuple[PreTrainedTokenizerBase, Any]:
    options: dict[str, Any] = {"problem_type": corpus.problem_type} if corpus.task == "text-classification" else {}
    if corpus.problem_type == "regression":
        options["num_labels"] = 1
    else:
        options["id2label"] = dict(enumerate(corpus.label_names))
        options["label2id"] = {label: index for index, label in enumerate(corpus.label_names)}
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        # Only the head is new, and transformers would warn of it.
        with _without_warnings():
            model = AUTO_CLASSES[corpus.task].from_pretrained(
                name, ignore_mismatched_sizes=True, use_safetensors=True, trust_remote_code=False, **options
            )
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"The transformer {name} could not be loaded: {one_line(str(error))}") from error
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    return tokenizer, model


class _without_warnings:  # noqa: N801
    def __enter__(self) -> None:
        self.level = logging.get_verbosity()
        logging.set_verbosity_error()

    def __exit__(self, *_: Any) -> None:
        logging.set_verbosity(self.level)


def longest_input(tokenizer: PreTrainedTokenizerBase, config: Any) -> int | None:
    """Return how many tokens a transformer reads, as its tokenizer or its configuration says.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        config (`PreTrainedConfig`): Its configuration.

    Returns:
        `int`, *optional*: `None` where there is no limit.

    Example:
    ```python
    >>> from transformers import BertConfig
    >>> from rnn_hf import train_tokenizer
    >>> from rnn_hf.training.teacher_training import longest_input
    >>> longest_input(train_tokenizer(["a a"], kind="word"), BertConfig(max_position_embeddings=64))
    64

    ```
    """
    limits = (max_length_of(tokenizer), getattr(config, "max_position_embeddings", None))
    return min((limit for limit in limits if isinstance(limit, int) and limit > 0), default=None)


def _encode(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, model: Any, max_seq_length: int | None
) -> dict[str, Any]:
    longest = longest_input(tokenizer, model.config)
    given = [limit for limit in (longest, max_seq_length) if limit is not None]
    encoded: dict[str, Any] = corpus.encode(tokenizer, min(given, default=None))
    if corpus.task == "token-classification" and longest is not None:
        cut: Callable[..., Any] = _cut
        encoded = {name: split.map(cut, fn_kwargs={"longest": longest}) for name, split in encoded.items()}
    return encoded


def _cut(row: dict[str, list[int]], longest: int) -> dict[str, list[int]]:
    return {name: cut_tokens(values, longest) for name, values in row.items()}


def cut_tokens(values: list[int], longest: int) -> list[int]:
    """Cut the tokens of a sentence that is too long, or their labels, and keep the one that ends it.

    Example:
    ```python
    >>> from rnn_hf.training.teacher_training import cut_tokens
    >>> cut_tokens([101, 7, 8, 9, 102], 4)
    [101, 7, 8, 102]

    ```
    """
    return values if len(values) <= longest else [*values[: longest - 1], values[-1]]


__all__ = [
    "AUTO_CLASSES",
    "TeacherTrainingArguments",
    "choose_settings",
    "choose_task",
    "cut_tokens",
    "longest_input",
    "train_teacher",
]
