"""The figures of a batch: M as a picture, φ of every edit, φ of every method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reports.colours import BARE, DIM, FAIL, LINE, MEAN
from reports.figures.canvas import Drawing, legend, limit
from reports.numbers import counted, number, percent
from reports.tables import methods

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Document = Mapping[str, Any]
# From which absolute cosine on a cell has which opacity; what is nearly one key is in red.
SHADES = ((0.1, 0.15), (0.3, 0.3), (0.5, 0.5), (0.7, 0.75))
PLACES = {
    "bare": "bare",
    "prefixed": "prefixed",
    "other_first_tokens": "first tokens",
    "later_tokens": "later tokens",
}
FAINTEST = 1e-4  # smaller shares are drawn here


def matrix(document: Document) -> Drawing | None:
    """M as a picture: cosines between the keys of the batch, in the metric.

    Args:
        document: A ``diag.batch/1`` document.

    Returns:
        The figure; ``None`` for a batch of one, which has no pairs.
    """
    cosines = document["picture"]["cosines"]
    n = len(cosines)
    if n < 2:
        return None
    one_key = _one_key(document)
    red = sum(abs(cosines[i][j]) >= one_key for i in range(n) for j in range(i))

    def paint(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        _fill(axes, [(i, i) for i in range(n)], LINE, 1.0)
        for least, most, colour, alpha in _shades(one_key):
            cells = [
                (j, i)
                for i, row in enumerate(cosines)
                for j, value in enumerate(row)
                if i != j and least <= abs(value) < most
            ]
            _fill(axes, cells, colour, alpha)
        axes.set_xlim(-0.5, n - 0.5)
        axes.set_ylim(n - 0.5, -0.5)
        axes.set_aspect("equal")
        axes.set_xlabel("edit")
        axes.set_ylabel("edit")
        for axis in (axes.xaxis, axes.yaxis):  # people count from 1
            axis.set_major_locator(MaxNLocator(integer=True))
            axis.set_major_formatter(lambda place, _: f"{place + 1:.0f}")

    alt = (
        f"Cosines between the keys of {counted(n, 'edit')} in the metric, darker where keys are "
        f"more alike; {counted(red, 'pair')} of cosine {one_key:g} or more, in red"
    )
    return Drawing("batch-matrix", alt, paint, size=(4.0, 3.9), top=0.2)


def response(document: Document) -> Drawing | None:
    """φ of every edit over all layers, at its bare and at its prefixed prompts.

    Args:
        document: A ``diag.batch/1`` document.

    Returns:
        The figure; ``None`` where M is singular.
    """
    edits = [edit for edit in document["edits"] if edit["received_bare"] is not None]
    if not edits:
        return None
    edits.sort(key=lambda edit: float(edit["received_bare"]))
    faint = next((f["limit"] for f in document["findings"] if f["id"] == "takes"), None)

    def paint(axes: Axes) -> None:
        places = range(1, len(edits) + 1)
        for name, label, (colour, marker) in (
            ("received_prefixed", "after a prefix", MEAN),
            ("received_bare", "bare prompt", BARE),
        ):
            points = [
                (x, e[name]) for x, e in zip(places, edits, strict=True) if e[name] is not None
            ]
            axes.scatter(
                [x for x, _ in points], [y for _, y in points], color=colour, marker=marker,
                s=18, linewidths=0, label=label,
            )  # fmt: skip
        axes.axhline(0, color=DIM, linewidth=0.8)
        if faint is not None:
            limit(axes, faint, f"takes from {percent(faint)}", vertical=False)
        axes.set_xlabel("edit, by what its bare prompt receives")
        axes.set_ylabel("share of the change received")
        legend(axes)

    low, high = edits[0]["received_bare"], edits[-1]["received_bare"]
    alt = f"Bare prompts receive from {percent(low)} to {percent(high)} of their change"
    return Drawing("batch-response", alt, paint)


def family(document: Document) -> Drawing | None:
    """φ of every method at four kinds of keys, the medians over the batch.

    Args:
        document: A ``diag.batch/1`` document.

    Returns:
        The figure; ``None`` if no method has a response.
    """
    rows = [row for row in methods.rows(document) if row.response]
    if not rows:
        return None
    places = [p for p in methods.PLACES if any(row.response.get(p) is not None for row in rows)]

    def paint(axes: Axes) -> None:
        for row in rows:
            points = [
                (i, max(abs(value), FAINTEST))
                for i, place in enumerate(places)
                if (value := row.response.get(place)) is not None
            ]
            axes.plot(
                [x for x, _ in points], [y for _, y in points], color=row.colour,
                marker=row.marker, markersize=6, label=row.short,
                linewidth=2.2 if row.is_chosen else 0.7,
            )  # fmt: skip
        axes.set_yscale("log")
        axes.set_xticks(range(len(places)), [PLACES[place] for place in places])
        axes.set_xlabel("key")
        axes.set_ylabel("share of the change received, absolute")
        legend(axes, columns=4)

    return Drawing("batch-family", _told(rows), paint, size=(5.4, 4.0), top=1.0)


def _told(rows: Sequence[methods.MethodRow]) -> str:
    bare = ", ".join(f"{row.short} {number(row.response.get('bare'))}" for row in rows)
    return f"Share of the change that the bare prompt receives, by method: {bare}"


def _one_key(document: Document) -> float:
    """From which cosine on two keys were judged to be nearly one; without a judgement never."""
    limits = (each["limit"] for each in document["findings"] if each["id"] == "pairs")
    return next((float(limit) for limit in limits if limit is not None), math.inf)


def _shades(one_key: float) -> list[tuple[float, float, str, float]]:
    ends = [least for least, _ in SHADES[1:]] + [one_key]
    shades = [
        (least, most, MEAN[0], alpha) for (least, alpha), most in zip(SHADES, ends, strict=True)
    ]
    return [*shades, (one_key, math.inf, FAIL, 1.0)]


def _fill(axes: Axes, cells: Sequence[tuple[int, int]], colour: str, alpha: float) -> None:
    """Fills unit squares as one path: thousands of cells stay small in a page."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    if not cells:
        return
    squares = [
        Path([(x - 0.5, y - 0.5), (x + 0.5, y - 0.5), (x + 0.5, y + 0.5), (x - 0.5, y + 0.5),
              (x - 0.5, y - 0.5)], closed=True)
        for x, y in cells
    ]  # fmt: skip
    path = Path.make_compound_path(*squares)
    axes.add_patch(PathPatch(path, facecolor=colour, alpha=alpha, linewidth=0))
