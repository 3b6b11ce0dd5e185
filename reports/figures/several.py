"""Several diagnoses side by side: small multiples, a line for each diagnosis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from reports.colours import INK, LINE
from reports.figures.canvas import Drawing, legend, limit, tick
from reports.numbers import number
from reports.tables import editors
from reports.tables.editors import Shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Document = Mapping[str, Any]
Points = list[tuple[int, float]]  # which diagnosis, and its value
LONGEST = 24  # characters of a label: the page's table has all of it
COLUMNS, GAP, HEAD = 2, 0.25, 0.75  # panels in a row; inches between them, and above each


class Measure(NamedTuple):
    """One panel: what it shows of each editor, and the limit it is held against."""

    title: str
    field: str
    bound: str | None
    log: bool


MEASURES = {
    "damage": Measure("change of hidden states, in their norm", "relative_bound", "damage_safe",
                      True),
    "first_tokens": Measure("change of first tokens, in their norm", "relative_bound_first_tokens",
                            "first_tokens_safe", True),
    "bare": Measure("share at the bare prompt", "bare", None, False),
}  # fmt: skip


def damage(document: Document) -> Drawing | None:
    """Damage of every editor; of a ``diag.compare/1`` document."""
    return _one(document, "damage")


def first_tokens(document: Document) -> Drawing | None:
    """Damage at first tokens of every editor; of a ``diag.compare/1`` document."""
    return _one(document, "first_tokens")


def panels(document: Document) -> Drawing:
    """Small multiples: ρ, and every measure of each editor that was checked.

    Args:
        document: A ``diag.compare/1`` document.

    Returns:
        The figure.
    """
    measured = {name: own for name in MEASURES if any((own := _points(document, name)).values())}
    names = ["ratio", *measured]
    labels = _labels(document)
    n_lines = -(-len(names) // COLUMNS)
    each = 0.25 * len(labels) + 0.3  # inches
    left = min(1.9, 0.3 + 0.075 * max(map(len, labels)))
    height = n_lines * (each + HEAD) + 0.75
    width = 5.2 - 0.25 - left

    def paint(axes: Axes) -> None:
        axes.set_axis_off()
        total = n_lines * (each + HEAD) - HEAD
        for at, name in enumerate(names):
            line, column = divmod(at, COLUMNS)
            share = (1 - GAP / width) / COLUMNS
            panel = axes.inset_axes(
                (column * (share + GAP / width), 1 - (line * (each + HEAD) + each) / total,
                 share, each / total)
            )  # fmt: skip
            if name == "ratio":
                _paint_ratio(panel, document)
            else:
                _paint(panel, document, name, measured[name], small=True)
            panel.tick_params(labelsize=8)
            _name_rows(panel, labels if column == 0 else [""] * len(labels))
        # The last panel's lines stand for every panel's.
        lines = [line for line in panel.lines if line.get_linestyle() == "None"] if measured else []
        legend(axes, columns=3, handles=lines, bbox_to_anchor=(0.5, 1 + 0.4 / total))

    alt = "; ".join(
        ["ρ: " + ", ".join(f"{own['label']} {number(own['ratio'])}" for own in document["rows"])]
        + [_alt(document, name, own) for name, own in measured.items()]
    )
    return Drawing(
        "several-panels", alt, paint, size=(5.2, height), left=left, top=0.75
    )  # fmt: skip


def _one(document: Document, name: str) -> Drawing | None:
    points, labels = _points(document, name), _labels(document)
    if not any(points.values()):
        return None

    def paint(axes: Axes) -> None:
        _paint(axes, document, name, points)
        _name_rows(axes, labels)
        axes.set_xlabel(MEASURES[name].title)
        legend(axes, columns=3)

    height = 1.2 + 0.3 * len(labels)
    return Drawing(f"several-{name}", _alt(document, name, points), paint, size=(6.4, height),
                   left=1.8, top=0.4)  # fmt: skip


def _labels(document: Document) -> list[str]:
    labels = (own["label"] for own in document["rows"])
    return [text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…" for text in labels]


def _points(document: Document, name: str) -> dict[Shown, Points]:
    rows, measure = document["rows"], MEASURES[name]
    by_editor: dict[Shown, Points] = {}
    for editor in editors.editors({each for own in rows for each in own["editors"]}):
        values = ((own["editors"].get(editor.name) or {}).get(measure.field) for own in rows)
        by_editor[editor] = [
            (at, value)
            for at, value in enumerate(values)
            if value is not None and (value > 0 or not measure.log)
        ]
    return by_editor


def _paint(
    axes: Axes, document: Document, name: str, points: Mapping[Shown, Points], *,
    small: bool = False,
) -> None:  # fmt: skip
    measure = MEASURES[name]
    # Editors beside one another, where they would lie on one another.
    shift = 0.4 / len(points)
    for i, (editor, own) in enumerate(points.items()):
        at = [row + shift * (i - (len(points) - 1) / 2) for row, _ in own]
        axes.plot([value for _, value in own], at, color=editor.colour, marker=editor.marker,
                  linestyle="none", label=editor.short)  # fmt: skip
    if measure.bound in document["limits"]:
        limit(axes, document["limits"][measure.bound], "")
    if measure.log:
        axes.set_xscale("log")
    if small:
        axes.set_title(measure.title.replace(", in their norm", ""), fontsize=9)
        tick(axes, n=4)


def _paint_ratio(axes: Axes, document: Document) -> None:
    for at, own in enumerate(document["rows"]):
        if own["ratio_interval"]:
            axes.plot(own["ratio_interval"], (at, at), color=LINE, linewidth=4, zorder=1)
        axes.plot(own["ratio"], at, color=INK, marker="o", markersize=5, zorder=2)
    if "ratio_collapse" in document["limits"]:
        limit(axes, document["limits"]["ratio_collapse"], "")
    axes.set_title("ρ and its 95 % interval", fontsize=9)


def _name_rows(axes: Axes, labels: list[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)


def _alt(document: Document, name: str, points: Mapping[Shown, Points]) -> str:
    labels = [own["label"] for own in document["rows"]]
    return f"{MEASURES[name].title}. " + "; ".join(
        f"{editor.short}: " + ", ".join(f"{labels[at]} {number(value)}" for at, value in own)
        for editor, own in points.items()
    )
