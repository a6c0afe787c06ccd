"""Predict in bulk: batches of similar length, results in the order of the input, in constant memory."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from .configuration_rnn import RnnConfig
from .data_collator import DataCollatorWithPacking, cut_batches
from .download import find_folder
from .modeling_rnn import RnnForSequenceClassification, RnnForTokenClassification
from .tokenization import encode_texts, encode_words

RnnModelWithHead = RnnForSequenceClassification | RnnForTokenClassification

_WINDOW = 4096


def load(model_name_or_path: str, revision: str | None = None) -> tuple[RnnModelWithHead, PreTrainedTokenizerBase]:
    """Load a classifier or a tagger, whichever a folder or hub repository holds, with its tokenizer.

    No code from the folder or the repository is run.

    Args:
        model_name_or_path (`str`): Folder or hub id.
        revision (`str`, *optional*): Branch, tag or commit on the hub; `main` without it.

    Returns:
        The model in evaluation mode, and the tokenizer.

    Raises:
        ValueError: There is no such model, it is neither a classifier nor a tagger of this package, a file is damaged,
            or the weights do not fit the configuration. The message names the file and says what to do.
    """
    folder = find_folder(model_name_or_path, revision)
    config = load_config(str(folder))
    for model_class in (RnnForSequenceClassification, RnnForTokenClassification):
        if model_class.__name__ in (config.architectures or []):
            check_weights(folder)
            model = _load_exactly(model_class, folder, config)
            return model, _load_tokenizer(folder)
    raise ValueError(
        f"{model_name_or_path} holds no classifier or tagger of rnn_hf: its config.json says "
        f"model_type={config.model_type!r}, architectures={config.architectures}."
    )


def is_tagger(model: Any) -> bool:
    """Tell a tagger from a classifier, of torch or of onnxruntime."""
    return type(model).__name__.endswith("ForTokenClassification")


def load_config(model_name_or_path: str, revision: str | None = None) -> RnnConfig:
    """Load the configuration of a model of this package.

    Args:
        model_name_or_path (`str`): Folder or hub id.
        revision (`str`, *optional*): Branch, tag or commit on the hub; `main` without it.

    Raises:
        ValueError: There is no model, one of another kind, or one whose configuration this version cannot read.
    """
    folder = find_folder(model_name_or_path, revision, weights=False)
    if not (folder / "config.json").is_file():
        raise ValueError(f"{model_name_or_path} holds no model: config.json is missing.")
    try:
        found, _ = RnnConfig.get_config_dict(folder)
    except OSError as error:
        raise ValueError(f"{model_name_or_path} holds no model: {error}") from error
    if found.get("model_type") != RnnConfig.model_type:
        raise ValueError(
            f"{model_name_or_path} holds no classifier or tagger of rnn_hf: its config.json says "
            f"model_type={found.get('model_type')!r}."
        )
    try:
        return RnnConfig.from_pretrained(folder)
    except (TypeError, ValueError, StrictDataclassError) as error:
        raise ValueError(
            f"{folder / 'config.json'} cannot be read: {' '.join(str(error).split())} It was edited, or written by "
            "another version of rnn_hf: load the model with that version and save it anew, or train it anew."
        ) from error


def check_weights(folder: Path) -> None:
    """Check that a folder's weights are whole, by what their headers promise.

    Args:
        folder (`Path`): A model's folder.

    Raises:
        ValueError: A file is missing, damaged or cut off.

    Example:
    ```python
    >>> import tempfile
    >>> from pathlib import Path
    >>> from rnn_hf import RnnConfig, RnnForTokenClassification
    >>> from rnn_hf.prediction import check_weights
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     RnnForTokenClassification(RnnConfig(vocab_size=9, num_labels=2)).save_pretrained(folder)
    ...     check_weights(Path(folder))

    ```
    """
    names = ["model.safetensors"]
    if (index := folder / "model.safetensors.index.json").exists():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    for name in names:
        file = folder / name
        if not file.exists():
            raise ValueError(f"{folder} holds no weights: {name} is missing.")
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"{file} is damaged or was cut off ({error}): remove it (in the hub's cache, all of the model), and "
                "download or copy it again."
            ) from error


def _load_exactly(model_class: type[RnnModelWithHead], folder: Path, config: RnnConfig) -> RnnModelWithHead:
    """Load a model, each weight of which must be in the checkpoint, and the other way round."""
    loaded: Any = model_class.from_pretrained(
        folder, config=config, output_loading_info=True, ignore_mismatched_sizes=True
    )
    model, info = loaded
    mismatched = {name for name, *_ in info["mismatched_keys"]}
    problems = {"missing": info["missing_keys"], "not known": info["unexpected_keys"], "of another shape": mismatched}
    if any(problems.values()):
        listed = "; ".join(f"{len(names)} {what}, as {min(names)}" for what, names in problems.items() if names)
        raise ValueError(
            f"The weights in {folder} do not fit its config.json ({listed}). One of the files was edited or is of "
            "another version of rnn_hf: load the model with that version and save it anew, or train it anew."
        )
    return model.eval()


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} holds no tokenizer that can be read: {error}") from error


def predict(
    model: RnnModelWithHead | Any,
    tokenizer: PreTrainedTokenizerBase,
    inputs: Iterable[str] | Iterable[list[str]],
    *,
    batch_size: int = 128,
    max_tokens_per_batch: int = 16384,
) -> Iterator[dict[str, Any]]:
    """Classify texts, or tag sentences that are split into words.

    Inputs are read a few thousand at a time and run in batches of similar length, so that inputs of any number,
    from a generator for instance, take little memory.

    Args:
        model ([`RnnForSequenceClassification`] or [`RnnForTokenClassification`]):
            A trained model, or one of the classes in `onnx_model` that run it with onnxruntime.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        inputs (`Iterable[str]` or `Iterable[list[str]]`): Texts for a classifier, lists of words for a tagger.
        batch_size (`int`): Most sequences in a batch.
        max_tokens_per_batch (`int`): Most tokens in a batch; a longer sequence makes a batch of its own.

    Yields:
        For each input, in order: of a classifier `{"text", "label", "score"}` with the label's probability, for
        several labels at once `{"text", "labels", "scores"}` of those above one half, for a regression
        `{"text", "scores"}`; of a tagger `{"tokens", "tags"}`.

    Example:
    ```python
    >>> from rnn_hf import RnnConfig, RnnForTokenClassification, train_tokenizer
    >>> from rnn_hf.prediction import predict
    >>> tokenizer = train_tokenizer([["a", "b", "a", "b"]], kind="word", is_split_into_words=True)
    >>> model = RnnForTokenClassification(RnnConfig(vocab_size=len(tokenizer), id2label={0: "X"}))
    >>> list(predict(model, tokenizer, [["a", "b"], [], ["c"]]))
    [{'tokens': ['a', 'b'], 'tags': ['X', 'X']}, {'tokens': [], 'tags': []}, {'tokens': ['c'], 'tags': ['X']}]

    ```
    """
    collator = DataCollatorWithPacking(tokenizer, padding=not isinstance(model, torch.nn.Module))
    if isinstance(model, torch.nn.Module):
        model.eval()
    iterator = iter(inputs)
    while window := list(islice(iterator, _WINDOW)):
        yield from _predict_window(model, tokenizer, collator, window, batch_size, max_tokens_per_batch)


def _predict_window(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    collator: DataCollatorWithPacking,
    window: list[Any],
    batch_size: int,
    max_tokens_per_batch: int,
) -> list[dict[str, Any]]:
    firsts: list[list[int]] = []
    tags_tokens = is_tagger(model)
    if tags_tokens:
        ids, firsts = encode_words(tokenizer, window)
    else:
        ids = encode_texts(tokenizer, window)
    results: list[dict[str, Any]] = [{} for _ in window]
    lengths = [len(one) for one in ids]
    longest_first = sorted(range(len(ids)), key=lambda place: -lengths[place])
    for places in cut_batches(longest_first, lengths, batch_size, max_tokens_per_batch):
        batch = collator([{"input_ids": ids[place]} for place in places])
        with torch.inference_mode():
            logits = model(**{name: value.to(model.device) for name, value in batch.items()}).logits.float().cpu()
        for row, place in enumerate(places):
            if tags_tokens:
                best = logits[row, firsts[place]].argmax(dim=-1).tolist()
                tags = [model.config.id2label[index] for index in best]
                results[place] = {"tokens": window[place], "tags": tags}
            else:
                results[place] = {"text": window[place]} | _classified(model.config, logits[row])
    return results


def _classified(config: RnnConfig, logits: torch.Tensor) -> dict[str, Any]:
    labels = config.label_names
    if config.problem_type == "regression":
        return {"scores": logits.tolist()}
    if config.problem_type == "multi_label_classification":
        scores = logits.sigmoid().tolist()
        chosen = [index for index, score in enumerate(scores) if score > 0.5]
        return {"labels": [labels[index] for index in chosen], "scores": [scores[index] for index in chosen]}
    score, index = logits.softmax(dim=-1).max(dim=-1)
    return {"label": labels[int(index)], "score": float(score)}


__all__ = ["check_weights", "is_tagger", "load", "load_config", "predict"]
