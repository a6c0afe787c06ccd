"""Load trained classifiers and taggers, after checking that their files are whole and fit each other."""

from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.initialization import no_init_weights

from ..models.configuration_rnn import RnnConfig
from ..models.labels import count_ends
from ..models.modeling_lm import RnnForCausalLM, RnnForPreTraining
from ..models.modeling_rnn import RnnForSequenceClassification, RnnForTokenClassification, RnnModel
from .download import find_folder
from .model_files import COPY_AGAIN, read_json, read_weight_infos, read_weights

RnnModelWithHead = RnnForSequenceClassification | RnnForTokenClassification


class SavedModel(NamedTuple):
    """What a model's folder holds, checked: see [`read_model`].

    Args:
        model_class (`type`): [`RnnForSequenceClassification`] or [`RnnForTokenClassification`].
        config ([`RnnConfig`]): Its configuration.
        weights (`dict[str, torch.Tensor]`): Its weights by their names.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
    """

    model_class: type[RnnForSequenceClassification] | type[RnnForTokenClassification]
    config: RnnConfig
    weights: dict[str, torch.Tensor]
    tokenizer: PreTrainedTokenizerBase


_HEADS = (RnnForSequenceClassification, RnnForTokenClassification)
_LANGUAGE_MODELS = (RnnForPreTraining, RnnForCausalLM)
_DTYPES = ("float32", "float16", "bfloat16", "float64")
_FLOATS = ("F32", "F16", "BF16", "F64")
# Keys of `config.json` by which transformers would load other files, or run code from the hub.
_FOREIGN_KEYS = (
    "_attn_implementation",
    "attn_implementation",
    "experts_implementation",
    "quantization_config",
    "transformers_weights",
)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
# What to say where only a slow tokenizer's files are.
MISSING_TOKENIZER = (
    "tokenizer.json is missing. Save a fast tokenizer there: load this one with transformers where what it needs is "
    "installed, as sentencepiece, and save it with save_pretrained; or take another one."
)
VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model", "*.tiktoken")
# Models with so many layers too many are built, without memory, to say which weights are missing.
_FEW_LAYERS = 64
_MOST_LABELS = 1_000_000  # as in the configuration
_MOST_LABEL_CHARACTERS = 100_000
_REPAIR = (
    "It was edited, or written by another version of rnn_hf: load the model with that version and save it anew, or "
    "train it anew."
)


def load(
    model_name_or_path: str, revision: str | None = None, *, device: str | torch.device = "cpu"
) -> tuple[RnnModelWithHead, PreTrainedTokenizerBase]:
    """Load a classifier or a tagger, whichever a folder or hub repository holds, with its tokenizer.

    No code from the folder or the repository is run, and its files are checked before a model is built.

    Args:
        model_name_or_path (`str`): Folder or hub id.
        revision (`str`, *optional*): Branch, tag or commit on the hub; `main` without it.
        device (`str` or `torch.device`): Where the model goes.

    Returns:
        The model in evaluation mode, and the tokenizer.

    Raises:
        ValueError: There is no such model, it is neither a classifier nor a tagger of this package, a file is damaged,
            or the files do not fit each other; or there is no such device. The message names the file and says what
            to do.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf import RnnConfig, RnnForTokenClassification, train_tokenizer
    >>> from rnn_hf.inference.loading import load
    >>> tokenizer = train_tokenizer([["a", "b"]], kind="word", min_frequency=1, is_split_into_words=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     RnnForTokenClassification(RnnConfig(vocab_size=len(tokenizer))).save_pretrained(folder)
    ...     _ = tokenizer.save_pretrained(folder)
    ...     type(load(folder)[0]).__name__
    'RnnForTokenClassification'

    ```
    """
    device = find_device(device)
    saved = read_model(find_folder(model_name_or_path, revision), model_name_or_path)
    # By their content: of the folder, transformers would read other files than were checked.
    model = saved.model_class.from_pretrained(None, config=saved.config, state_dict=saved.weights)
    return model.eval().to(device), saved.tokenizer


