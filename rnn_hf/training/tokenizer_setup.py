"""Make the tokenizer of a corpus, or load one."""

from itertools import islice
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging

from ..data.corpus import Corpus
from ..formats.span_splits import is_of_spans
from ..inference.download import find_folder
from ..inference.loading import MISSING_TOKENIZER, TOKENIZER_FILES, VOCABULARIES
from ..inference.model_files import check_file
from ..text.coverage import lacks_spaces, unknown_share
from ..text.encoding import NO_LIMIT
from ..text.tokenization import TokenizerKind, train_tokenizer
from ..text.words import are_split, set_word_splitter
from ..utils.display import one_line, printable, shorten
from .arguments import TokenizerArguments

logger = logging.get_logger(__name__)

# Training texts that are looked at, and the share of unknown tokens in them from which on it is said.
_NUM_SAMPLE = 1000
_MOST_UNKNOWN = 0.25


def make_tokenizer(
    corpus: Corpus,
    arguments: TokenizerArguments,
    output_dir: Path,
    words: list[str],
    trained_already: bool = False,
    max_length: int | None = None,
    tokenizer_folder: Path | None = None,
) -> PreTrainedTokenizerBase:
    """Train a tokenizer on a corpus, or load the one that the options name.

    Args:
        corpus ([`Corpus`]): The corpus.
        arguments ([`TokenizerArguments`]): What to make or load.
        output_dir (`Path`): Where a trained tokenizer is saved, and found by other processes and resumed runs.
        words (`list[str]`): Words to append to the vocabulary.
        trained_already (`bool`): Whether it is there.
        max_length (`int`, *optional*): Where texts are cut; without it they are not.
        tokenizer_folder (`Path`, *optional*): The checkpoint of a resumed run, whose tokenizer is taken.

    Returns:
        `PreTrainedTokenizerBase`: the tokenizer.

    Raises:
        ValueError: A tokenizer that cannot be read, or no room for text.

    Example:
    ```python
    >>> import tempfile
    >>> from pathlib import Path
    >>> from datasets import Dataset
    >>> from rnn_hf.data.corpus import Corpus
    >>> from rnn_hf.training.arguments import TokenizerArguments
    >>> from rnn_hf.training.tokenizer_setup import make_tokenizer
    >>> texts = Dataset.from_dict({"text": ["a b", "b a"]})
    >>> corpus = Corpus("language-modeling", {"train": texts}, "text", "", None, [], {"train": 2})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     make_tokenizer(corpus, TokenizerArguments(), Path(folder), []).tokenize("a b")
    ['a', 'b']

    ```
    """
    if arguments.tokenizer_name is not None:
        tokenizer = load_tokenizer(str(tokenizer_folder or arguments.tokenizer_name))
    elif trained_already:
        tokenizer = load_tokenizer(str(tokenizer_folder or output_dir))
    else:
        tokenizer = train_tokenizer(
            corpus.training_inputs(),
            _tokenizer_kind(corpus, arguments),
            vocab_size=arguments.vocab_size,
            min_frequency=arguments.min_frequency,
            lowercase=arguments.lowercase,
            is_split_into_words=corpus.has_words,
            additional_words=words,
        )
        if is_of_spans(corpus.splits["train"]) and are_split(corpus.inputs("train")):
            set_word_splitter(tokenizer)
    if not trained_already:
        _warn_of_unknown(tokenizer, corpus)
    set_max_length(tokenizer, corpus, max_length)
    if arguments.tokenizer_name is None and not trained_already:
        tokenizer.save_pretrained(output_dir)
    return tokenizer


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
    >>> from rnn_hf.training.tokenizer_setup import load_tokenizer
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


def set_max_length(tokenizer: PreTrainedTokenizerBase, corpus: Corpus, max_length: int | None) -> None:
    """Let the tokenizer say how many tokens are read; a limit that was meant for another model does not count.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): The tokenizer, which is changed.
        corpus ([`Corpus`]): The corpus. Taggers and language models read all of it.
        max_length (`int`, *optional*): Where texts are cut; without it they are not.

    Raises:
        ValueError: It leaves no room for text.
    """
    reads_all = corpus.task != "text-classification"
    num_special = tokenizer.num_special_tokens_to_add()
    if max_length is not None and not reads_all and max_length <= num_special:
        raise ValueError(
            f"--max_seq_length {max_length} leaves no room for text: {num_special} tokens are the tokenizer's own."
        )
    tokenizer.model_max_length = NO_LIMIT if max_length is None or reads_all else max_length


def _tokenizer_kind(corpus: Corpus, arguments: TokenizerArguments) -> TokenizerKind:
    """Choose the kind of tokenizer where the options leave it open."""
    if arguments.tokenizer_kind != "auto":
        return arguments.tokenizer_kind
    if corpus.has_words or not lacks_spaces(islice(corpus.inputs("train"), _NUM_SAMPLE)):
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


__all__ = ["load_tokenizer", "make_tokenizer", "set_max_length"]
