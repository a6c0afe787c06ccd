"""Tables and plots of measurements."""

from rich.console import Console
from rich.table import Table

from .measure import Row


def print_rows(rows: list[Row], title: str) -> None:
    """Print measurements as a table."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(*columns)
    for row in rows:
        values = (row.get(name, "") for name in columns)
        table.add_row(*(f"{value:,.2f}" if isinstance(value, float) else str(value) for value in values))
    console = Console(width=140)
    console.print(title)
    console.print(table)


def plot(rows: list[Row], path: str) -> None:
    """Draw the cost of a token against the length of the sequences, in training where that was measured."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    mode = "training" if any(row["mode"] == "training" for row in rows) else "inference"
    for cell in dict.fromkeys(row["cell"] for row in rows):
        chosen = [row for row in rows if row["cell"] == cell and row["mode"] == mode]
        lengths = [row["length"] for row in chosen]
        (line,) = axes.plot(lengths, [row["ours us/token"] for row in chosen], "o-", label=f"{cell.upper()}, rnn_hf")
        if all("stock / ours" in row for row in chosen):
            stock = [row["ours us/token"] * row["stock / ours"] for row in chosen]
            axes.plot(lengths, stock, "x--", color=line.get_color(), label=f"{cell.upper()}, packed torch")
    axes.set(xscale="log", yscale="log", xlabel="length of the sequences", ylabel=f"{mode}, µs a token")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)


__all__ = ["plot", "print_rows"]