def read_model(folder: Path, name: str | None = None) -> SavedModel:
    """Read what a folder must hold to be loaded, and check all of it.

    Args:
        folder (`Path`): A model's folder.
        name (`str`, *optional*): What the user calls the model, for messages.

    Returns:
        [`SavedModel`]

    Raises:
        ValueError: As of [`load`].

    Example:
    ```python
    >>> import tempfile
    >>> from pathlib import Path
    >>> from rnn_hf import RnnConfig, RnnForTokenClassification, train_tokenizer
    >>> from rnn_hf.inference.loading import read_model
    >>> tokenizer = train_tokenizer([["a", "b"]], kind="word", min_frequency=1, is_split_into_words=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     RnnForTokenClassification(RnnConfig(vocab_size=len(tokenizer))).save_pretrained(folder)
    ...     _ = tokenizer.save_pretrained(folder)
    ...     read_model(Path(folder)).weights["classifier.bias"].shape
    torch.Size([2])

    ```
    """
    config = load_config(str(folder))
    model_class = next((one for one in _HEADS if one.__name__ in (config.architectures or [])), None)
    if model_class is None:
        if any(one.__name__ in (config.architectures or []) for one in (*_LANGUAGE_MODELS, RnnModel)):
            raise ValueError(
                f"{name or folder} holds no classifier or tagger of rnn_hf, but an encoder without labels, "
                f"architectures={config.architectures}: fine-tune it, with --model_name_or_path of rnn-hf "
                "train-classifier or train-tagger."
            )
        raise ValueError(
            f"{name or folder} holds no classifier or tagger of rnn_hf: its config.json says "
            f"model_type={config.model_type!r}, architectures={config.architectures}."
        )
    check_weights(folder, config)
    tokenizer = load_tokenizer(folder, config)
    return SavedModel(model_class, config, load_weights(folder), tokenizer)


def load_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Read a model's weights, and check their values: that all are finite, and that tables name rows that exist.

    Args:
        folder (`Path`): A model's folder, which [`check_weights`] has looked through.

    Returns:
        `dict[str, torch.Tensor]`: the weights by their names.

    Raises:
        ValueError: It is not so; with the name of the weights.

    Example:
    ```python
    >>> import tempfile
    >>> from pathlib import Path
    >>> from rnn_hf import RnnConfig, RnnForTokenClassification
    >>> from rnn_hf.inference.loading import load_weights
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     RnnForTokenClassification(RnnConfig(vocab_size=9)).save_pretrained(folder)
    ...     load_weights(Path(folder))["classifier.bias"].shape
    torch.Size([2])

    ```
    """
    weights = read_weights(folder)
    _check_values(folder, weights)
    return weights


def _check_values(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """Check that weights are numbers, and that tables name rows that exist."""
    for name, values in weights.items():
        if values.is_floating_point():
            if not values.isfinite().all():
                raise ValueError(f"The weights in {folder} hold numbers that are not finite, in {name}: {COPY_AGAIN}.")
            continue
        module, _, kind = name.rpartition(".")
        rows = {
            "character_ids": f"{module}.char_embeddings.weight",
            "feature_rows": f"{module}.weight",
            "vector_ids": f"{module}.vectors.weight",
        }.get(kind)
        if (rows in weights or kind == "character_codes") and values.numel():
            lowest, highest = (int(bound) for bound in values.aminmax())
            if lowest < 0 or (rows in weights and highest >= len(weights[str(rows)])):
                raise ValueError(f"The weights in {folder} are damaged: {name} names rows that do not exist. {_REPAIR}")


def find_device(name: str | torch.device) -> torch.device:
    """Find a device by its name, and check that it works.

    Args:
        name (`str` or `torch.device`): `"cpu"`, `"cuda"`, `"cuda:1"`, `"mps"`, …

    Returns:
        `torch.device`: the device.

    Raises:
        ValueError: There is no such device here.

    Example:
    ```python
    >>> from rnn_hf.inference.loading import find_device
    >>> find_device("cpu")
    device(type='cpu')

    ```
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (AssertionError, ImportError, RuntimeError, TypeError) as error:
        here = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        here += ["mps"] * torch.backends.mps.is_available()
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"There is no device {str(name)!r} here, only {', '.join(here)} ({reason.rstrip('.')})."
        ) from error
    return device


def is_tagger(model: Any) -> bool:
    """Tell a tagger from a classifier, of torch or of onnxruntime."""
    return type(model).__name__.endswith("ForTokenClassification")


