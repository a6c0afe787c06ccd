"""Self-training: models of the labelled texts alone, of several seeds, are the teacher of those without labels."""

import copy
import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers.utils import logging

from ..data.unlabelled import load_unlabelled
from ..formats.arguments import DataArguments, Task
from ..objectives.semi_supervised import DEFAULT_WEIGHT
from .arguments import RnnTrainingArguments, TokenizerArguments
from .checkpoints import RESULTS, find_checkpoint, list_checkpoints, read_options

logger = logging.get_logger(__name__)

# How many models label the texts where nobody says it: as many as the results in model_cards/README.md are of.
_NUM_MODELS = 3
_FOLDER = "self-training-{}"
# What is the student's alone: as where there is no teacher.
_OF_STUDENT: dict[str, Any] = {
    "augment": 0,
    "distillation_loss_weight": 1.0,
    "distillation_temperature": 1.0,
    "keep_checkpoints": False,
    "push_to_hub": False,
    "report_to": "none",
    "self_training": 0,
    "unlabelled_loss_weight": None,
}


def chooses_self_training(data: DataArguments, training: RnnTrainingArguments) -> bool:
    """Tell whether a run trains its own teachers though no option says so.

    It does where there are texts without labels, and no option says how else to learn from them.

    Args:
        data ([`DataArguments`]): The data.
        training ([`RnnTrainingArguments`]): The options.

    Example:
    ```python
    >>> from rnn_hf import RnnTrainingArguments
    >>> from rnn_hf.formats.arguments import DataArguments
    >>> from rnn_hf.training.self_training import chooses_self_training
    >>> data = DataArguments(train_file="few.csv", unlabelled_file="more.txt")
    >>> chooses_self_training(data, RnnTrainingArguments("out"))
    True
    >>> chooses_self_training(data, RnnTrainingArguments("out", unlabelled_loss_weight=1.0))
    False

    ```
    """
    others = (training.self_training, training.teacher, training.unlabelled_loss_weight)
    return data.unlabelled_file is not None and all(one is None for one in others)


def settle_self_training(args: RnnTrainingArguments, data: DataArguments) -> None:
    """Decide how to learn from texts without labels, where the options leave it open.

    A resumed run does what it began with.

    Args:
        args ([`RnnTrainingArguments`]): `self_training` and `unlabelled_loss_weight` of `None` are open; both are set.
        data ([`DataArguments`]): The data.

    Example:
    ```python
    >>> from rnn_hf import RnnTrainingArguments
    >>> from rnn_hf.formats.arguments import DataArguments
    >>> from rnn_hf.training.self_training import settle_self_training
    >>> args = RnnTrainingArguments("out")
    >>> settle_self_training(args, DataArguments(train_file="few.csv", unlabelled_file="more.txt"))
    >>> args.self_training
    3

    ```
    """
    if chooses_self_training(data, args):
        before = read_options(Path(str(args.output_dir))) if _resumes(args) else {}
        args.self_training = before.get("self_training", _NUM_MODELS)
        args.unlabelled_loss_weight = before.get("unlabelled_loss_weight")
        if args.self_training and args.process_index == 0:
            logger.warning(
                f"Self-training: {args.self_training} models of other seeds label the texts without labels. "
                "--unlabelled_loss_weight 1 learns from them without such models."
            )
    args.self_training = args.self_training or 0
    if args.unlabelled_loss_weight is None:
        args.unlabelled_loss_weight = DEFAULT_WEIGHT


def train_teachers(
    train: Callable[..., Any],
    task: Task,
    data_arguments: DataArguments,
    tokenizer_arguments: TokenizerArguments,
    config_arguments: Any,
    training_arguments: RnnTrainingArguments,
) -> list[str]:
    """Train models that differ by their seeds, without the texts that have no labels.

    Several, whose mean counts, are right more often than one of them. The data that is held out is that of the student.

    Args:
        train (`Callable`): Trains one of them: [`~train.train`].
        task (`str`): `"text-classification"` or `"token-classification"`.
        data_arguments ([`DataArguments`]): The student's data.
        tokenizer_arguments ([`TokenizerArguments`]): The tokenizer, or a checkpoint to fine-tune.
        config_arguments (`ConfigArguments`): Fields of the configuration to override.
        training_arguments ([`RnnTrainingArguments`]): The student's options; `self_training` says how many models.
            Where a run is resumed, those that have been trained stay.

    Returns:
        `list[str]`: their folders, in the student's.

    Raises:
        ValueError: What [`~train.train`] raises; before any model is trained, where the texts without labels cannot be
            read, or the student's folder is in use.
    """
    data = dataclasses.replace(data_arguments, unlabelled_file=None)
    output_dir = Path(str(training_arguments.output_dir))
    numbers = range(1, (training_arguments.self_training or 0) + 1)
    folders = [output_dir / _FOLDER.format(number) for number in numbers]
    resumes, checkpoint = _resumes(training_arguments), training_arguments.resume_from_checkpoint
    with training_arguments.main_process_first(desc="checking what the student needs"):
        if checkpoint != "true":
            find_checkpoint(output_dir, checkpoint)
        if not (resumes and all((folder / RESULTS).exists() for folder in folders)):
            load_unlabelled(data_arguments, task)
    for number, folder in zip(numbers, folders, strict=True):
        if resumes and (folder / RESULTS).exists():
            continue
        args = copy.copy(training_arguments)
        for name, value in _OF_STUDENT.items():
            setattr(args, name, value)
        args.output_dir, args.seed = str(folder), training_arguments.seed + number
        args.resume_from_checkpoint = "true" if resumes and list_checkpoints(folder) else None
        logger.warning(f"Self-training: model {number} of {len(numbers)} learns from what has labels alone.")
        train(task, data, tokenizer_arguments, config_arguments, args)
    return [str(folder) for folder in folders]


def _resumes(args: RnnTrainingArguments) -> bool:
    return args.resume_from_checkpoint is not None and args.resume_from_checkpoint.lower() != "false"


def remove_teachers(output_dir: Path) -> None:
    """Delete what [`train_teachers`] has left.

    Args:
        output_dir (`Path`): The student's folder.
    """
    for folder in output_dir.glob(_FOLDER.format("*")):
        shutil.rmtree(folder)


__all__ = ["chooses_self_training", "remove_teachers", "settle_self_training", "train_teachers"]
