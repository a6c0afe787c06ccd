"""What slows numbers down beneath torch: memory that is handed out anew, and numbers near the smallest one."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Parameters of glibc's `mallopt`, as `malloc.h` numbers them.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# Blocks of up to so many bytes are kept when they are freed, and so many bytes in all.
_LARGEST_BLOCK, _MOST_KEPT = 2**28, 2**30


def keep_freed_memory() -> bool:
    """Let the C library keep freed memory for the next tensors of this process.

    glibc asks the system for each large block anew, and gives it back at once. A training step makes and frees the
    same large tensors over and over again, and each time the system fills them with zeros, page by page.

    Returns:
        `bool`: whether the library took it; others than glibc have no such setting.

    Example:
    ```python
    >>> from rnn_hf.utils.processor import keep_freed_memory
    >>> keep_freed_memory() in (True, False)
    True

    ```
    """
    if sys.platform != "linux":
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    options = {_M_MMAP_THRESHOLD: _LARGEST_BLOCK, _M_TRIM_THRESHOLD: _MOST_KEPT}
    return set_option is not None and all(set_option(name, value) == 1 for name, value in options.items())


@contextmanager
def without_denormals() -> Iterator[None]:
    """Let this thread take numbers below the smallest normal one (1e-38) for zero.

    A processor computes with them tenfold slower. In the state of the optimizer they are many: the momentum of each
    row of an embedding that no batch has needed for 700 steps or so.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.utils.processor import without_denormals
    >>> with without_denormals():
    ...     _ = torch.full((3,), 1e-30) * 1e-10

    ```
    """
    were_flushed = bool(torch.full((1,), 1e-30).mul(1e-10) == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(were_flushed)


__all__ = ["keep_freed_memory", "without_denormals"]
