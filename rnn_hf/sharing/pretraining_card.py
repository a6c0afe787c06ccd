"""What the card of a pretrained encoder says that those of classifiers and taggers do not."""

from pathlib import Path

from ..models.configuration_rnn import RnnConfig
from .card_tables import CELLS

PRETRAINING_TEMPLATE = Path(__file__).with_name("pretraining_card_template.md")


def describe_language_model(config: RnnConfig, trained: str) -> str:
    """Say in a sentence what a pretrained encoder is.

    Args:
        config ([`RnnConfig`]): Its configuration.
        trained (`str`): On what it was trained, with a comma before; or nothing.

    Example:
    ```python
    >>> from rnn_hf import RnnConfig
    >>> from rnn_hf.sharing.pretraining_card import describe_language_model
    >>> describe_language_model(RnnConfig(bidirectional=False), ", trained on a.txt")
    'A recurrent language model (unidirectional LSTM) that predicts each next token, trained on a.txt.'

    ```
    """
    cell = CELLS[config.cell_type]
    if not config.bidirectional:
        return f"A recurrent language model (unidirectional {cell}) that predicts each next token{trained}."
    return (
        f"A recurrent encoder (bidirectional {cell}) to fine-tune. Pretrained as a language model, it predicts each "
        f"next and each previous token{trained}."
    )


def pretraining_limits(config: RnnConfig) -> list[str]:
    """Say what a pretrained encoder is not for.

    Args:
        config ([`RnnConfig`]): Its configuration.

    Returns:
        `list[str]`: sentences.
    """
    limits = ["It has no labels: fine-tune it for a task first."] if config.bidirectional else []
    compared = (
        "Perplexities per token can be compared for the same vocabulary and texts only, those per word for the same"
    )
    return [
        *limits,
        f"{compared} texts.",
        "What its texts get wrong or leave out, it does too. It was not examined for bias.",
    ]


__all__ = ["PRETRAINING_TEMPLATE", "describe_language_model", "pretraining_limits"]
