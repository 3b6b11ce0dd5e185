"""Draws what was expected of ROME's edits beside what they did, on both models.

python -m benchmarks.pretrained.picture docs/evidence/*ed.json.gz -o docs/expected.svg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from benchmarks.pretrained.predictors import table
from benchmarks.pretrained.tables import read
from reports.colours import FAIL, PASS, WARN
from rome_diagnosis.limits import (
    DAMAGE_COLLAPSE,
    DAMAGE_HARM,
    DAMAGE_SAFE,
    PERPLEXITY_COLLAPSE,
)

LARGEST = 1e6  # perplexity ratios above it are drawn at it
OUTCOMES = {"intact": (PASS, "o"), "damaged": (WARN, "^"), "collapsed": (FAIL, "X")}
LIMITS = {"safe": DAMAGE_SAFE, "harm": DAMAGE_HARM, "collapse": DAMAGE_COLLAPSE}
MODELS = {"bundled": "the bundled model", "smollm2": "SmolLM2-135M"}


def figure(frame: pd.DataFrame) -> Figure:
    """The figure.

    Args:
        frame: Rows of :func:`benchmarks.pretrained.predictors.table`, of ROME alone.

    Returns:
        One panel for each model: the damage expected before the edit, the perplexity after it.
    """
    became = np.select([frame["collapsed"], frame["harmed"]], ["collapsed", "damaged"], "intact")
    drawn = Figure(figsize=(9, 3.6), layout="constrained")
    panels = drawn.subplots(1, len(MODELS), sharex=True, sharey=True)
    for axes, (model, label) in zip(panels, MODELS.items(), strict=True):
        own = frame["model"] == model
        for outcome, (colour, marker) in OUTCOMES.items():
            shown = frame[own & (became == outcome)]
            ratio = np.exp(shown["log_ratio"]).clip(upper=LARGEST)
            axes.scatter(
                shown["typical"], ratio, s=18, color=colour, marker=marker, alpha=0.7, linewidths=0,
                label=f"{outcome}, {len(shown)}",
            )  # fmt: skip
        axes.axhline(PERPLEXITY_COLLAPSE.value, color="0.6", linewidth=0.8, zorder=0)
        for name, limit in LIMITS.items():
            axes.axvline(limit.value, color="0.6", linewidth=0.8, zorder=0)
            axes.annotate(
                name, (limit.value, 0.99), xycoords=axes.get_xaxis_transform(), color="0.4",
                fontsize="small", rotation=90, ha="right", va="top",
            )  # fmt: skip
        axes.set(xscale="log", yscale="log", title=f"{own.sum()} edits of {label}")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:,g}%"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}×"))
        axes.legend(loc=(0, 0.4), framealpha=1, edgecolor="none")
        sns.despine(ax=axes)
    panels[0].set_ylabel("perplexity after, over before")
    drawn.supxlabel(
        "change of hidden states that is expected before the edit, in their norm", fontsize="medium"
    )
    return drawn


def save(drawn: Figure, path: Path) -> None:
    """Writes a figure, with the same bytes each time."""
    with mpl.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "path"}):
        drawn.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    """Writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("evidence", nargs="+", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    frame = pd.concat([table(read(path)) for path in options.evidence], ignore_index=True)
    save(figure(frame[frame["arm"] == "rome"]), options.output)


if __name__ == "__main__":
    main()
