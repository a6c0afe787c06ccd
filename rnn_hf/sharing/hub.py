"""Push a model's folder to the hub, as one commit."""

import json
import re
from collections.abc import Collection, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, SpaceCard, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id
from rich.console import Console
from rich.table import Table

from ..inference.download import HUB_ERRORS, STRANGE_ANSWERS, explain, explain_cache, explain_strange_answer
from ..inference.loading import check_weights, load_config, load_tokenizer, load_weights, read_model
from ..inference.model_files import CODE_FILES, check_file, read_json
from ..models.modeling_lm import RnnForCausalLM, RnnForPreTraining
from ..models.modeling_rnn import AUTO_MAP
from ..utils.display import printable
from ..utils.secrets import find_secrets
from .card_tables import is_language_model
from .card_text import read_model_card, with_model_id
from .space import PAGE, space_files

# What is uploaded, and what for. Everything else stays: checkpoints, states of optimizers, anything pickled.
_PURPOSES = {
    "README.md": "model card",
    "config.json": "architecture and labels",
    **dict.fromkeys((*CODE_FILES, "*_rnn.py"), "code"),
    "model*.safetensors": "weights",
    "model.safetensors.index.json": "weights",
    "tokenizer.json": "tokenizer",
    "tokenizer_config.json": "tokenizer",
    "special_tokens_map.json": "tokenizer",
    "added_tokens.json": "tokenizer",
    "chat_template.jinja": "tokenizer",
    "vocab.*": "tokenizer",
    "merges.txt": "tokenizer",
    "*_results.json": "results",
    "trainer_state.json": "course of training",
    "training_args.json": "options of training",
    "run.json": "command, data, hardware, speed",
    "*.png": "plot",
    "LICENSE*": "licence",
    "handler.py": "Inference Endpoints",
    "requirements.txt": "Inference Endpoints",
    "onnx/*.onnx": "ONNX",
    "onnx/*.json": "ONNX",
    "onnx/*.md": "ONNX",
}
_WRITE_ROLES = ("write", "fineGrained")
_BINARY = (".safetensors", ".onnx", ".png", ".wasm")
# A token of the hub, wherever it stands.
_HUB_TOKEN = re.compile(r"(?<![A-Za-z0-9_])hf_[A-Za-z0-9]{16,}")


def push_folder(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    dry_run: bool = False,
    token: str | None = None,
) -> str | None:
    """Upload a model with its code, tokenizer, card, results and plots, as one commit.

    The folder is checked, and what will be uploaded is shown, before anything is sent: the files must be whole, fit
    each other and lie in the folder, and no text may hold a token of the hub, or a secret that this process knows.
    Files that the repository has already are not sent again, so that a push that was interrupted can simply be
    repeated.

    Args:
        folder (`str` or `Path`): The folder, of a training run or of `save_pretrained`.
        repo_id (`str`): Repository, `namespace/name`; it is made where it is missing.
        private (`bool`): Whether a new repository is private.
        revision (`str`, *optional*): Branch to push to, made where it is missing; `main` without it.
        create_pr (`bool`): Whether to propose the commit as a pull request instead.
        dry_run (`bool`): Only check and show, without network.
        token (`str`, *optional*): Access token; without it that of `hf auth login` or HF_TOKEN.

    Returns:
        `str`: address of the commit, or of the pull request; `None` of a dry run.

    Raises:
        ValueError: The folder lacks something, the token or the rights are missing, or the hub refused. The message
            says what to do.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf import RnnConfig, RnnForTokenClassification
    >>> from rnn_hf.sharing.hub import push_folder
    >>> with tempfile.TemporaryDirectory() as folder:  # doctest: +ELLIPSIS
    ...     RnnForTokenClassification(RnnConfig(vocab_size=9, num_labels=2)).save_pretrained(folder)
    ...     push_folder(folder, "alice/pos", dry_run=True)
    Traceback (most recent call last):
    ...
    ValueError: ... holds no tokenizer: tokenizer.json is missing. Save it there with tokenizer.save_pretrained(...).

    ```
    """
    folder = Path(folder)
    _check_repo_id(repo_id)
    if create_pr and revision is not None:
        raise ValueError("A pull request is always opened against main: leave --revision or --create_pr out.")
    files = _check_folder(folder)
    _refuse_secrets(folder, files, find_secrets((), token))
    if not dry_run:
        repo_id = check_access(repo_id, create_pr=create_pr, token=token)
    _show(folder, files, repo_id)
    left = dict.fromkeys(name.partition("/")[0] for name, purpose in _purposes(folder) if purpose is None)
    if left:
        _console().print(f"Not uploaded: {', '.join(map(printable, left))}")
    if read_model_card(folder / "README.md").data.get("license") is None:
        _console().print("The model card names no licence, without which others may hardly use the model.")
    return None if dry_run else _push_checked(folder, files, repo_id, private, revision, create_pr, token)


