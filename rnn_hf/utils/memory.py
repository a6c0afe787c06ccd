"""How the C library hands out the memory of large tensors."""

import ctypes
import sys

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
    >>> from rnn_hf.utils.memory import keep_freed_memory
    >>> keep_freed_memory() in (True, False)
    True

    ```
    """
    if sys.platform != "linux":
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    options = {_M_MMAP_THRESHOLD: _LARGEST_BLOCK, _M_TRIM_THRESHOLD: _MOST_KEPT}
    return set_option is not None and all(set_option(name, value) == 1 for name, value in options.items())


__all__ = ["keep_freed_memory"]
