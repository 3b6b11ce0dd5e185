"""Estimated second moments as text in a terminal."""

from __future__ import annotations

from rich.console import RenderableType

from reports.pages.covariance import lines, speed
from reports.text import console as parts
from reports.text.console import Document


def render(document: Document) -> RenderableType:
    """Lays a ``diag.covariance/1`` document out for ``rich``."""
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


show = parts.showing(render)
