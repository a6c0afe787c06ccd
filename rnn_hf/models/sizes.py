"""How large a model may be."""

from typing import Any

# More than any model has: numbers above these are mistakes, and would end in an allocator's error or in none at all.
_HIGHEST = {
    "vocab_size": 10**8,
    "static_vocab_size": 10**8,
    "embedding_size": 10**5,
    "static_embedding_size": 10**5,
    "hidden_size": 10**5,
    "num_hidden_layers": 1000,
    "max_characters_per_token": 1000,
    "char_embedding_size": 10**5,
    "char_num_filters": 10**5,
    "ngram_buckets": 10**8,
    "max_ngram": 10,
    "num_lexical_features": 10**8,
}
# Sizes that may be 0.
_OPTIONAL = ("static_embedding_size", "static_vocab_size", "ngram_buckets", "num_lexical_features")
_HIGHEST_KERNEL_SIZE = 1000
_MOST_LABELS = 10**6
_MOST_PARAMETERS = 10**11


def check_sizes(config: Any) -> None:
    """Check that the sizes of a configuration are positive, and none is larger than a model can be.

    Args:
        config ([`RnnConfig`]): The configuration.

    Raises:
        ValueError: A size out of range, or sizes that make too many parameters together.

    Example:
    ```python
    >>> from rnn_hf import RnnConfig
    >>> from rnn_hf.models.sizes import check_sizes
    >>> check_sizes(RnnConfig(hidden_size=8))

    ```
    """
    for name, highest in _HIGHEST.items():
        lowest = 0 if name in _OPTIONAL else 1
        size = getattr(config, name)
        if size < lowest:
            least = "not be negative" if lowest == 0 else "be at least 1"
            raise ValueError(f"{name} must {least}, got {size}.")
        if size > highest:
            raise ValueError(f"{name} must be at most {highest:,}, got {size:,}.")
    if config.num_word_embeddings is not None and not 1 <= config.num_word_embeddings <= config.vocab_size:
        raise ValueError(f"num_word_embeddings={config.num_word_embeddings} is not within 1 and {config.vocab_size}.")
    sizes = list(config.char_kernel_sizes)
    if not sizes or min(sizes) < 1:
        raise ValueError(f"char_kernel_sizes must hold sizes of at least 1, got {sizes}.")
    if len(sizes) > _HIGHEST_KERNEL_SIZE or max(sizes) > _HIGHEST_KERNEL_SIZE:
        raise ValueError(f"char_kernel_sizes must hold at most {_HIGHEST_KERNEL_SIZE} sizes, none above that.")
    num_labels = len(config.id2label or {})
    if num_labels > _MOST_LABELS:
        raise ValueError(f"There may be {_MOST_LABELS:,} labels at most, got {num_labels:,}.")
    num_parameters = _count_parameters(config, num_labels)
    if num_parameters > _MOST_PARAMETERS:
        raise ValueError(
            f"These sizes make a model of {num_parameters:,} parameters, more than {_MOST_PARAMETERS:,}: "
            f"vocab_size={config.vocab_size}, embedding_size={config.embedding_size}, "
            f"static_embedding_size={config.static_embedding_size}, hidden_size={config.hidden_size}, "
            f"num_hidden_layers={config.num_hidden_layers}, {num_labels} labels."
        )


def _count_parameters(config: Any, num_labels: int) -> int:
    """Count the weights of the largest tables."""
    own = (config.num_word_embeddings or config.vocab_size) * config.embedding_size
    static = config.static_vocab_size * config.static_embedding_size
    character_cnn = 0
    if config.characters is not None:
        filters = sum(config.char_kernel_sizes) * config.char_num_filters
        character_cnn = config.char_embedding_size * (filters + len(config.characters))
        character_cnn += config.vocab_size * config.max_characters_per_token
    gates = {"lstm": 4, "gru": 3}.get(config.cell_type, 1) * config.num_directions * config.hidden_size
    inputs = config.input_size + (config.num_hidden_layers - 1) * config.num_directions * config.hidden_size
    recurrent = gates * (inputs + config.num_hidden_layers * config.hidden_size)
    num_scored = len(config.scored_label_names)
    head = num_scored * config.num_directions * config.hidden_size + (num_scored**2 if config.use_crf else 0)
    ngrams = config.ngram_buckets * min(num_labels, 64)
    lexical = config.num_lexical_features * num_scored
    if config.ngram_buckets + config.num_lexical_features > 0:
        lexical += config.vocab_size * config.max_characters_per_token
    return own + static + character_cnn + recurrent + head + ngrams + lexical


__all__ = ["check_sizes"]
