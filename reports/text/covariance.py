"""Estimated second moments as text in a terminal."""

from __future__ import annotations

from rich.console import Console, RenderableType

from reports.pages.covariance import lines, speed
from reports.text import console as parts
from reports.text.console import Document


def show(document: Document, console: Console | None = None) -> None:
    """Prints a ``diag.covariance/1`` document.

    Args:
        document: The summary.
        console: Where to; standard output by default.
    """
    parts.show(render, document, console)


def render(document: Document) -> RenderableType:
    """Lays a ``diag.covariance/1`` document out.

    Args:
        document: The summary.

    Returns:
        Something ``rich`` prints.
    """
    layers = [
        parts.table(None, [("layer", f"{layer['layer']}: {layer['file']}"), *lines(layer)])
        for layer in document["layers"]
    ]
    took = speed(document)
    return parts.page(
        f"second moments of {document['model']} over {document['corpus']}",
        *layers,
        parts.dim(took) if took else None,
    )
