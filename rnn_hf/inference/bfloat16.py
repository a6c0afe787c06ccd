"""Whether layers compute in bfloat16: where the device has instructions for it, and they are faster.

Weights stay in float32, and the layers run under autocast.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from transformers.utils import logging

from ..models.configuration_rnn import RnnConfig
from ..models.packing import Packing
from ..models.recurrence import RECURRENT_MODULES, run_recurrence
from ..models.repeated import find_distinct
from .loading import find_device

logger = logging.get_logger(__name__)

Precision = Literal["float32", "bfloat16"]

# Hidden sizes below which small operations, not products of matrices, take the time.
_LEAST_HIDDEN_SIZE = 128
# How many times as fast bfloat16 has to make the layer, in training and in inference: all that is around it gains less.
# In inference, layers of a hidden size of 128 gain 1.3 to 1.5, and LSTMs and GRUs of 256 gain 1.7 to 2: neither is near
# it, so that the choice is the same each time.
_LEAST_GAIN, _LEAST_INFERENCE_GAIN = 1.35, 1.6
# The batch that is timed, in rounds of which the quickest counts: they end after so many seconds.
_NUM_SEQUENCES, _LONGEST, _ROUNDS, _SECONDS = 32, 60, 5, 0.6
# Most floating point operations of a pass over it.
_MOST_OPERATIONS = 6e9


def choose_precision(wanted: str, config: RnnConfig, device: str | torch.device = "cpu") -> Any:
    """Choose the type of the numbers that the layers of a saved model compute with.

    Args:
        wanted (`str`): `"auto"` takes bfloat16, and says so, where weights are in float32 and [`is_bfloat16_faster`]
            finds it for inference. Any other is taken as it is: see [`check_precision`].
        config ([`RnnConfig`]): The model's.
        device (`str` or `torch.device`): Where the model is to run; one that is not here, as it may be a worker's,
            has float32.

    Returns:
        `str`: `"float32"` or `"bfloat16"`.

    Example:
    ```python
    >>> from rnn_hf import RnnConfig
    >>> from rnn_hf.inference.bfloat16 import choose_precision
    >>> choose_precision("auto", RnnConfig(hidden_size=8)), choose_precision("bfloat16", RnnConfig(hidden_size=8))
    ('float32', 'bfloat16')

    ```
    """
    if wanted != "auto":
        return wanted
    if not str(config.dtype or "float32").endswith("float32"):
        return "float32"
    try:
        device = find_device(device)
    except ValueError:  # whoever loads the model there says that there is none
        return "float32"
    if not is_bfloat16_faster(config, device, in_training=False):
        return "float32"
    logger.warning("Layers compute in bfloat16, which is faster here: precision float32 turns it off.")
    return "bfloat16"


def check_precision(precision: str, model: Any) -> None:
    """Check that a model can compute in a precision.

    Args:
        precision (`str`): `"float32"` or `"bfloat16"`.
        model (`Any`): A model, of torch or of onnxruntime.

    Raises:
        ValueError: There is no such precision, or the model has one of its own.

    Example:
    ```python
    >>> from rnn_hf import RnnConfig, RnnForTokenClassification
    >>> from rnn_hf.inference.bfloat16 import check_precision
    >>> check_precision("bfloat16", RnnForTokenClassification(RnnConfig(vocab_size=9)))

    ```
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision must be {' or '.join(get_args(Precision))}, got {precision!r}.")
    if precision == "bfloat16" and not isinstance(model, nn.Module):
        raise ValueError("precision bfloat16 is for models of torch: a graph of onnxruntime has its own. Leave it out.")
    # Autocast leaves float64 as it is, and mixes bfloat16 with no float16.
    if precision == "bfloat16" and model.dtype not in (torch.float32, torch.bfloat16):
        kind = str(model.dtype).removeprefix("torch.")
        raise ValueError(f"precision bfloat16 is for weights in float32, and those of this model are in {kind}.")


