"""The output folder of a training run: whose it is, who writes to it, and from where a run can be resumed."""

import hashlib
import json
import re
import zipfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers.utils import logging

from ..inference.model_files import CODE_FILES
from ..utils.files import replace_file

logger = logging.get_logger(__name__)

# Size and SHA-256 of each file of a checkpoint; written when all of them are.
CHECKSUMS = "checksums.json"
# The options of a run, written when it begins: whose folder it is.
ARGUMENTS = "training_args.json"
# The results of a run, written when it has ended.
RESULTS = "all_results.json"

# What training writes into its folder.
_WRITTEN = (
    "config.json",
    "model*.safetensors*",
    "tokenizer*.json",
    "README.md",
    "run.json",
    "trainer_state.json",
    *CODE_FILES,
    "*_rnn.py",
    "training_curve.png",
    "confusion_matrix.png",
    ARGUMENTS,
    RESULTS,
)
# Options that change which numbers a run computes.
_DECISIVE = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "num_train_epochs",
    "max_steps",
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "max_grad_norm",
    "optim",
    "seed",
    "data_seed",
    "bf16",
    "fp16",
    "train_sampling_strategy",
    "max_tokens_per_batch",
    "class_weights",
    "rdrop_loss_weight",
    "self_training",
    "augment",
    "distillation_loss_weight",
    "distillation_temperature",
    "unlabelled_loss_weight",
    "lm_loss_weight",
    "auxiliary_loss_weight",
    "label_smoothing_factor",
    "vectors_learning_rate",
    "ngram_learning_rate",
    "lexical_learning_rate",
    "layer_lr_decay",
    "gradual_unfreezing",
    "metric_for_best_model",
    "early_stopping_patience",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "optim_args",
    "lr_scheduler_kwargs",
    "dataloader_drop_last",
    "ignore_data_skip",
    "eval_strategy",
    "eval_steps",
    "load_best_model_at_end",
)
# What a checkpoint holds beside the model, unless `--save_only_model` was said.
_STATES = ("optimizer.pt", "scheduler.pt", "rng_state*.pth")
_REQUIRED = ("config.json", "model.safetensors", "trainer_state.json", *_STATES)
_BLOCK = 1 << 20


def find_checkpoint(output_dir: Path, resume: str | None, *, set_aside: bool = True) -> Path | None:
    """Find the checkpoint to resume from, and refuse to mix a run with other files.

    Checkpoints that are damaged are named and, with those that were not finished, renamed to `damaged-checkpoint-…`.

    Args:
        output_dir (`Path`): The folder of the run.
        resume (`str`, *optional*): `"true"` for the newest whole checkpoint in the folder, or the path of one; `None`
            or `"false"` for a new run.
        set_aside (`bool`): Whether to rename damaged checkpoints; one process does.

    Returns:
        `Path`: the checkpoint, or `None` to start from the beginning.

    Raises:
        ValueError: The folder holds files of an earlier run, or somebody else's; or the checkpoint that was named is
            damaged.

    Example:
    ```python
    >>> import tempfile
    >>> from pathlib import Path
    >>> from rnn_hf.training.checkpoints import find_checkpoint
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(find_checkpoint(Path(folder), None))
    None

    ```
    """
    checkpoints = list_checkpoints(output_dir)
    wanted = "false" if resume is None else resume
    if wanted.lower() == "false":
        if checkpoints:
            raise ValueError(
                f"{output_dir} holds checkpoints of an earlier run. Resume it with --resume_from_checkpoint true, "
                "or name another --output_dir, or remove the folder."
            )
        if not _is_unfinished_run(output_dir):
            _refuse_other_files(output_dir)
        return None
    if not wanted.strip():
        raise ValueError("--resume_from_checkpoint needs a value: true, or the folder of a checkpoint.")
    if wanted.lower() != "true":
        _refuse_model_only(Path(wanted))
        problem = find_damage(Path(wanted))
        if problem is not None:
            good = [str(one) for one in reversed(list_checkpoints(Path(wanted).parent)) if find_damage(one) is None]
            advice = f" {good[0]} is whole." if good else ""
            raise ValueError(
                f"--resume_from_checkpoint {wanted} is no complete checkpoint of a run: {problem}.{advice}"
            )
        if Path(wanted).resolve().parent != output_dir.resolve() and not _is_unfinished_run(output_dir):
            _refuse_other_files(output_dir)
        return Path(wanted)
    for checkpoint in reversed(checkpoints):
        _refuse_model_only(checkpoint)
        problem = find_damage(checkpoint) or _damage_of_the_best(checkpoint)
        if problem is None:
            logger.warning(f"Training is resumed from {checkpoint}.")
            return checkpoint
        logger.warning(f"{checkpoint} is damaged and passed over: {problem}.")
        if set_aside:
            _set_aside(checkpoint)
    if not checkpoints and not _is_unfinished_run(output_dir):
        _refuse_other_files(output_dir)
    logger.warning(f"{output_dir} holds no complete checkpoint yet: training starts from the beginning.")
    return None


