"""A folder that the pipelines of transformers.js run, in browsers and under Node."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from onnx import ModelProto
from transformers import PreTrainedTokenizerBase

from ..inference.loading import RnnModelWithHead, is_tagger, load
from ..inference.model_files import read_json
from ..text.encoding import NO_LIMIT, max_length_of
from ..utils.files import replace_file
from .browser_tokenizer import browser_tokenizer
from .encoder import LOWEST_OPSET, check_opset, to_onnx
from .folder import check_output
from .graph import Graph

# The graph in float32, which Node takes by default, and the int8 one, which browsers take.
BROWSER_FILES = (
    *("config.json", "tokenizer.json", "tokenizer_config.json"),
    *("onnx/model.onnx", "onnx/model_quantized.onnx"),
)
# What transformers.js calls an encoder with a head. It has no such model; the graph is all that it runs.
_MODEL_TYPE = "bert"
_ARCHITECTURES = {False: "BertForSequenceClassification", True: "BertForTokenClassification"}


def export_for_browser(
    model_name_or_path: str, output_dir: str | Path, *, opset: int = LOWEST_OPSET, float32: bool = True
) -> dict[str, int]:
    """Write a folder for `pipeline` of transformers.js: configuration, tokenizer, and graphs in float32 and int8.

    The pipelines give the ids, labels and scores that Python gives. These differences remain:

    - The token-classification pipeline splits raw text, gives no `start` and `end`, and aggregates `simple` only.
      Its scores are those of the logits, as in Python's pipeline.
    - A regression's values are the `logits` of the model; the pipeline makes probabilities of them.
    - `label_thresholds` stand in `config.json` under `rnn_hf`; the pipeline does not apply them.
    - Byte-level BPE takes U+FEFF for white space, and U+0085 not, as JavaScript does: texts with them are cut into
      other tokens.

    Args:
        model_name_or_path (`str`): Folder or hub id of a trained classifier or tagger.
        output_dir (`str` or `Path`): Folder to write to, another than the model's.
        opset (`int`): Version of ONNX's operators.
        float32 (`bool`): Whether to write the graph in float32, beside the int8 one.

    Returns:
        `dict[str, int]`: bytes of each file, by its path in the folder.

    Raises:
        ValueError: Not a model of this package, a tokenizer that transformers.js cannot run, an unsupported opset, or a
            folder that cannot be written to or holds another model.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf import RnnConfig, RnnForTokenClassification, train_tokenizer
    >>> from rnn_hf.export.browser import export_for_browser
    >>> tokenizer = train_tokenizer([["a", "b"]], kind="word", min_frequency=1, is_split_into_words=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     RnnForTokenClassification(RnnConfig(vocab_size=len(tokenizer))).save_pretrained(f"{folder}/model")
    ...     _ = tokenizer.save_pretrained(f"{folder}/model")
    ...     list(export_for_browser(f"{folder}/model", f"{folder}/web"))[3:]
    ['onnx/model.onnx', 'onnx/model_quantized.onnx']

    ```
    """
    check_opset(opset)
    folder = Path(output_dir)
    if Path(model_name_or_path).is_dir() and folder.exists() and folder.samefile(model_name_or_path):
        raise ValueError(f"{folder} is the model's own folder, whose configuration would be replaced: name another.")
    check_output(folder, own=_is_for_browsers(folder))
    model, tokenizer = load(model_name_or_path)
    state = browser_tokenizer(json.loads(tokenizer.backend_tokenizer.to_str()))
    max_length = None if is_tagger(model) else max_length_of(tokenizer)
    last_token = _last_token(tokenizer, max_length)
    files: dict[str, str | bytes] = {
        "config.json": _json(_browser_config(model), indent=2),
        "tokenizer.json": _json(state),
        "tokenizer_config.json": _json(_tokenizer_config(tokenizer, max_length), indent=2),
    }
    for name, int8 in (("onnx/model.onnx", False), ("onnx/model_quantized.onnx", True)):
        if not int8 and not float32:
            continue
        graph = to_onnx(model, opset=opset, int8=int8)
        if max_length is not None and last_token is not None:
            _end_cut_texts(graph, max_length, last_token)
        files[name] = graph.SerializeToString()
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        replace_file(folder / name, content)
    return {name: (folder / name).stat().st_size for name in BROWSER_FILES if name in files}


def _is_for_browsers(folder: Path) -> bool:
    """Tell whether a folder is one that [`export_for_browser`] wrote."""
    path = folder / "config.json"
    return path.is_file() and "rnn_hf" in read_json(path)


def _json(content: dict[str, Any], indent: int | None = None) -> str:
    separators = (",", ": ") if indent else (",", ":")
    return json.dumps(content, ensure_ascii=False, indent=indent, separators=separators) + "\n"


def _browser_config(model: RnnModelWithHead) -> dict[str, Any]:
    config = model.config
    return {
        "model_type": _MODEL_TYPE,
        "architectures": [_ARCHITECTURES[is_tagger(model)]],
        "id2label": {str(index): label for index, label in enumerate(config.label_names)},
        "label2id": {label: index for index, label in enumerate(config.label_names)},
        "problem_type": config.problem_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "pad_token_id": config.pad_token_id,
        "rnn_hf": {
            "version": version("rnn_hf"),
            "task": "token-classification" if is_tagger(model) else "text-classification",
            "cell_type": config.cell_type,
            "label_thresholds": config.label_thresholds,
            "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        },
    }


def _tokenizer_config(tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> dict[str, Any]:
    names = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
    tokens = {name: str(token) for name in names if (token := getattr(tokenizer, name, None)) is not None}
    return {
        "tokenizer_class": "PreTrainedTokenizer",
        "model_max_length": NO_LIMIT if max_length is None else max_length,
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
        **tokens,
    }


def added_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Find the ids that a tokenizer puts before and behind every text.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): Any tokenizer.

    Example:
    ```python
    >>> from rnn_hf import train_tokenizer
    >>> from rnn_hf.export.browser import added_tokens
    >>> added_tokens(train_tokenizer(["a a b b"], kind="word"))
    ([], [2])

    ```
    """
    bare, whole = tokenizer("a", add_special_tokens=False)["input_ids"], tokenizer("a")["input_ids"]
    first = next(start for start in range(len(whole) + 1) if whole[start : start + len(bare)] == bare)
    return whole[:first], whole[first + len(bare) :]


def _last_token(tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> int | None:
    """Find the token that ends every encoding, also that of a text that is cut."""
    behind = added_tokens(tokenizer)[1]
    if max_length is not None and len(behind) > 1:
        raise ValueError(
            f"This tokenizer ends a text with {len(behind)} tokens, and transformers.js would cut them off texts of "
            f"more than {max_length} tokens: train the model with a tokenizer of this package."
        )
    return behind[-1] if behind else None


def _end_cut_texts(proto: ModelProto, max_length: int, last_token: int) -> None:
    """Let the graph read the last token where transformers.js cut it off, with what exceeded the greatest length."""
    graph = Graph(prefix="end_")
    positions = graph("Range", 0, graph("Squeeze", graph("Shape", "input_ids", start=1), [0]), 1)
    ended = graph("Where", graph("Equal", positions, max_length - 1), last_token, "input_ids")
    for node in proto.graph.node:
        node.input[:] = [ended if name == "input_ids" else name for name in node.input]
    nodes = [*graph.nodes, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(graph.initializers)


__all__ = ["BROWSER_FILES", "added_tokens", "export_for_browser"]