def computing_in(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Let layers compute in a precision for a while; in `"float32"`, in the type of their weights.

    Args:
        precision (`str`): `"float32"` or `"bfloat16"`.
        device (`torch.device`): Where they are.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.inference.bfloat16 import computing_in
    >>> with computing_in("bfloat16", torch.device("cpu")):
    ...     torch.nn.Linear(2, 3)(torch.ones(1, 2)).dtype
    torch.bfloat16

    ```
    """
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def is_bfloat16_faster(config: RnnConfig, device: torch.device, in_training: bool) -> bool:
    """Time a model's first recurrent layer in both types, in less than a second.

    Args:
        config ([`RnnConfig`]): Sizes of the layer. Small ones are not timed, and float32 is as good for them.
        device (`torch.device`): Where it is to run.
        in_training (`bool`): Whether training steps are timed, or inference.

    Returns:
        `bool`: whether bfloat16 is computed natively there, and is faster enough: at least 1.35 times as fast in
        training, and 1.6 times in inference.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf import RnnConfig
    >>> from rnn_hf.inference.bfloat16 import is_bfloat16_faster
    >>> is_bfloat16_faster(RnnConfig(hidden_size=8), torch.device("cpu"), in_training=False)
    False

    ```
    """
    if config.hidden_size < _LEAST_HIDDEN_SIZE or not computes_bfloat16(device):
        return False
    module, options = RECURRENT_MODULES[config.cell_type]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        rnn = module(config.input_size, config.hidden_size, bidirectional=config.bidirectional, **options).to(device)
        run = _training_step(rnn, device) if in_training else _inference(rnn.eval(), device)
        # On a CPU, other processes count less in the time of this thread.
        clock = time.perf_counter if device.type == "cuda" else time.thread_time
        times: dict[Precision, list[float]] = {"float32": [], "bfloat16": []}
        begin = time.perf_counter()
        for position in range(1 + _ROUNDS):
            if position > 1 and time.perf_counter() - begin > _SECONDS:
                break
            for precision, found in times.items():
                start = clock()
                run(precision)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                if position > 0:  # the first one warms up
                    found.append(clock() - start)
    least = _LEAST_GAIN if in_training else _LEAST_INFERENCE_GAIN
    return min(times["float32"]) >= least * min(times["bfloat16"])


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


def _training_step(rnn: nn.RNNBase, device: torch.device) -> Callable[[Precision], Any]:
    """Make a call that runs a layer forward and backward over sequences of which most are short, as sentences are."""
    lengths = (torch.linspace(0, 1, _NUM_SEQUENCES).square() * _longest(rnn)).ceil().clamp(min=1).long().tolist()
    packed = pack_sequence([torch.randn(length, rnn.input_size) for length in reversed(lengths)])
    data = packed.data.to(device).requires_grad_()

    def run(precision: Precision) -> None:
        packing = Packing.from_batch_sizes(packed.batch_sizes, device=device)
        with computing_in(precision, device):
            states = run_recurrence(rnn, data, packing).states[-1]
        torch.autograd.grad(states.float().sum(), [data, *rnn.parameters()])

    return run


def _inference(rnn: nn.RNNBase, device: torch.device) -> Callable[[Precision], Any]:
    """Make a call that runs a layer over sequences of one length, as bulk prediction sorts them, of repeated tokens."""
    num_rows = 2 * _NUM_SEQUENCES
    num_steps = min(max(_longest(rnn) // 3, 8), _LONGEST // 3)
    packing = Packing.from_batch_sizes(torch.full((num_steps,), num_rows), device=device)
    ids = torch.arange(num_steps * num_rows, device=device) // 2
    vectors = torch.randn(len(ids), rnn.input_size).to(device)

    def run(precision: Precision) -> None:
        with torch.inference_mode(), computing_in(precision, device):
            distinct, rows = find_distinct(rnn, ids, packing)
            run_recurrence(rnn, vectors[: len(distinct)], packing, rows=rows)

    return run


__all__ = [
    "Precision",
    "check_precision",
    "choose_precision",
    "computes_bfloat16",
    "computing_in",
    "is_bfloat16_faster",
]
