"""Configuration of the recurrent classifiers and taggers."""

import difflib
import math
import warnings
from dataclasses import fields
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .labels import SpanLabels, check_calibration, span_labels, without_calibration
from .sizes import check_sizes

# Keywords that transformers itself, and its models' configurations, have beside the declared fields. They have no
# effect here.
_COMMON_KEYWORDS = frozenset(
    {
        "_attn_implementation",
        "_commit_hash",
        "_name_or_path",
        "add_cross_attention",
        "attn_implementation",
        "auto_map",
        "bad_words_ids",
        "begin_suppress_tokens",
        "cls_token_id",
        "cross_attention_hidden_size",
        "custom_pipelines",
        "decoder_start_token_id",
        "experts_implementation",
        "finetuning_task",
        "gradient_checkpointing",
        "is_decoder",
        "mask_token_id",
        "max_position_embeddings",
        "model_type",
        "name_or_path",
        "num_labels",
        "output_attentions",
        "output_scores",
        "prefix",
        "pruned_heads",
        "quantization_config",
        "suppress_tokens",
        "task_specific_params",
        "tf_legacy_loss",
        "tie_encoder_decoder",
        "tie_word_embeddings",
        "tokenizer_class",
        "torch_dtype",
        "torchscript",
        "use_bfloat16",
        *("do_sample", "diversity_penalty", "early_stopping", "encoder_no_repeat_ngram_size"),
        *("exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id", "length_penalty"),
        *("max_length", "min_length", "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences"),
        *("remove_invalid_values", "repetition_penalty", "return_dict_in_generate", "top_k", "top_p"),
        *("typical_p", "use_cache"),
    }
)

# Fields of earlier versions, which are options of training now (`RnnTrainingArguments`).
_OF_TRAINING = (
    "auxiliary_loss_weight",
    "class_weights",
    "lm_loss_weight",
    "num_auxiliary_tags",
    "rdrop_loss_weight",
)

# Names of fields in earlier versions.
_RENAMED = {"max_spelling_length": "max_characters_per_token"}