def load_config(model_name_or_path: str, revision: str | None = None) -> RnnConfig:
    """Load the configuration of a model of this package.

    Args:
        model_name_or_path (`str`): Folder or hub id.
        revision (`str`, *optional*): Branch, tag or commit on the hub; `main` without it.

    Returns:
        [`RnnConfig`]

    Raises:
        ValueError: There is no model, one of another kind, or one whose configuration this version cannot read.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf import RnnConfig
    >>> from rnn_hf.inference.loading import load_config
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     RnnConfig(cell_type="gru").save_pretrained(folder)
    ...     load_config(folder).cell_type
    'gru'

    ```
    """
    folder = find_folder(model_name_or_path, revision, weights=False)
    file = folder / "config.json"
    if not file.is_file():
        raise ValueError(f"{model_name_or_path} holds no model: config.json is missing.")
    found = read_json(file)
    if found.get("model_type") != RnnConfig.model_type:
        raise ValueError(
            f"{model_name_or_path} holds no classifier or tagger of rnn_hf: its config.json says "
            f"model_type={found.get('model_type')!r}."
        )
    for key in _FOREIGN_KEYS:
        if found.get(key) not in (None, "eager"):
            raise ValueError(f"{file} holds {key}={found[key]!r}, which no model of rnn_hf has: remove that key.")
    for key in ("dtype", "torch_dtype"):
        if found.get(key) is not None and found[key] not in _DTYPES:
            raise ValueError(f"{file} says {key}={found[key]!r}, which must be one of {', '.join(_DTYPES)}. {_REPAIR}")
    _check_labels(file, found)
    names = found.get("architectures")
    if names is not None and not (isinstance(names, list) and all(isinstance(one, str) for one in names)):
        raise ValueError(f"{file} says architectures={names!r}, which must be a list of names. {_REPAIR}")
    try:
        return RnnConfig.from_pretrained(folder)
    except Exception as error:  # whatever a foreign value makes of the library
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{file} cannot be read: {reason} {_REPAIR}") from error


def _check_labels(file: Path, found: dict[str, Any]) -> None:
    """Check the number and the length of labels, since a configuration with millions of them takes minutes to make."""
    maps = {key: found[key] for key in ("id2label", "label2id") if isinstance(found.get(key), dict)}
    numbers = {f"{key} names {len(labels):,} labels": len(labels) for key, labels in maps.items()}
    if "id2label" not in maps and isinstance(found.get("num_labels"), int):
        numbers[f"num_labels={found['num_labels']:,}"] = found["num_labels"]
    weights = {}
    with suppress(ValueError):  # what is wrong with them is said when they are read
        weights = read_weight_infos(file.parent)
    num_ends = count_ends(found, maps)
    for said, number in numbers.items():
        if "classifier.bias" in weights and weights["classifier.bias"].shape != (number + num_ends,):
            num_labels = sum(weights["classifier.bias"].shape)
            raise _misfit(file.parent, f"{said}, but classifier.bias in the weights is of {num_labels:,}")
        if number > _MOST_LABELS:
            raise ValueError(f"{file} cannot be read: {said}, and there may be {_MOST_LABELS:,} at most. {_REPAIR}")
    names = [*maps.get("id2label", {}).values(), *maps.get("label2id", {})]
    longest = max((len(name) for name in names if isinstance(name, str)), default=0)
    if longest > _MOST_LABEL_CHARACTERS:
        raise ValueError(
            f"{file} cannot be read: it names a label of {longest:,} characters, and there may be "
            f"{_MOST_LABEL_CHARACTERS:,} at most. {_REPAIR}"
        )


