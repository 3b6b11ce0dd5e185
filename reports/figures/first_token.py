"""The figures of the inquiry into first tokens: how keys differ, and what explains it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reports.figures.canvas import C_ROME, DIM, INK, LINE, P_ROME, PREFIXED, ROME, draw
from reports.figures.edit import profile
from reports.numbers import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Document = Mapping[str, Any]
SITES = (
    ("resid_pre", "residual stream", C_ROME, "o"),
    ("attention_up_to", "attention outputs up to there", P_ROME, "s"),
    ("embedding_and_attention", "embedding and all of these", ROME, "X"),
)


def shares(attribution: Document) -> str:
    """Each factor's Shapley share of Δρ, with its interval.

    Args:
        attribution: The document's ``attribution``.

    Returns:
        A figure.
    """
    found = {**attribution["shapley"], "all together: Δρ": attribution["delta"]}

    def paint(axes: Axes) -> None:
        axes.axvline(0, color=DIM, linewidth=0.8, zorder=1)
        for row, (name, share) in enumerate(found.items()):
            colour = DIM if name not in attribution["shapley"] else C_ROME
            axes.barh(row, share["mean"], color=colour, height=0.55, alpha=0.8, zorder=2)
            axes.plot([share["low"], share["high"]], [row, row], color=INK, zorder=3)
        axes.set_yticks(range(len(found)), [name.replace("_", " ") for name in found])
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.set_xlabel("share of Δρ, bare to prefixed (line: 95%)")

    alt = "Shapley shares of Δρ: " + ", ".join(
        f"{name} {number(share['mean'])} ({number(share['low'])} to {number(share['high'])})"
        for name, share in found.items()
    )
    return draw("shapley", alt, paint, left=1.4, top=0.15, size=(4.6, 2.6))


def recovery(patches: Sequence[Document]) -> str | None:
    """How far ρ comes back when activations of the prefixed run are written into the bare one.

    Args:
        patches: The document's ``patching.patches``.

    Returns:
        A figure; ``None`` if no such patch was made.
    """
    lines: dict[str, list[tuple[int, float]]] = {}
    for patch in patches:
        if patch["direction"] == "into_bare" and patch["recovered"] is not None:
            lines.setdefault(patch["site"], []).append((patch["block"], patch["recovered"]))
    known = [site for site in SITES if site[0] in lines]
    if not known:
        return None

    def paint(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        for at in (0, 100):
            axes.axhline(at, color=LINE, linewidth=0.8, zorder=0)
        for site, label, colour, marker in known:
            blocks, way = zip(*sorted(lines[site]), strict=True)
            axes.plot(
                blocks, [100 * part for part in way], color=colour, marker=marker, markersize=6,
                label=label,
            )  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("block")
        axes.set_ylabel("ρ recovered, per cent")
        axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=2, columnspacing=0.8)

    alt = "How far ρ recovers, by block, in per cent. " + "; ".join(
        f"{label}: " + ", ".join(f"{100 * part:.0f}" for _, part in sorted(lines[site]))
        for site, label, *_ in known
    )
    return draw("recovery", alt, paint, top=0.6, size=(4.6, 3.0))


FIRST_LATER = (
    ("first_bare", "first, bare", ROME, "X"),
    ("first_prefixed", "the same, prefixed", PREFIXED, "D"),
    ("later_bare", "later, bare", C_ROME, "o"),
)


def profiles(document: Document) -> list[str]:
    """How keys of first and later tokens differ, block by block.

    Args:
        document: The saved result.

    Returns:
        A figure for each statistic that was measured.
    """
    edited = document["site"]["layer"]
    spread, told_apart = [], []
    for block in document["layers"]:
        cells = block["cells"]
        if all(name in cells for name, *_ in FIRST_LATER):
            spread.append({"layer": block["layer"]}
                          | {name: cells[name]["spread"] for name, *_ in FIRST_LATER})  # fmt: skip
        for pair in block["pairs"]:
            if list(pair["cells"]) == ["first_bare", "later_bare"] and pair["probe"]:
                told_apart.append(
                    {"layer": block["layer"], "auc": pair["probe"]["auc"],
                     "null": pair["probe"]["null_mean"], "cosine": pair["cosine"]}
                )  # fmt: skip
    attention = [
        {"layer": block["layer"], "attention": block["attention_to_first"],
         "rate": block["sink_rate"]}
        for block in document["sinks"]["layers"]
    ]  # fmt: skip
    asked = (
        (spread, "spread", "spread within the cell, 0 to 1", "Spread of keys", FIRST_LATER),
        (told_apart, "separation", "AUC, or cosine of the means", "Separation of first and later",
         (("auc", "probe's AUC", ROME, "X"), ("null", "with shuffled labels", DIM, "s"),
          ("cosine", "cosine of the means", C_ROME, "o"))),
        (attention, "sinks", "share, 0 to 1", "Attention to the first token",
         (("attention", "attention to the first", ROME, "X"),
          ("rate", "heads that are sinks", C_ROME, "o"))),
    )  # fmt: skip
    made = [
        profile(rows, edited, f"why-{name}", label, title, lines, False)
        for rows, name, label, title, lines in asked
        if rows
    ]
    return [svg for svg in made if svg]
