"""The figure of a second moment: how well it is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from reports.colours import DIM, MEAN
from reports.figures.canvas import Drawing
from reports.numbers import counted, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def convergence(layer: Mapping[str, Any]) -> Drawing | None:
    """ρ of control edits by C of one half of the text against ρ by C of the other.

    Args:
        layer: One of the ``layers`` of a ``diag.covariance/1`` document.

    Returns:
        A figure; ``None`` if that was not measured.
    """
    points = (layer.get("convergence") or {}).get("halves")
    if not points:
        return None

    def paint(axes: Axes) -> None:
        every = [value for point in points for value in point]
        ends = [min(every), max(every)]
        axes.plot(ends, ends, color=DIM, linewidth=1, linestyle=(0, (4, 2)), zorder=1)
        axes.scatter(
            [x for x, _ in points], [y for _, y in points], color=MEAN[0], s=26, alpha=0.7,
            linewidths=0,
        )  # fmt: skip
        axes.set_xlabel("ρ by one half of the text")
        axes.set_ylabel("ρ by the other half")

    furthest = max(abs(x - y) for x, y in points)
    alt = (
        f"ρ of {counted(len(points), 'control edit')} in block {layer['layer']} by two halves of "
        f"the text; the two differ by at most {number(furthest)}"
    )
    return Drawing(f"convergence-{layer['layer']}", alt, paint, top=0.15)
