"""Saved results as one self-contained HTML page. Everything that came from outside is escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from reports.document import ReportError, check
from reports.numbers import number, rank, times

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

Document = Mapping[str, Any]
SCHEMAS = (
    "diag.keys/1", "diag.verify/1", "diag.screen/1", "probes.first_token/1", "diag.covariance/1",
)  # fmt: skip


def render(*documents: Document) -> str:
    """Renders results as a page.

    Args:
        documents: A saved result, or a diagnosis and a verification of the same edit, and the
            first-token probes of its model.

    Returns:
        HTML that needs no other file and no network.

    Raises:
        ReportError: If the documents are of a kind there is no page for.
    """
    return _template("page.html.j2", documents)


def fragment(*documents: Document) -> str:
    """Renders results as a piece of HTML for a notebook, its style confined to itself.

    Args:
        documents: As for :func:`render`.

    Returns:
        HTML.

    Raises:
        ReportError: If the documents are of a kind there is no page for.
    """
    return _template("fragment.html.j2", documents)


def view(*documents: Document, figures: bool = True) -> dict[str, Any]:
    """What a page or a Markdown file of these results shows.

    Args:
        documents: As for :func:`render`.
        figures: Whether to draw figures.

    Returns:
        Values for a template; ``kind`` names it.

    Raises:
        ReportError: If there is no page for them together.
    """
    for document in documents:
        check(document, SCHEMAS)
    kinds = [_kind(document) for document in documents]
    if kinds in (["screen"], ["edits"]):
        from reports.pages import many

        return many.view(documents[0], figures=figures)
    if kinds == ["moments"]:
        from reports.pages import covariance

        return covariance.view(documents[0], figures=figures)
    found = dict(zip(kinds, documents, strict=True))
    if kinds == ["first_token"]:
        from reports.pages import first_token

        return first_token.view(documents[0], figures=figures)
    of_edit = set(found) & {"keys", "edit"}
    if not of_edit or len(found) < len(documents) or set(found) - of_edit - {"first_token"}:
        raise ReportError(
            "a page shows one result, or a diagnosis and a verification of the same edit (and "
            "the first-token probes of its model); these are: "
            f"{', '.join(str(document['schema']) for document in documents)}"
        )
    from reports.pages import edit

    return edit.view(
        found.get("keys"), found.get("edit"), found.get("first_token"), figures=figures
    )


def _kind(document: Document) -> str:
    if document["schema"] == "diag.verify/1":
        return "edits" if "edits" in document else "edit"
    kinds = {
        "diag.keys/1": "keys",
        "diag.screen/1": "screen",
        "probes.first_token/1": "first_token",
        "diag.covariance/1": "moments",
    }
    return kinds[document["schema"]]


def _template(name: str, documents: tuple[Document, ...]) -> str:
    script = _script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template(name)
        .render(view(*documents), script=script, script_digest=f"'sha256-{digest}'")
    )


def _script() -> Markup:
    """The one script a page may run; its digest is in the page, so that no other does."""
    from markupsafe import Markup

    loader = _environment().loader
    assert loader is not None
    return Markup(loader.get_source(_environment(), "table.js")[0])


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("reports.pages", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "times": times, "rank": rank}
    return environment
