"""What all recurrent models share: initialisation, saving, vocabularies, outputs."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .configuration_rnn import RnnConfig
from .crf import ConditionalRandomField
from .embeddings import CharacterCNN, StaticEmbeddings
from .lexical import LexicalFeatures
from .ngrams import NgramFeatures
from .packing import Packing
from .pooled_words import PooledWords
from .recurrence import RecurrentOutput
from .segments import SegmentedStates

# What each Auto class loads from a saved folder's own code.
AUTO_MAP = {
    "AutoConfig": "configuration_rnn.RnnConfig",
    "AutoModel": "modeling_rnn.RnnModel",
    "AutoModelForSequenceClassification": "modeling_rnn.RnnForSequenceClassification",
    "AutoModelForTokenClassification": "modeling_rnn.RnnForTokenClassification",
}


# Names that earlier versions gave to weights, as patterns, with those of today.
_RENAMED = {
    r"embeddings\.spelling\.spellings$": "embeddings.character_cnn.character_ids",
    r"embeddings\.spelling\.": "embeddings.character_cnn.",
    r"static_embeddings\.places$": "static_embeddings.vector_ids",
}
# Standard deviation of the initial vectors of n-grams.
_NGRAM_RANGE = 0.1
# Weights of training alone, which checkpoints hold, and models that earlier versions saved.
_OF_TRAINING = (r"^objectives\.", r"^language_model\.", r"^auxiliary_classifier\.")


@dataclass
class RnnModelOutput(ModelOutput):
    """What [`RnnModel`] returns.

    Args:
        last_hidden_state (`torch.FloatTensor` of shape `[batch_size, sequence_length, directions * hidden_size]`):
            States of the last layer, 0 on padding.
        h_n (`torch.FloatTensor` of shape `[num_hidden_layers * directions, batch_size, hidden_size]`):
            Hidden states after the last real step of each direction, in the batch's order.
        c_n (`torch.FloatTensor`, the shape of `h_n`, *optional*):
            Cell states of an LSTM.
        hidden_states (`tuple(torch.FloatTensor)`, *optional*):
            With `output_hidden_states=True`: the embeddings and the states of each layer, padded.
    """

    last_hidden_state: Tensor | None = None
    h_n: Tensor | None = None
    c_n: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class Encoded(NamedTuple):
    """What [`RnnModel.encode`] returns, packed.

    Args:
        input_ids (`torch.LongTensor` of shape `[num_tokens]`, or `None`): Token ids, where ids were given.
        embeds (`torch.FloatTensor` of shape `[num_tokens, input_size]`, or `None`): Their vectors, if wanted.
        packing ([`Packing`]): The layout.
        output ([`RecurrentOutput`]): States of all layers, or of the last one, and the final ones; without states where
            there are `segments`.
        segments ([`SegmentedStates`], *optional*): Of a long batch, what gives the last layer's states piece by piece.
        words ([`PooledWords`], *optional*): The words that are the steps; ids and layout are those of their first
            tokens.
    """

    input_ids: Tensor | None
    embeds: Tensor | None
    packing: Packing
    output: RecurrentOutput
    segments: SegmentedStates | None = None
    words: PooledWords | None = None


class RnnPreTrainedModel(PreTrainedModel):
    """Initialisation and loading, common to all recurrent models."""

    config: RnnConfig
    config_class = RnnConfig
    base_model_prefix = "model"
    accepts_loss_kwargs = True
    # What each Auto class loads from a saved folder.
    auto_map: ClassVar[dict[str, str]] = AUTO_MAP
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = list(_OF_TRAINING)  # type: ignore[misc]

    def __init__(self, config: RnnConfig):
        super().__init__(config)
        # Losses that training adds, as `rnn_hf.objectives.training_objectives` makes them; never saved with the model.
        self.objectives: Any = None

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load a model, also one that an earlier version saved: see `PreTrainedModel.from_pretrained`."""
        kwargs.setdefault("key_mapping", dict(_RENAMED))
        loaded = super().from_pretrained(*args, **kwargs)
        # What it saves has the names of this version.
        vars(loaded[0] if isinstance(loaded, tuple) else loaded).pop("_weight_conversions", None)
        return loaded

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Save configuration, weights, and the code that loads them where this package is not installed.

        The code is the package's own files, copied. Every `Auto` class finds its part in `config.json`.

        Args:
            save_directory (`str` or `os.PathLike`): Folder, made where it is missing.
            args, kwargs: See `PreTrainedModel.save_pretrained`.

        Raises:
            ValueError: The labels of the configuration are no longer those that the head scores.
        """
        scored, named = getattr(self, "span_labels", None), self.config.span_labels
        if scored is not None and (named is None or scored[1:] != named[1:]):
            raise ValueError(
                "With crf_tag_scheme='iobes', the head scores labels that follow from id2label: O, B-… and I-…, which "
                f"must stay so; got {', '.join(self.config.label_names[:5])}. Name the kinds of spans anew, and keep "
                "the marks."
            )
        self.config.auto_map = dict(self.auto_map)
        if self.objectives is not None and len(args) < 2 and kwargs.get("state_dict") is None:
            weights = self.state_dict()
            kwargs["state_dict"] = {name: weights[name] for name in weights if not name.startswith("objectives.")}
        super().save_pretrained(save_directory, *args, **kwargs)
        if kwargs.get("is_main_process", True):
            mask = os.umask(0)
            os.umask(mask)
            for path in Path(save_directory).glob("model*.safetensors"):
                path.chmod(0o666 & ~mask)  # as any new file; safetensors leaves them private

    def _init_weights(self, module: nn.Module) -> None:
        """Initialise what no checkpoint filled.

        Recurrent weights are orthogonal for each gate (https://arxiv.org/abs/1312.6120), input weights Xavier
        uniform for each gate, biases 0 but for the LSTM's forget gate, which starts at 1
        (https://proceedings.mlr.press/v37/jozefowicz15.html).
        """
        if isinstance(module, nn.RNNBase):
            for name, parameter in module.named_parameters():
                values = torch.zeros(parameter.shape)
                gates = values.split(module.hidden_size)
                for gate in gates:
                    if "weight_hh" in name:
                        nn.init.orthogonal_(gate)
                    elif "weight_ih" in name:
                        nn.init.xavier_uniform_(gate)
                if "bias_ih" in name and module.mode == "LSTM":
                    gates[1].fill_(1.0)
                init.copy_(parameter, values.to(parameter))
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=float(self.config.initializer_range))
        elif isinstance(module, ConditionalRandomField):
            for parameter in module.parameters():
                init.zeros_(parameter)
        elif isinstance(module, CharacterCNN):
            init.zeros_(module.character_ids)
        elif isinstance(module, NgramFeatures):
            if module.projection is None:
                init.zeros_(module.weight)
            else:
                init.normal_(module.weight, std=_NGRAM_RANGE)
            init.zeros_(module.bias)
            for table in (module.spellings, module.hashes, module.scales):
                init.zeros_(table)
        elif isinstance(module, LexicalFeatures):
            init.zeros_(module.weight)
            init.zeros_(module.character_codes)
            init.zeros_(module.feature_rows)
        elif isinstance(module, StaticEmbeddings):
            init.zeros_(module.vector_ids)
        elif isinstance(getattr(module, "word_starts", None), Tensor):
            init.ones_(module.word_starts)  # type: ignore[arg-type]
        elif isinstance(module, nn.Linear | nn.Conv1d):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)

    def post_init(self) -> None:
        """Initialise, and let distributed training leave the tables alone: no step changes them."""
        super().post_init()
        # Else each step would broadcast them from one process to the others.
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any) -> nn.Embedding:
        """Change the number of vocabulary entries, of all tables that have a row for each.

        Args:
            new_num_tokens (`int`, *optional*): The new number; without it nothing changes.
            args, kwargs: See `PreTrainedModel.resize_token_embeddings`.

        Returns:
            `nn.Embedding`: the word embeddings.

        Raises:
            ValueError: Some entries have no word embedding, or a special token would be cut off.
        """
        if new_num_tokens is None and kwargs.get("pad_to_multiple_of") is None and not args:
            return self.get_input_embeddings()  # type: ignore[return-value]
        if self.config.num_word_embeddings is not None:
            raise ValueError("A vocabulary with words that only have pretrained word vectors cannot be resized.")
        if new_num_tokens is not None:
            self._check_vocab_size(new_num_tokens)
        return super().resize_token_embeddings(new_num_tokens, *args, **kwargs)

    @property
    def _class_weights(self) -> list[float] | None:
        return None if self.objectives is None else self.objectives.class_weights

    def _num_passes(self, labels: Tensor | None) -> int:
        """Return how often a batch is encoded: more than once where several passes must agree."""
        trains = self.objectives is not None and self.training and labels is not None
        return self.objectives.num_passes if trains else 1

    def _check_vocab_size(self, num_entries: int) -> None:
        for name in ("pad_token_id", "unk_token_id", "bos_token_id", "eos_token_id", "sep_token_id"):
            index = getattr(self.config, name)
            if index is not None and index >= num_entries:
                raise ValueError(f"{name}={index} is outside a vocabulary of {num_entries} entries.")


def current_name(name: str) -> str | None:
    """Return the name of a weight that a file names, in this version.

    Args:
        name (`str`): The name, which may be an earlier version's.

    Returns:
        `str`, *optional*: the name; `None` of a weight that only training uses.

    Example:
    ```python
    >>> from rnn_hf.models.base import current_name
    >>> current_name("model.embeddings.static_embeddings.places"), current_name("language_model.projections.0.bias")
    ('model.embeddings.static_embeddings.vector_ids', None)

    ```
    """
    if any(re.match(pattern, name) for pattern in _OF_TRAINING):
        return None
    for pattern, current in _RENAMED.items():
        name = re.sub(pattern, current, name)
    return name


def select_hidden_states(
    config: RnnConfig, encoded: Encoded, wanted: bool | None, num_passes: int = 1
) -> tuple[Tensor, ...] | None:
    """Pad the embeddings and the states of all layers of the first pass, where they are wanted.

    Args:
        config ([`RnnConfig`]): Says so where `wanted` does not.
        encoded ([`Encoded`]): What the encoder gave.
        wanted (`bool`, *optional*): Whether they are wanted.
        num_passes (`int`): How often the batch stands in `encoded`.

    Returns:
        `tuple(torch.FloatTensor)` of shape `[batch_size, sequence_length, size]`, or `None`.
    """
    if not wants_hidden_states(config, wanted):
        return None
    assert encoded.embeds is not None
    packing, num_rows = encoded.packing, encoded.packing.batch_size // num_passes
    return tuple(packing.pad(states)[:num_rows] for states in (encoded.embeds, *encoded.output.states))


def wants_hidden_states(config: RnnConfig, wanted: bool | None) -> bool:
    """Return whether the states of all layers are wanted, by the argument or else by the configuration."""
    return bool(config.output_hidden_states if wanted is None else wanted)


def calibrated_logits(model: Any, logits: Tensor) -> Tensor:
    """Divide a classifier's logits by its temperature in evaluation (https://arxiv.org/abs/1706.04599).

    Args:
        model ([`RnnForSequenceClassification`]): The classifier.
        logits (`torch.FloatTensor` of shape `[batch_size, num_labels]`): What its head gives.

    Returns:
        `torch.FloatTensor` of the same shape: in training, at temperature 1 and of a regression, the same.
    """
    config = model.config
    if model.training or config.temperature == 1 or config.problem_type == "regression":
        return logits
    return logits / config.temperature


def as_wanted(config: RnnConfig, result: ModelOutput, return_dict: bool | None) -> Any:
    """Return a result as it is, or as a tuple where the argument, or else the configuration, wants one."""
    return result if (config.return_dict if return_dict is None else return_dict) else result.to_tuple()


__all__ = [
    "AUTO_MAP",
    "Encoded",
    "RnnModelOutput",
    "RnnPreTrainedModel",
    "as_wanted",
    "calibrated_logits",
    "current_name",
    "select_hidden_states",
    "wants_hidden_states",
]
