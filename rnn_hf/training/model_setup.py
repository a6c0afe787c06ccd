"""Make the tokenizer and the model for a corpus."""

import contextlib
import dataclasses
from collections.abc import Collection, Iterator
from itertools import islice
from logging import Filter, LogRecord
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging

from ..data.corpus import Corpus
from ..data.span_splits import is_of_spans
from ..inference.download import find_folder
from ..inference.loading import (
    MISSING_TOKENIZER,
    TOKENIZER_FILES,
    VOCABULARIES,
    RnnModelWithHead,
    check_weights,
    load_config,
    load_weights,
)
from ..inference.model_files import check_file
from ..models.configuration_rnn import RnnConfig
from ..models.labels import tagging_scheme
from ..models.modeling_rnn import RnnForSequenceClassification, RnnForTokenClassification
from ..text.characters import collect_characters, count_lexical_features, set_vocabulary, vocabulary_entries
from ..text.coverage import lacks_spaces, unknown_share
from ..text.tokenization import NO_LIMIT, TokenizerKind, max_length_of, train_tokenizer
from ..text.word_vectors import StaticVectors, load_vectors, pretrain_character_cnn, set_vectors, vocabulary_words
from ..text.words import are_split, set_word_splitter
from ..utils.display import one_line, printable, shorten
from .arguments import TokenizerArguments

logger = logging.get_logger(__name__)

MODEL_CLASSES: dict[str, type[RnnForSequenceClassification] | type[RnnForTokenClassification]] = {
    "text-classification": RnnForSequenceClassification,
    "token-classification": RnnForTokenClassification,
}

# Training texts that are looked at, and the share of unknown tokens in them from which on it is said.
_NUM_SAMPLE = 1000
_MOST_UNKNOWN = 0.25

# What fine-tuning may make anew, since it depends on the labels or the task.
_HEADS = (
    *("attention.", "auxiliary_classifier.", "classifier.", "crf.", "language_model.", "lexical.", "ngrams."),
    "word_starts",
)
# Most lexical features that a new tagger has by default.
_MOST_LEXICAL_FEATURES = 65536

