"""Every figure of a page as one PDF, a page of its own for each: vectors that a paper includes."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reports.figures.canvas import Drawing, style
from rome_diagnosis.errors import UserError

PLACED = re.compile(r'<title id="([\w-]+)-alt"')  # a figure's name, where a page shows it


def render(*documents: Mapping[str, Any]) -> bytes:
    """Draws the figures of a page.

    Args:
        documents: As for :func:`reports.pages.page.render`.

    Returns:
        PDF, the figures in the page's order, each on a page of its own size.

    Raises:
        UserError: If there is no page for the documents, or no figure on it.
    """
    from matplotlib.backends.backend_pdf import PdfPages

    drawings = of_page(*documents)
    if not drawings:
        raise UserError("there is no figure of this: .md and .txt hold its tables")
    buffer = io.BytesIO()
    with PdfPages(buffer, metadata={"CreationDate": None}) as pages:
        for drawing in drawings:
            with style(drawing.name):
                pages.savefig(drawing.figure())
    return buffer.getvalue()


def of_page(*documents: Mapping[str, Any]) -> list[Drawing]:
    """The figures that a page shows, in its order.

    Args:
        documents: As for :func:`reports.pages.page.render`.

    Returns:
        Drawings.

    Raises:
        UserError: If there is no page for the documents.
    """
    from reports.pages.page import content, view

    shown = view(*documents)
    named = {drawing.name: drawing for drawing in _drawings(shown)}
    return [named[name] for name in PLACED.findall(content(shown))]


def _drawings(shown: Any) -> Iterator[Drawing]:
    """The figures among a template's values, shown or not."""
    if isinstance(shown, Drawing):
        yield shown
    elif isinstance(shown, Mapping):
        yield from _drawings(list(shown.values()))
    elif isinstance(shown, Sequence) and not isinstance(shown, str | bytes):
        for part in shown:
            yield from _drawings(part)
    elif hasattr(shown, "figures"):
        yield from _drawings(shown.figures)
