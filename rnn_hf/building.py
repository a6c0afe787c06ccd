"""Make the tokenizer and the model for a corpus."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging

from .configuration_rnn import RnnConfig
from .crf_rnn import tagging_scheme
from .data import Corpus
from .modeling_rnn import RnnForSequenceClassification, RnnForTokenClassification
from .prediction import RnnModelWithHead, load_config
from .spelling import collect_characters, set_vocabulary, spell_vocabulary
from .tokenization import train_tokenizer
from .training_args import TokenizerArguments
from .vectors import StaticVectors, load_vectors, pretrain_spelling, set_vectors, vocabulary_words

logger = logging.get_logger(__name__)

MODEL_CLASSES: dict[str, type[RnnForSequenceClassification] | type[RnnForTokenClassification]] = {
    "text-classification": RnnForSequenceClassification,
    "token-classification": RnnForTokenClassification,
}

# What fine-tuning takes from the checkpoint and cannot change.
_ARCHITECTURE = (
    "embedding_size",
    "max_spelling_length",
    "char_embedding_size",
    "char_kernel_sizes",
    "char_num_filters",
    "hidden_size",
    "num_hidden_layers",
    "cell_type",
    "bidirectional",
)


def build(
    corpus: Corpus,
    arguments: TokenizerArguments,
    config_arguments: Any,
    output_dir: Path,
    trained_already: bool = False,
) -> tuple[PreTrainedTokenizerBase, RnnModelWithHead]:
    """Make tokenizer and model, or load those to fine-tune.

    Args:
        corpus ([`Corpus`]): Its labels become the model's; where a checkpoint has the same, its order is taken.
        arguments ([`TokenizerArguments`]): What to make or load.
        config_arguments (`ConfigArguments`): Fields of the configuration to override.
        output_dir (`Path`): Where a trained tokenizer is saved, and found by other processes and resumed runs.
        trained_already (`bool`): Whether it is there.

    Returns:
        The tokenizer and the model.

    Raises:
        ValueError: Arguments that contradict a checkpoint or each other; vectors that cannot be read.
    """
    if arguments.model_name_or_path is not None:
        if arguments.vectors is not None or arguments.mimick_epochs > 0:
            raise ValueError(
                "--vectors is for new models, and so is --mimick_epochs: the checkpoint of --model_name_or_path has "
                "vectors of its own."
            )
        tokenizer = _load_tokenizer(arguments.model_name_or_path)
        model = _pretrained_model(arguments.model_name_or_path, corpus, config_arguments)
        set_vocabulary(model, tokenizer)
        return tokenizer, model

    vectors = None if arguments.vectors is None else load_vectors(arguments.vectors, arguments.vectors_vocab_size)
    words = [] if vectors is None else list(vocabulary_words(vectors, arguments.lowercase))
    if arguments.tokenizer_name is not None:
        tokenizer, words = _load_tokenizer(arguments.tokenizer_name), []
    elif trained_already:
        tokenizer = _load_tokenizer(str(output_dir))
    else:
        tokenizer = train_tokenizer(
            corpus.inputs("train"),
            arguments.tokenizer_kind,
            vocab_size=arguments.vocab_size,
            min_frequency=arguments.min_frequency,
            lowercase=arguments.lowercase,
            is_split_into_words=corpus.task == "token-classification",
            additional_words=words,
        )
        tokenizer.save_pretrained(output_dir)
    model = MODEL_CLASSES[corpus.task](_new_config(corpus, tokenizer, arguments, config_arguments, vectors, words))
    set_vocabulary(model, tokenizer)
    if vectors is not None:
        share = set_vectors(model, vectors, spell_vocabulary(tokenizer))
        logger.warning(f"{vectors.source}: {len(vectors.words):,} vectors; {share:.0%} of the corpus's words have one.")
    if arguments.mimick_epochs > 0 and not trained_already:
        predicted = pretrain_spelling(model, arguments.mimick_epochs)
        logger.warning(f"By their spelling alone, {predicted:.0%} of the vectors' variance is predicted.")
    return tokenizer, model


def _load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    options: dict[str, Any] = {"model_input_names": ["input_ids", "attention_mask"]}
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
        if getattr(tokenizer, "add_prefix_space", True) is False:
            # So that the first token of each word shows that it is one.
            tokenizer = AutoTokenizer.from_pretrained(name, add_prefix_space=True, **options)
    except OSError as error:
        raise ValueError(f"{name} holds no tokenizer: {error}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def _new_config(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    arguments: TokenizerArguments,
    config_arguments: Any,
    vectors: StaticVectors | None,
    words: list[str],
) -> RnnConfig:
    fields: dict[str, Any] = {
        f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "unk", "bos", "eos", "sep")
    }
    fields["use_crf"] = corpus.task == "token-classification" and tagging_scheme(corpus.label_names) is not None
    fields["num_auxiliary_tags"] = len(corpus.auxiliary_names)
    if vectors is not None:
        fields |= {"static_embedding_size": vectors.size, "static_vocab_size": len(vectors.words)}
        if words:
            fields["num_word_embeddings"] = tokenizer.init_kwargs["num_corpus_entries"]
    return RnnConfig(
        vocab_size=len(tokenizer),
        characters=collect_characters(tokenizer) if arguments.spelling else None,
        id2label=dict(enumerate(corpus.label_names)),
        problem_type=_problem_type(corpus),
        **(fields | _given(config_arguments)),
    )


def _pretrained_model(name: str, corpus: Corpus, config_arguments: Any) -> RnnModelWithHead:
    """Load a checkpoint for the corpus's labels; where they are the same, the corpus takes the checkpoint's order."""
    config = load_config(name)
    overrides = _given(config_arguments)
    for field in _ARCHITECTURE:
        if overrides.get(field, getattr(config, field)) != getattr(config, field):
            raise ValueError(f"--{field} {overrides[field]} does not fit {name}, where it is {getattr(config, field)}.")
    if set(corpus.label_names) == set(config.label_names):
        corpus.label_names = config.label_names
    return MODEL_CLASSES[corpus.task].from_pretrained(
        name,
        id2label=dict(enumerate(corpus.label_names)),
        label2id={label: index for index, label in enumerate(corpus.label_names)},
        problem_type=_problem_type(corpus),
        class_weights=None,
        num_auxiliary_tags=len(corpus.auxiliary_names),
        ignore_mismatched_sizes=True,
        **overrides,
    )


def _given(config_arguments: Any) -> dict[str, Any]:
    given = {name: value for name, value in vars(config_arguments).items() if value is not None}
    given.pop("problem_type", None)
    return given


def _problem_type(corpus: Corpus) -> Any:
    return corpus.problem_type if corpus.task == "text-classification" else None


__all__ = ["build"]
