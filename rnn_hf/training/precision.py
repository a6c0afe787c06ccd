"""Which precision a run computes in: bfloat16 where the processor has instructions for it, and they are faster.

Weights, their gradients and the state of the optimizer stay in float32; the layers run under autocast.
"""

import json
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from transformers import TrainingArguments

from ..inference.bfloat16 import is_bfloat16_faster
from ..models.configuration_rnn import RnnConfig
from ..utils.files import replace_file
from .checkpoints import ARGUMENTS, read_options


def settle_precision(args: TrainingArguments, config: RnnConfig | None) -> None:
    """Decide whether a run computes in bfloat16, where `args.bf16` leaves it open; all processes decide alike.

    Args:
        args (`TrainingArguments`): `bf16` of `None` is open; it and `mixed_precision` are set.
        config ([`RnnConfig`], *optional*): Sizes of the model; without it, the run computes in float32.

    Example:
    ```python
    >>> from rnn_hf import RnnConfig, RnnTrainingArguments
    >>> from rnn_hf.training.precision import settle_precision
    >>> args = RnnTrainingArguments("out", use_cpu=True)
    >>> settle_precision(args, RnnConfig(hidden_size=8))
    >>> args.bf16
    False

    ```
    """
    if args.bf16 is None:
        is_open = config is not None and not args.fp16
        set_precision(args, agree(args, is_open and is_bfloat16_faster(config, args.device, in_training=True)))


def agree(args: TrainingArguments, choice: Any) -> Any:
    """Let all processes take what the first one chose.

    Args:
        args (`TrainingArguments`): Those of each process.
        choice (`Any`): What this one chose.

    Example:
    ```python
    >>> from rnn_hf import RnnTrainingArguments
    >>> from rnn_hf.training.precision import agree
    >>> agree(RnnTrainingArguments("out", use_cpu=True), "float32")
    'float32'

    ```
    """
    choices = [choice]
    if args.world_size > 1:
        broadcast_object_list(choices)
    return choices[0]


def set_precision(args: TrainingArguments, is_bfloat16: bool) -> None:
    """Let a trainer compute in bfloat16, or not, before it is made.

    Args:
        args (`TrainingArguments`): Its arguments: `bf16` and `mixed_precision` are set.
        is_bfloat16 (`bool`): Whether layers compute in bfloat16.
    """
    args.bf16 = is_bfloat16
    if is_bfloat16:
        args.mixed_precision = "bf16"  # the stock arguments derive it once, when they are made


def keep_precision(args: TrainingArguments, output_dir: Path, checkpoint: Path | None) -> None:
    """Let a resumed run compute in the precision that it began with, unless another one is given.

    Args:
        args (`TrainingArguments`): Its options; `bf16` of `None` is open.
        output_dir (`Path`): The folder of the run.
        checkpoint (`Path`, *optional*): Where it is resumed from.
    """
    if checkpoint is not None and args.bf16 is None and not args.fp16:
        set_precision(args, bool(read_options(output_dir).get("bf16")))


def record_precision(
    options: dict[str, Any], args: TrainingArguments, output_dir: Path, checkpoint: Path | None
) -> dict[str, Any]:
    """Record the precision that a new run has settled on.

    Args:
        options (`dict[str, Any]`): The options as they are recorded.
        args (`TrainingArguments`): Those of the trainer.
        output_dir (`Path`): The folder of the run.
        checkpoint (`Path`, *optional*): Where it is resumed from.

    Returns:
        `dict[str, Any]`: the options with that precision.
    """
    options = options | {"bf16": args.bf16}
    if checkpoint is None and args.process_index == 0:
        replace_file(output_dir / ARGUMENTS, json.dumps(options, indent=2))
    return options


def describe_precision(args: TrainingArguments) -> str:
    """Name the precision of a run, and the option that changes what was chosen for it.

    Example:
    ```python
    >>> from rnn_hf import RnnTrainingArguments
    >>> from rnn_hf.training.precision import describe_precision
    >>> describe_precision(RnnTrainingArguments("out", precision="bfloat16", use_cpu=True))
    'bfloat16'

    ```
    """
    if not args.bf16:
        return "float16" if args.fp16 else "float32"
    is_chosen = getattr(args, "precision", None) == "auto"
    return "bfloat16, which is faster here: --precision float32 turns it off" if is_chosen else "bfloat16"


__all__ = ["agree", "describe_precision", "keep_precision", "record_precision", "set_precision", "settle_precision"]