@strict
class RnnConfig(PreTrainedConfig):
    """Everything that determines the architecture of [`RnnModel`] and its heads.

    Args:
        vocab_size (`int`):
            Number of entries of the embedding matrix.
        embedding_size (`int`):
            Size of the word embeddings.
        num_word_embeddings (`int`, *optional*):
            Number of entries with a word embedding; those behind take that of the unknown token. Without it all.
        static_embedding_size (`int`):
            Size of pretrained word vectors (GloVe, word2vec, fastText); 0 for none.
        static_vocab_size (`int`):
            Number of pretrained word vectors, which entries may share.
        characters (`str`, *optional*):
            Characters that the character CNN knows. With it, character features are joined to each entry's
            embedding.
        max_characters_per_token (`int`):
            Number of characters of an entry that the character CNN reads, marks of beginning and end among them.
        char_embedding_size (`int`):
            Size of a character's vector.
        char_kernel_sizes (`list[int]`):
            Widths, in characters, of the character CNN's filters.
        char_num_filters (`int`):
            Number of filters of each width.
        ngram_buckets (`int`):
            Number of buckets for n-grams of words and characters beside a classifier's recurrent layers; 0 for none.
        max_ngram (`int`):
            Most words of an n-gram.
        num_lexical_features (`int`):
            Number of lexical features of words (form, shape, prefixes and suffixes) that a tagger has weights for; 0
            for none.
        hidden_size (`int`):
            Size of the hidden state of one direction of one layer.
        num_hidden_layers (`int`):
            Number of stacked recurrent layers.
        cell_type (`str`):
            Recurrent cell: `"lstm"`, `"gru"`, `"rnn_tanh"` or `"rnn_relu"`.
        bidirectional (`bool`):
            Whether each layer also reads every sequence from its last token to its first.
        word_dropout (`float`):
            Probability that a token's word embedding is dropped as a whole in training, so that the model learns to use
            its other features.
        embedding_dropout (`float`):
            Locked dropout on the embeddings: one mask per sequence, the same at every step.
        hidden_dropout (`float`):
            Locked dropout between recurrent layers; without effect on a single layer.
        weight_dropout (`float`):
            Dropout on the recurrent weights: one mask for all steps of a batch.
        classifier_dropout (`float`):
            Dropout on what the head reads: plain on a classifier's vector, locked on a tagger's states.
        ngram_dropout (`float`):
            Probability that an n-gram of words, or a token with its n-grams of characters, is left out in training.
        lexical_dropout (`float`):
            Probability that a lexical feature of a word is left out in training.
        pooling (`str`):
            How a classifier makes one vector of a sequence's states: `"last"` (the forward direction's last
            real step joined with the backward direction's first), `"mean"`, `"max"` or `"attention"` (one
            learned score per step).
        subword_pooling (`str`):
            What a tagger's recurrent layers read: `"none"`, tokens; `"mean"`, words, each the mean of its tokens'
            embeddings joined with the maximum of their character features.
        use_crf (`bool`):
            Whether a tagger scores whole sequences with a conditional random field.
        crf_tag_scheme (`str`):
            Which labels the conditional random field scores: `"none"`, those of `id2label`; `"iobes"`, of IOB2 labels
            (`B-LOC`, `I-LOC`) those that also tell the last words of spans and spans of one word (`E-LOC`, `S-LOC`).
            The model returns those of `id2label` in both cases. Other labels stay as they are.
        initializer_range (`float`):
            Standard deviation of the initial embeddings.
        pad_token_id (`int`, *optional*):
            Id of the padding token.
        unk_token_id (`int`, *optional*):
            Id of the token that stands for unknown ones.
        bos_token_id (`int`, *optional*):
            Id of the token before a sequence, where the tokenizer adds one.
        eos_token_id (`int`, *optional*):
            Id of the token after a sequence, where the tokenizer adds one.
        sep_token_id (`int`, *optional*):
            Id of the separator token, where the tokenizer has one.
        id2label (`dict[int, str]`, *optional*):
            Labels by their ids, which count from 0. `num_labels` may stand for it where labels have no names.
        label2id (`dict[str, int]`, *optional*):
            The inverse; whichever map is given or assigned, the other follows.
        problem_type (`str`, *optional*):
            What a classifier's labels are: `"single_label_classification"`, `"multi_label_classification"` or
            `"regression"`; found out from the data where it is not given.
        temperature (`float`):
            What a classifier divides its logits by in evaluation, so that probabilities are calibrated.
        label_thresholds (`list[float]`, *optional*):
            Of several labels at once, the probability of each above which it applies; 0.5 without them.

    The other fields of `PreTrainedConfig` go with these.

    Raises:
        TypeError: A keyword that is no field but nearly has the name of one (`hiden_size`), or that is an option of
            training. In a `config.json`, the first is kept with a warning, the second ignored.
        StrictDataclassFieldValidationError: A value of the wrong type.
        StrictDataclassClassValidationError: Values out of range: dropouts that are no probabilities,
            sizes above 100,000 (of vocabularies 100 million), more than 1,000 layers, a million labels, or 100 billion
            parameters.
        ValueError: `id2label` and `label2id` contradict each other.

    A keyword that resembles no field is kept as an attribute, with a warning: tools write keys of their own
    into `config.json`.

    Example:
    ```python
    >>> from rnn_hf import RnnConfig
    >>> config = RnnConfig(vocab_size=100, cell_type="gru", id2label={0: "ham", 1: "spam"})
    >>> config.label2id
    {'ham': 0, 'spam': 1}
    >>> config.num_directions
    2
    >>> RnnConfig(hiden_size=3)
    Traceback (most recent call last):
    ...
    TypeError: RnnConfig has no field 'hiden_size'. Did you mean 'hidden_size'?

    ```
    """

    model_type = "rnn_hf"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["h_n", "c_n", "hidden_states"]

    vocab_size: int = 30000
    embedding_size: int = 256
    num_word_embeddings: int | None = None
    static_embedding_size: int = 0
    static_vocab_size: int = 0
    characters: str | None = None
    max_characters_per_token: int = 18
    char_embedding_size: int = 32
    char_kernel_sizes: list[int] | tuple[int, ...] = (3, 5)
    char_num_filters: int = 128
    ngram_buckets: int = 0
    max_ngram: int = 2
    num_lexical_features: int = 0
    hidden_size: int = 256
    num_hidden_layers: int = 1
    cell_type: Literal["lstm", "gru", "rnn_tanh", "rnn_relu"] = "lstm"
    bidirectional: bool = True
    word_dropout: float | int = 0.3
    embedding_dropout: float | int = 0.5
    hidden_dropout: float | int = 0.5
    weight_dropout: float | int = 0.0
    classifier_dropout: float | int = 0.5
    ngram_dropout: float | int = 0.3
    lexical_dropout: float | int = 0.3
    pooling: Literal["last", "mean", "max", "attention"] = "max"
    subword_pooling: Literal["none", "mean"] = "none"
    use_crf: bool = False
    crf_tag_scheme: Literal["none", "iobes"] = "none"
    initializer_range: float | int = 0.1
    pad_token_id: int | None = None
    unk_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    sep_token_id: int | None = None

    id2label: dict[int, str] | dict[str, str] | None = None
    label2id: dict[str, int] | dict[str, str] | None = None
    problem_type: Literal["regression", "single_label_classification", "multi_label_classification"] | None = None
    temperature: float | int = 1.0
    label_thresholds: list[float] | None = None

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Make a configuration of what a `config.json` holds: see `PreTrainedConfig.from_dict`.

        Args:
            config_dict (`dict[str, Any]`): What it holds. Keys that are no field are kept as attributes.
            kwargs: Values that replace those.

        Returns:
            [`RnnConfig`], and what of `kwargs` was not used where `return_unused_kwargs` is among them.

        Example:
        ```python
        >>> from rnn_hf import RnnConfig
        >>> RnnConfig.from_dict({"hidden_size": 8, "num_hidden_layers": 2}, hidden_size=16).hidden_size
        16

        ```
        """
        config_dict = {
            _RENAMED.get(name, name): value for name, value in config_dict.items() if name not in _OF_TRAINING
        }
        unknown = {name: config_dict.pop(name) for name in list(config_dict) if not cls._is_known(name)}
        for name in unknown:
            cls._warn_of_unknown(name, stacklevel=4)
        config_dict = without_calibration(config_dict, kwargs)
        names: list[str] = [name for name in ("id2label", "label2id") if name in kwargs]
        labels = {name: kwargs.pop(name) for name in names}
        if labels:
            config_dict = {name: value for name, value in config_dict.items() if name not in ("id2label", "label2id")}
            config_dict |= labels
        cls._refuse_misspelt({name: kwargs[name] for name in _OF_TRAINING if name in kwargs})
        result = super().from_dict(config_dict, **kwargs)
        config = result[0] if isinstance(result, tuple) else result
        for name, value in unknown.items():
            setattr(config, name, value)
        return result

    def __post_init__(self, **kwargs: Any) -> None:
        self._refuse_misspelt(kwargs)
        if self.label2id is not None:
            inverse = {int(index): str(label) for label, index in self.label2id.items()}
            if len(inverse) < len(self.label2id):
                raise ValueError(f"label2id gives two labels the same id: {_short(self.label2id)}.")
            given = {int(index): str(label) for index, label in (self.id2label or inverse).items()}
            if given != inverse:
                raise ValueError(
                    f"id2label and label2id contradict each other: {_short(self.id2label)}, {_short(self.label2id)}."
                )
            self.id2label = inverse
        super().__post_init__(**kwargs)
        self._set_labels(dict(self.id2label or {}))

    def __setattr__(self, name: str, value: Any) -> None:
        # Whichever map is assigned, the other follows: `from_pretrained(id2label=...)` assigns it alone.
        super().__setattr__(name, value)
        if name in ("id2label", "label2id") and value is not None and "_post_init_done" in self.__dict__:
            self._set_labels(value if name == "id2label" else {index: label for label, index in value.items()})

    def _set_labels(self, id2label: dict[Any, str]) -> None:
        super().__setattr__("id2label", {int(index): label for index, label in id2label.items()})
        super().__setattr__("label2id", {label: int(index) for index, label in id2label.items()})

    @property
    def num_directions(self) -> int:
        """`int`: 2 for a bidirectional model, else 1."""
        return 2 if self.bidirectional else 1

    @property
    def label_names(self) -> list[str]:
        """`list[str]`: the labels in the order of their ids."""
        labels: dict[Any, str] = dict(self.id2label or {})
        return [labels[index] for index in sorted(labels)]

    @property
    def span_labels(self) -> SpanLabels | None:
        """[`SpanLabels`], *optional*: what the conditional random field scores instead of the labels."""
        refines = self.use_crf and self.crf_tag_scheme == "iobes"
        return span_labels(tuple(self.label_names)) if refines else None

    @property
    def scored_label_names(self) -> list[str]:
        """`list[str]`: what a tagger's states and lexical features score: `label_names`, or those that refine them."""
        return self.label_names if self.span_labels is None else self.span_labels.names

    @property
    def input_size(self) -> int:
        """`int`: size of what the first recurrent layer reads: all vectors of a token joined."""
        character_features_size = 0 if self.characters is None else len(self.char_kernel_sizes) * self.char_num_filters
        return self.embedding_size + self.static_embedding_size + character_features_size

    @property
    def end_token_ids(self) -> list[int]:
        """`list[int]`: the tokens that a tokenizer may put at the end of a sequence."""
        return [index for index in (self.eos_token_id, self.sep_token_id) if index is not None]

    @classmethod
    def _refuse_misspelt(cls, keywords: dict[str, Any]) -> None:
        for keyword in keywords:
            if cls._is_known(keyword):
                continue
            if keyword in _OF_TRAINING:
                raise TypeError(f"{keyword} is an option of training: give it to RnnTrainingArguments.")
            meant = cls._resembles(keyword)
            if meant:
                raise TypeError(f"{cls.__name__} has no field {_short(keyword)}. Did you mean {meant!r}?")
            cls._warn_of_unknown(keyword, stacklevel=5)

    @classmethod
    def _warn_of_unknown(cls, keyword: str, stacklevel: int) -> None:
        meant = cls._resembles(keyword)
        asked = f" Did you mean {meant!r}?" if meant else ""
        warnings.warn(
            f"{cls.__name__} has no field {_short(keyword)}; it is kept as an attribute without effect on the model."
            f"{asked}",
            stacklevel=stacklevel,
        )

    @classmethod
    def _is_known(cls, keyword: str) -> bool:
        return keyword in _COMMON_KEYWORDS or any(field.name == keyword for field in fields(cls))

    @classmethod
    def _resembles(cls, keyword: str) -> str | None:
        names = sorted({field.name for field in fields(cls)} | {"num_labels"})
        meant = difflib.get_close_matches(keyword, names, n=1, cutoff=0.75)
        return meant[0] if meant else None

    def validate_sizes(self) -> None:
        """Check that all sizes are positive, and none is larger than a model can be."""
        check_sizes(self)

    def validate_dropouts(self) -> None:
        """Check that dropouts are probabilities below 1, and that the deviation is finite, not negative."""
        for name in (field.name for field in fields(self) if field.name.endswith("_dropout")):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}.")
        if not math.isfinite(self.initializer_range) or self.initializer_range < 0:
            raise ValueError(f"initializer_range must not be negative, and finite; got {self.initializer_range}.")

    def validate_special_token_ids(self) -> None:
        """Check that special token ids lie within the vocabulary."""
        for name in ("pad_token_id", "unk_token_id", "bos_token_id", "eos_token_id", "sep_token_id"):
            index = getattr(self, name)
            if name == "unk_token_id" and index is not None and index >= (self.num_word_embeddings or index + 1):
                raise ValueError(f"{name}={index} must have a word embedding, of which there are too few.")
            if index is not None and not 0 <= index < self.vocab_size:
                raise ValueError(f"{name}={index} is outside the vocabulary of {self.vocab_size} entries.")

    def validate_labels(self) -> None:
        """Check that `id2label` counts from 0 without a gap and names no label twice."""
        ids = sorted(self.id2label or {})
        if ids != list(range(len(ids))):
            raise ValueError(f"The keys of id2label must be 0, 1, … {len(ids) - 1}, got {_short(ids)}.")
        first: dict[str, Any] = {}
        for index, label in (self.id2label or {}).items():
            if first.setdefault(label, index) != index:
                raise ValueError(f"id2label names a label twice: {_short(label)} has the ids {first[label]}, {index}.")

    def validate_calibration(self) -> None:
        """Check that the temperature is positive, and that each label has a threshold where any has."""
        check_calibration(self.temperature, self.label_thresholds, len(self.id2label or {}))


def _short(value: Any) -> str:
    """Write a value for a message, the beginning of a long one."""
    shown = repr(value)
    return shown if len(shown) <= 200 else f"{shown[:200]}…"


__all__ = ["RnnConfig"]
