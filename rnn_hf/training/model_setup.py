"""Make the tokenizer and the model for a corpus."""

import contextlib
import dataclasses
from collections.abc import Collection, Iterator
from logging import Filter, LogRecord
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ..data.corpus import Corpus
from ..inference.download import find_folder
from ..inference.loading import RnnModelWithHead, check_weights, load_config, load_weights
from ..models.configuration_rnn import RnnConfig
from ..models.labels import tagging_scheme
from ..models.modeling_lm import RnnForPreTraining
from ..models.modeling_rnn import RnnForSequenceClassification, RnnForTokenClassification
from ..text.characters import collect_characters, count_lexical_features, set_vocabulary, vocabulary_entries
from ..text.encoding import max_length_of
from ..text.word_vectors import StaticVectors, load_vectors, pretrain_character_cnn, set_vectors, vocabulary_words
from ..utils.display import printable
from .arguments import TokenizerArguments
from .tokenizer_setup import load_tokenizer, make_tokenizer, set_max_length

logger = logging.get_logger(__name__)

MODEL_CLASSES: dict[str, Any] = {
    "text-classification": RnnForSequenceClassification,
    "token-classification": RnnForTokenClassification,
    "language-modeling": RnnForPreTraining,
}

# What fine-tuning may make anew, since it depends on the labels or the task.
_HEADS = (
    *("attention.", "auxiliary_classifier.", "classifier.", "crf.", "language_model.", "lexical.", "lm_head."),
    *("ngrams.", "word_starts"),
)
# Of those, what scores the labels of a tagger.
_OF_LABELS = (
    *("classifier.", "crf.", "lexical.weight", "lexical.projection."),
    *("ngrams.weight", "ngrams.bias", "ngrams.projection."),
)
# Most lexical features that a new tagger has by default.
_MOST_LEXICAL_FEATURES = 65536

# What fine-tuning takes from the checkpoint and cannot change.
_ARCHITECTURE = (
    "embedding_size",
    "max_characters_per_token",
    "char_embedding_size",
    "char_kernel_sizes",
    "char_num_filters",
    "hidden_size",
    "num_hidden_layers",
    "cell_type",
    "bidirectional",
)
_NGRAMS = ("ngram_buckets", "max_ngram")


def build(
    corpus: Corpus,
    arguments: TokenizerArguments,
    config_arguments: Any,
    output_dir: Path,
    trained_already: bool = False,
    max_seq_length: int | None = None,
    tokenizer_folder: Path | None = None,
) -> tuple[PreTrainedTokenizerBase, RnnModelWithHead]:
    r"""Make tokenizer and model, or load those to fine-tune.

    The tokenizer's `model_max_length` says how many tokens of a text the model is trained to read, and so how many are
    read of it ever after. A tagger reads all words.

    Args:
        corpus ([`Corpus`]): Its labels become the model's; where a checkpoint has the same, its order is taken.
        arguments ([`TokenizerArguments`]): What to make or load.
        config_arguments (`ConfigArguments`): Fields of the configuration to override.
        output_dir (`Path`): Where a trained tokenizer is saved, and found by other processes and resumed runs.
        trained_already (`bool`): Whether it is there.
        max_seq_length (`int`, *optional*):
            Where texts are cut. Without it they are not cut, or where the checkpoint to fine-tune cuts them.
        tokenizer_folder (`Path`, *optional*): The checkpoint of a resumed run, whose tokenizer is taken.

    Returns:
        The tokenizer and the model.

    Raises:
        ValueError: Arguments that contradict a checkpoint or each other; a tokenizer, a checkpoint or vectors that
            cannot be read.

    Example:
    ```python
    >>> import json, tempfile
    >>> from pathlib import Path
    >>> from rnn_hf.training.model_setup import build
    >>> from rnn_hf.data.corpus import DataArguments, load_corpus
    >>> from rnn_hf.training.arguments import ConfigArguments, TokenizerArguments
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "a.jsonl")
    ...     _ = file.write_text("".join(json.dumps({"text": label, "label": label}) + "\n" for label in "ab" * 9))
    ...     corpus = load_corpus(DataArguments(train_file=str(file)), "text-classification")
    ...     tokenizer, model = build(corpus, TokenizerArguments(), ConfigArguments(), Path(folder), max_seq_length=9)
    >>> tokenizer.model_max_length, model.config.label_names
    (9, ['a', 'b'])

    ```
    """
    _check(arguments)
    if arguments.model_name_or_path is not None:
        folder = find_folder(arguments.model_name_or_path)
        config = load_config(str(folder))
        tokenizer = load_tokenizer(str(tokenizer_folder or folder))
        set_max_length(tokenizer, corpus, max_seq_length or max_length_of(tokenizer))
        model = _pretrained_model(arguments.model_name_or_path, folder, config, corpus, tokenizer, config_arguments)
        if len(tokenizer) > model.config.vocab_size:
            raise ValueError(
                f"The tokenizer in {arguments.model_name_or_path} has {len(tokenizer):,} entries, but the model "
                f"{model.config.vocab_size:,}: they do not belong together. Save the model's own tokenizer there."
            )
        set_vocabulary(model, tokenizer)
        _check_tag_scheme(model, config_arguments)
        return tokenizer, model

    vectors = None if arguments.vectors is None else load_vectors(arguments.vectors, arguments.vectors_vocab_size)
    words = [] if vectors is None else list(vocabulary_words(vectors, arguments.lowercase))
    tokenizer = make_tokenizer(corpus, arguments, output_dir, words, trained_already, max_seq_length, tokenizer_folder)
    words = [] if arguments.tokenizer_name is not None else words
    model = MODEL_CLASSES[corpus.task](_new_config(corpus, tokenizer, arguments, config_arguments, vectors, words))
    _check_tag_scheme(model, config_arguments)
    set_vocabulary(model, tokenizer)
    if vectors is not None:
        logger.warning(_set_vectors(model, vectors, tokenizer, has_capitals=bool(words) and not arguments.lowercase))
    if arguments.mimick_epochs > 0 and not trained_already:
        predicted = pretrain_character_cnn(model, arguments.mimick_epochs)
        logger.warning(f"By their characters alone, {predicted:.0%} of the vectors' variance is predicted.")
    return tokenizer, model


