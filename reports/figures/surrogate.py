"""Edited models: perplexity or closed-form damage against what became of downstream tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from reports.colours import DIM
from reports.figures.canvas import Drawing, legend, limit
from reports.numbers import PERCENT, counted, number
from reports.tables import editors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Document = Mapping[str, Any]
FOREWARNED = {"damage": "over corpus tokens", "damage_first_tokens": "at first tokens"}


def tasks(document: Document) -> Drawing | None:
    """Perplexity ratio against the change of the mean score, with the monotone curve.

    Args:
        document: A ``diag.surrogate/1`` document.

    Returns:
        The figure.
    """
    limits = document["limits"]

    def paint(axes: Axes) -> None:
        if document["curve"]:
            ratios, changes = zip(*document["curve"], strict=True)
            axes.plot(
                ratios, [100 * change for change in changes], color=DIM, linewidth=1.2, zorder=1,
                label="monotone curve",
            )  # fmt: skip
        if "perplexity_damaged" in limits:
            at = limits["perplexity_damaged"]
            limit(axes, at, f"{number(at)}×", align="left")
        _scatter(axes, document, "ratio")
        axes.set_xlabel("perplexity after / before (logarithmic)")

    return _drawing(document, "surrogate-ratio", "Perplexity ratio", "ratio", paint)


def damage(document: Document, name: str = "damage") -> Drawing | None:
    """Closed-form damage against the change of the mean score.

    Args:
        document: A ``diag.surrogate/1`` document.
        name: One of :data:`FOREWARNED`.

    Returns:
        The figure; ``None`` where no damage is known.
    """

    def paint(axes: Axes) -> None:
        _scatter(axes, document, name, scale=100.0)
        axes.set_xlabel(f"damage {FOREWARNED[name]}, % (logarithmic)")

    what = f"Closed-form damage {FOREWARNED[name]}"
    return _drawing(document, f"surrogate-{name.replace('_', '-')}", what, name, paint)


def first_tokens(document: Document) -> Drawing | None:
    """As :func:`damage`, at first tokens."""
    return damage(document, "damage_first_tokens")


def _scatter(axes: Axes, document: Document, name: str, *, scale: float = 1.0) -> None:
    for editor in editors.editors({point["method"] for point in document["points"]}):
        own = [p for p in document["points"] if p["method"] == editor.name and p[name]]
        axes.scatter(
            [scale * point[name] for point in own], [100 * point["change"] for point in own],
            color=editor.colour, marker=editor.marker, s=24, alpha=0.6, linewidths=0,
            label=editor.short,
        )  # fmt: skip
    if "tasks_loss" in document["limits"]:
        at = -100 * document["limits"]["tasks_loss"]
        limit(axes, at, f"tasks suffer below {number(at)}", vertical=False)
    axes.set_xscale("log")
    axes.set_ylabel("change of the mean score, points")
    legend(axes, columns=2, bbox_to_anchor=(0.5, 1.06))


def _drawing(
    document: Document, name: str, what: str, predictor: str, paint: Any
) -> Drawing | None:
    shown = [point for point in document["points"] if point[predictor]]
    if not shown:
        return None
    lowest, highest = (100 * end([p["change"] for p in shown]) for end in (min, max))
    alt = (
        f"{what} of {counted(len(shown), 'edited model')} against the change of the mean score, "
        f"from {number(lowest)} to {number(highest)}{PERCENT}"
    )
    return Drawing(name, alt, paint, size=(4.6, 3.7), left=0.8, top=0.6)
