"""Find a model's files: in a folder, in the hub's cache, or on the hub."""

import errno
import os
from json import JSONDecodeError
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

# What a push or a pull may raise: answers of the hub, and everything that the network may do.
HUB_ERRORS = (HTTPError, OSError)
# What the client raises where an answer is not the hub's: a captive portal's page, or JSON of another kind.
STRANGE_ANSWERS = (AttributeError, IndexError, JSONDecodeError, KeyError, TypeError)

_CONFIGURATION = ("*.json", "*.txt", "*.model")
_WEIGHTS = ("*.safetensors",)


def find_folder(
    model_name_or_path: str, revision: str | None = None, weights: bool = True, *, what: str = "model"
) -> Path:
    """Return the folder of a model, or of a tokenizer, after downloading it where it is named by its id on the hub.

    Configuration, tokenizer and weights are downloaded, code is not. What is in the cache is not loaded again, and
    serves where the hub cannot be reached.

    Args:
        model_name_or_path (`str`): Folder or hub id.
        revision (`str`, *optional*): Branch, tag or commit on the hub; `main` without it.
        weights (`bool`): Whether the weights are wanted.
        what (`str`): What is looked for, in messages: `"model"` or `"tokenizer"`.

    Returns:
        `Path`: the folder, or the snapshot in the cache.

    Raises:
        ValueError: There is no such folder, model or revision, it may not be read, or the hub cannot be reached. The
            message says what to do.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf.inference.download import find_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     find_folder(folder) == Path(folder)
    True
    >>> find_folder("./outputs/nowhere")
    Traceback (most recent call last):
    ...
    ValueError: ./outputs/nowhere holds no model: there is no such folder, and it is no id on the hub (namespace/name).

    ```
    """
    path = Path(model_name_or_path)
    if not str(model_name_or_path).strip():
        raise ValueError(f"A {what} needs a name: its folder, or its id on the hub (namespace/name).")
    if path.is_file():
        raise ValueError(f"{model_name_or_path} is a file: name the folder that holds the {what}.")
    if path.is_dir():
        if revision is not None:
            raise ValueError(f"{model_name_or_path} is a folder, which has no revision {revision!r}: leave it out.")
        return path
    patterns = [*_CONFIGURATION, *(_WEIGHTS if weights else ())]
    try:
        folder = snapshot_download(
            model_name_or_path, revision=revision, allow_patterns=patterns, ignore_patterns=["*/*"]
        )
    except HFValidationError as error:
        raise ValueError(
            f"{model_name_or_path} holds no {what}: there is no such folder, and it is no id on the hub "
            "(namespace/name)."
        ) from error
    except HUB_ERRORS as error:
        nor = "" if explain_cache(error) is not None else f" Nor is there a folder {model_name_or_path}."
        raise ValueError(explain(error, model_name_or_path, revision, what=what) + nor) from error
    except STRANGE_ANSWERS as error:
        raise ValueError(explain_strange_answer(error, model_name_or_path)) from error
    return Path(folder)


def explain_strange_answer(error: BaseException, repo_id: str) -> str:
    """Say that what answered is not the hub.

    Args:
        error (`BaseException`): What the client made of the answer, one of `STRANGE_ANSWERS`.
        repo_id (`str`): The repository.

    Returns:
        `str`: the message.

    Example:
    ```python
    >>> from rnn_hf.inference.download import explain_strange_answer
    >>> explain_strange_answer(KeyError("name"), "alice/pos")[:73]
    'https://huggingface.co did not answer as a hub does when asked for alice/'

    ```
    """
    reason = str(error).partition(", so it does not seem")[0]
    return (
        f"{constants.ENDPOINT} did not answer as a hub does when asked for {repo_id} "
        f"({type(error).__name__}: {reason}). Check the network: does a proxy answer in its place, or a page to log in "
        "at, in a browser? Is HF_ENDPOINT the address of a hub?"
    )


