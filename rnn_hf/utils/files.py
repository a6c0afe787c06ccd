"""Write files whole or not at all."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

# What the writers of files say when there is no room: safetensors and torch raise no OSError.
_NO_ROOM = (
    "os error 28",
    "os error 27",
    "os error 122",
    "No space left",
    "PytorchStreamWriter failed",
    "file write failed",
)
_NO_ROOM_NUMBERS = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


def disk_is_full(error: BaseException) -> bool:
    """Tell whether an error means that a file could not be written for want of room.

    Args:
        error (`BaseException`): What a writer of files raised.

    Example:
    ```python
    >>> from rnn_hf.utils.files import disk_is_full
    >>> disk_is_full(OSError(28, "No space left on device")), disk_is_full(OSError(13, "Permission denied"))
    (True, False)

    ```
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _NO_ROOM_NUMBERS
    return any(sign in str(error) for sign in _NO_ROOM)


def replace_file(path: Path, content: bytes | str) -> None:
    """Write a file so that nobody ever sees half of it, not even after a crash or on a full disk.

    Args:
        path (`Path`): The file; its folder must exist.
        content (`bytes` or `str`): What to write; text as UTF-8.

    Example:
    ```python
    >>> import tempfile
    >>> from pathlib import Path
    >>> from rnn_hf.utils.files import replace_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     replace_file(Path(folder, "README.md"), "# Model")
    ...     Path(folder, "README.md").read_text()
    '# Model'

    ```
    """
    with replacing(path, "wb") as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


@contextlib.contextmanager
def replacing(path: Path, mode: Literal["w", "wb"] = "w") -> Iterator[IO[Any]]:
    """Open a file for writing that takes its place only when all is written.

    Args:
        path (`Path`): The file; its folder must exist.
        mode (`str`): `"w"` for text as UTF-8, whose ends of lines stay as they are, `"wb"` for bytes.

    Yields:
        `IO`: a file in the same folder.

    Raises:
        ValueError: It cannot be written.

    Example:
    ```python
    >>> import tempfile
    >>> from pathlib import Path
    >>> from rnn_hf.utils.files import replacing
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder, "a.csv")) as file:
    ...         _ = file.write("text,label")
    ...     Path(folder, "a.csv").read_text()
    'text,label'

    ```
    """
    options: dict[str, Any] = {} if mode == "wb" else {"encoding": "utf-8", "newline": ""}
    try:
        file = tempfile.NamedTemporaryFile(  # noqa: SIM115
            mode, dir=path.parent, prefix=f".{path.name}.", delete=False, **options
        )
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror or error}.") from error
    try:
        with file:
            yield file
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(file.name, 0o666 & ~mask)  # as any new file; temporary ones are private
        os.replace(file.name, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(file.name)
        if isinstance(error, OSError):
            raise ValueError(f"{path} cannot be written: {error.strerror or error}.") from error
        raise


__all__ = ["disk_is_full", "replace_file", "replacing"]
