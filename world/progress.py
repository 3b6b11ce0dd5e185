"""Shows a training run as it goes: loss, recall, and the anomaly layer by layer."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from world.recipe import Recipe

PER_LAYER = {
    "rho_first": "ρ, subject first",
    "rho_later": "ρ, subject later",
    "cosine": "cosine of keys",
    "massive": "norm at 0 / median",
    "attention_to_0": "attention to 0",
    "sink_rate": "sink rate",
}


class Display:
    """A live table of the latest figures; use it as a context manager.

    Args:
        recipe: Tells how many steps there will be.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._progress = Progress(
            TextColumn("[bold]training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        )
        self._task = self._progress.add_task("", total=recipe.steps)
        self._live = Live(self._progress, refresh_per_second=2)

    def __enter__(self) -> Display:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.__exit__(kind, value, traceback)

    def show(self, figures: dict[str, Any]) -> None:
        """Puts one line of the history on the screen."""
        self._progress.update(self._task, completed=figures["step"])
        recall = "  ".join(
            f"{name.removeprefix('recall_').replace('_', ' ')} {value:.2f}"
            for name, value in figures.items()
            if name.startswith("recall_")
        )
        table = Table(
            title=f"step {figures['step']}   loss {figures['loss']:.3f}\nrecall: {recall}"
        )
        table.add_column("layer")
        for layer in range(len(figures["rho_first"])):
            table.add_column(str(layer), justify="right")
        for name, label in PER_LAYER.items():
            table.add_row(label, *(f"{value:.2f}" for value in figures[name]))
        self._live.update(Group(self._progress, table))