def read_options(output_dir: Path) -> dict[str, Any]:
    """Read the options that a run began with; none where there was no run, or its file is damaged.

    Args:
        output_dir (`Path`): The folder of the run.

    Returns:
        `dict[str, Any]`: the content of `training_args.json`.

    Example:
    ```python
    >>> from pathlib import Path
    >>> from rnn_hf.training.checkpoints import read_options
    >>> read_options(Path("outputs/nowhere"))
    {}

    ```
    """
    try:
        options = json.loads((output_dir / ARGUMENTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return options if isinstance(options, dict) else {}


def changed_options(before: dict[str, Any], options: dict[str, Any], checkpoint: Path, num_processes: int) -> list[str]:
    """Tell which options and data of a resumed run differ from those it began with, so that it will end differently.

    Args:
        before (`dict[str, Any]`): The options it began with, as [`read_options`] gives them; of the data, `data` holds
            a description of each split.
        options (`dict[str, Any]`): The options now.
        checkpoint (`Path`): The checkpoint to resume from.
        num_processes (`int`): The number of processes now.

    Returns:
        `list[str]`: for each difference, the option with its old and its new value.

    Example:
    ```python
    >>> from pathlib import Path
    >>> from rnn_hf.training.checkpoints import changed_options
    >>> changed_options({"seed": 1, "data": {"train": "9 rows"}}, {"seed": 2, "data": {"train": "8 rows"}}, Path(), 0)
    ['seed 1 → 2', 'train data 9 rows → 8 rows']

    ```
    """
    differences = [
        f"{name} {before[name]} → {options.get(name)}"
        for name in _DECISIVE
        if name in before and before[name] != options.get(name)
    ]
    data_before, data = before.get("data"), options.get("data", {})
    if isinstance(data_before, dict):
        differences += [
            f"{split} data {data_before.get(split, 'none')} → {data.get(split, 'none')}"
            for split in dict.fromkeys([*data_before, *data])
            if data_before.get(split) != data.get(split)
        ]
    num_before = len(list(checkpoint.glob("rng_state*.pth")))
    if num_before != num_processes:
        differences.append(f"processes {num_before} → {num_processes}")
    return differences


def list_checkpoints(output_dir: Path) -> list[Path]:
    """List the Trainer's checkpoints in a folder, the oldest first; other folders, `checkpoint-old` say, are none.

    Example:
    ```python
    >>> import tempfile
    >>> from pathlib import Path
    >>> from rnn_hf.training.checkpoints import list_checkpoints
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("checkpoint-20", "checkpoint-9", "checkpoint-old"):
    ...         Path(folder, name).mkdir()
    ...     [checkpoint.name for checkpoint in list_checkpoints(Path(folder))]
    ['checkpoint-9', 'checkpoint-20']

    ```
    """
    folders = (path for path in output_dir.glob("checkpoint-*") if path.is_dir())
    numbered = [path for path in folders if re.fullmatch(r"checkpoint-[0-9]+", path.name)]
    return sorted(numbered, key=lambda path: int(path.name.rpartition("-")[2]))


def write_checksums(checkpoint: Path) -> None:
    """Note size and SHA-256 of each file of a checkpoint in `checksums.json`, so that damage is found later.

    Args:
        checkpoint (`Path`): A checkpoint that is written to its end.
    """
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != CHECKSUMS)
    checksums = {
        path.relative_to(checkpoint).as_posix(): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in files
    }
    replace_file(checkpoint / CHECKSUMS, json.dumps(checksums, indent=1))


def find_damage(checkpoint: Path) -> str | None:
    """Say what is wrong with a checkpoint.

    Args:
        checkpoint (`Path`): Its folder. Without `checksums.json`, as the stock Trainer leaves it, its files are checked
            for being there and being whole by what their formats promise.

    Returns:
        `str`: what is missing or damaged, or `None`.

    Example:
    ```python
    >>> from pathlib import Path
    >>> from rnn_hf.training.checkpoints import find_damage
    >>> find_damage(Path("outputs/nowhere"))
    'there is no such folder'

    ```
    """
    if not checkpoint.is_dir():
        return "there is no such folder"
    try:
        if not (checkpoint / CHECKSUMS).exists():
            return _missing_file(checkpoint) or _damage_by_format(checkpoint)
        checksums = json.loads((checkpoint / CHECKSUMS).read_text(encoding="utf-8"))
        for name, expected in checksums.items():
            path = checkpoint / name
            if not path.is_file():
                return f"{name} is missing"
            if (size := path.stat().st_size) != expected["bytes"]:
                return f"{name} has {size:,} bytes instead of {expected['bytes']:,}"
            if _sha256(path) != expected["sha256"]:
                return f"the content of {name} has changed"
        return _missing_file(checkpoint)
    except OSError as error:
        return f"{Path(str(error.filename)).name} cannot be read ({error.strerror})"
    except (ValueError, TypeError, KeyError, AttributeError):
        return f"{CHECKSUMS} cannot be read"


def _missing_file(checkpoint: Path) -> str | None:
    for pattern in _REQUIRED:
        if not any(checkpoint.glob(pattern)):
            return f"{pattern.replace('*', '')} is missing"
    return None


def _damage_by_format(checkpoint: Path) -> str | None:
    for name in sorted(path.name for path in checkpoint.iterdir()):
        path = checkpoint / name
        try:
            if path.suffix == ".json":
                content = json.loads(path.read_text(encoding="utf-8"))
                if name == "trainer_state.json" and not {"global_step", "max_steps"} <= set(content):
                    return f"{name} is damaged"
            elif path.suffix == ".safetensors":
                with safe_open(path, framework="pt"):
                    pass
            elif path.suffix in (".pt", ".pth"):
                with zipfile.ZipFile(path) as archive:
                    if archive.testzip() is not None:
                        return f"{name} is damaged"
        except (ValueError, TypeError, SafetensorError, zipfile.BadZipFile, EOFError):
            return f"{name} is damaged"
    return None


def _refuse_model_only(checkpoint: Path) -> None:
    """Tell a checkpoint without an optimizer, as `--save_only_model` leaves it, from one that lost its files.

    The state of the Trainer is written last: without it, a run was killed as it wrote the checkpoint.
    """
    is_whole = all((checkpoint / name).is_file() for name in ("model.safetensors", "trainer_state.json"))
    if is_whole and not any(any(checkpoint.glob(pattern)) for pattern in _STATES):
        raise ValueError(
            f"{checkpoint} holds the model alone (--save_only_model), and training cannot be resumed from it: name "
            f"another --output_dir, and fine-tune it with --model_name_or_path {checkpoint}."
        )


def _damage_of_the_best(checkpoint: Path) -> str | None:
    """Find out whether the state that is the best so far, with which a run may end, is still whole."""
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    step = state.get("best_global_step")
    best = checkpoint.with_name(f"checkpoint-{step}")
    if not step or best == checkpoint:
        return None
    problem = find_damage(best)
    return None if problem is None else f"the best state before it, {best.name}, is damaged: {problem}"


def _set_aside(checkpoint: Path) -> None:
    target = checkpoint.with_name(f"damaged-{checkpoint.name}")
    number = 1
    while target.exists():
        number += 1
        target = checkpoint.with_name(f"damaged-{checkpoint.name}-{number}")
    checkpoint.rename(target)
    logger.warning(f"It is kept as {target.name}; remove that when you do not need it.")


def _is_unfinished_run(output_dir: Path) -> bool:
    """Tell whether a run of ours ended before it left anything worth keeping."""
    kept = (output_dir / RESULTS).exists() or any(output_dir.glob("model*.safetensors"))
    return (output_dir / ARGUMENTS).exists() and not kept


def _refuse_other_files(output_dir: Path) -> None:
    if not output_dir.is_dir():
        return
    names = sorted(path.name for path in output_dir.iterdir())
    in_the_way = [name for name in names if any(fnmatch(name, pattern) for pattern in _WRITTEN)]
    if RESULTS in in_the_way or ARGUMENTS in in_the_way:
        raise ValueError(
            f"{output_dir} holds a trained model, which would be overwritten: name another --output_dir, or remove it."
        )
    if in_the_way:
        raise ValueError(
            f"{output_dir} holds files that training would overwrite: {', '.join(in_the_way)}. Name another "
            "--output_dir."
        )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


__all__ = [
    "ARGUMENTS",
    "CHECKSUMS",
    "RESULTS",
    "changed_options",
    "find_checkpoint",
    "find_damage",
    "list_checkpoints",
    "read_options",
    "write_checksums",
]
