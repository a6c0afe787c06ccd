"""Find the columns of texts and labels by the names that people usually give them."""

from collections.abc import Collection, Sequence

from transformers.utils import logging

from ..utils.messages import listed, shown
from .arguments import DataArguments

logger = logging.get_logger(__name__)

# What columns are called, beside `text` and `label`; capitals do not matter.
USUAL_NAMES: dict[str, Collection[str]] = {
    "text_column": (
        *("text", "texts", "sentence", "review", "review_text", "content", "document", "utterance", "comment"),
        *("comment_text", "message", "tweet", "body", "question", "query", "headline"),
    ),
    "label_column": (
        *("label", "labels", "category", "categories", "class", "target", "intent", "sentiment", "emotion", "topic"),
        *("stars", "rating"),
    ),
}


def choose_column(option: str, given: str, names: Sequence[str], origin: str) -> str:
    """Return the column that an option names, or the one of a usual name where the option was left out.

    Args:
        option (`str`): `"text_column"` or `"label_column"`.
        given (`str`): The option's value.
        names (`Sequence[str]`): The columns there are.
        origin (`str`): Where they are, for messages.

    Returns:
        `str`: a column; `given` if there is no better one.

    Raises:
        ValueError: Several columns have usual names.

    Example:
    ```python
    >>> from rnn_hf.formats.columns import choose_column
    >>> choose_column("label_column", "label", ["id", "Review", "Category"], "a.csv")
    'Category'

    ```
    """
    default = getattr(DataArguments, option)
    if given != default or given in names:
        return given
    found = [name for name in names if name.strip().lower() in USUAL_NAMES[option]]
    # A column in capitals is no other name.
    found = [name for name in found if name.strip().lower() == default] or found
    if len(found) > 1:
        raise ValueError(
            f"{origin} has no column {shown(given)}, and several that could be meant: {listed(found)}. Name the right "
            f"one with --{option}."
        )
    if not found:
        return given
    what = "texts" if option == "text_column" else "labels"
    logger.warning(f"{origin}: the {what} are read from column {shown(found[0])}; --{option} names another.")
    return found[0]


__all__ = ["USUAL_NAMES", "choose_column"]