def push_space(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    create_pr: bool = False,
    dry_run: bool = False,
    token: str | None = None,
) -> str | None:
    """Upload a static Space, as one commit.

    Args:
        folder (`str` or `Path`): What [`~rnn_hf.sharing.space.make_space`] wrote; nothing else in it is uploaded.
        repo_id (`str`): Space, `namespace/name`; it is made where it is missing.
        private (`bool`): Whether a new Space is private.
        create_pr (`bool`): Whether to propose the commit as a pull request instead.
        dry_run (`bool`): Only check and show, without network.
        token (`str`, *optional*): Access token; without it that of `hf auth login` or HF_TOKEN.

    Returns:
        `str`: address of the commit, or of the pull request; `None` of a dry run.

    Raises:
        ValueError: The folder lacks something, the token or the rights are missing, or the hub refused. The message
            says what to do.
    """
    folder = Path(folder)
    _check_repo_id(repo_id)
    kinds = {"README.md": "card", **dict.fromkeys(PAGE, "page"), "models": "model", "libraries": "library"}
    files = {name: kinds.get(name.partition("/")[0], "settings") for name in space_files(folder)}
    _refuse_links(folder, files)
    _refuse_secrets(folder, files, find_secrets((), token))
    if not dry_run:
        repo_id = check_access(repo_id, create_pr=create_pr, token=token)
    _show(folder, files, repo_id)
    return None if dry_run else _push_checked(folder, files, repo_id, private, None, create_pr, token, "space")


def _push_checked(
    folder: Path,
    files: dict[str, str],
    repo_id: str,
    private: bool,
    revision: str | None,
    create_pr: bool,
    token: str | None,
    repo_type: str = "model",
) -> str:
    """Push, and say what went wrong in words."""
    try:
        return _push(folder, files, repo_id, private, revision, create_pr, HfApi(token=token), repo_type)
    except HFValidationError as error:
        raise ValueError(str(error)) from error
    except (*HUB_ERRORS, RuntimeError) as error:
        raise ValueError(_explain_push(error, repo_id, revision, create_pr)) from error
    except STRANGE_ANSWERS as error:
        raise ValueError(f"{explain_strange_answer(error, repo_id)} Look there before you push again.") from error


def check_access(repo_id: str, *, create_pr: bool = False, token: str | None = None) -> str:
    """Check that the token may write to a repository, so that what takes long does not fail at its end.

    Args:
        repo_id (`str`): Repository, `namespace/name`, or a name alone in the user's own namespace.
        create_pr (`bool`): Whether a pull request is all that is wanted; anybody may open one.
        token (`str`, *optional*): Access token; without it that of `hf auth login` or HF_TOKEN.

    Returns:
        `str`: the repository with its namespace.

    Raises:
        ValueError: There is no token, none that the hub knows, or one that may not write there; or no network.
    """
    tokens = f"{constants.ENDPOINT}/settings/tokens"
    if (token or get_token()) is None:
        raise ValueError(
            f"There is no access token: make one with write permission at {tokens}, and log in with `hf auth login` or "
            "set HF_TOKEN."
        )
    if not (token or get_token() or "").isascii():
        raise ValueError(f"The access token holds characters that no token has: copy it again, from {tokens}.")
    try:
        user, role, organisations = _identity(HfApi(token=token).whoami())
    except HUB_ERRORS as error:
        raise ValueError(_explain_push(error, repo_id)) from error
    except STRANGE_ANSWERS as error:
        raise ValueError(explain_strange_answer(error, "the token's user")) from error
    if role not in _WRITE_ROLES:
        raise ValueError(f"The access token of {user} may only {role}: make one that may write at {tokens}.")
    namespace = repo_id.rpartition("/")[0]
    own = [user, *organisations]
    if namespace and namespace not in own and not create_pr:
        raise ValueError(
            f"{user} may not write to the namespace {namespace!r}, or it does not exist: push to one of "
            f"{', '.join(own)}, or propose your version with --create_pr."
        )
    return repo_id if namespace else f"{user}/{repo_id}"