# What fine-tuning takes from the checkpoint and cannot change.
_ARCHITECTURE = (
    "embedding_size",
    "ngram_buckets",
    "max_ngram",
    "max_characters_per_token",
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
        _set_max_length(tokenizer, corpus, max_seq_length or max_length_of(tokenizer))
        model = _pretrained_model(arguments.model_name_or_path, folder, config, corpus, config_arguments)
        if len(tokenizer) > model.config.vocab_size:
            raise ValueError(
                f"The tokenizer in {arguments.model_name_or_path} has {len(tokenizer):,} entries, but the model "
                f"{model.config.vocab_size:,}: they do not belong together. Save the model's own tokenizer there."
            )
        set_vocabulary(model, tokenizer)
        return tokenizer, model

    vectors = None if arguments.vectors is None else load_vectors(arguments.vectors, arguments.vectors_vocab_size)
    words = [] if vectors is None else list(vocabulary_words(vectors, arguments.lowercase))
    if arguments.tokenizer_name is not None:
        tokenizer, words = load_tokenizer(str(tokenizer_folder or arguments.tokenizer_name)), []
    elif trained_already:
        tokenizer = load_tokenizer(str(tokenizer_folder or output_dir))
    else:
        tokenizer = train_tokenizer(
            corpus.training_inputs(),
            _tokenizer_kind(corpus, arguments),
            vocab_size=arguments.vocab_size,
            min_frequency=arguments.min_frequency,
            lowercase=arguments.lowercase,
            is_split_into_words=corpus.task == "token-classification",
            additional_words=words,
        )
        if is_of_spans(corpus.splits["train"]) and are_split(corpus.inputs("train")):
            set_word_splitter(tokenizer)
    if not trained_already:
        _warn_of_unknown(tokenizer, corpus)
    _set_max_length(tokenizer, corpus, max_seq_length)
    if arguments.tokenizer_name is None and not trained_already:
        tokenizer.save_pretrained(output_dir)
    model = MODEL_CLASSES[corpus.task](_new_config(corpus, tokenizer, arguments, config_arguments, vectors, words))
    set_vocabulary(model, tokenizer)
    if vectors is not None:
        logger.warning(_set_vectors(model, vectors, tokenizer, has_capitals=bool(words) and not arguments.lowercase))
    if arguments.mimick_epochs > 0 and not trained_already:
        predicted = pretrain_character_cnn(model, arguments.mimick_epochs)
        logger.warning(f"By their characters alone, {predicted:.0%} of the vectors' variance is predicted.")
    return tokenizer, model


def _tokenizer_kind(corpus: Corpus, arguments: TokenizerArguments) -> TokenizerKind:
    """Choose the kind of tokenizer where the options leave it open."""
    if arguments.tokenizer_kind != "auto":
        return arguments.tokenizer_kind
    if corpus.task == "token-classification" or not lacks_spaces(islice(corpus.inputs("train"), _NUM_SAMPLE)):
        return "wordpiece"
    if arguments.vectors is not None:
        logger.warning("The texts have no spaces between words, so that few words have one of the --vectors.")
        return "wordpiece"
    logger.warning("The texts have no spaces between words: --tokenizer_kind unigram is chosen.")
    return "unigram"


def _warn_of_unknown(tokenizer: PreTrainedTokenizerBase, corpus: Corpus) -> None:
    share = unknown_share(tokenizer, list(islice(corpus.inputs("train"), _NUM_SAMPLE)))
    if share > _MOST_UNKNOWN:
        logger.warning(
            f"{share:.0%} of the tokens of the training data are unknown to the tokenizer, and tell the model little: "
            "--tokenizer_kind bpe or unigram knows all."
        )


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


def _set_max_length(tokenizer: PreTrainedTokenizerBase, corpus: Corpus, max_length: int | None) -> None:
    """Let the tokenizer say what is read; a limit that was meant for another model does not count."""
    is_tagger = corpus.task == "token-classification"
    num_special = tokenizer.num_special_tokens_to_add()
    if max_length is not None and not is_tagger and max_length <= num_special:
        raise ValueError(
            f"--max_seq_length {max_length} leaves no room for text: {num_special} tokens are the tokenizer's own."
        )
    tokenizer.model_max_length = NO_LIMIT if max_length is None or is_tagger else max_length


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


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer by its folder or hub id, without running code from there.

    Args:
        name (`str`): The folder or the id; that of a model will do.

    Returns:
        `PreTrainedTokenizerBase`: the tokenizer, which marks the first token of each word.

    Raises:
        ValueError: There is none, it cannot be read, or it lacks what models need.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf import train_tokenizer
    >>> from rnn_hf.training.model_setup import load_tokenizer
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = train_tokenizer(["a b", "a b"], kind="word").save_pretrained(folder)
    ...     tokenizer = load_tokenizer(folder)
    >>> tokenizer.tokenize("b a")
    ['b', 'a']

    ```
    """
    options: dict[str, Any] = {"model_input_names": ["input_ids", "attention_mask"], "trust_remote_code": False}
    try:
        folder = find_folder(name, weights=False, what="tokenizer")
        for path in map(folder.joinpath, TOKENIZER_FILES):
            if path.is_file():
                check_file(path)
    except ValueError as error:
        raise ValueError(one_line(str(error))) from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        if getattr(tokenizer, "add_prefix_space", True) is False:
            # So that the first token of each word shows that it is one.
            tokenizer = AutoTokenizer.from_pretrained(folder, add_prefix_space=True, **options)
        highest = max(tokenizer.get_vocab().values(), default=-1)
    except (KeyboardInterrupt, MemoryError, SystemExit):
        raise
    except BaseException as error:  # the tokenizers of Rust end in exceptions of any class
        raise ValueError(_explain(name, folder, error)) from error
    if not tokenizer.is_fast:
        raise ValueError(
            f"{printable(name)} holds a {type(tokenizer).__name__}, which is no fast tokenizer, and cannot tell which "
            "tokens belong to which word: take one with a tokenizer.json, or let one be trained."
        )
    if not any(path for pattern in VOCABULARIES for path in folder.glob(pattern)):
        # Of its class alone, transformers would make one without a vocabulary.
        raise ValueError(f"{printable(name)} holds no tokenizer that can be read: {MISSING_TOKENIZER}")
    if highest != len(tokenizer) - 1:
        raise ValueError(
            f"The tokenizer in {printable(name)} has {len(tokenizer):,} entries with ids up to {highest:,}: ids must "
            "be consecutive. Take another one, or let one be trained."
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token is None:
        raise ValueError(
            f"The tokenizer in {printable(name)} has neither a padding nor an end nor an unknown token: say in its "
            "tokenizer_config.json which is which, or let one be trained."
        )
    return tokenizer


def _explain(name: str, folder: Path, error: BaseException) -> str:
    if "trust_remote_code" in str(error) or "custom code" in str(error):
        return (
            f"{printable(name)} holds a tokenizer with code of its own, which is not run. Load it with transformers "
            "yourself if you trust it, and save it as a fast tokenizer."
        )
    if not (folder / "tokenizer.json").is_file():
        return f"{printable(name)} holds no tokenizer that can be read: {MISSING_TOKENIZER}"
    reason = shorten(one_line(f"{type(error).__name__}: {error}"), 300)
    return (
        f"{printable(name)} holds no tokenizer that can be read: tokenizer.json is damaged, or does not fit "
        f"tokenizer_config.json ({reason})."
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
    fields["use_crf"] = corpus.task == "token-classification" and tagging_scheme(corpus.label_names) is not None
    if vectors is not None:
        fields |= {"static_embedding_size": vectors.size, "static_vocab_size": len(vectors.words)}
        if words:
            fields["num_word_embeddings"] = tokenizer.init_kwargs["num_corpus_entries"]
    if corpus.task == "text-classification":
        fields["ngram_buckets"] = 1  # until n-grams are counted
    given = _given(config_arguments)
    if corpus.task == "token-classification" and "num_lexical_features" not in given:
        room = given.get("max_characters_per_token", RnnConfig.max_characters_per_token)
        fields["num_lexical_features"] = min(count_lexical_features(tokenizer, room), _MOST_LEXICAL_FEATURES)
    return RnnConfig(
        vocab_size=len(tokenizer),
        characters=collect_characters(tokenizer) if arguments.char_cnn else None,
        id2label=dict(enumerate(corpus.label_names)),
        problem_type=_problem_type(corpus),
        **(fields | given),
    )


def _pretrained_model(
    name: str, folder: Path, config: RnnConfig, corpus: Corpus, config_arguments: Any
) -> RnnModelWithHead:
    """Load a checkpoint for the corpus's labels; where they are the same, the corpus takes the checkpoint's order."""
    check_weights(folder, config)
    overrides = _given(config_arguments)
    for field in _ARCHITECTURE:
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
    if corpus.task == "token-classification":
        changes["ngram_buckets"] = 0  # which taggers do not count
    # All at once: a number of labels may fit the new problem type, and not the old one.
    config = RnnConfig.from_dict(config.to_dict() | changes | overrides)
    with _without_report():
        loaded: Any = MODEL_CLASSES[corpus.task].from_pretrained(
            None,
            config=config,
            state_dict=load_weights(folder),
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
    if parts := _parts(new):
        logger.warning(f"The {parts} new: {printable(name)} has none for these labels and options.")
    if parts := _parts(info["unexpected_keys"]):
        logger.warning(f"The {parts} left out: {printable(name)} has weights of a kind that this model does not use.")
    return model


def _parts(keys: Collection[str]) -> str:
    """Name the parts of a head that weights belong to, with a verb; but for `word_starts`, which the tokenizer sets."""
    names = {
        "attention": "attention pooling",
        "crf": "conditional random field",
        "language_model": "language model",
        "lexical": "lexical features",
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


__all__ = ["build"]
