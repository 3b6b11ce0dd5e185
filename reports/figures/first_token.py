"""The figures of the inquiry into first tokens: how keys differ, and what explains it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reports.colours import BARE, DIM, FOURTH, INK, LINE, MEAN, THIRD
from reports.figures import profile
from reports.figures.canvas import Drawing, legend
from reports.figures.profile import ProfileFigure
from reports.numbers import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Document = Mapping[str, Any]
SITES = (
    ("resid_pre", "residual stream", MEAN),
    ("attention_up_to", "attention outputs up to there", THIRD),
    ("embedding_and_attention", "embedding and all of these", BARE),
)


def shares(attribution: Document) -> Drawing:
    """Each factor's Shapley share of Δρ, with its interval.

    Args:
        attribution: The document's ``attribution``.

    Returns:
        A figure.
    """
    factors = {**attribution["shapley"], "all together: Δρ": attribution["delta"]}

    def paint(axes: Axes) -> None:
        axes.axvline(0, color=DIM, linewidth=0.8, zorder=1)
        for row, (name, share) in enumerate(factors.items()):
            colour = MEAN[0] if name in attribution["shapley"] else DIM
            axes.barh(row, share["mean"], color=colour, height=0.55, alpha=0.8, zorder=2)
            axes.plot([share["low"], share["high"]], [row, row], color=INK, zorder=3)
        axes.set_yticks(range(len(factors)), [name.replace("_", " ") for name in factors])
        axes.set_ylim(len(factors) - 0.4, -0.6)
        axes.set_xlabel("share of Δρ, bare to prefixed (line: 95\u00a0%)")

    alt = "Shapley shares of Δρ: " + ", ".join(
        f"{name} {number(share['mean'])} ({number(share['low'])} to {number(share['high'])})"
        for name, share in factors.items()
    )
    return Drawing("shapley", alt, paint, left=1.4, top=0.15, size=(4.6, 2.6))


def recovery(patches: Sequence[Document]) -> Drawing | None:
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
        for site, label, (colour, marker) in known:
            blocks, way = zip(*sorted(lines[site]), strict=True)
            axes.plot(
                blocks, [100 * part for part in way], color=colour, marker=marker, markersize=6,
                label=label,
            )  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("block")
        axes.set_ylabel("ρ recovered, per cent")
        legend(axes, bbox_to_anchor=(0.45, 1.0), columnspacing=0.8)

    alt = "How far ρ recovers, by block, in per cent. " + "; ".join(
        f"{label}: " + ", ".join(f"{100 * part:.0f}" for _, part in sorted(lines[site]))
        for site, label, *_ in known
    )
    return Drawing("recovery", alt, paint, top=0.6, size=(4.6, 3.0))


SPREAD = ProfileFigure(
    "why-spread", "Spread of keys", "spread within the cell, 0 to 1",
    (
        ("first_bare", "first, bare", BARE),
        ("first_prefixed", "the same, prefixed", FOURTH),
        ("later_bare", "later, bare", MEAN),
    ),
)  # fmt: skip
SEPARATION = ProfileFigure(
    "why-separation", "Separation of first and later", "AUC, or cosine of the means",
    (
        ("auc", "probe's AUC", BARE),
        ("null", "with shuffled labels", (DIM, "s")),
        ("cosine", "cosine of the means", MEAN),
    ),
)  # fmt: skip
SINKS = ProfileFigure(
    "why-sinks", "Attention to the first token", "share, 0 to 1",
    (
        ("attention_to_first", "attention to the first", BARE),
        ("sink_rate", "heads that are sinks", MEAN),
    ),
)  # fmt: skip


def profiles(document: Document) -> list[Drawing]:
    """How keys of first and later tokens differ, block by block.

    Args:
        document: The saved result.

    Returns:
        A figure for each statistic that was measured.
    """
    drawn = [
        profile.draw_profile(each, rows, document["site"]["layer"])
        for each, rows in (
            (SPREAD, _spread(document["layers"])),
            (SEPARATION, _separation(document["layers"])),
            (SINKS, document["sinks"]["layers"]),
        )
    ]
    return [drawing for drawing in drawn if drawing]


def _spread(layers: Sequence[Document]) -> list[dict[str, Any]]:
    names = [name for name, *_ in SPREAD.lines]
    return [
        {"layer": block["layer"]} | {name: block["cells"][name]["spread"] for name in names}
        for block in layers
        if all(name in block["cells"] for name in names)
    ]


def _separation(layers: Sequence[Document]) -> list[dict[str, Any]]:
    return [
        {
            "layer": block["layer"],
            "auc": pair["probe"]["auc"],
            "null": pair["probe"]["null_mean"],
            "cosine": pair["cosine"],
        }
        for block in layers
        for pair in block["pairs"]
        if list(pair["cells"]) == ["first_bare", "later_bare"] and pair["probe"]
    ]
