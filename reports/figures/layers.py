"""A data set at several blocks: shares of verdicts, and each editor's damage, over depth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from reports.colours import DIM, FAIL, PASS, WARN
from reports.figures import sweep
from reports.figures.canvas import Drawing, legend
from reports.numbers import share
from reports.tables import editors, verdicts
from rome_diagnosis.editors import EDITORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Document = Mapping[str, Any]
# From the worst to the best, and by the hatching in grey too.
LOOKS = {
    "collapse_risk": (FAIL, ""), "damage_risk": (WARN, "///"), "unclear": (DIM, "..."),
    "safe": (PASS, ""),
}  # fmt: skip


def shares(document: Document, editor: str) -> Drawing | None:
    """Which share of the edits has which verdict on an editor, by block.

    Args:
        document: A ``diag.screen_layers/1`` document.
        editor: The editor.

    Returns:
        The figure; ``None`` where no edit has a verdict.
    """
    rows = [row for row in document["layers"] if row["screened"] and _of(row, editor)]
    if not rows:
        return None
    by_block = {row["layer"]: _of(row, editor)["verdicts"] for row in rows}
    screened = {row["layer"]: row["screened"] for row in rows}
    name = editors.editor(editor).short

    def paint(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        under = dict.fromkeys(by_block, 0.0)
        for verdict, (colour, hatch) in LOOKS.items():
            parts = [100 * own.get(verdict, 0) / screened[layer] for layer, own in by_block.items()]
            axes.bar(
                list(by_block), parts, bottom=list(under.values()), color=colour, hatch=hatch,
                edgecolor="white", linewidth=0.4, width=0.85, label=verdicts.label(verdict).text,
            )  # fmt: skip
            under = {
                layer: low + part for (layer, low), part in zip(under.items(), parts, strict=True)
            }
        axes.set_ylim(0, 100)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("block that is edited")
        axes.set_ylabel(f"edits with {name}, per cent")
        legend(axes, columns=4, handletextpad=0.4, columnspacing=1.0)

    alt = f"Verdicts on {name}, by block. " + "; ".join(
        f"{layer}: " + ", ".join(
            f"{verdicts.label(verdict).text.lower()} {share(own.get(verdict, 0) / screened[layer])}"
            for verdict in LOOKS if own.get(verdict)
        )
        for layer, own in by_block.items()
    )  # fmt: skip
    return Drawing(f"layers-{name.lower()}", alt, paint, size=(6.4, 3.0))


def damage(document: Document) -> Drawing | None:
    """Each editor's damage at most, by block: the median over edits.

    Args:
        document: A ``diag.screen_layers/1`` document.

    Returns:
        The figure; ``None`` where nothing was checked.
    """
    rows = [
        {
            "layer": row["layer"],
            "editors": {
                name: {"relative_bound": (of["relative_bound"] or {}).get("median")}
                for name, of in row["groups"]["all"]["editors"].items()
            },
        }
        for row in document["layers"]
    ]
    return sweep.damage({"layers": rows, "limits": document["limits"]})


def _of(row: Document, editor: str) -> Document:
    return row["groups"]["all"]["editors"].get(editor) or {}


# By the name of a result's plot.
FIGURES: Mapping[str, Callable[[Document], Drawing | None]] = {
    **{f"verdicts_{name}": partial(shares, editor=name) for name in EDITORS},
    "damage": damage,
}