def check_weights(folder: Path, config: RnnConfig) -> None:
    """Check that a folder's weights are whole and fit its configuration, by their headers alone.

    Args:
        folder (`Path`): A model's folder.
        config ([`RnnConfig`]): Its configuration.

    Raises:
        ValueError: A file is missing, damaged or cut off, or the weights are those of another architecture.

    Example:
    ```python
    >>> import tempfile
    >>> from pathlib import Path
    >>> from rnn_hf import RnnConfig, RnnForTokenClassification
    >>> from rnn_hf.inference.loading import check_weights
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model = RnnForTokenClassification(RnnConfig(vocab_size=9, num_labels=2))
    ...     model.save_pretrained(folder)
    ...     check_weights(Path(folder), model.config)

    ```
    """
    found = read_weight_infos(folder)
    layers = sum("weight_hh_l" in name and not name.endswith("_reverse") for name in found)
    if config.num_hidden_layers > layers + _FEW_LAYERS:
        raise _misfit(folder, f"num_hidden_layers={config.num_hidden_layers}, but the weights are of {layers} layers")
    classes = (*_HEADS, *_LANGUAGE_MODELS)
    model_class = next((one for one in classes if one.__name__ in (config.architectures or [])), RnnModel)
    try:
        with torch.device("meta"), no_init_weights():
            wanted = model_class(config).state_dict()
    except Exception as error:  # sizes that overflow, and whatever else no model can have
        raise _misfit(folder, " ".join(str(error).split())) from error
    problems = {
        "missing": wanted.keys() - found.keys(),
        "not known": found.keys() - wanted.keys(),
        "of another shape": {name for name in wanted.keys() & found.keys() if found[name].shape != wanted[name].shape},
        "of another type": {
            name
            for name in wanted.keys() & found.keys()
            if wanted[name].is_floating_point() != (found[name].dtype in _FLOATS)
        },
    }
    if any(problems.values()):
        listed = (f"{len(names)} {what}, as {min(names)}" for what, names in problems.items() if names)
        raise _misfit(folder, "; ".join(listed))


def _misfit(folder: Path, reason: str) -> ValueError:
    return ValueError(
        f"The weights in {folder} do not fit its config.json ({reason}). One of the files was edited or is of "
        "another version of rnn_hf: load the model with that version and save it anew, or train it anew."
    )


def load_tokenizer(folder: Path, config: RnnConfig) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model, without running code of the folder.

    Args:
        folder (`Path`): The model's folder.
        config ([`RnnConfig`]): The model's configuration.

    Returns:
        `PreTrainedTokenizerBase`: the tokenizer.

    Raises:
        ValueError: There is none, a file is damaged, or it has more entries than the model.

    Example:
    ```python
    >>> import tempfile
    >>> from pathlib import Path
    >>> from rnn_hf import RnnConfig, train_tokenizer
    >>> from rnn_hf.inference.loading import load_tokenizer
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = train_tokenizer(["a a b b"], kind="word").save_pretrained(folder)
    ...     load_tokenizer(Path(folder), RnnConfig(vocab_size=5)).tokenize("b a")
    ['b', 'a']

    ```
    """
    for name in TOKENIZER_FILES:
        if (folder / name).exists() and "auto_map" in read_json(folder / name):
            raise ValueError(
                f"{folder / name} names code of its own under auto_map, which is never run: save a tokenizer there "
                "that transformers knows, or one of rnn_hf.train_tokenizer."
            )
    if not any(path for pattern in VOCABULARIES for path in folder.glob(pattern)):
        raise ValueError(
            f"{folder} holds no tokenizer: tokenizer.json is missing. Save it there with "
            f"tokenizer.save_pretrained({str(folder)!r})."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, config=config, trust_remote_code=False)
        num_entries, limit = len(tokenizer), tokenizer.model_max_length
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:  # the tokenizers of Rust end in exceptions of any class
        if not (folder / "tokenizer.json").is_file():
            raise ValueError(f"{folder} holds no tokenizer that can be read: {MISSING_TOKENIZER}") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{folder} holds no tokenizer that can be read, in tokenizer.json and tokenizer_config.json "
            f"({type(error).__name__}: {reason}): {COPY_AGAIN}."
        ) from error
    if not isinstance(limit, int | float) or limit < 1:
        raise ValueError(
            f"{folder / 'tokenizer_config.json'} says model_max_length={limit!r}, which must be a number of at least 1."
        )
    if num_entries > config.vocab_size:
        raise ValueError(
            f"The tokenizer in {folder} has {num_entries:,} entries, but the model has {config.vocab_size:,} "
            "(vocab_size in config.json): they do not belong together. Save the model's own tokenizer there."
        )
    return tokenizer


__all__ = [
    "MISSING_TOKENIZER",
    "TOKENIZER_FILES",
    "VOCABULARIES",
    "RnnModelWithHead",
    "SavedModel",
    "check_weights",
    "find_device",
    "is_tagger",
    "load",
    "load_config",
    "load_tokenizer",
    "load_weights",
    "read_model",
]