def _check(arguments: TokenizerArguments) -> None:
    """Refuse options that contradict each other, whoever calls."""
    if arguments.mimick_epochs < 0:
        raise ValueError(f"--mimick_epochs must be at least 0, got {arguments.mimick_epochs}.")
    if arguments.vectors_vocab_size < 1:
        raise ValueError(f"--vectors_vocab_size must be at least 1, got {arguments.vectors_vocab_size}.")
    if arguments.model_name_or_path is not None:
        if arguments.vectors is not None or arguments.mimick_epochs > 0:
            raise ValueError(
                "--vectors is for new models, and so is --mimick_epochs: the checkpoint of --model_name_or_path has "
                "word vectors already."
            )
        if arguments.tokenizer_name is not None:
            raise ValueError(
                "--tokenizer_name is for new models: the checkpoint of --model_name_or_path has a tokenizer of its own."
            )
    if arguments.vectors is None:
        if arguments.mimick_epochs > 0:
            raise ValueError("--mimick_epochs needs --vectors to learn from: name some, or leave it out.")
        default = next(one.default for one in dataclasses.fields(arguments) if one.name == "vectors_vocab_size")
        if arguments.vectors_vocab_size != default:
            raise ValueError("--vectors_vocab_size needs --vectors: name some, or leave it out.")
    elif arguments.tokenizer_kind in ("bpe", "unigram") and arguments.tokenizer_name is None:
        raise ValueError(
            f"--vectors are of whole words, which a tokenizer of the kind {arguments.tokenizer_kind!r} does not have: "
            "take --tokenizer_kind word or wordpiece."
        )


def _check_tag_scheme(model: RnnModelWithHead, config_arguments: Any) -> None:
    """Refuse to tell where spans end where the model has no spans or no conditional random field."""
    if config_arguments.crf_tag_scheme == "iobes" and model.config.span_labels is None:
        raise ValueError(
            "--crf_tag_scheme iobes is for labels of spans of several words in IOB2 (B-LOC, I-LOC), and for a "
            "conditional random field (--use_crf): leave it out."
        )


def _set_vectors(
    model: RnnModelWithHead, vectors: StaticVectors, tokenizer: PreTrainedTokenizerBase, has_capitals: bool
) -> str:
    """Write vectors into a model, and say what they are good for."""
    share = set_vectors(model, vectors, vocabulary_entries(tokenizer))
    embeddings: Any = model.base_model.embeddings
    served = int((embeddings.static_embeddings.vector_ids > 0).sum())
    forms = ", with forms in capitals" if has_capitals and vectors.is_uncased() else ""
    return (
        f"{printable(vectors.source)}: {len(vectors.words):,} vectors serve {served:,} entries of the vocabulary"
        f"{forms}; {share:.0%} of the words that it has from the training data have one."
    )


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
    if vectors is not None:
        fields |= {"static_embedding_size": vectors.size, "static_vocab_size": len(vectors.words)}
        if words:
            fields["num_word_embeddings"] = tokenizer.init_kwargs["num_corpus_entries"]
    given = _given(config_arguments)
    return RnnConfig(
        vocab_size=len(tokenizer),
        characters=collect_characters(tokenizer) if arguments.char_cnn else None,
        id2label=dict(enumerate(corpus.label_names)),
        problem_type=_problem_type(corpus),
        **(fields | _new_head(corpus, tokenizer, given) | given),
    )


def _new_head(corpus: Corpus, tokenizer: PreTrainedTokenizerBase, given: dict[str, Any]) -> dict[str, Any]:
    """Say what the head of a new model has that is not given."""
    if corpus.task == "text-classification":
        return {"ngram_buckets": 1}  # until n-grams are counted
    if corpus.task == "language-modeling":
        return {}
    room = given.get("max_characters_per_token", RnnConfig.max_characters_per_token)
    fields: dict[str, Any] = {"use_crf": tagging_scheme(corpus.label_names) is not None}
    if "num_lexical_features" not in given:
        fields["num_lexical_features"] = min(count_lexical_features(tokenizer, room), _MOST_LEXICAL_FEATURES)
    return fields


