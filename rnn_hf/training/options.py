"""Read the options of a training run from a command line, and from the file that it may name."""

import copy
import dataclasses
import json
import sys
import typing
from argparse import SUPPRESS, Action, Namespace
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser, TrainingArguments
from transformers.hf_argparser import string_to_bool
from transformers.trainer_pt_utils import AcceleratorConfig

from ..data.text_corpus import TextArguments
from ..formats.arguments import MODELS_OF, DataArguments, Task
from ..utils.command_line import CommandParser, fail
from .arguments import ConfigArguments, RnnTrainingArguments, TokenizerArguments

# Options of `TrainingArguments` that the short help shows too.
_OFTEN_USED = (
    "output_dir",
    "max_steps",
    "gradient_accumulation_steps",
    "seed",
    "save_steps",
    "eval_steps",
    "logging_steps",
    "resume_from_checkpoint",
    "push_to_hub",
    "hub_model_id",
    "hub_private_repo",
    "dataloader_num_workers",
)
# Options that take JSON, or the name of a file with JSON.
_JSON_OPTIONS = (
    "accelerator_config",
    "deepspeed",
    "fsdp_config",
    "gradient_checkpointing_kwargs",
    "liger_kernel_config",
    "lr_scheduler_kwargs",
)


class DataclassParser(CommandParser, HfArgumentParser):
    """A parser of the fields of dataclasses, with a short help and, where that leaves some out, `--help_all`.

    The help is grouped by the dataclasses' `_argument_group_name`. A field whose metadata has `task` is an option of
    that task alone. `--debug` shows tracebacks, as in all commands.

    Args:
        dataclass_types: Dataclasses, whose fields become options.
        task (`str`, *optional*): `"text-classification"` or `"token-classification"`; the options of both without it.
        options: See `argparse.ArgumentParser`.

    Example:
    ```python
    >>> from rnn_hf.formats.arguments import DataArguments
    >>> from rnn_hf.training.options import DataclassParser
    >>> parser = DataclassParser(DataArguments, task="token-classification")
    >>> data, _ = parser.parse_args_into_dataclasses(["--tags_column", "ner"])
    >>> data.tags_column
    'ner'

    ```
    """

    def __init__(self, dataclass_types: Any, task: Task | None = None, **options: Any):
        self._task = task
        self._of_other_task: dict[str, Task] = {}
        self._left_out: dict[Action, str | None] = {}
        super().__init__(dataclass_types, **options)
        if self._left_out:
            self.add_argument("--help_all", "--help-all", action=_HelpAll, nargs=0, help="show all options and exit")

    @property
    def option_names(self) -> set[str]:
        """Names of the fields that are options, those of the other task too."""
        names = {one.name for dtype in self.dataclass_types for one in dataclasses.fields(dtype)}
        return names & ({action.dest for action in self._actions} | self._of_other_task.keys())

    def _add_dataclass_arguments(self, dtype: Any) -> None:
        title = dtype._argument_group_name
        group: Any = next((one for one in self._action_groups if one.title == title), None)
        group = group or self.add_argument_group(title)
        hints = typing.get_type_hints(dtype)
        for one in dataclasses.fields(dtype):
            task: Any = one.metadata.get("task") or self._task
            if one.name == "label_names" and issubclass(dtype, TrainingArguments):
                continue  # names of inputs, which has the name of an option of the data
            # `TrainingArguments.debug`, for mixed precision and TPUs, has the name of the option of all commands.
            if task != self._task and self._task is not None:
                self._of_other_task[one.name] = task
            if one.name in ("debug", *self._of_other_task):
                self.set_defaults(**{one.name: one.default})
            elif one.init:
                option: Any = copy.copy(one)
                option.type = hints[one.name]
                option.metadata = {key: value for key, value in one.metadata.items() if key != "task"}
                if task != self._task:
                    option.metadata["help"] = f"{MODELS_OF[task].capitalize()}: {option.metadata['help']}"
                actions = len(self._actions)
                self._parse_dataclass_field(group, option)
                if self._actions[actions].type is string_to_bool:
                    self._actions[actions].metavar = "BOOL"
                is_shown = one.name in dtype.__annotations__ or one.name in _OFTEN_USED
                # After an option that is true stands one that makes it false.
                for action in self._actions[actions + is_shown :]:
                    self._left_out[action], action.help = action.help, SUPPRESS

    def refuse_unknown(self, words: Sequence[str]) -> None:
        """Name what no option takes, and exit."""
        for word in words:
            name = word.partition("=")[0].removeprefix("--").replace("-", "_")
            if word.startswith("--") and name in self._of_other_task:
                fail(f"--{name} is an option of {MODELS_OF[self._of_other_task[name]]}: leave it out.", code=2)
        super().refuse_unknown(words)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Read a command line; see `argparse.ArgumentParser`."""
        return super().parse_known_args(args, _Namespace() if namespace is None else namespace)

    def parse_args_into_dataclasses(self, args: Any = None, *rest: Any, **options: Any) -> tuple[Any, ...]:
        """Read a command line; see `HfArgumentParser`. Unknown options are named in one line."""
        self.parse_args(args)
        return super().parse_args_into_dataclasses(args, *rest, **options)

    def print_help_of_all(self) -> None:
        """Print the help with every option."""
        for action, text in self._left_out.items():
            action.help = text
        self.print_help()


class _Namespace(Namespace):
    """Options, of which two dataclasses may have one of the same name: the first takes it."""

    def __delattr__(self, name: str) -> None:
        self.__dict__.pop(name, None)


class _HelpAll(Action):
    def __call__(self, parser: Any, *_: Any) -> None:
        parser.print_help_of_all()
        parser.exit()


def parse_arguments(
    task: Task, description: str, argv: list[str] | None = None
) -> tuple[Any, TokenizerArguments, ConfigArguments, RnnTrainingArguments]:
    """Read the command line of a training run, and the file it may name with `--config`.

    Args:
        task (`str`): `"text-classification"`, `"token-classification"` or `"language-modeling"`; options of others are
            refused.
        description (`str`): Heads the help.
        argv (`list[str]`, *optional*): Arguments; the process's own without it.

    Returns:
        [`DataArguments`], of language models [`TextArguments`]; [`TokenizerArguments`], [`ConfigArguments`] and
        [`RnnTrainingArguments`].

    Raises:
        SystemExit: For a mistake in the arguments or the file, with a message; or after `--help`.

    Example:
    ```python
    >>> from rnn_hf.training.options import parse_arguments
    >>> data, _, config, training = parse_arguments(
    ...     "text-classification", "", ["--train_file", "a.csv", "--output_dir", "out", "--cell_type", "gru"]
    ... )
    >>> data.train_file, config.cell_type, config.hidden_size
    ('a.csv', 'gru', None)

    ```
    """
    is_pretraining = task == "language-modeling"
    parser = DataclassParser(
        (TextArguments if is_pretraining else DataArguments, TokenizerArguments, ConfigArguments, RnnTrainingArguments),
        task,
        prog="rnn-hf pretrain" if is_pretraining else f"rnn-hf train-{MODELS_OF[task].removesuffix('s')}",
        usage="%(prog)s [options] --output_dir DIR",
        description=description,
    )
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
    # What a namespace has already, defaults leave as it is.
    not_given = object()
    read, _ = parser.parse_known_args(words, Namespace(**dict.fromkeys(vars(known), not_given)))
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
    training.given_options = frozenset(name for name, value in vars(read).items() if value is not not_given)
    return data, tokenizer, config, training


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
    if unknown := sorted(str(name) for name in options if name not in parser.option_names):
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


__all__ = ["DataclassParser", "parse_arguments"]
