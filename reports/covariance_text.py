"""What estimating a second moment came to, as text in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from reports.numbers import number


def show(document: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints a ``diag.covariance/1`` document.

    Args:
        document: The summary.
        console: Where to; standard output by default.
    """
    console = console or Console(highlight=False)
    console.print(f"second moments of {document['model']} over {document['corpus']}")
    for layer in document["layers"]:
        console.print(_layer(layer))
    if "run" in document:
        run = document["run"]
        speed = run["n_tokens"] / run["seconds"]
        console.print(
            f"{number(run['seconds'])} s in {run['processes']} process(es), "
            f"{number(speed)} tokens a second",
            style="dim",
        )


def _layer(layer: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_row("layer", f"{layer['layer']}: {layer['file']}")
    each = number(layer["tokens_per_dimension"])
    table.add_row(
        "tokens", f"{layer['n_tokens']:,}, {each} for each of {layer['d_mlp']:,} dimensions"
    )
    table.add_row(
        "solved with",
        f"condition number {number(layer['condition_number'])}, ridge {number(layer['ridge'])}",
    )
    moved = layer.get("convergence")
    if moved:
        table.add_row(
            "convergence",
            f"ρ of {moved['n']} control edits (median {number(moved['typical'])}) is known to "
            f"± {number(moved['median'])}, the worst to ± {number(moved['largest'])}",
        )
    elif "convergence" in layer:
        table.add_row("convergence", "not checked: too little text to halve")
    if "fit" in layer:
        table.add_row("fit", f"ordinary keys are {number(layer['fit'])}× as long as in their own C")
    return table
