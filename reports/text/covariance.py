"""What estimating a second moment came to, as text in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from reports.pages.covariance import lines, speed


def show(document: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints a ``diag.covariance/1`` document.

    Args:
        document: The summary.
        console: Where to; standard output by default.
    """
    console = console or Console(highlight=False)
    console.print(f"second moments of {document['model']} over {document['corpus']}")
    for layer in document["layers"]:
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_row("layer", f"{layer['layer']}: {layer['file']}")
        for what, value in lines(layer):
            table.add_row(what, value)
        console.print(table)
    took = speed(document)
    if took:
        console.print(took, style="dim")
