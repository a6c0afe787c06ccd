"""Keep tokens and passwords out of everything that a run writes, prints or uploads.

A secret is masked by its value, wherever it stands, and by the key that it stands under, in whatever form. Values
come from the command line, from the file that `--config` names, from the environment and from the client's stored
tokens.
"""

import json
import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml
from huggingface_hub import get_token
from huggingface_hub.utils import get_stored_tokens

MASK = "…"

_NAMES = (
    r"(?:token|secret|password|passwd|passphrase|pass|pwd|pat|api[_-]?key|access[_-]?key(?:[_-]?id)?|account[_-]?key|"
    r"private[_-]?key|secret[_-]?key|auth|authorization|credentials?|cookie|sas|session|sig|signature|"
    r"connection_string)"
)
# Options of file systems, and headers, in which everything is masked.
_CONTAINERS = r"(?:storage_options|client_kwargs|headers)"
_PREFIX = r"(?:[\w\-.]*[_\-.])"
# Names end so: `hub_token` holds a secret, `pad_token_id` and `max_tokens_per_batch` do not.
_SECRET_KEY = re.compile(rf"(?:.*[_\-. ])?{_NAMES}|key|{_CONTAINERS}", re.IGNORECASE)
_SECRET_VARIABLE = re.compile(
    r"(?:.*_)?(?:(?:TOKEN|SECRET|\w*PASSWORD|PASSWD|API_?KEY|(?:ACCESS|PRIVATE|SECRET)_?KEY|CREDENTIALS?)(?P<rest>_.*)?"
    r"|PASS|PAT)"
)
# The user and the password in an address; the datasets library drops one of its slashes in messages.
_CREDENTIALS = r"[^\s/@'\"]+"
_ADDRESS = re.compile(rf"\w{{2,}}:/{{1,2}}({_CREDENTIALS})@")
_CAMEL_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
# What carries a secret wherever it stands: tokens of the hub, credentials in addresses, `token: …` in broken JSON.
_PATTERNS = (
    (re.compile(r"\b(hf_)[A-Za-z0-9]{16,}"), rf"\1{MASK}"),
    (re.compile(rf"(\w{{2,}}:/{{1,2}}){_CREDENTIALS}@"), rf"\1{MASK}@"),
    (re.compile(r"(\w{2,}:/{1,2}[^\s?'\"]+\?)[^\s'\"]+"), rf"\1{MASK}"),
    (re.compile(r"(?i)\b(bearer\s+)[^\s'\",}]+"), rf"\1{MASK}"),
    # `name=…`, `"name": …` and `prefix_name: …`; not prose such as "the token: log in".
    (re.compile(rf"(?i)((?<![\w-]){_PREFIX}?{_NAMES}['\"]?\s*=\s*['\"]?)[^\s'\",;&}}\]]+"), rf"\1{MASK}"),
    (re.compile(rf"(?i)(['\"]{_PREFIX}?{_NAMES}['\"]\s*:\s*['\"]?)[^\s'\",;&}}\]]+"), rf"\1{MASK}"),
    (re.compile(rf"(?i)((?<![\w-]){_PREFIX}{_NAMES}\s*:\s*['\"]?)[^\s'\",;&}}\]]+"), rf"\1{MASK}"),
)
# Shorter values of variables are switches rather than secrets.
_MIN_VARIABLE_LENGTH = 8
_MIN_LENGTH = 4
# Words of records and messages: masked under the key of a secret, not wherever they stand.
_COMMON = frozenset(
    ("true", "false", "none", "null", "train", "test", "validation", "text", "label", "labels", "tokens", "tags")
)


def is_secret_key(key: str) -> bool:
    """Tell whether what stands under a key, or behind an option, is a secret.

    Example:
    ```python
    >>> from rnn_hf.utils.secrets import is_secret_key
    >>> [is_secret_key(key) for key in ("--hub-token", "aws_secret_access_key", "Authorization", "pad_token_id")]
    [True, True, True, False]

    ```
    """
    return _SECRET_KEY.fullmatch(_CAMEL_CASE.sub("_", key.lstrip("-"))) is not None


def find_secrets(arguments: Sequence[str] = (), *values: Any) -> frozenset[str]:
    """Collect the secrets that a process knows.

    Args:
        arguments (`Sequence[str]`): A command line. Options, JSON in their values, and the file of `--config` are read.
        values: Further secrets, and mappings that may hold some; `None` is passed over.

    Returns:
        `frozenset[str]`: these, those of the environment's variables, and the tokens that `hf auth login` stored.

    Example:
    ```python
    >>> from rnn_hf.utils.secrets import find_secrets
    >>> "abcd-1234" in find_secrets(["train.py", "--dataset_kwargs", '{"token": "abcd-1234"}'])
    True

    ```
    """
    found = {value for name, value in os.environ.items() if _is_secret_variable(name, value)}
    found.update(_stored_tokens())
    for name, value in _options(arguments):
        if is_secret_key(name):
            found.add(value)
        found.update(_passwords(value))
        found.update(_held(_parsed(value)))
        if name.lstrip("-") == "config":
            found.update(_held(_read_options(value)))
    for value in values:
        found.update({value} if isinstance(value, str) else _held(value))
    return frozenset(one for one in found if len(one) >= _MIN_LENGTH and one.lower() not in _COMMON)


