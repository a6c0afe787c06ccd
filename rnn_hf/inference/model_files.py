"""Read the files of a saved model, and say which one is damaged before anything is built from it."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ..models import configuration_rnn
from ..models.base import current_name

COPY_AGAIN = "download or copy it again"

# The code that travels with a saved model: it runs without this package.
CODE_FILES = tuple(sorted(path.name for path in Path(configuration_rnn.__file__).parent.glob("[!_]*.py")))

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
# The first line of a file that stands for one in Git's large file storage.
_POINTER = b"version https://git-lfs.github.com/spec/"
_WEB_PAGE = (b"<!doctype html", b"<html")


class WeightInfo(NamedTuple):
    """What the header of a file of weights says about one of them.

    Args:
        shape (`tuple[int, ...]`): Its shape.
        dtype (`str`): Its type, as safetensors writes it (`"F32"`).
    """

    shape: tuple[int, ...]
    dtype: str


def check_file(path: Path, remedy: str = COPY_AGAIN) -> None:
    """Check that a file is there, can be read, is not empty, and is neither a pointer of Git LFS nor a web page.

    Args:
        path (`Path`): The file.
        remedy (`str`): What to do about a damaged one.

    Raises:
        ValueError: It is not so. The message names the file and says what to do.

    Example:
    ```python
    >>> from pathlib import Path
    >>> from rnn_hf.inference.model_files import check_file
    >>> check_file(Path("outputs/nowhere/model.safetensors"))
    Traceback (most recent call last):
    ...
    ValueError: outputs/nowhere/model.safetensors is missing.

    ```
    """
    try:
        with open(path, "rb") as file:
            start = file.read(len(_POINTER))
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing.") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}. Check its permissions.") from error
    if not start:
        raise ValueError(f"{path} is empty: {remedy}.")
    if start == _POINTER:
        raise ValueError(
            f"{path} is only a pointer to the file in Git LFS: fetch the file itself, with `git lfs pull` or "
            "`hf download`."
        )
    if start.lstrip().lower().startswith(_WEB_PAGE):
        raise ValueError(
            f"{path} holds a web page in place of what its name says: a proxy or a page to log in at answered when it "
            f"was downloaded. Remove it, check the network, and {COPY_AGAIN}."
        )


def read_json(path: Path, remedy: str = COPY_AGAIN) -> dict[str, Any]:
    """Read a file that must hold a JSON object.

    Args:
        path (`Path`): The file.
        remedy (`str`): What to do about a damaged one.

    Returns:
        `dict`: its content.

    Raises:
        ValueError: It cannot be read, is damaged, or holds something else. The message names the file and says what
            to do.

    Example:
    ```python
    >>> import tempfile
    >>> from pathlib import Path
    >>> from rnn_hf.inference.model_files import read_json
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "run.json").write_text('{"seed": 1}')
    ...     read_json(Path(folder, "run.json"))
    {'seed': 1}

    ```
    """
    check_file(path, remedy)
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise ValueError(f"{path} is no JSON, it is damaged or was cut off ({reason}): {remedy}.") from error
    if not isinstance(content, dict):
        kind = {list: "a list", str: "a text", type(None): "null"}.get(type(content), f"{content}")
        raise ValueError(f"{path} must hold a JSON object, {{…}}, but holds {kind}: {remedy}.")
    return content


def weight_files(folder: Path) -> list[Path]:
    """Name the files of a model's weights.

    Args:
        folder (`Path`): The model's folder.

    Returns:
        `list[Path]`: `model.safetensors`, or the files that `model.safetensors.index.json` lists.

    Raises:
        ValueError: There are none, or the index is damaged or names files elsewhere.

    Example:
    ```python
    >>> from pathlib import Path
    >>> from rnn_hf.inference.model_files import weight_files
    >>> weight_files(Path("outputs/nowhere"))
    Traceback (most recent call last):
    ...
    ValueError: outputs/nowhere holds no weights: model.safetensors is missing.

    ```
    """
    if (folder / _WEIGHTS).exists() or (folder / _WEIGHTS).is_symlink():
        return [folder / _WEIGHTS]
    index = folder / _INDEX
    if not index.exists():
        hint = " It holds ONNX graphs: run those, with --backend onnx." if any(folder.rglob("*.onnx")) else ""
        raise ValueError(f"{folder} holds no weights: {_WEIGHTS} is missing.{hint}")
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f'{index} lists no weights, under "weight_map": {COPY_AGAIN}.')
    for name in weight_map.values():
        if not isinstance(name, str) or not name.endswith(".safetensors") or Path(name).name != name or "\\" in name:
            raise ValueError(f"{index} names {name!r}, which is no file of weights in its folder: {COPY_AGAIN}.")
    names = sorted(set(weight_map.values()))
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise ValueError(f"{folder} holds no whole weights: {', '.join(missing)} of {_INDEX} is missing.")
    return [folder / name for name in names]


def read_weight_infos(folder: Path) -> dict[str, WeightInfo]:
    """Read the headers of a model's weights, which takes no memory.

    Args:
        folder (`Path`): The model's folder.

    Returns:
        `dict[str, WeightInfo]`: shape and type of each weight of the model, by its name in this version.

    Raises:
        ValueError: A file is missing, cannot be read, is damaged or was cut off.

    Example:
    ```python
    >>> import tempfile
    >>> from pathlib import Path
    >>> from rnn_hf import RnnConfig, RnnForTokenClassification
    >>> from rnn_hf.inference.model_files import read_weight_infos
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     RnnForTokenClassification(RnnConfig(vocab_size=9, num_labels=2)).save_pretrained(folder)
    ...     read_weight_infos(Path(folder))["classifier.bias"]
    WeightInfo(shape=(2,), dtype='F32')

    ```
    """
    infos = {}
    for path in weight_files(folder):
        check_file(path)
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118
                    part = file.get_slice(name)
                    if (current := current_name(name)) is not None:
                        infos[current] = WeightInfo(tuple(part.get_shape()), str(part.get_dtype()))
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"{path} is damaged or was cut off ({error}): remove it (in the hub's cache, all of the model), and "
                f"{COPY_AGAIN}."
            ) from error
    return infos


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read a model's weights.

    Args:
        folder (`Path`): The model's folder, which [`read_weight_infos`] has looked through.

    Returns:
        `dict[str, torch.Tensor]`: the weights of the model, by their names in this version.
    """
    weights: dict[str, Tensor] = {}
    for path in weight_files(folder):
        weights.update(load_file(path))
    return {current: weight for name, weight in weights.items() if (current := current_name(name)) is not None}


__all__ = [
    "CODE_FILES",
    "COPY_AGAIN",
    "WeightInfo",
    "check_file",
    "read_json",
    "read_weight_infos",
    "read_weights",
    "weight_files",
]
