"""Draws how the bundled model's first position became an outlier while it was trained.

``python -m benchmarks.studies.birth`` reads the history that ships with the model and writes
``docs/birth.svg``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probes import bundled

OUTPUT = Path(__file__).parent.parent.parent / "docs" / "birth.svg"
RECALL = {
    "recall_first": "subject first",
    "recall_held_first": "subject first, unseen wording",
    "recall_prefixed": "after a prefix",
    "recall_later": "subject later",
    "recall_held_later": "subject later, unseen wording",
}


def figure(history: Sequence[dict[str, Any]], layer: int) -> Figure:
    """The figure.

    Args:
        history: One record for each measurement, in order.
        layer: The edited layer, which is drawn; the others are in the background.

    Returns:
        The figure.
    """
    steps = [record["step"] for record in history]
    drawn = Figure(figsize=(9, 8), layout="constrained")
    recall, ratio, position = drawn.subplots(3, 1, sharex=True)
    for (name, label), colour in zip(RECALL.items(), sns.color_palette("colorblind"), strict=False):
        dashes = (3, 2) if "held" in name else (None, None)
        values = [record[name] for record in history]
        recall.plot(steps, values, color=colour, dashes=dashes, label=label)
    recall.set_ylabel("recall")
    recall.set_title("What the model knows")
    blue, orange = sns.color_palette("colorblind")[:2]
    for name, colour, label in (
        ("rho_first", orange, "subject at position 0"),
        ("rho_later", blue, "the same subjects later"),
    ):
        for i in range(len(history[0][name])):
            values = [record[name][i] for record in history]
            if i == layer:
                ratio.plot(steps, values, color=colour, label=label, zorder=3)
            else:
                ratio.plot(steps, values, color=colour, alpha=0.25, linewidth=1)
    ratio.axhline(0.1, color="grey", linewidth=0.8, linestyle=":")
    ratio.set_ylabel("median ρ")
    ratio.set_title(f"ROME's denominator over C-ROME's, at layer {layer} (pale: other layers)")
    for name, colour, label in (
        ("massive", orange, "residual norm at 0, over elsewhere"),
        ("cosine", blue, "cosine of bare and mean key"),
        ("attention_to_0", "black", "attention to position 0"),
    ):
        values = [record[name][layer] for record in history]
        position.plot(steps, values, color=colour, label=label)
    position.set_title(f"How position 0 stands out at layer {layer}")
    position.set_xlabel("optimiser steps")
    for axes in (recall, ratio, position):
        _finish(axes, history)
    return drawn


def _finish(axes: Axes, history: Sequence[dict[str, Any]]) -> None:
    """A legend, a base line at 0, and a mark where each phase of training begins."""
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    for before, after in pairwise(history):
        if after["phase"] != before["phase"]:
            axes.axvline(before["step"], color="grey", linewidth=0.8)
            axes.annotate(
                f" phase {after['phase'] + 1}",
                (before["step"], 1),
                xycoords=("data", "axes fraction"),
                va="top",
                fontsize="small",
                color="grey",
            )
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    sns.despine(ax=axes)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.birth", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=OUTPUT, help="where the figure goes")
    options = parser.parse_args(arguments)
    # The same history gives the same bytes.
    with mpl.rc_context({"svg.hashsalt": "birth", "svg.fonttype": "none"}):
        drawn = figure(bundled.history(), bundled.edit_layer())
        drawn.savefig(options.output, metadata={"Date": None})


if __name__ == "__main__":
    main()