def mask(text: str, secrets: Collection[str] = ()) -> str:
    """Mask secrets in a text.

    Args:
        text (`str`): Any text.
        secrets (`Collection[str]`): Values to mask, as [`find_secrets`] gives them. Tokens of the hub, credentials in
            addresses, and values behind the name of a secret are masked beside them.

    Returns:
        `str`: the text without them.

    Example:
    ```python
    >>> from rnn_hf.utils.secrets import mask
    >>> mask("s3://key:pass@bucket/a.csv?token=1234, and open sesame", {"open sesame"})
    's3://…@bucket/a.csv?… and …'

    ```
    """
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def mask_options(options: Any, secrets: Collection[str] = ()) -> Any:
    """Mask secrets in options: by the keys of mappings at any depth, and by value.

    Args:
        options: Anything that JSON or YAML can hold.
        secrets (`Collection[str]`): Values to mask.

    Returns:
        The same, without secrets.

    Example:
    ```python
    >>> from rnn_hf.utils.secrets import mask_options
    >>> mask_options({"hub_token": "hf_S", "dataset_kwargs": '{"token": "hf_S", "sep": ";"}', "seed": 1})
    {'hub_token': '…', 'dataset_kwargs': '{"token": "…", "sep": ";"}', 'seed': 1}

    ```
    """
    if isinstance(options, dict):
        # Keys are names of ours, or of options: a secret that is also such a word stays one.
        return {
            mask(str(key)): MASK if is_secret_key(str(key)) and value is not None else mask_options(value, secrets)
            for key, value in options.items()
        }
    if isinstance(options, list | tuple):
        return [mask_options(one, secrets) for one in options]
    if isinstance(options, str):
        parsed = _parsed(options)
        if isinstance(parsed, dict | list):
            return json.dumps(mask_options(parsed, secrets), ensure_ascii=False)
        return mask(options, secrets)
    return options


def mask_command(arguments: Sequence[str], secrets: Collection[str] = ()) -> list[str]:
    """Mask secrets in a command line.

    Args:
        arguments (`Sequence[str]`): The words of the command.
        secrets (`Collection[str]`): Values to mask.

    Returns:
        `list[str]`: the words, without secrets.

    Example:
    ```python
    >>> from rnn_hf.utils.secrets import mask_command
    >>> mask_command(["train.py", "--hub-token", "hf_S", "--seed", "1"])
    ['train.py', '--hub-token', '…', '--seed', '1']

    ```
    """
    masked, hide_next = [], False
    for word in arguments:
        name, equals, value = word.partition("=")
        if hide_next:
            masked.append(MASK)
        elif word.startswith("--") and equals:
            masked.append(f"{name}={MASK if is_secret_key(name) else mask_options(value, secrets)}")
        else:
            masked.append(mask_options(word, secrets))
        hide_next = word.startswith("--") and not equals and is_secret_key(name)
    return masked


def name_unknown(words: Sequence[str]) -> str:
    """List the words of a command line that no option takes; what stands behind a mistyped option may be a secret.

    Args:
        words (`Sequence[str]`): What a parser leaves over.

    Returns:
        `str`: options without their values, and values that follow on none of them.

    Example:
    ```python
    >>> from rnn_hf.utils.secrets import name_unknown
    >>> name_unknown(["extra.csv", "--hub_tokn", "1234", "-p=5678"])
    'extra.csv --hub_tokn -p'

    ```
    """
    named: list[str] = []
    follows = False
    for word in words:
        is_option = word.startswith("-")
        if is_option or not follows:
            named.append(mask(word.partition("=")[0]))
        follows = follows or is_option or is_secret_key(word)
    return " ".join(named)


def read_options_files(arguments: Sequence[str]) -> Any:
    """Read the options in the file that `--config` names on a command line; `None` without one."""
    files = [value for name, value in _options(arguments) if name == "--config"]
    return _read_options(files[-1]) if files else None


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the options of a command line with each of their values."""
    name = ""
    for word in arguments:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            if equals:
                yield name, value
        else:
            yield name, word


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return None


def _read_options(path: str) -> Any:
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None


def _held(options: Any) -> Iterator[str]:
    """Yield the secrets in nested mappings."""
    if isinstance(options, dict):
        for key, value in options.items():
            # What stands in a container may be a common word: it is masked there alone.
            if is_secret_key(str(key)) and not re.fullmatch(_CONTAINERS, str(key), re.IGNORECASE):
                yield from _texts(value)
            elif isinstance(value, str):
                yield from _passwords(value)
                yield from _held(_parsed(value))
            else:
                yield from _held(value)
    elif isinstance(options, list | tuple):
        for one in options:
            yield from _held(one)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _passwords(text: str) -> Iterator[str]:
    """Yield the passwords in addresses, as they are written and as they are meant."""
    for credentials in _ADDRESS.findall(text):
        password = credentials.partition(":")[2]
        yield from {credentials, password, unquote(password)}


def _is_secret_variable(name: str, value: str) -> bool:
    found = _SECRET_VARIABLE.fullmatch(name.upper())
    if found is None or len(value) < _MIN_VARIABLE_LENGTH:
        return False
    # `MY_TOKEN_URL` and `SECRET_FILE` hold where a secret is, `TOKEN_MODE` a word.
    return not found["rest"] or not (os.path.exists(value) or "://" in value or re.fullmatch(r"[a-z_\-]+", value))


def _stored_tokens() -> Iterator[str]:
    try:
        yield from (token for token in (get_token(), *get_stored_tokens().values()) if token)
    except (OSError, ValueError):
        return


__all__ = [
    "MASK",
    "find_secrets",
    "is_secret_key",
    "mask",
    "mask_command",
    "mask_options",
    "name_unknown",
    "read_options_files",
]
