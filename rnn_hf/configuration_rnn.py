"""Configuration of the recurrent classifiers and taggers."""

import difflib
import warnings
from dataclasses import fields
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

# Keywords that transformers itself hands to every configuration beside the declared fields.
_COMMON_KEYWORDS = frozenset(
    {
        "_name_or_path",
        "_commit_hash",
        "attn_implementation",
        "auto_map",
        "experts_implementation",
        "model_type",
        "name_or_path",
        "num_labels",
        "output_attentions",
        "quantization_config",
        "torch_dtype",
        "use_cache",
    }
)


@strict
class RnnConfig(PreTrainedConfig):
    """Everything that determines the architecture of [`RnnModel`] and its heads.

    Args:
        vocab_size (`int`):
            Number of entries of the embedding matrix.
        embedding_size (`int`):
            Size of the vector that each vocabulary entry has of its own.
        num_word_embeddings (`int`, *optional*):
            Number of entries that have such a vector; those behind take that of the unknown token. Without it all.
        static_embedding_size (`int`):
            Size of the vector that an entry has from outside (GloVe, word2vec, fastText); 0 for none.
        static_vocab_size (`int`):
            Number of vectors from outside, which entries may share.
        characters (`str`, *optional*):
            Characters that spellings are made of. With it, each entry's vector is joined with one that a
            convolutional network reads off its spelling.
        max_spelling_length (`int`):
            Number of characters of a spelling, with marks of its beginning and end, that are read.
        char_embedding_size (`int`):
            Size of a character's vector.
        char_kernel_sizes (`list[int]`):
            Widths, in characters, of the filters over spellings.
        char_num_filters (`int`):
            Number of filters of each width.
        hidden_size (`int`):
            Size of the hidden state of one direction of one layer.
        num_hidden_layers (`int`):
            Number of stacked recurrent layers.
        cell_type (`str`):
            Recurrent cell: `"lstm"`, `"gru"`, `"rnn_tanh"` or `"rnn_relu"`.
        bidirectional (`bool`):
            Whether each layer also reads every sequence from its last token to its first.
        word_dropout (`float`):
            Probability that a token's own vector is dropped as a whole in training, so that its spelling must do.
        embedding_dropout (`float`):
            Locked dropout on the embeddings: one mask per sequence, the same at every step.
        hidden_dropout (`float`):
            Locked dropout between recurrent layers; without effect on a single layer.
        weight_dropout (`float`):
            Dropout on the recurrent weights: one mask for all steps of a batch.
        classifier_dropout (`float`):
            Dropout on what the head reads: plain on a classifier's vector, locked on a tagger's states.
        pooling (`str`):
            How a classifier makes one vector of a sequence's states: `"last"` (the forward direction's last
            real step joined with the backward direction's first), `"mean"`, `"max"` or `"attention"` (one
            learned score per step).
        use_crf (`bool`):
            Whether a tagger scores whole sequences with a conditional random field.
        lm_loss_weight (`float`):
            How much predicting the next and the previous token counts in the training of a tagger, beside its labels.
        num_auxiliary_tags (`int`):
            Number of tags of a second kind that a tagger also learns in training, from the states of its first layer;
            0 for none.
        auxiliary_loss_weight (`float`):
            How much those tags count beside the labels.
        rdrop_loss_weight (`float`):
            How much two readings of a batch, each with dropout of its own, must agree in training, beside the labels
            (R-Drop, https://arxiv.org/abs/2106.14448); 0 reads once.
        class_weights (`list[float]`, *optional*):
            How much each label counts in the loss, in the order of their ids; of several labels a text, how much
            one that is there counts against its absence.
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

    The other fields of `PreTrainedConfig` go with these.

    Raises:
        TypeError: A keyword that is no field but nearly has the name of one (`hiden_size`).
        StrictDataclassFieldValidationError: A value of the wrong type.
        StrictDataclassClassValidationError: Values out of range.
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
    max_spelling_length: int = 18
    char_embedding_size: int = 32
    char_kernel_sizes: list[int] | tuple[int, ...] = (3, 5)
    char_num_filters: int = 128
    hidden_size: int = 256
    num_hidden_layers: int = 1
    cell_type: Literal["lstm", "gru", "rnn_tanh", "rnn_relu"] = "lstm"
    bidirectional: bool = True
    word_dropout: float | int = 0.3
    embedding_dropout: float | int = 0.5
    hidden_dropout: float | int = 0.5
    weight_dropout: float | int = 0.0
    classifier_dropout: float | int = 0.5
    pooling: Literal["last", "mean", "max", "attention"] = "max"
    use_crf: bool = False
    lm_loss_weight: float | int = 0.0
    num_auxiliary_tags: int = 0
    auxiliary_loss_weight: float | int = 0.5
    rdrop_loss_weight: float | int = 0.0
    class_weights: list[float | int] | None = None
    initializer_range: float | int = 0.1
    pad_token_id: int | None = None
    unk_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    sep_token_id: int | None = None

    id2label: dict[int, str] | dict[str, str] | None = None
    label2id: dict[str, int] | dict[str, str] | None = None
    problem_type: Literal["regression", "single_label_classification", "multi_label_classification"] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self._refuse_misspelt(kwargs)
        if self.label2id is not None:
            inverse = {int(index): str(label) for label, index in self.label2id.items()}
            if len(inverse) < len(self.label2id):
                raise ValueError(f"label2id gives two labels the same id: {self.label2id}.")
            given = {int(index): str(label) for index, label in (self.id2label or inverse).items()}
            if given != inverse:
                raise ValueError(f"id2label and label2id contradict each other: {self.id2label}, {self.label2id}.")
            self.id2label = inverse
        super().__post_init__(**kwargs)
        self.id2label = dict(self.id2label or {})

    def __setattr__(self, name: str, value: Any) -> None:
        # Whichever map is assigned, the other follows: `from_pretrained(id2label=...)` assigns it alone.
        super().__setattr__(name, value)
        if value is not None and "_post_init_done" in self.__dict__:
            if name == "id2label":
                super().__setattr__("id2label", {int(index): label for index, label in value.items()})
                super().__setattr__("label2id", {label: int(index) for index, label in value.items()})
            elif name == "label2id":
                super().__setattr__("label2id", {label: int(index) for label, index in value.items()})
                super().__setattr__("id2label", {int(index): label for label, index in value.items()})

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
    def input_size(self) -> int:
        """`int`: size of what the first recurrent layer reads: all vectors of a token joined."""
        spelling_size = 0 if self.characters is None else len(self.char_kernel_sizes) * self.char_num_filters
        return self.embedding_size + self.static_embedding_size + spelling_size

    @classmethod
    def _refuse_misspelt(cls, keywords: dict[str, Any]) -> None:
        names = {field.name for field in fields(cls)}
        for keyword in keywords.keys() - names - _COMMON_KEYWORDS:
            meant = difflib.get_close_matches(keyword, sorted(names | {"num_labels"}), n=1, cutoff=0.75)
            if meant:
                raise TypeError(f"{cls.__name__} has no field {keyword!r}. Did you mean {meant[0]!r}?")
            warnings.warn(
                f"{cls.__name__} has no field {keyword!r}; it is kept as an attribute without effect on the model.",
                stacklevel=4,
            )

    def validate_sizes(self) -> None:
        """Check that all sizes are positive."""
        names = ["vocab_size", "embedding_size", "hidden_size", "num_hidden_layers"]
        names += ["max_spelling_length", "char_embedding_size", "char_num_filters"]
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("static_embedding_size", "static_vocab_size", "num_auxiliary_tags"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}.")
        if self.num_word_embeddings is not None and not 1 <= self.num_word_embeddings <= self.vocab_size:
            raise ValueError(f"num_word_embeddings={self.num_word_embeddings} is not within 1 and {self.vocab_size}.")
        if not self.char_kernel_sizes or min(self.char_kernel_sizes) < 1:
            raise ValueError(f"char_kernel_sizes must hold sizes of at least 1, got {list(self.char_kernel_sizes)}.")

    def validate_dropouts(self) -> None:
        """Check that dropouts are probabilities below 1, and that deviation and weight are not negative."""
        for name in ("word_dropout", "embedding_dropout", "hidden_dropout", "weight_dropout", "classifier_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}.")
        for name in ("initializer_range", "lm_loss_weight", "auxiliary_loss_weight", "rdrop_loss_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}.")

    def validate_special_token_ids(self) -> None:
        """Check that special token ids lie within the vocabulary."""
        for name in ("pad_token_id", "unk_token_id", "bos_token_id", "eos_token_id", "sep_token_id"):
            index = getattr(self, name)
            if name == "unk_token_id" and index is not None and index >= (self.num_word_embeddings or index + 1):
                raise ValueError(f"{name}={index} must have a vector of its own, of which there are too few.")
            if index is not None and not 0 <= index < self.vocab_size:
                raise ValueError(f"{name}={index} is outside the vocabulary of {self.vocab_size} entries.")

    def validate_labels(self) -> None:
        """Check that `id2label` counts from 0 without a gap and names no label twice, and that weights fit it."""
        ids = sorted(self.id2label or {})
        if self.class_weights is not None and len(self.class_weights) != len(ids):
            raise ValueError(
                f"class_weights must hold one number for each of {len(ids)} labels, got {len(self.class_weights)}. For "
                "other labels than a checkpoint's, give class_weights=None."
            )
        if ids != list(range(len(ids))):
            raise ValueError(f"The keys of id2label must be 0, 1, … {len(ids) - 1}, got {ids}.")
        if len(set((self.id2label or {}).values())) != len(ids):
            raise ValueError(f"id2label names a label twice: {list((self.id2label or {}).values())}.")


__all__ = ["RnnConfig"]
