"""The figures of one edit: which term is small, how ρ splits, where the keys lie, what it did."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reports.figures.canvas import (
    C_ROME,
    COLOURS,
    DIM,
    INK,
    LINE,
    P_ROME,
    ROME,
    SHAPES,
    draw,
    limit,
    plain_log,
)
from reports.numbers import number
from reports.tables.terms import NAMES, VARIANTS, Split, Terms

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ARMS = {**NAMES, "c_rome_prefixed": "C-ROME + prefix"}


def terms(found: Sequence[Terms]) -> str | None:
    """Each variant's terms over C-ROME's: the one that stands apart makes the damage.

    Args:
        found: Of ``rome``, ``c_rome`` and ``p_rome``.

    Returns:
        A figure; ``None`` where no corpus moment gives the terms.
    """
    reference = found[1]
    rows: list[tuple[str, list[float]]] = []
    for label, name in (
        ("‖v* − v‖", "residual"), ("√(uᵀCu)", "spread"), ("|D|", "denominator"),
        ("damage", "damage"),
    ):  # fmt: skip
        values = [getattr(term, name) for term in found]
        if None in values or 0 in values or not all(map(math.isfinite, values)):
            return None
        rows.append((label, [abs(value / getattr(reference, name)) for value in values]))

    def paint(axes: Axes) -> None:
        axes.axvline(1, color=LINE, zorder=0)
        axes.axhline(2.5, color=LINE, linewidth=0.8, zorder=0)
        for i, variant in enumerate(VARIANTS):
            axes.scatter(
                [values[i] for _, values in rows],
                [row + (i - 1) * 0.17 for row in range(len(rows))],
                color=COLOURS[variant], marker=SHAPES[variant], s=52, label=NAMES[variant],
                linewidths=0, zorder=3,
            )  # fmt: skip
        for row, (_, values) in enumerate(rows):
            if row >= 2:
                axes.annotate(
                    f"{number(values[0])}×", (values[0], row - 0.17), xytext=(0, 7),
                    textcoords="offset points", ha="center", fontsize=9, color=ROME,
                )  # fmt: skip
        axes.set_yticks(range(len(rows)), [label for label, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.6)
        plain_log(axes, "x")
        low, high = axes.get_xlim()
        axes.set_xlim(min(low / 1.5, 0.5), max(high * 1.5, 2))
        axes.set_xlabel("times C-ROME's (logarithmic)")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, handletextpad=0.2)

    alt = "Terms of the update over C-ROME's. " + "; ".join(
        f"{label}: " + ", ".join(
            f"{NAMES[v]} {number(x)}" for v, x in zip(VARIANTS, values, strict=True)
        )
        for label, values in rows
    )  # fmt: skip
    return draw("terms", alt, paint, left=0.85)


def split(found: Split) -> str:
    """ρ as geometry: how long k_u is, where it points, and how much of it lies along k̄.

    Args:
        found: ρ, length and cosine.

    Returns:
        A figure, drawn to scale.
    """
    angle = math.acos(max(-1.0, min(1.0, found.cosine)))
    x, y = found.length * math.cos(angle), found.length * math.sin(angle)

    def paint(axes: Axes) -> None:
        arrow: dict[str, Any] = {"arrowstyle": "-|>", "linewidth": 2.2, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", (1, 0), (0, 0), arrowprops=arrow | {"color": C_ROME})
        axes.annotate("", (x, y), (0, 0), arrowprops=arrow | {"color": ROME})
        axes.plot([x, x], [y, 0], color=DIM, linewidth=1, linestyle=(0, (2, 2)))
        axes.plot([0, x], [0, 0], color=ROME, linewidth=6, solid_capstyle="butt", zorder=4)
        radius = 0.22 * min(1.0, max(found.length, 0.3))
        turns = [angle * i / 40 for i in range(41)]
        axes.plot(
            [radius * math.cos(t) for t in turns], [radius * math.sin(t) for t in turns],
            color=DIM, linewidth=1,
        )  # fmt: skip
        axes.text(1, 0.04, "k̄", color=C_ROME, ha="right", va="bottom", fontsize=11)
        label = f"k_u, length {number(found.length)}"
        axes.annotate(
            label, (x, y), xytext=(6, 0), textcoords="offset points", color=ROME, va="bottom"
        )
        middle = angle / 2
        axes.annotate(
            f"{math.degrees(angle):.0f}°, cosine {number(found.cosine)}",
            (radius * math.cos(middle), radius * math.sin(middle)), xytext=(6, 2),
            textcoords="offset points", color=INK, fontsize=9,
        )  # fmt: skip
        axes.annotate(
            f"ρ = {number(found.rho)}", (max(x, 0), 0), xytext=(-2, -5),
            textcoords="offset points", color=ROME, va="top", fontweight="bold",
            ha="left" if x < 0.6 else "right",
        )  # fmt: skip
        axes.set_xlim(min(-0.12, x - 0.15), max(1.15, x + 0.15))
        axes.set_ylim(-0.2, max(0.5, y * 1.12))
        axes.set_aspect("equal")
        axes.axhline(0, color=LINE, linewidth=0.8, zorder=0)
        axes.set_xlabel("along k̄, in lengths of k̄ (C⁻¹ metric)")
        axes.set_ylabel("across, in lengths of k̄")

    alt = (
        f"The unprefixed key as an arrow of {number(found.length)} lengths of the mean key, at "
        f"{math.degrees(angle):.0f} degrees to it; its part along the mean key is ρ = "
        f"{number(found.rho)}"
    )
    return draw("split", alt, paint, top=0.15)


def plane(points: Mapping[str, Any]) -> str:
    """Where k_u, the prefixed keys and C⁻¹k̄ lie, with ordinary keys behind them.

    Args:
        points: The document's ``first_token.projection``.

    Returns:
        A figure.
    """

    def paint(axes: Axes) -> None:
        clouds: tuple[tuple[str, str, str, str, float, float], ...] = (
            ("later", "ordinary later tokens", DIM, "o", 14, 0.35),
            ("first", "ordinary first tokens", P_ROME, "s", 16, 0.5),
            ("prefixed", "prefixed keys", C_ROME, "o", 22, 0.7),
        )
        axes.axhline(0, color=C_ROME, linewidth=0.8, zorder=0)
        axes.axvline(0, color=LINE, linewidth=0.8, zorder=0)
        for name, label, colour, marker, size, alpha in clouds:
            if points[name]:
                xs, ys = zip(*points[name], strict=True)
                axes.scatter(
                    xs, ys, color=colour, marker=marker, s=size, alpha=alpha, linewidths=0,
                    label=label,
                )  # fmt: skip
        for name, label, colour, marker in (
            ("mean", "k̄", C_ROME, "o"), ("unprefixed", "k_u", ROME, "X"),
        ):  # fmt: skip
            x, y = points[name]
            axes.scatter(
                [x], [y], color=colour, marker=marker, s=110, edgecolors=INK, linewidths=0.8,
                zorder=5, label=f"{label} of this edit",
            )  # fmt: skip
            axes.annotate(label, (x, y), xytext=(8, 5), textcoords="offset points", color=colour)
        axes.margins(0.08)
        axes.set_xlabel("along C⁻¹k̄ → (C⁻¹ metric)")
        axes.set_ylabel("what k_u has beside it")
        axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=2, handletextpad=0.2)

    (ux, uy), (mx, _) = points["unprefixed"], points["mean"]
    alt = (
        f"Keys in the plane of k̄ and k_u. k_u lies at {number(ux)} along C⁻¹k̄ and {number(uy)} "
        f"across it, k̄ at {number(mx)}; behind them {len(points['prefixed'])} prefixed keys, "
        f"{len(points['first'])} of ordinary first tokens and {len(points['later'])} of later ones"
    )
    return draw("plane", alt, paint, size=(4.6, 3.8), top=0.75)


PROFILES: tuple[tuple[str, str, str, tuple[tuple[str, str, str, str], ...], bool], ...] = (
    (
        "norms", "length of the key", "Key lengths",
        (
            ("key_norm_unprefixed", "unprefixed", ROME, "X"),
            ("key_norm_prefixed", "prefixed", C_ROME, "o"),
        ),
        True,
    ),
    ("cosine", "cosine of the two keys", "Cosines", (("cosine", "", INK, "o"),), False),
    (
        "stream", "length of the residual stream", "Residual stream lengths",
        (
            ("residual_norm_first", "first token", ROME, "X"),
            ("residual_norm_later", "later tokens", C_ROME, "o"),
        ),
        True,
    ),
    (
        "attention", "attention to the first token", "Attention to the first token",
        (("attention_to_first", "", INK, "o"),), False,
    ),
)  # fmt: skip


def profiles(layers: Sequence[Mapping[str, Any]], edited: int) -> list[str]:
    """First-token statistics block by block, the edited one marked.

    Args:
        layers: The document's ``first_token.layers``.
        edited: The edited block.

    Returns:
        A figure for each statistic that was measured.
    """
    return [figure for each in PROFILES if (figure := profile(layers, edited, *each))]


def profile(
    layers: Sequence[Mapping[str, Any]], edited: int, name: str, label: str, title: str,
    lines: Sequence[tuple[str, str, str, str]], log: bool,
) -> str | None:  # fmt: skip
    """One statistic block by block.

    Args:
        layers: A row for each block: ``layer`` and the statistics.
        edited: The edited block.
        name: The figure's name on the page.
        label: Of the vertical axis.
        title: What it is, for those who cannot see it.
        lines: For each line the statistic's name in a row, its label, colour and shape.
        log: Whether the axis is logarithmic.

    Returns:
        A figure; ``None`` where a statistic is missing.
    """
    blocks = [row["layer"] for row in layers]
    series = [[row[key] for row in layers] for key, *_ in lines]
    if any(value is None for values in series for value in values):
        return None

    def paint(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        axes.axvline(edited, color=LINE, linewidth=8, zorder=0)
        for values, (_, text, colour, marker) in zip(series, lines, strict=True):
            axes.plot(blocks, values, color=colour, marker=marker, markersize=5, label=text or None)
        if log and min(min(values) for values in series) > 0:
            plain_log(axes, "y")
        elif min(min(values) for values in series) >= 0:
            axes.set_ylim(0, max(1.0, *(max(values) for values in series)) * 1.03)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(f"block ({edited} is edited)")
        axes.set_ylabel(label)
        if len(lines) > 1:
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)

    alt = f"{title} by block. " + "; ".join(
        f"{text or label}: " + ", ".join(number(value) for value in values)
        for values, (_, text, *_) in zip(series, lines, strict=True)
    )
    return draw(
        f"profile-{name}", alt, paint, size=(4.6, 2.8), top=0.35 if len(lines) <= 2 else 0.6
    )


def perplexity(edit: Mapping[str, Any], ratio: float) -> str:
    """Perplexity before and after each edit, with the line that means collapse.

    Args:
        edit: One edit of a ``diag.verify/1`` document.
        ratio: From which ratio on a model counts as collapsed.

    Returns:
        A figure.
    """
    before = edit["arms"]["rome"]["perplexity"]["before"]
    after = {arm: edit["arms"][arm]["perplexity"]["after"] for arm in NAMES}

    def paint(axes: Axes) -> None:
        plain_log(axes, "x")
        known = [value for value in after.values() if value is not None]
        top = max([*known, before * ratio]) * 2
        for row, (arm, value) in enumerate(after.items()):
            end = top if value is None else value
            axes.plot([before, end], [row, row], color=COLOURS[arm], linewidth=2.5, zorder=2)
            axes.scatter(
                [end], [row], color=COLOURS[arm], marker=">" if value is None else SHAPES[arm],
                s=60, zorder=3, linewidths=0,
            )  # fmt: skip
            text = "overflowed" if value is None else number(value)
            axes.annotate(
                text, (end, row), xytext=(0, 8), textcoords="offset points", fontsize=9,
                ha="right" if value is None else "center", color=COLOURS[arm],
            )  # fmt: skip
        axes.axvline(before, color=LINE, zorder=0)
        limit(axes, before * ratio, f"collapse: {number(ratio)}×")
        axes.set_yticks(range(len(after)), [NAMES[arm] for arm in after])
        axes.set_ylim(len(after) - 0.5, -0.6)
        axes.set_xlim(before / 1.5, top * 1.3)
        axes.set_xlabel(f"perplexity, before: {number(before)} (logarithmic)")

    alt = f"Perplexity, {number(before)} before the edit: " + ", ".join(
        f"{NAMES[arm]} {'overflowed' if value is None else number(value)}"
        for arm, value in after.items()
    )
    return draw("perplexity", alt, paint, size=(4.6, 2.6), left=0.85)


def shares(edit: Mapping[str, Any]) -> str:
    """What the four edits did to answers: the new fact, its paraphrases, neighbours, other facts.

    Args:
        edit: One edit of a ``diag.verify/1`` document.

    Returns:
        A figure.
    """
    rows: list[tuple[str, dict[str, float | None]]] = [
        ("P(new object)", {a: edit["arms"][a]["efficacy"]["p_after"] for a in ARMS})
    ]
    for label, name in (
        ("generalisation", "generalisation"), ("locality", "locality"),
        ("recall of others", "recall"),
    ):  # fmt: skip
        found = {a: (edit["arms"][a][name] or {}).get("after") for a in ARMS}
        if any(value is not None for value in found.values()):
            rows.append((label, found))

    def paint(axes: Axes) -> None:
        for row in range(len(rows)):
            axes.axhline(row, color=LINE, linewidth=0.8, zorder=0)
        for i, arm in enumerate(ARMS):
            placed = [
                (100 * value, row + (i - 1.5) * 0.16)
                for row, (_, found) in enumerate(rows)
                if (value := found[arm]) is not None
            ]
            axes.scatter(
                [x for x, _ in placed], [y for _, y in placed], color=COLOURS[arm],
                marker=SHAPES[arm], s=46, label=ARMS[arm], linewidths=0, zorder=3,
            )  # fmt: skip
        axes.set_yticks(range(len(rows)), [label for label, _ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(-4, 104)
        axes.set_xlabel("per cent, after the edit")
        axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2, handletextpad=0.2)

    alt = "After the edit, in per cent. " + "; ".join(
        f"{label}: " + ", ".join(
            f"{ARMS[arm]} {'–' if value is None else f'{100 * value:.0f}'}"
            for arm, value in found.items()
        )
        for label, found in rows
    )  # fmt: skip
    return draw("shares", alt, paint, left=1.25, top=0.55)
