"""Figures of keys in two dimensions: principal components and t-SNE, as in the paper's pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from reports.colours import BARE, FOURTH, MEAN, THIRD
from reports.figures.canvas import Drawing, legend
from reports.numbers import counted, number, share
from reports.tables import editors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = Mapping[str, Any]
LOOKS = (BARE, MEAN, FOURTH, THIRD)
METHODS = {
    "pca": ("principal components", "first principal component", "second principal component"),
    "tsne": ("t-SNE", "t-SNE, first coordinate", "t-SNE, second coordinate"),
}
SHOWN = {"keys": "Unprefixed and prefixed keys", "directions": "Directions C⁻¹k̄, of length 1"}


class PointGroup(NamedTuple):
    """A group of points.

    Attributes:
        place: Its look, and its place in the order: 0 is what matters most, drawn on top.
        label: What it is called.
    """

    place: int
    label: str


Naming = Callable[[Point], PointGroup]


def figures(projections: Mapping[str, Any] | None, naming: Naming) -> list[tuple[Drawing, str]]:
    """Every projection that was made: keys, then directions, each by both methods.

    Args:
        projections: A document's ``projections``, or ``None``.
        naming: The group of a point.

    Returns:
        Figures with their captions.
    """
    if not projections:
        return []
    return [
        (drawing, f"{SHOWN[what]}, {METHODS[method][0]}.")
        for what in SHOWN
        for method in METHODS
        if (drawing := figure(projections, what, method, naming))
    ]


def figure(
    projections: Mapping[str, Any], what: str, method: str, naming: Naming
) -> Drawing | None:
    """One projection.

    Args:
        projections: A document's ``projections``.
        what: ``keys`` or ``directions``.
        method: ``pca`` or ``tsne``.
        naming: The group of a point.

    Returns:
        A figure; ``None`` where there were too few points for it.
    """
    groups: dict[PointGroup, list[Sequence[float]]] = {}
    for point in projections[what]["points"]:
        if point[method] is not None:
            groups.setdefault(naming(point), []).append(point[method])
    if not groups:
        return None
    labels = list(METHODS[method][1:])
    if method == "pca":
        explained = projections[what]["explained"]
        labels = [f"{label} ({share(s)})" for label, s in zip(labels, explained, strict=True)]

    def paint(axes: Axes) -> None:
        for group, places in sorted(groups.items()):
            colour, marker = LOOKS[group.place]
            axes.scatter(
                [x for x, _ in places], [y for _, y in places], color=colour, marker=marker, s=26,
                alpha=0.65, linewidths=0, zorder=len(LOOKS) - group.place + 1,
                label=f"{group.label} ({len(places):,})",
            )  # fmt: skip
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        legend(axes, bbox_to_anchor=(0.45, 1.0), columnspacing=0.8)

    alt = f"{SHOWN[what]}, {labels[0]} against {labels[1]}. " + "; ".join(
        f"{group.label}: {counted(len(places), 'point')} around "
        f"({number(_middle(places, 0))}, {number(_middle(places, 1))})"
        for group, places in sorted(groups.items())
    )
    top = 0.4 if len(groups) <= 2 else 0.6
    return Drawing(f"{what}-{method}", alt, paint, size=(4.6, 3.7), left=0.8, top=top)


def of_subjects(limit: float) -> Naming:
    """Groups of a first-token inquiry: bare and prefixed keys; directions by ρ.

    Args:
        limit: Below which |ρ| a subject's keys are called inconsistent.

    Returns:
        The naming.
    """

    def name(point: Point) -> PointGroup:
        if point["kind"] == "direction":
            small = abs(point["rho"]) < limit
            return PointGroup(0, f"|ρ| below {limit:g}") if small else PointGroup(1, "others")
        bare = point["kind"] == "unprefixed"
        return PointGroup(0, "unprefixed k_u") if bare else PointGroup(1, "prefixed k_i")

    return name


def of_edits(edits: Sequence[Mapping[str, Any]]) -> Naming:
    """Groups of a list of edits: those with which the published editor broke the model, and others.

    Args:
        edits: A document's ``edits``.

    Returns:
        The naming.
    """

    def name(point: Point) -> PointGroup:
        collapsed = edits[int(point["subject"])]["collapsed"]
        broken = collapsed[editors.judged(collapsed)]
        outcome = "collapsed" if broken else "not collapsed"
        if point["kind"] == "direction":
            return PointGroup(0 if broken else 1, outcome)
        if point["kind"] == "unprefixed":
            return PointGroup(0 if broken else 2, f"k_u, {outcome}")
        return PointGroup(1 if broken else 3, f"k_i, {outcome}")

    return name


def _middle(places: Sequence[Sequence[float]], axis: int) -> float:
    ordered = sorted(place[axis] for place in places)
    return ordered[len(ordered) // 2]
