"""Figures of keys in two dimensions: principal components and t-SNE, as in the paper's pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reports.figures.canvas import C_ROME, P_ROME, PREFIXED, ROME, draw
from reports.numbers import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = Mapping[str, Any]
# What a point's group is called, behind the number of its style: 1 is what is looked for, on top.
Naming = Callable[[Point], str]
STYLE = {"1": (ROME, "X"), "2": (C_ROME, "o"), "3": (PREFIXED, "D"), "4": (P_ROME, "s")}
METHODS = {
    "pca": ("first principal component", "second principal component"),
    "tsne": ("t-SNE, first coordinate", "t-SNE, second coordinate"),
}
SHOWN = {"keys": "Unprefixed and prefixed keys", "directions": "Directions C⁻¹k̄, of length 1"}


def figures(projections: Mapping[str, Any] | None, naming: Naming) -> list[tuple[str, str]]:
    """Every projection that was made: keys, then directions, each by both methods.

    Args:
        projections: A document's ``projections``, or ``None``.
        naming: What to call the group of a point.

    Returns:
        Figures with their captions.
    """
    made = [
        (figure(projections, what, method, naming), f"{shown}, {name}.")
        for what, shown in SHOWN.items()
        for method, name in (("pca", "principal components"), ("tsne", "t-SNE"))
        if projections
    ]
    return [(svg, caption) for svg, caption in made if svg]


def figure(projections: Mapping[str, Any], what: str, method: str, naming: Naming) -> str | None:
    """One projection.

    Args:
        projections: A document's ``projections``.
        what: ``keys`` or ``directions``.
        method: ``pca`` or ``tsne``.
        naming: What to call the group of a point.

    Returns:
        A figure; ``None`` where there were too few points for it.
    """
    found: dict[str, list[Sequence[float]]] = {}
    for point in projections[what]["points"]:
        if point[method] is not None:
            found.setdefault(naming(point), []).append(point[method])
    if not found:
        return None
    labels = list(METHODS[method])
    if method == "pca":
        shares = projections[what]["explained"]
        labels = [f"{label} ({100 * s:.0f}%)" for label, s in zip(labels, shares, strict=True)]

    def paint(axes: Axes) -> None:
        groups = sorted(found)
        for i, group in enumerate(groups):
            colour, shape = STYLE[group[0]]
            axes.scatter(
                [x for x, _ in found[group]], [y for _, y in found[group]], color=colour,
                marker=shape, s=26, alpha=0.65, linewidths=0, zorder=len(groups) - i + 1,
                label=f"{_shown(group)} ({len(found[group]):,})",
            )  # fmt: skip
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.legend(
            loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=2, handletextpad=0.2,
            columnspacing=0.8,
        )  # fmt: skip

    alt = f"{SHOWN[what]}, {labels[0]} against {labels[1]}. " + "; ".join(
        f"{_shown(group)}: {len(places):,} points around "
        f"({number(_middle(places, 0))}, {number(_middle(places, 1))})"
        for group, places in sorted(found.items())
    )
    return draw(
        f"{what}-{method}",
        alt,
        paint,
        size=(4.6, 3.7),
        left=0.8,
        top=0.4 if len(found) <= 2 else 0.6,
    )


def of_subjects(limit: float) -> Naming:
    """Groups of a first-token inquiry: bare and prefixed keys; directions by ρ.

    Args:
        limit: Below which ρ a subject's keys are called inconsistent.

    Returns:
        The naming.
    """

    def name(point: Point) -> str:
        if point["kind"] == "direction":
            return f"1 |ρ| below {limit:g}" if abs(point["rho"]) < limit else "2 others"
        return "1 unprefixed k_u" if point["kind"] == "unprefixed" else "2 prefixed k_i"

    return name


def of_edits(edits: Sequence[Mapping[str, Any]]) -> Naming:
    """Groups of a list of edits: those with which ROME broke the model, and the others.

    Args:
        edits: A document's ``edits``.

    Returns:
        The naming.
    """

    def name(point: Point) -> str:
        broken = edits[int(point["subject"])]["collapsed"]["rome"]
        outcome = "collapsed" if broken else "not collapsed"
        if point["kind"] == "direction":
            return f"{1 if broken else 2} {outcome}"
        key = "k_u" if point["kind"] == "unprefixed" else "k_i"
        place = (1 if broken else 3) if key == "k_u" else (2 if broken else 4)
        return f"{place} {key}, {outcome}"

    return name


def _shown(group: str) -> str:
    """A group's name without the number it is sorted by."""
    return group.split(" ", 1)[1]


def _middle(places: Sequence[Sequence[float]], axis: int) -> float:
    ordered = sorted(place[axis] for place in places)
    return ordered[len(ordered) // 2]
