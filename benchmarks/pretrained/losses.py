"""Draws what damage costs on both models: perplexity, other facts, downstream tasks.

python -m benchmarks.pretrained.losses docs/evidence/{pretrained,verified}.json.gz \
    --tasks docs/evidence/surrogate*.json.gz -o docs/losses.png
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from benchmarks.pretrained.picture import LARGEST, LIMITS, MODELS, save
from benchmarks.pretrained.predictors import table
from benchmarks.pretrained.tables import read
from reports.document import read_document as saved
from rome_diagnosis.editors import EDITORS

# What is drawn, and what it is called.
LOSSES = {
    "ratio": "perplexity after, over before",
    "recall": "other facts kept",
    "change": "change of the mean task score",
}


def measured(edits: pd.DataFrame, tasks: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row for each edited model: its damage and what was measured of it.

    Args:
        edits: Rows of :func:`benchmarks.pretrained.predictors.table`.
        tasks: ``diag.surrogate/1`` documents; their single edits are taken.

    Returns:
        ``model``, ``arm``, ``damage``, and of :data:`LOSSES` what is known.
    """
    rows = edits[["model", "arm", "damage", "recall"]].assign(
        ratio=np.exp(edits["log_ratio"]).clip(upper=LARGEST)
    )
    asked = pd.DataFrame([point for of in tasks for point in of["points"] if point["edits"] == 1])
    asked = asked.rename(columns={"method": "arm"})[["model", "arm", "damage", "change"]]
    return pd.concat([rows, asked], ignore_index=True)


def figure(rows: pd.DataFrame) -> Figure:
    """The figure.

    Args:
        rows: What :func:`measured` returned, a row for each edited model.

    Returns:
        A row of panels for each of :data:`LOSSES`, a column for each model.
    """
    drawn = Figure(figsize=(9, 8), layout="constrained")
    panels = drawn.subplots(len(LOSSES), len(MODELS), sharex=True, sharey="row")
    for line, (loss, name) in zip(panels, LOSSES.items(), strict=True):
        for axes, (model, label) in zip(line, MODELS.items(), strict=True):
            own = rows[(rows["model"] == model) & rows[loss].notna()]
            for arm, editor in EDITORS.items():
                shown = own[own["arm"] == arm]
                axes.scatter(
                    shown["damage"], shown[loss], s=14, color=editor.colour, marker=editor.marker,
                    alpha=0.6, linewidths=0, label=editor.short,
                )  # fmt: skip
            for limit in LIMITS.values():
                axes.axvline(limit.value, color="0.6", linewidth=0.8, zorder=0)
            axes.set(xscale="log", title=f"{len(own)} edits of {label}")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:,g}%"))
            sns.despine(ax=axes)
        line[0].set_ylabel(name)
    for axes in panels[0]:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}×"))
    for axes in panels[1:].flat:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    panels[0][0].legend(loc="upper left", frameon=False)
    drawn.supxlabel("change of hidden states in closed form, in their norm", fontsize="medium")
    return drawn


def main() -> None:
    """Writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("evidence", nargs="+", type=Path)
    parser.add_argument("--tasks", nargs="+", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    edits = pd.concat([table(read(path)) for path in options.evidence], ignore_index=True)
    save(figure(measured(edits, map(saved, map(str, options.tasks)))), options.output)


if __name__ == "__main__":
    main()
