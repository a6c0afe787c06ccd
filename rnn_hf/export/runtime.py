"""Run exported models with onnxruntime, through the stock pipelines and in bulk.

The classes have the names and methods of `optimum.onnxruntime`, which does not go with this release of transformers.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.modeling_outputs import SequenceClassifierOutput, TokenClassifierOutput
from transformers.models.auto import modeling_auto
from transformers.utils import cached_file

from ..inference.download import find_folder
from ..inference.loading import load_config, load_tokenizer
from ..inference.model_files import COPY_AGAIN, check_file
from ..models.configuration_rnn import RnnConfig
from ..models.inputs import check_ignored

try:
    import onnxruntime
except ImportError as error:
    raise ImportError('Running an exported model needs the package onnxruntime: pip install "rnn_hf[onnx]"') from error

FILE_NAME = "onnx/model.onnx"


class ORTModel:
    """An exported model in a session of onnxruntime; no weights of torch are in memory.

    Args:
        session (`onnxruntime.InferenceSession`): The graph.
        config ([`RnnConfig`]): The model's configuration.

    Raises:
        ValueError: The graph is for another task than the class, has other inputs or outputs than those of this
            package, or other labels than the configuration.
    """

    task: str
    output_class: type[SequenceClassifierOutput] | type[TokenClassifierOutput]
    main_input_name = "input_ids"
    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, session: onnxruntime.InferenceSession, config: RnnConfig):
        task = session.get_modelmeta().custom_metadata_map.get("task")
        if task != self.task:
            raise ValueError(f"{type(self).__name__} runs graphs for {self.task}, but this one is for {task}.")
        _check_graph(session, config)
        self.session = session
        self.config = config

    @classmethod
    def from_pretrained(cls, model_id: str | Path, revision: str | None = None, **options: Any) -> "ORTModel":
        """Load an exported model; the arguments are those of [`load_session`]."""
        return cls(load_session(model_id, revision, **options), load_config(str(model_id), revision))

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **ignored: Any) -> Any:
        """Run a padded batch.

        Args:
            input_ids (`torch.LongTensor` of shape `[batch_size, sequence_length]`): Token ids.
            attention_mask (`torch.Tensor`, the shape of `input_ids`, *optional*):
                Nonzero for tokens, 0 for padding; without it every id is a token.
            ignored: What tokenizers pass to other models: see [`~rnn_hf.models.inputs.check_ignored`].

        Returns:
            `SequenceClassifierOutput` or `TokenClassifierOutput` with the `logits`.

        Raises:
            ValueError: Ids outside the vocabulary.
        """
        check_ignored(ignored)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask.long()
        tokens = input_ids[mask != 0]
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.config.vocab_size:
            raise ValueError(
                f"input_ids must be at least 0 and below the vocabulary's size, {self.config.vocab_size}; got ids from "
                f"{int(tokens.min())} to {int(tokens.max())}. Does the tokenizer belong to this model?"
            )
        inputs = {"input_ids": input_ids.cpu().numpy(), "attention_mask": mask.cpu().numpy()}
        try:
            (logits,) = self.session.run(["logits"], inputs)
        except Exception as error:  # onnxruntime's exceptions have no class in common
            reason = " ".join(str(error).split())
            raise ValueError(f"The graph cannot run; does it belong to this config.json? ({reason})") from error
        return self.output_class(logits=torch.from_numpy(logits))

    __call__ = forward

    def to(self, device: Any) -> "ORTModel":
        """Stay where the provider is; for the pipelines."""
        return self

    def can_generate(self) -> bool:
        """Tell that this is no generative model; for the pipelines."""
        return False


class ORTModelForSequenceClassification(ORTModel):
    """An exported classifier in a session of onnxruntime; see [`ORTModel`].

    Example:
    ```python
    >>> import onnxruntime
    >>> from rnn_hf import RnnConfig, RnnForSequenceClassification
    >>> from rnn_hf.export.encoder import to_onnx
    >>> from rnn_hf.export.runtime import ORTModelForSequenceClassification
    >>> model = RnnForSequenceClassification(RnnConfig(vocab_size=100, num_labels=3))
    >>> session = onnxruntime.InferenceSession(to_onnx(model).SerializeToString())
    >>> ORTModelForSequenceClassification(session, model.config)(torch.tensor([[5, 6, 7]])).logits.shape
    torch.Size([1, 3])

    ```
    """

    task = "text-classification"
    output_class = SequenceClassifierOutput


class ORTModelForTokenClassification(ORTModel):
    """An exported tagger in a session of onnxruntime; see [`ORTModel`]."""

    task = "token-classification"
    output_class = TokenClassifierOutput


# The pipelines know a class by its name.
modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES["rnn_hf_onnx"] = "ORTModelForSequenceClassification"
modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES["rnn_hf_onnx"] = "ORTModelForTokenClassification"


def load_session(
    model_id: str | Path,
    revision: str | None = None,
    *,
    file_name: str = FILE_NAME,
    provider: str = "CPUExecutionProvider",
    provider_options: dict[str, Any] | None = None,
    session_options: onnxruntime.SessionOptions | None = None,
) -> onnxruntime.InferenceSession:
    """Load an exported graph.

    Args:
        model_id (`str` or `Path`): Folder or hub id.
        revision (`str`, *optional*): Branch, tag or commit on the hub; `main` without it.
        file_name (`str`): `"onnx/model.onnx"` or `"onnx/model_int8.onnx"`.
        provider (`str`): Execution provider of onnxruntime.
        provider_options (`dict`, *optional*): The provider's options.
        session_options (`onnxruntime.SessionOptions`, *optional*):
            For instance with `intra_op_num_threads`; without it onnxruntime takes a thread for each core.

    Returns:
        `onnxruntime.InferenceSession`: the graph, ready to run.

    Raises:
        ValueError: There is no such file, it is damaged or no ONNX graph, or there is no such provider.
    """
    if provider not in onnxruntime.get_available_providers():
        available = ", ".join(onnxruntime.get_available_providers())
        raise ValueError(f"The installed onnxruntime has no {provider}, only {available}.")
    try:
        file = cached_file(str(model_id), file_name, revision=revision)
    except OSError as error:
        int8 = " --int8" if "int8" in file_name else ""
        raise ValueError(
            f"{model_id} holds no {file_name}. Export the model: rnn-hf export MODEL {model_id}{int8}"
        ) from error
    check_file(Path(str(file)))
    try:
        return onnxruntime.InferenceSession(str(file), session_options, providers=[(provider, provider_options or {})])
    except Exception as error:  # onnxruntime's exceptions have no class in common
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{file} is no ONNX graph that can be read, it is damaged or was cut off ({reason}): export it anew, or "
            f"{COPY_AGAIN}."
        ) from error


def _check_graph(session: onnxruntime.InferenceSession, config: RnnConfig) -> None:
    """Check that a graph is one of this package, and of a model with this configuration."""
    inputs = {one.name: one.type for one in session.get_inputs()}
    outputs = [one.name for one in session.get_outputs()]
    if inputs != dict.fromkeys(("input_ids", "attention_mask"), "tensor(int64)") or "logits" not in outputs:
        raise ValueError(
            f"The graph has the inputs {', '.join(inputs) or 'none'} and the outputs {', '.join(outputs)}; one that "
            "rnn_hf exports has input_ids and attention_mask, and logits."
        )
    labels = session.get_modelmeta().custom_metadata_map.get("labels", "[]")
    try:
        names = json.loads(labels)
    except ValueError:
        names = labels
    if names != config.label_names:
        raise ValueError(
            f"The graph is of a model with {len(names)} labels, and config.json names {len(config.label_names)}, or "
            "others: they do not belong together. Export the model anew."
        )
    temperature = session.get_modelmeta().custom_metadata_map.get("temperature", "1.0")
    if temperature != str(float(config.temperature)):
        raise ValueError(
            f"The graph divides its logits by the temperature {temperature}, and config.json names "
            f"{config.temperature}: they do not belong together. Export the model anew."
        )


def load(model_id: str | Path, revision: str | None = None, **options: Any) -> tuple[ORTModel, PreTrainedTokenizerBase]:
    """Load an exported classifier or tagger, whichever there is, with its tokenizer.

    Args:
        model_id (`str` or `Path`): Folder or hub id.
        revision (`str`, *optional*): Branch, tag or commit on the hub; `main` without it.
        options: See [`load_session`].

    Returns:
        The model, for [`~rnn_hf.inference.predictor.predict`] or a pipeline, and the tokenizer.

    Raises:
        ValueError: There is no such model, a file is damaged, or the files do not fit each other.
    """
    folder = find_folder(str(model_id), revision, weights=False)
    config, session = load_config(str(folder)), load_session(model_id, revision, **options)
    task = session.get_modelmeta().custom_metadata_map.get("task")
    is_tagger = task == ORTModelForTokenClassification.task
    model_class = ORTModelForTokenClassification if is_tagger else ORTModelForSequenceClassification
    return model_class(session, config), load_tokenizer(folder, config)


__all__ = ["FILE_NAME", "ORTModelForSequenceClassification", "ORTModelForTokenClassification", "load", "load_session"]
