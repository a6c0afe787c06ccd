"""A folder that runs without torch: configuration, tokenizer and graphs."""

import json
import os
from pathlib import Path

from ..inference.loading import is_tagger, load
from ..inference.model_files import read_json
from ..text.encoding import max_length_of
from ..utils.files import replace_file
from .encoder import LOWEST_OPSET, check_opset, to_onnx

# How many tokens Text Embeddings Inference reads of a text at most, by default.
_MOST_SERVED_TOKENS = 16384
_REQUIREMENTS = "numpy\nonnxruntime\ntokenizers\n"
# Stands in a `handler.py` of this package.
_MARK = "Written by rnn_hf"


def export(
    model_name_or_path: str, output_dir: str | Path, *, opset: int = LOWEST_OPSET, int8: bool = False
) -> dict[str, int]:
    """Write a folder that runs without torch: configuration, tokenizer, `onnx/model.onnx`, `onnx/model_int8.onnx`.

    It also has what servers ask for: `handler.py` and `requirements.txt` for Inference Endpoints, where none of another
    kind are, and in a classifier's `config.json` the `max_position_embeddings` that Text Embeddings Inference reads.

    Args:
        model_name_or_path (`str`): Folder or hub id of a trained classifier or tagger.
        output_dir (`str` or `Path`): Folder to write to; the model's own gets the folder `onnx` beside its weights.
        opset (`int`): Version of ONNX's operators.
        int8 (`bool`): Whether to write the quantised graph too.

    Returns:
        `dict[str, int]`: see [`exported_files`].

    Raises:
        ValueError: Not a model of this package, an unsupported opset, or a folder that cannot be written to, or that
            holds another model.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf import RnnConfig, RnnForTokenClassification, train_tokenizer
    >>> from rnn_hf.export.folder import export
    >>> tokenizer = train_tokenizer([["a", "b"]], kind="word", min_frequency=1, is_split_into_words=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     RnnForTokenClassification(RnnConfig(vocab_size=len(tokenizer))).save_pretrained(folder)
    ...     _ = tokenizer.save_pretrained(folder)
    ...     list(export(folder, folder))
    ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'onnx/model.onnx']

    ```
    """
    check_opset(opset)
    folder = Path(output_dir)
    own = Path(model_name_or_path).is_dir() and folder.exists() and folder.samefile(model_name_or_path)
    check_output(folder, own)
    model, tokenizer = load(model_name_or_path)
    graphs = {"model.onnx": to_onnx(model, opset=opset)}
    if int8:
        graphs["model_int8.onnx"] = to_onnx(model, opset=opset, int8=True)
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    if not own:
        model.config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        file = folder / "tokenizer.json"
        replace_file(file, json.dumps(read_json(file), ensure_ascii=False, separators=(",", ":")))
    config = read_json(folder / "config.json")
    if not own:
        config.pop("auto_map", None)  # the code is not in the folder
    if not is_tagger(model):
        config["max_position_embeddings"] = max_length_of(tokenizer) or _MOST_SERVED_TOKENS
        if config.get("pad_token_id") is None:
            config.pop("pad_token_id", None)  # it may be missing, and not null
    replace_file(folder / "config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    _write_handler(folder)
    for name, graph in graphs.items():
        replace_file(folder / "onnx" / name, graph.SerializeToString())
    return exported_files(folder)


def _write_handler(folder: Path) -> None:
    """Write what answers the requests of Inference Endpoints, where there is none of the user's own."""
    handler = folder / "handler.py"
    if handler.exists() and _MARK not in handler.read_text(encoding="utf-8", errors="replace"):
        return
    replace_file(handler, Path(__file__).with_name("handler.py").read_text(encoding="utf-8"))
    if not (folder / "requirements.txt").exists():
        replace_file(folder / "requirements.txt", _REQUIREMENTS)


def check_output(folder: Path, own: bool) -> None:
    """Check, before what takes long, that a folder can be written to and holds no other model.

    Args:
        folder (`Path`): The folder, which may be missing.
        own (`bool`): Whether it is that of the model itself.

    Raises:
        ValueError: It is not so.
    """
    for path in (folder, folder / "onnx"):
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path} is a file: name a folder to write to.")
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise ValueError(f"{folder} cannot be made: {existing} is a file.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"{folder} cannot be written to: check the permissions of {existing}.")
    if not own and any(folder.glob("*.safetensors")):
        raise ValueError(f"{folder} holds another model, whose configuration would be replaced: name another folder.")
    if (
        not own
        and (folder / "config.json").exists()
        and read_json(folder / "config.json").get("model_type") != "rnn_hf"
    ):
        raise ValueError(
            f"{folder} holds a config.json of something else, which would be replaced: name another folder."
        )


def exported_files(folder: str | Path) -> dict[str, int]:
    """Tell what an exported folder holds for running without torch.

    Args:
        folder (`str` or `Path`): A folder that [`export`] wrote.

    Returns:
        `dict[str, int]`: bytes of `config.json`, the tokenizer's files and the graphs, by their paths in the folder.
    """
    folder = Path(folder)
    names = ["config.json", "tokenizer.json", "tokenizer_config.json", "onnx/model.onnx", "onnx/model_int8.onnx"]
    return {name: (folder / name).stat().st_size for name in names if (folder / name).is_file()}


__all__ = ["check_output", "export", "exported_files"]
