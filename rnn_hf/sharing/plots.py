"""Plots of a training run: its course, and what a classifier confuses."""

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.display import printable, shorten
from ..utils.files import replace_file

# Where its cache folder cannot be written to, matplotlib says so at each import, in lines that concern nobody.
_logger = logging.getLogger("matplotlib")
_level = _logger.level
_logger.setLevel(logging.ERROR)
from matplotlib.figure import Figure  # noqa: E402

_logger.setLevel(_level)

# Beyond so many labels, a matrix has no room for numbers; beyond so many, none for names.
_MOST_NUMBERS = 20
_MOST_NAMES = 60
_MOST_CHARACTERS = 30
# The usual fonts draw no Chinese, Japanese or Korean.
_FIRST_CJK = "\u2e80"


def draw_training_curve(history: list[dict[str, Any]], path: Path) -> bool:
    """Draw the losses, and the scores on validation, against epochs.

    Args:
        history (`list[dict]`): The Trainer's `log_history`.
        path (`Path`): PNG file to write.

    Returns:
        `bool`: whether there was anything to draw.

    Example:
    ```python
    >>> import tempfile
    >>> from pathlib import Path
    >>> from rnn_hf.sharing.plots import draw_training_curve
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     draw_training_curve([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.3}], Path(folder, "curve.png"))
    True

    ```
    """
    losses = {"loss": "training", "eval_loss": "validation"}
    scores = {f"eval_{name}": name for name in ("accuracy", "average_precision", "f1", "exact_match", "mse")}
    panels = [(ylabel, _curves(history, names)) for ylabel, names in (("loss", losses), ("validation", scores))]
    panels = [(ylabel, curves) for ylabel, curves in panels if curves]
    if not panels:
        return False
    figure = Figure(figsize=(4.5 * len(panels), 3.2), layout="constrained")
    for (ylabel, curves), axes in zip(panels, np.atleast_1d(figure.subplots(1, len(panels))), strict=True):
        for label, (epochs, values) in curves.items():
            axes.plot(epochs, values, "o-", markersize=3, label=label)
        axes.set(xlabel="epoch", ylabel=ylabel)
        axes.legend()
    _save(figure, path)
    return True


def draw_confusion_matrix(counts: list[list[int]], labels: list[str], path: Path) -> None:
    """Draw how often each label was taken for which.

    Args:
        counts (`list[list[int]]`): A row for each true label, a column for each predicted one.
        labels (`list[str]`): Names of the labels; long ones are cut. Where the font lacks their script, numbers stand
            for them.
        path (`Path`): PNG file to write.

    Example:
    ```python
    >>> import tempfile
    >>> from pathlib import Path
    >>> from rnn_hf.sharing.plots import draw_confusion_matrix
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     draw_confusion_matrix([[8, 2], [1, 9]], ["ham", "spam"], Path(folder, "matrix.png"))

    ```
    """
    matrix = np.array(counts)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    size = float(np.clip(1.5 + 0.45 * len(labels), 3.5, 16))
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true")
    if len(labels) <= _MOST_NAMES:
        plain = all(character < _FIRST_CJK for label in labels for character in label)
        # Between dollars matplotlib expects a formula.
        short = [shorten(printable(label), _MOST_CHARACTERS).replace("$", r"\$") for label in labels]
        names = short if plain else [str(position) for position in range(len(labels))]
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
    if len(labels) <= _MOST_NUMBERS:
        for row, column in np.argwhere(matrix):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{matrix[row, column]:,}", ha="center", va="center", color=color, fontsize=8)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    """Write a figure whole, or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    replace_file(path, buffer.getvalue())


def _curves(history: list[dict[str, Any]], names: dict[str, str]) -> dict[str, tuple[list[float], list[float]]]:
    """Pick the series of some keys: epochs and values by label."""
    curves = {}
    for key, label in names.items():
        points = [(entry["epoch"], entry[key]) for entry in history if key in entry]
        if points:
            curves[label] = ([epoch for epoch, _ in points], [value for _, value in points])
    return curves


__all__ = ["draw_confusion_matrix", "draw_training_curve"]
