"""What all training commands do around a run: announce it, watch it, resume it, tidy up after it."""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback
from transformers.utils import logging

from ..inference.model_files import read_json
from ..models.configuration_rnn import RnnConfig
from ..sharing.hub import check_access
from ..utils.display import shorten
from .arguments import RnnTrainingArguments
from .checkpoints import changed_options, list_checkpoints, read_options
from .precision import describe_precision
from .trainer_checks import diverged

logger = logging.get_logger(__name__)


class Announcement(TrainerCallback):
    """Say what is about to be trained."""

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Say it."""
        if state.is_world_process_zero:
            config = model.config
            cell = f"{'bidirectional ' if config.bidirectional else ''}{config.cell_type.partition('_')[0].upper()}"
            crf = ", conditional random field" if getattr(model, "crf", None) is not None else ""
            warmup = args.get_warmup_steps(state.max_steps)
            logger.warning(
                f"Training {type(model).__name__} ({cell}{crf}, {describe_precision(args)}): "
                f"{state.num_train_epochs:,} epochs, {state.max_steps:,} steps; the learning "
                f"rate rises in the first {warmup:,}."
            )


class Watch(TrainerCallback):
    """End a run whose losses or scores are no finite numbers; JSON has none of them."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Check what was logged last."""
        entry = state.log_history[-1]
        # Mixed precision tries scales with which gradients are infinite, and leaves those steps out.
        if not math.isfinite(entry.get("grad_norm", 0.0)):
            del entry["grad_norm"]
        for name, value in entry.items():
            if not math.isfinite(value):
                step = f"after {state.global_step:,} steps"
                raise diverged(f"{name} is {value} {step}, and no model is saved in {args.output_dir}")


def course(trainer: Trainer) -> Iterator[str]:
    """Tell which state was kept, and whether training stopped early."""
    state = trainer.state
    if state.best_global_step and trainer.args.load_best_model_at_end:
        measure = str(trainer.args.metric_for_best_model).removeprefix("eval_")
        epochs = [entry["epoch"] for entry in state.log_history if entry.get("step") == state.best_global_step]
        yield (
            f"The best state on validation was kept: that of epoch {max(epochs, default=0):g} of {state.epoch or 0:g}, "
            f"{measure} {state.best_metric:.4f}."
        )
    if state.global_step < state.max_steps:
        yield (
            f"Training stopped early, after {state.epoch or 0:g} of {state.num_train_epochs:g} epochs: "
            f"{getattr(trainer.args, 'early_stopping_patience', 0)} evaluations in a row were no better "
            "(--early_stopping_patience)."
        )


def tidy(output_dir: Path, keep_checkpoints: bool) -> None:
    """Delete the checkpoints of a run that has ended, or say how large they are."""
    checkpoints = list_checkpoints(output_dir)
    if not keep_checkpoints:
        for checkpoint in checkpoints:
            shutil.rmtree(checkpoint)
    elif checkpoints:
        size = sum(path.stat().st_size for folder in checkpoints for path in folder.rglob("*") if path.is_file())
        many = "1 checkpoint" if len(checkpoints) == 1 else f"{len(checkpoints)} checkpoints"
        print(
            f"{size / 1e6:.0f} MB beside the model are {many}, to resume training with more epochs; --keep_checkpoints "
            "false deletes them."
        )


def check_resumed(checkpoint: Path, model: Any) -> None:
    """Check that a checkpoint is of the same model, for the same labels."""
    before, now = read_json(checkpoint / "config.json"), json.loads(model.config.to_json_string())
    for name in ("subword_pooling", "crf_tag_scheme"):  # as runs of earlier versions have
        before.setdefault(name, getattr(RnnConfig, name))
    names = [name for name in RnnConfig.__annotations__ if name in before and before[name] != now.get(name)]
    free = [name for name in names if name.endswith("_dropout")]
    names = [name for name in names if name not in (*free, "initializer_range")]
    names += ["architectures"] if before.get("architectures") != [type(model).__name__] else []

    def changes(names: list[str]) -> Iterator[str]:
        for name in names[:5]:
            yield f"{name} {shorten(str(before[name]), 80)} → {shorten(str(now.get(name)), 80)}"

    if free:
        logger.warning(
            f"The run to be resumed began with other options ({', '.join(changes(free))}): it will not end as it would "
            "have."
        )
    if names:
        raise ValueError(
            f"{checkpoint} is of another model than these options and these data make ({'; '.join(changes(names))}): "
            "resume with those that the run began with, or name another --output_dir."
        )


def repository(args: RnnTrainingArguments) -> str | None:
    """Return where the model shall be pushed when it is trained, after checking that it may be."""
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


def compare_options(output_dir: Path, checkpoint: Path, options: dict[str, Any], num_processes: int) -> None:
    """Say which options and data of a resumed run differ from those it began with."""
    differences = changed_options(read_options(output_dir), options, checkpoint, num_processes)
    if any(map(_changes_parameters, differences)):
        raise ValueError(
            f"{checkpoint} cannot be resumed with other options ({', '.join(differences)}): resume with those that the "
            "run began with."
        )
    if differences:
        logger.warning(
            f"The run to be resumed began with other options or data ({', '.join(differences)}): it will not end as it "
            "would have."
        )


def _changes_parameters(difference: str) -> bool:
    """Tell whether an optimizer has other parameters, another state or other targets after an option was changed."""
    name, _, values = difference.partition(" ")
    turned = values.startswith("0.0 →") or values.endswith("→ 0.0")
    if name in ("lm_loss_weight", "unlabelled_loss_weight"):
        return turned
    if name == "self_training":
        return values.startswith("0 →") or values.endswith("→ 0")
    return name in ("optim", "auxiliary_tags_column", "layer_lr_decay")


__all__ = [
    "Announcement",
    "Watch",
    "check_resumed",
    "compare_options",
    "course",
    "repository",
    "tidy",
]
