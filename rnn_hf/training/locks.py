"""One run at a time in an output folder."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..utils.files import disk_is_full

_LOCK = ".lock"


@contextmanager
def locked(output_dir: Path) -> Iterator[None]:
    """Keep other runs out of a folder, which is made where it is missing.

    The operating system releases the lock when the process ends, however it ends. A folder that was made and is still
    empty is removed in the end.

    Args:
        output_dir (`Path`): The folder.

    Raises:
        ValueError: Another run holds the folder, nothing can be written there, or the disk became full.

    Example:
    ```python
    >>> import tempfile
    >>> from pathlib import Path
    >>> from rnn_hf.training.locks import locked
    >>> with tempfile.TemporaryDirectory() as folder, locked(Path(folder)), locked(Path(folder)):
    ...     pass
    Traceback (most recent call last):
    ...
    ValueError: Another run is writing to ...: wait for its end, or name another --output_dir.

    ```
    """
    lock = FileLock(output_dir / _LOCK, blocking=False)
    try:
        made = [path for path in (output_dir, *output_dir.parents) if not path.exists()]
        if output_dir.exists() and not output_dir.is_dir():
            raise ValueError(f"--output_dir {output_dir} is a file: name a folder.")
        output_dir.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise ValueError(
            f"Another run is writing to {output_dir}: wait for its end, or name another --output_dir."
        ) from error
    except OSError as error:
        raise ValueError(f"--output_dir {output_dir} cannot be written to: {error.strerror or error}.") from error
    try:
        yield
    except Exception as error:
        if disk_is_full(error) and str(output_dir) not in str(error):
            raise ValueError(f"{output_dir} could not be written to: the disk is full ({error}).") from error
        raise
    finally:
        with suppress(OSError):  # Windows keeps files that are open
            (output_dir / _LOCK).unlink()
        lock.release()
        with suppress(OSError):  # a run that failed early leaves no empty folders
            for path in made:
                path.rmdir()


__all__ = ["locked"]
