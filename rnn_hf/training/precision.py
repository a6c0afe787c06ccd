"""Whether a run computes in bfloat16: where the processor has instructions for it, and they are faster.

Weights, their gradients and the state of the optimizer stay in float32; the layers run under autocast.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from transformers import TrainingArguments

from ..models.configuration_rnn import RnnConfig
from ..models.packing import Packing
from ..models.recurrence import RECURRENT_MODULES, run_recurrence
from ..utils.files import replace_file
from .checkpoints import ARGUMENTS, read_options

# Hidden sizes below which small operations, not products of matrices, take the time.
_LEAST_HIDDEN_SIZE = 128
# How many times as fast bfloat16 has to make the layer: a step of training does more, and gains less.
_LEAST_GAIN = 1.35
# The batch that is timed, in rounds of which the quickest counts: they end after so many seconds.
_NUM_SEQUENCES, _LONGEST, _ROUNDS, _SECONDS = 32, 60, 5, 0.6
# Most floating point operations of a pass over it.
_MOST_OPERATIONS = 6e9


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
        decision = [config is not None and not args.fp16 and is_bfloat16_faster(config, args.device)]
        if args.world_size > 1:
            broadcast_object_list(decision)
        _set(args, decision[0])


def keep_precision(args: TrainingArguments, output_dir: Path, checkpoint: Path | None) -> None:
    """Let a resumed run compute in the precision that it began with, unless another one is given.

    Args:
        args (`TrainingArguments`): Its options; `bf16` of `None` is open.
        output_dir (`Path`): The folder of the run.
        checkpoint (`Path`, *optional*): Where it is resumed from.
    """
    if checkpoint is not None and args.bf16 is None and not args.fp16:
        _set(args, bool(read_options(output_dir).get("bf16")))


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


def _set(args: TrainingArguments, is_bfloat16: bool) -> None:
    args.bf16 = is_bfloat16
    if is_bfloat16:
        args.mixed_precision = "bf16"  # the stock arguments derive it once, when they are made


def is_bfloat16_faster(config: RnnConfig, device: torch.device) -> bool:
    """Time a training step of a model's first recurrent layer in both types, in less than a second.

    Args:
        config ([`RnnConfig`]): Sizes of the layer. Small ones are not timed, and float32 is as good for them.
        device (`torch.device`): Where it is to run.

    Returns:
        `bool`: whether bfloat16 is computed natively there, and is at least 1.35 times as fast.
    """
    if config.hidden_size < _LEAST_HIDDEN_SIZE or not computes_bfloat16(device):
        return False
    module, options = RECURRENT_MODULES[config.cell_type]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        rnn = module(config.input_size, config.hidden_size, bidirectional=config.bidirectional, **options).to(device)
        run = _training_step(rnn, device)
        # On a CPU, other processes count less in the time of this thread.
        clock = time.perf_counter if device.type == "cuda" else time.thread_time
        times: dict[bool, list[float]] = {False: [], True: []}
        begin = time.perf_counter()
        for position in range(1 + _ROUNDS):
            if position > 1 and time.perf_counter() - begin > _SECONDS:
                break
            for in_bfloat16, found in times.items():
                start = clock()
                run(in_bfloat16)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                if position > 0:  # the first one warms up
                    found.append(clock() - start)
    return min(times[False]) >= _LEAST_GAIN * min(times[True])


def computes_bfloat16(device: torch.device) -> bool:
    """Tell whether a device has instructions for bfloat16: AVX512-BF16 or AMX, Arm's, or those of a GPU.

    Args:
        device (`torch.device`): A CPU or a GPU; others have none that are known.

    Returns:
        `bool`.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16"))


def _longest(rnn: nn.RNNBase) -> int:
    """Choose the length of the longest sequence, so that a pass does not take long."""
    num_weights = sum(parameter.numel() for parameter in rnn.parameters())
    return min(max(round(_MOST_OPERATIONS / (2 * num_weights * _NUM_SEQUENCES)), 8), _LONGEST)


def _training_step(rnn: nn.RNNBase, device: torch.device) -> Callable[[bool], Any]:
    """Make a call that runs a layer forward and backward over sequences of which most are short, as sentences are."""
    lengths = (torch.linspace(0, 1, _NUM_SEQUENCES).square() * _longest(rnn)).ceil().clamp(min=1).long().tolist()
    packed = pack_sequence([torch.randn(length, rnn.input_size) for length in reversed(lengths)])
    data = packed.data.to(device).requires_grad_()

    def run(in_bfloat16: bool) -> None:
        packing = Packing.from_batch_sizes(packed.batch_sizes, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=in_bfloat16):
            states = run_recurrence(rnn, data, packing).states[-1]
        torch.autograd.grad(states.float().sum(), [data, *rnn.parameters()])

    return run


__all__ = [
    "computes_bfloat16",
    "describe_precision",
    "is_bfloat16_faster",
    "keep_precision",
    "record_precision",
    "settle_precision",
]
