"""The figures of one edit: which term is small, how ρ splits, where the keys lie, what it did."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reports.colours import BARE, DIM, INK, LINE, MEAN, THIRD
from reports.figures import profile
from reports.figures.canvas import Drawing, legend, limit
from reports.figures.profile import ProfileFigure
from reports.numbers import number, share, times
from reports.tables import editors
from reports.tables.terms import RatioTerms, Terms, named
from rome_diagnosis.editors import REMEDY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The height of one editor's or arm's row within a figure's row.
STEP = 0.17


def _offset(i: int, n: int) -> float:
    """Where the i-th of n markers of one row is drawn, so that they do not hide each other."""
    return (i - (n - 1) / 2) * min(STEP, 0.6 / n)


def terms(per_editor: Sequence[Terms]) -> Drawing | None:
    """Each editor's terms over the consistent one's: the one that stands apart makes the damage.

    Args:
        per_editor: Terms of every editor.

    Returns:
        A figure; ``None`` where no corpus moment gives the terms.
    """
    reference = named(per_editor, REMEDY) or (per_editor[0] if per_editor else None)
    rows: list[tuple[str, list[float]]] = []
    for label, name in (
        ("‖v* − v‖", "residual"), ("√(uᵀCu)", "spread"), ("|D|", "denominator"),
        ("damage", "damage"),
    ):  # fmt: skip
        values = [getattr(term, name) for term in per_editor]
        if None in values or 0 in values or not all(map(math.isfinite, values)):
            return None
        rows.append((label, [abs(value / getattr(reference, name)) for value in values]))
    if reference is None:
        return None

    def paint(axes: Axes) -> None:
        axes.axvline(1, color=LINE, zorder=0)
        axes.axhline(2.5, color=LINE, linewidth=0.8, zorder=0)
        for i, term in enumerate(per_editor):
            look = term.editor
            offset = _offset(i, len(per_editor))
            axes.scatter(
                [values[i] for _, values in rows], [row + offset for row in range(len(rows))],
                color=look.colour, marker=look.marker, s=52, label=look.short, linewidths=0,
                zorder=3,
            )  # fmt: skip
        first, above = per_editor[0].editor, _offset(0, len(per_editor))
        for row, (_, values) in enumerate(rows[2:], 2):
            axes.annotate(
                times(values[0]), (values[0], row + above), xytext=(0, 7),
                textcoords="offset points", ha="center", fontsize=9, color=first.colour,
            )  # fmt: skip
        axes.set_yticks(range(len(rows)), [label for label, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.6)
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        axes.set_xlim(min(low / 1.5, 0.5), max(high * 1.5, 2))
        axes.set_xlabel(f"times {reference.editor.short}'s (logarithmic)")
        legend(axes, columns=min(4, len(per_editor)))

    alt = f"Terms of the update over {reference.editor.short}'s. " + "; ".join(
        f"{label}: " + ", ".join(
            f"{term.editor.short} {number(x)}" for term, x in zip(per_editor, values, strict=True)
        )
        for label, values in rows
    )  # fmt: skip
    return Drawing("terms", alt, paint, left=0.85)


def split(ratio: RatioTerms) -> Drawing:
    """ρ as geometry: how long k_u is, where it points, and how much of it lies along k̄.

    Args:
        ratio: ρ, length and cosine.

    Returns:
        A figure, drawn to scale.
    """
    angle = math.acos(max(-1.0, min(1.0, ratio.cosine)))
    x, y = ratio.length * math.cos(angle), ratio.length * math.sin(angle)
    bare, mean = BARE[0], MEAN[0]

    def paint(axes: Axes) -> None:
        arrow: dict[str, Any] = {"arrowstyle": "-|>", "linewidth": 2.2, "shrinkA": 0, "shrinkB": 0}
        axes.plot([0, x], [0, 0], color=bare, linewidth=9, alpha=0.35, solid_capstyle="butt")
        axes.plot([x, x], [y, 0], color=DIM, linewidth=1, linestyle=(0, (2, 2)))
        axes.annotate("", (1, 0), (0, 0), arrowprops=arrow | {"color": mean}, zorder=4)
        axes.annotate("", (x, y), (0, 0), arrowprops=arrow | {"color": bare}, zorder=4)
        radius = 0.22 * min(1.0, max(ratio.length, 0.3))
        turns = [angle * i / 40 for i in range(41)]
        axes.plot(
            [radius * math.cos(t) for t in turns], [radius * math.sin(t) for t in turns],
            color=DIM, linewidth=1,
        )  # fmt: skip
        axes.set_xlim(min(-0.12, x - 0.15), max(1.15, x + 0.15))
        axes.set_ylim(-0.2, max(0.5, y + 0.3))
        axes.set_aspect("equal")
        # Text goes to the side that has room.
        to_right = x < sum(axes.get_xlim()) / 2
        side: dict[str, Any] = {
            "ha": "left" if to_right else "right",
            "textcoords": "offset points",
        }
        axes.annotate(
            f"k_u, length {number(ratio.length)}\n"
            f"{math.degrees(angle):.0f}°, cosine {number(ratio.cosine)}",
            (x, y), xytext=(6 if to_right else -6, 4), color=bare, va="bottom", **side,
        )  # fmt: skip
        axes.annotate(
            f"ρ = {number(ratio.rho)}", (max(x, 0), 0), xytext=(-2, -7), color=bare, va="top",
            fontweight="bold", **side,
        )  # fmt: skip
        axes.annotate(
            "k̄", (1, 0), xytext=(2, 3), textcoords="offset points", color=mean, fontsize=11,
            ha="left", va="bottom",
        )  # fmt: skip
        axes.axhline(0, color=LINE, linewidth=0.8, zorder=0)
        axes.set_xlabel("along k̄, in lengths of k̄ (C⁻¹ metric)")
        axes.set_ylabel("across, in lengths of k̄")

    alt = (
        f"The unprefixed key as an arrow of {number(ratio.length)} lengths of the mean key, at "
        f"{math.degrees(angle):.0f} degrees to it; its part along the mean key is ρ = "
        f"{number(ratio.rho)}"
    )
    return Drawing("split", alt, paint, top=0.15)


def plane(points: Mapping[str, Any]) -> Drawing:
    """Where k_u, the prefixed keys and C⁻¹k̄ lie, among ordinary keys.

    Args:
        points: The document's ``first_token.projection``.

    Returns:
        A figure.
    """
    clouds = (
        ("later", "ordinary later tokens", (DIM, "o"), 14, 0.35),
        ("first", "ordinary first tokens", THIRD, 16, 0.5),
        ("prefixed", "prefixed keys", MEAN, 22, 0.7),
    )

    def paint(axes: Axes) -> None:
        axes.axhline(0, color=MEAN[0], linewidth=0.8, zorder=0)
        axes.axvline(0, color=LINE, linewidth=0.8, zorder=0)
        for name, label, (colour, marker), size, alpha in clouds:
            if points[name]:
                xs, ys = zip(*points[name], strict=True)
                axes.scatter(
                    xs, ys, color=colour, marker=marker, s=size, alpha=alpha, linewidths=0,
                    label=label,
                )  # fmt: skip
        for name, label, (colour, marker) in (("mean", "k̄", MEAN), ("unprefixed", "k_u", BARE)):
            x, y = points[name]
            axes.scatter(
                [x], [y], color=colour, marker=marker, s=110, edgecolors=INK, linewidths=0.8,
                zorder=5, label=f"{label} of this edit",
            )  # fmt: skip
            axes.annotate(label, (x, y), xytext=(8, 5), textcoords="offset points", color=colour)
        axes.margins(0.08)
        axes.set_xlabel("along C⁻¹k̄ → (C⁻¹ metric)")
        axes.set_ylabel("k_u's other direction")
        legend(axes, bbox_to_anchor=(0.45, 1.0))

    (ux, uy), (mx, _) = points["unprefixed"], points["mean"]
    alt = (
        f"Keys in the plane of k̄ and k_u. k_u lies at {number(ux)} along C⁻¹k̄ and {number(uy)} "
        f"across it, k̄ at {number(mx)}; around them {len(points['prefixed'])} prefixed keys, "
        f"{len(points['first'])} of ordinary first tokens and {len(points['later'])} of later ones"
    )
    return Drawing("plane", alt, paint, size=(4.6, 3.8), top=0.75)


PROFILES = (
    ProfileFigure(
        "norms", "Key lengths", "length of the key",
        (("key_norm_unprefixed", "unprefixed", BARE), ("key_norm_prefixed", "prefixed", MEAN)),
        log=True,
    ),
    ProfileFigure("cosine", "Cosines", "cosine of the two keys", (("cosine", "", (INK, "o")),)),
    ProfileFigure(
        "stream", "Residual stream lengths", "length of the residual stream",
        (
            ("residual_norm_first", "first token", BARE),
            ("residual_norm_later", "later tokens", MEAN),
        ),
        log=True,
    ),
    ProfileFigure(
        "attention", "Attention to the first token", "attention to the first token",
        (("attention_to_first", "", (INK, "o")),),
    ),
)  # fmt: skip


def profiles(layers: Sequence[Mapping[str, Any]], edited: int) -> list[Drawing]:
    """First-token statistics block by block, the edited one marked.

    Args:
        layers: The document's ``first_token.layers``.
        edited: The edited block.

    Returns:
        A figure for each statistic that was measured.
    """
    return [drawn for each in PROFILES if (drawn := profile.draw_profile(each, layers, edited))]


def perplexity(edit: Mapping[str, Any], ratio: float) -> Drawing:
    """Perplexity before and after each edit, with the line that means collapse.

    Args:
        edit: One edit of a ``diag.verify/1`` document.
        ratio: From which ratio on a model counts as collapsed.

    Returns:
        A figure.
    """
    shown = editors.unprefixed(edit["arms"])
    figures = [edit["arms"][arm.name]["perplexity"] for arm in shown]
    before = figures[0]["before"]
    after: list[float | None] = [figure["after"] for figure in figures]

    def paint(axes: Axes) -> None:
        axes.set_xscale("log")
        top = max([value for value in after if value is not None] + [before * ratio]) * 2
        for row, (arm, value) in enumerate(zip(shown, after, strict=True)):
            end = top if value is None else value
            axes.plot([before, end], [row, row], color=arm.colour, linewidth=2.5, zorder=2)
            axes.scatter(
                [end], [row], color=arm.colour, marker=">" if value is None else arm.marker,
                s=60, zorder=3, linewidths=0,
            )  # fmt: skip
            axes.annotate(
                "overflowed" if value is None else number(value), (end, row), xytext=(0, 8),
                textcoords="offset points", fontsize=9, color=arm.colour,
                ha="right" if value is None else "center",
            )  # fmt: skip
        axes.axvline(before, color=LINE, zorder=0)
        limit(axes, before * ratio, f"collapse: {number(ratio)}×")
        axes.set_yticks(range(len(shown)), [arm.short for arm in shown])
        axes.set_ylim(len(shown) - 0.5, -0.6)
        axes.set_xlim(before / 1.5, top * 1.3)
        axes.set_xlabel(f"perplexity, before: {number(before)} (logarithmic)")

    alt = f"Perplexity, {number(before)} before the edit: " + ", ".join(
        f"{arm.short} {'overflowed' if value is None else number(value)}"
        for arm, value in zip(shown, after, strict=True)
    )
    return Drawing("perplexity", alt, paint, size=(4.6, 2.6), left=0.85)


def shares(edit: Mapping[str, Any]) -> Drawing:
    """What the edits did to answers: the new fact, its paraphrases, neighbours, other facts.

    Args:
        edit: One edit of a ``diag.verify/1`` document.

    Returns:
        A figure.
    """
    shown, arms = editors.arms(edit["arms"]), edit["arms"]
    rows = [("P(new object)", [arms[arm.name]["efficacy"]["p_after"] for arm in shown])]
    for label, name in (
        ("generalisation", "generalisation"), ("locality", "locality"),
        ("recall of others", "recall"),
    ):  # fmt: skip
        values = [(arms[arm.name][name] or {}).get("after") for arm in shown]
        if any(value is not None for value in values):
            rows.append((label, values))

    def paint(axes: Axes) -> None:
        for row in range(len(rows)):
            axes.axhline(row, color=LINE, linewidth=0.8, zorder=0)
        for i, arm in enumerate(shown):
            placed = [
                (100 * values[i], row + _offset(i, len(shown)))
                for row, (_, values) in enumerate(rows)
                if values[i] is not None
            ]
            axes.scatter(
                [x for x, _ in placed], [y for _, y in placed], color=arm.colour,
                marker=arm.marker, s=46, label=arm.short, linewidths=0, zorder=3,
            )  # fmt: skip
        axes.set_yticks(range(len(rows)), [label for label, _ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(-4, 104)
        axes.set_xlabel("per cent, after the edit")
        legend(axes, bbox_to_anchor=(0.4, 1.0))

    alt = "After the edit. " + "; ".join(
        f"{label}: " + ", ".join(
            f"{arm.short} {share(value)}" for arm, value in zip(shown, values, strict=True)
        )
        for label, values in rows
    )  # fmt: skip
    return Drawing("shares", alt, paint, left=1.25, top=0.55)