def is_encoder(config: RnnConfig) -> bool:
    """Tell a pretrained encoder, whose head is new in fine-tuning, from a classifier or a tagger.

    Args:
        config ([`RnnConfig`]): The configuration of a checkpoint.

    Example:
    ```python
    >>> from rnn_hf import RnnConfig
    >>> from rnn_hf.training.model_setup import is_encoder
    >>> is_encoder(RnnConfig(architectures=["RnnForPreTraining"]))
    True

    ```
    """
    heads = (RnnForSequenceClassification.__name__, RnnForTokenClassification.__name__)
    return not any(name in heads for name in config.architectures or [])


def _pretrained_model(
    name: str,
    folder: Path,
    config: RnnConfig,
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    config_arguments: Any,
) -> Any:
    """Load a checkpoint for the corpus's labels; where they are the same, the corpus takes the checkpoint's order."""
    check_weights(folder, config)
    overrides = _given(config_arguments)
    has_new_head = is_encoder(config) and corpus.task != "language-modeling"
    for field in _ARCHITECTURE if has_new_head else (*_ARCHITECTURE, *_NGRAMS):
        if overrides.get(field, getattr(config, field)) != getattr(config, field):
            raise ValueError(f"--{field} {overrides[field]} does not fit {name}, where it is {getattr(config, field)}.")
    if set(corpus.label_names) == set(config.label_names):
        corpus.label_names = config.label_names
    changes = {
        "id2label": dict(enumerate(corpus.label_names)),
        "label2id": {label: index for index, label in enumerate(corpus.label_names)},
        "problem_type": _problem_type(corpus),
        # What calibration found was for the weights as they are.
        "temperature": 1.0,
        "label_thresholds": None,
    }
    if has_new_head:
        changes |= _new_head(
            corpus, tokenizer, {"max_characters_per_token": config.max_characters_per_token} | overrides
        )
    elif corpus.task != "text-classification":
        changes["ngram_buckets"] = 0  # which only classifiers count
    if corpus.task == "language-modeling":
        changes |= {"num_lexical_features": 0, "subword_pooling": "none", "use_crf": False}
    # All at once: a number of labels may fit the new problem type, and not the old one.
    before, config = config, RnnConfig.from_dict(config.to_dict() | changes | overrides)
    weights = load_weights(folder)
    is_refined = [one.span_labels is not None for one in (before, config)]
    has_other_labels = before.label_names != config.label_names and corpus.task != "language-modeling"
    # Other labels may be as many.
    has_other_scores = has_other_labels or is_refined[0] != is_refined[1]
    dropped = {name for name in weights if has_other_scores and name.startswith(_OF_LABELS)}
    weights = {name: value for name, value in weights.items() if name not in dropped}
    with _without_report():
        loaded: Any = MODEL_CLASSES[corpus.task].from_pretrained(
            None,
            config=config,
            state_dict=weights,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    model, info = loaded
    new = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
    if body := sorted(key for key in new if not key.startswith(_HEADS)):
        raise ValueError(
            f"The weights in {printable(name)} do not fit its config.json: {', '.join(body[:5])}"
            f"{', …' if len(body) > 5 else ''} would be made anew. Only the head may be new in fine-tuning."
        )
    if (parts := _parts(new)) and not has_new_head:
        logger.warning(f"The {parts} new: {printable(name)} has none for these labels and options.")
    unused = {*info["unexpected_keys"], *(dropped - model.state_dict().keys())}
    if (parts := _parts(unused)) and not has_new_head:
        logger.warning(f"The {parts} left out: {printable(name)} has weights of a kind that this model does not use.")
    return model


def _parts(keys: Collection[str]) -> str:
    """Name the parts of a head that weights belong to, with a verb; but for `word_starts`, which the tokenizer sets."""
    names = {
        "attention": "attention pooling",
        "crf": "conditional random field",
        "language_model": "language model",
        "lexical": "lexical features",
        "lm_head": "language model",
        "ngrams": "n-grams",
    }
    found = sorted({key.partition(".")[0] for key in keys} - {"word_starts"})
    words = " and the ".join(names.get(one, one.replace("_", " ")) for one in found)
    return f"{words} {'is' if len(found) == 1 and not words.endswith('s') else 'are'}" if found else ""


class _NoReport(Filter):
    """Keep transformers from writing its table of new weights, with escape codes for a terminal; we say which are."""

    def filter(self, record: LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()


@contextlib.contextmanager
def _without_report() -> Iterator[None]:
    source, no_report = logging.get_logger("transformers.modeling_utils"), _NoReport()
    source.addFilter(no_report)
    try:
        yield
    finally:
        source.removeFilter(no_report)


def _given(config_arguments: Any) -> dict[str, Any]:
    given = {name: value for name, value in vars(config_arguments).items() if value is not None}
    given.pop("problem_type", None)
    return given


def _problem_type(corpus: Corpus) -> Any:
    return corpus.problem_type if corpus.task == "text-classification" else None


__all__ = ["build", "is_encoder"]