def _identity(answer: dict[str, Any]) -> tuple[str, str, list[str]]:
    """Read a user, the role of the token, and the user's organisations from the hub's answer."""
    role = answer.get("auth", {}).get("accessToken", {}).get("role", "write")
    names = [answer["name"], role, *(one["name"] for one in answer.get("orgs", []))]
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"a name that is no text in {names}")
    return names[0], names[1], names[2:]


def _push(
    folder: Path,
    files: dict[str, str],
    repo_id: str,
    private: bool,
    revision: str | None,
    create_pr: bool,
    api: HfApi,
    repo_type: str,
) -> str:
    card = with_model_id((folder / "README.md").read_text(encoding="utf-8"), repo_id)
    _validate_card(card, folder / "README.md", SpaceCard if repo_type == "space" else ModelCard)
    try:
        is_private = api.repo_info(repo_id, repo_type=repo_type).private
        if not isinstance(is_private, bool):
            raise TypeError(f"a repository that is private={is_private!r}")
        if private and not is_private:
            raise ValueError(f"{repo_id} exists and is public: make it private in its settings first, or rename it.")
    except RepositoryNotFoundError:
        if create_pr:
            raise
        sdk = "static" if repo_type == "space" else None
        repo_id = api.create_repo(repo_id, private=private, repo_type=repo_type, space_sdk=sdk).repo_id
    if revision is not None and not revision.startswith("refs/"):
        api.create_branch(repo_id, branch=revision, exist_ok=True, repo_type=repo_type)
    parent = api.repo_info(repo_id, revision=revision, repo_type=repo_type).sha
    if not isinstance(parent, str):
        raise TypeError(f"the newest commit is {parent!r}")
    operations = [
        CommitOperationAdd(name, card.encode() if name == "README.md" else folder / name) for name in sorted(files)
    ]
    try:
        commit = api.create_commit(
            repo_id,
            operations,
            commit_message=f"Upload {printable(folder.resolve().name)}",
            repo_type=repo_type,
            revision=revision,
            create_pr=create_pr,
            parent_commit=None if create_pr else parent,
        )
    except ValueError as error:
        raise TypeError(str(error)) from error  # of an answer that the client could not read
    if commit.oid == parent:
        Console().print("Nothing has changed since the last push.")
    return commit.pr_url or commit.commit_url


def _validate_card(card: str, path: Path, kind: type[ModelCard] | type[SpaceCard]) -> None:
    """Let the hub check the card's metadata, before anything is made there."""
    try:
        kind(card).validate()
    except HfHubHTTPError:
        raise
    except ValueError as error:
        raise ValueError(f"The hub refuses the metadata at the top of {path}: {error}") from error


def _check_repo_id(repo_id: str) -> None:
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"{repo_id!r} is no repository on the hub, namespace/name: {error}") from error


