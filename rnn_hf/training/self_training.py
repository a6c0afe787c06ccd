"""Self-training: models of the labelled texts alone, of several seeds, are the teacher of those without labels."""

import copy
import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers.utils import logging

from ..data.arguments import DataArguments, Task
from .arguments import RnnTrainingArguments, TokenizerArguments
from .checkpoints import RESULTS, list_checkpoints

logger = logging.get_logger(__name__)

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
}


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
    """
    data = dataclasses.replace(data_arguments, unlabelled_file=None)
    folders = []
    for number in range(1, training_arguments.self_training + 1):
        folder = Path(str(training_arguments.output_dir), _FOLDER.format(number))
        folders.append(str(folder))
        resumes = bool(training_arguments.resume_from_checkpoint)
        if resumes and (folder / RESULTS).exists():
            continue
        args = copy.copy(training_arguments)
        for name, value in _OF_STUDENT.items():
            setattr(args, name, value)
        args.output_dir, args.seed = str(folder), training_arguments.seed + number
        args.resume_from_checkpoint = "true" if resumes and list_checkpoints(folder) else None
        logger.warning(
            f"Self-training: model {number} of {training_arguments.self_training} learns from what has labels alone."
        )
        train(task, data, tokenizer_arguments, config_arguments, args)
    return folders


def remove_teachers(output_dir: Path) -> None:
    """Delete what [`train_teachers`] has left.

    Args:
        output_dir (`Path`): The student's folder.
    """
    for folder in output_dir.glob(_FOLDER.format("*")):
        shutil.rmtree(folder)


__all__ = ["remove_teachers", "train_teachers"]
