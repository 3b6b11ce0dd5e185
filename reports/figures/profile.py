"""One statistic, or a few of one kind, block by block, with the edited block marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reports.colours import LINE
from reports.figures.canvas import Drawing, legend
from reports.numbers import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class ProfileFigure:
    """What one such figure shows.

    Attributes:
        name: The figure's name on the page.
        title: What it is, for those who cannot see it.
        label: Label of the vertical axis.
        lines: For each line the statistic's name in a row, its label, and its colour and marker.
        log: Whether the axis is logarithmic.
    """

    name: str
    title: str
    label: str
    lines: tuple[tuple[str, str, tuple[str, str]], ...]
    log: bool = False


def draw_profile(
    profile: ProfileFigure, layers: Sequence[Mapping[str, Any]], edited: int
) -> Drawing | None:
    """Draws a profile.

    Args:
        profile: What it shows.
        layers: A row for each block: ``layer`` and the statistics.
        edited: The edited block.

    Returns:
        A figure; ``None`` without rows, or where a statistic is missing.
    """
    blocks = [row["layer"] for row in layers]
    series = [[row[key] for row in layers] for key, *_ in profile.lines]
    if not blocks or any(value is None for values in series for value in values):
        return None
    lowest = min(min(values) for values in series)

    def paint(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        axes.axvline(edited, color=LINE, linewidth=8, zorder=0)
        for values, (_, text, (colour, marker)) in zip(series, profile.lines, strict=True):
            axes.plot(blocks, values, color=colour, marker=marker, markersize=5, label=text or None)
        if profile.log and lowest > 0:
            axes.set_yscale("log")
        elif lowest >= 0:
            axes.set_ylim(0, max(1.0, *(max(values) for values in series)) * 1.03)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(f"block ({edited} is edited)")
        axes.set_ylabel(profile.label)
        if len(profile.lines) > 1:
            legend(axes, columnspacing=1.0)

    alt = f"{profile.title} by block. " + "; ".join(
        f"{text or profile.label}: " + ", ".join(number(value) for value in values)
        for values, (_, text, _look) in zip(series, profile.lines, strict=True)
    )
    top = 0.35 if len(profile.lines) <= 2 else 0.6
    return Drawing(f"profile-{profile.name}", alt, paint, size=(4.6, 2.8), top=top)