def _check_folder(folder: Path) -> dict[str, str]:
    """Check that a folder holds a whole model, and return the purposes of its files by their names."""
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}.")
    files = {name: purpose for name, purpose in _purposes(folder) if purpose}
    _refuse_links(folder, files)
    config = load_config(str(folder))
    auto_map = AUTO_MAP
    if is_language_model(config):
        check_weights(folder, config)
        load_weights(folder)
        load_tokenizer(folder, config)
        auto_map = (RnnForPreTraining if config.bidirectional else RnnForCausalLM).auto_map
    else:
        read_model(folder)
    code = {name.partition(".")[0] + ".py" for name in auto_map.values()}
    if getattr(config, "auto_map", None) != auto_map or not code <= files.keys():
        raise ValueError(
            f"{folder} was saved without the code that others need to load it: save it anew, with "
            f"rnn_hf.inference.loading.load({str(folder)!r})[0].save_pretrained({str(folder)!r})."
        )
    if "README.md" not in files:
        raise ValueError(f"{folder} holds no model card: write one with `rnn-hf card {folder}`.")
    read_model_card(folder / "README.md")
    for name in files:
        if name.endswith(".json"):
            read_json(folder / name)
        elif name.endswith(".onnx"):
            _check_graph(folder, name)
    return files


def _refuse_links(folder: Path, files: Collection[str]) -> None:
    """Refuse symbolic links by which files from elsewhere would be uploaded."""
    inside = folder.resolve()
    outside = {
        name: path for name in (*files, "onnx") if not (path := (folder / name).resolve()).is_relative_to(inside)
    }
    if outside:
        listed = ", ".join(f"{name} → {path}" for name, path in outside.items())
        raise ValueError(f"{folder} holds symbolic links to files outside of it, {listed}: put copies in their place.")


def _check_graph(folder: Path, name: str) -> None:
    check_file(folder / name)
    try:
        from ..export.runtime import load as load_graph
    except ImportError:  # without onnxruntime nothing more can be told
        return
    load_graph(folder, file_name=name)


def _refuse_secrets(folder: Path, files: Collection[str], secrets: Collection[str]) -> None:
    """Refuse to upload a text that holds a secret; the message says where, and never which."""
    # In JSON, quotes and other characters of a secret are escaped.
    known = {
        form for one in secrets for form in (one, json.dumps(one)[1:-1], json.dumps(one, ensure_ascii=False)[1:-1])
    }
    for name in files:
        if name.endswith(_BINARY):
            continue
        text = (folder / name).read_bytes().decode("utf-8", errors="replace")
        for number, line in enumerate(text.split("\n"), start=1):
            if _HUB_TOKEN.search(line) or any(one in line for one in known):
                raise ValueError(
                    f"{folder / name}, line {number} holds a token or a password, which would be published: take it "
                    "out. `rnn-hf card` writes the card without it. If others may have seen it, revoke "
                    f"it at {constants.ENDPOINT}/settings/tokens."
                )


def _purposes(folder: Path) -> Iterator[tuple[str, str | None]]:
    """Name the files of a folder with their purposes; those without one are not uploaded."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        purposes = (
            purpose
            for pattern, purpose in _PURPOSES.items()
            if fnmatch(name, pattern) and name.count("/") == pattern.count("/")
        )
        if path.is_file():
            yield name, next(purposes, None)


def _show(folder: Path, files: dict[str, str], repo_id: str) -> None:
    table = Table("file", "bytes", "what for")
    table.columns[1].justify = "right"
    sizes = {name: (folder / name).stat().st_size for name in files}
    for name, purpose in files.items():
        table.add_row(printable(name), f"{sizes[name]:,}", purpose)
    console, total = _console(), sum(sizes.values()) / 1e6
    console.print(f"{printable(str(folder))} → {repo_id}: {len(files)} files, {total:.1f} MB")
    console.print(table)


def _console() -> Console:
    # What stands in brackets is part of a name.
    return Console(soft_wrap=True, markup=False, highlight=False, emoji=False)


def _explain_push(error: BaseException, repo_id: str, revision: str | None = None, create_pr: bool = False) -> str:
    if isinstance(error, RuntimeError):
        error = error.__cause__ or error  # of uploading one of the files
    if isinstance(error, HfHubHTTPError) or explain_cache(error) is not None:
        return explain(error, repo_id, revision, action="propose" if create_pr else "write")
    reason = " ".join(str(error).split())
    return (
        f"{constants.ENDPOINT} could not be reached, or the connection broke ({reason}). Check the network and "
        "HF_HUB_OFFLINE, and push again: what has arrived is not sent twice, nor committed twice."
    )


__all__ = ["check_access", "push_folder", "push_space"]