def explain_cache(error: BaseException) -> str | None:
    """Say that the hub's cache cannot be used, if that is what went wrong.

    Args:
        error (`BaseException`): What `huggingface_hub` raised.

    Returns:
        `str`, *optional*: the message; `None` of anything else, as an answer of the hub or the network.

    Example:
    ```python
    >>> from huggingface_hub import constants
    >>> from rnn_hf.inference.download import explain_cache
    >>> message = explain_cache(PermissionError(13, "Permission denied", f"{constants.HF_HUB_CACHE}/models--a--b"))
    >>> message.endswith("Make it writable, or set HF_HOME to another folder.")
    True
    >>> explain_cache(ConnectionError("refused"))

    ```
    """
    if not isinstance(error, OSError) or error.errno is None:
        return None
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    folders = [Path(folder).absolute() for folder in (constants.HF_HOME, constants.HF_HUB_CACHE)]
    path = Path(os.fsdecode(error.filename)).absolute() if isinstance(error.filename, str | bytes) else None
    related = [] if path is None else [path, *path.parents]
    # Of a folder that cannot be made, the system may name one of those above.
    if not is_full and not any(folder in related or path in folder.parents for folder in folders):
        return None
    reason = f"{error.strerror}{'' if path is None else f': {path}'}"
    cure = f"Make {'room' if is_full else 'it writable'}, or set HF_HOME to another folder"
    return f"The cache folder of the hub's files, {constants.HF_HUB_CACHE}, cannot be written to ({reason}). {cure}."


def explain(
    error: BaseException, repo_id: str, revision: str | None = None, *, action: str = "read", what: str = "model"
) -> str:
    """Say in words what went wrong between us and the hub, and what to do.

    Args:
        error (`BaseException`): What `huggingface_hub` raised.
        repo_id (`str`): The repository.
        revision (`str`, *optional*): Its branch, tag or commit.
        action (`str`): What was asked for: `"read"`, `"write"`, or `"propose"` a pull request.
        what (`str`): What is looked for.

    Returns:
        `str`: the message.

    Example:
    ```python
    >>> from rnn_hf.inference.download import explain
    >>> explain(ConnectionError("refused"), "alice/pos")[:73]
    'https://huggingface.co could not be reached, and alice/pos is not in the '

    ```
    """
    if isinstance(error.__cause__, HfHubHTTPError) and not isinstance(error, HfHubHTTPError):
        error = error.__cause__  # the hub answered, and what was refused is not in the cache either
    if (message := explain_cache(error)) is not None:
        return message
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, GatedRepoError):
        return f"{repo_id} is gated: ask for access at {constants.ENDPOINT}/{repo_id}, and log in with `hf auth login`."
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"{repo_id} holds no {what}: {constants.ENDPOINT} has no such repository, or it is private and you may not "
            "read it. Check the name; for a private one log in with `hf auth login`, or set HF_TOKEN."
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{repo_id} has no revision {revision or 'main'!r}: name one of its branches, tags or commits."
    if status == 401:
        return (
            "The hub does not know the token: log in anew with `hf auth login`, or set HF_TOKEN to a token from "
            f"{constants.ENDPOINT}/settings/tokens."
        )
    if status == 403 and action == "read":
        return (
            f"You may not read {repo_id}, or the token has no right to: take a token of a user who may "
            f"({constants.ENDPOINT}/settings/tokens)."
        )
    if status == 403 and action == "propose":
        return (
            f"You may not open a pull request on {repo_id}: it takes none, or the token has no write permission. Make "
            f"a token at {constants.ENDPOINT}/settings/tokens, or push to a repository of your own."
        )
    if status == 403:
        return (
            f"You may not write to {repo_id}, or the token has no write permission: take a token of a user who may "
            f"({constants.ENDPOINT}/settings/tokens), or propose your version as a pull request with --create_pr."
        )
    if status == 412:
        return (
            f"{repo_id} has changed while it was pushed to, and nothing was committed: look at the new version, and "
            "push again to put yours on top of it."
        )
    if status is not None:
        return f"The hub refused the request for {repo_id}: {error}"
    if isinstance(error, OfflineModeIsEnabled) or isinstance(error.__cause__, OfflineModeIsEnabled):
        return (
            f"{repo_id}{'' if revision is None else f' at {revision!r}'} is not in the cache, and HF_HUB_OFFLINE "
            f"forbids to ask the hub: unset it, or load the {what} once with network."
        )
    cause = error.__cause__ or error
    if isinstance(cause, FileMetadataError):  # no answer of a hub to the request for a file
        return explain_strange_answer(cause, repo_id)
    reason = " ".join(str(cause).split())
    return (
        f"{constants.ENDPOINT} could not be reached, and {repo_id} is not in the cache ({reason}). Check the network, "
        "and the address if HF_ENDPOINT sets another one; then try again."
    )


__all__ = ["HUB_ERRORS", "STRANGE_ANSWERS", "explain", "explain_cache", "explain_strange_answer", "find_folder"]
