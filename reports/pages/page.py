"""Saved results as one self-contained HTML page. Everything that came from outside is escaped."""

from __future__ import annotations

import base64
import hashlib
import importlib
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from reports.colours import dark, light
from reports.numbers import counted, number, percent, rank, share, times
from reports.pages.parts.publish import folded, published
from reports.style import style
from rome_diagnosis.errors import UserError
from rome_diagnosis.text import cleaned

if TYPE_CHECKING:
    from jinja2 import Environment

Document = Mapping[str, Any]
# What each schema is about; a document of diag.verify/1 is about one edit or about many.
KINDS = {
    "diag.keys/1": "keys",
    "diag.verify/1": "edit",
    "diag.screen/1": "screen",
    "diag.screen_layers/1": "layers",
    "diag.sequence/1": "sequence",
    "probes.first_token/1": "first_token",
    "diag.covariance/1": "moments",
    "diag.sweep/1": "sweep",
    "diag.compare/1": "compare",
    "diag.batch/1": "batch",
    "diag.apply/1": "apply",
    "diag.hardcases/1": "hardcases",
    "diag.tasks/1": "tasks",
    "diag.surrogate/1": "surrogate",
}
# Kinds that have a page by themselves, and the module that fills it.
PAGES = {
    "screen": "many", "edits": "many", "sequence": "sequence", "moments": "covariance",
    "sweep": "sweep", "layers": "layers", "batch": "batch", "apply": "apply",
    "first_token": "first_token", "hardcases": "hardcases", "compare": "compare",
    "tasks": "tasks", "surrogate": "surrogate",
}  # fmt: skip


def render(*documents: Document) -> str:
    """Renders results as a page.

    Args:
        documents: A saved result, or a diagnosis and a verification of the same edit, and the
            first-token probes of its model.

    Returns:
        HTML that needs no other file and no network.

    Raises:
        UserError: If the documents are of a kind there is no page for.
    """
    shown = view(*documents)
    return _template("page.html.j2", shown, published(content(shown), shown["title"]))


def fragment(*documents: Document) -> str:
    """Renders results as a piece of HTML for a notebook, its style confined to itself.

    Args:
        documents: As for :func:`render`.

    Returns:
        HTML.

    Raises:
        UserError: If the documents are of a kind there is no page for.
    """
    shown = view(*documents)
    return _template("fragment.html.j2", shown, folded(content(shown)))


def view(*documents: Document, figures: bool = True) -> dict[str, Any]:
    """What a page or a Markdown file of these results shows.

    Args:
        documents: As for :func:`render`.
        figures: Whether to draw figures.

    Returns:
        Values for a template; ``kind`` names it.

    Raises:
        UserError: If there is no page for them together.
    """
    for document in documents:
        if document.get("schema") not in KINDS:
            raise UserError(
                f"cannot render schema {document.get('schema')!r}: known are {', '.join(KINDS)}"
            )
    # Harmful characters are written out here, once for everything that is shown.
    shown = [cleaned(document) for document in documents]
    kinds = [_kind(document) for document in shown]
    if len(kinds) == 1 and kinds[0] in PAGES:
        module = importlib.import_module(f"reports.pages.{PAGES[kinds[0]]}")
        return module.view(shown[0], figures=figures)
    by_kind = dict(zip(kinds, shown, strict=True))
    of_edit = set(by_kind) & {"keys", "edit"}
    if not of_edit or len(by_kind) < len(shown) or set(by_kind) - of_edit - {"first_token"}:
        raise UserError(
            "a page shows one result, or a diagnosis and a verification of the same edit (and "
            "the first-token probes of its model); these are: "
            f"{', '.join(str(document['schema']) for document in documents)}"
        )
    from reports.pages import edit

    return edit.view(
        by_kind.get("keys"), by_kind.get("edit"), by_kind.get("first_token"), figures=figures
    )


def _kind(document: Document) -> str:
    kind = KINDS[document["schema"]]
    return "edits" if kind == "edit" and "edits" in document else kind


def content(shown: dict[str, Any]) -> str:
    """The main part of a page.

    Args:
        shown: The template's values, from :func:`view`.

    Returns:
        HTML.
    """
    return _environment().get_template("main.html.j2").render(shown)


def _template(name: str, shown: dict[str, Any], main: str) -> str:
    from markupsafe import Markup

    environment = _environment()
    assert environment.loader is not None
    # The one script a page may run; its digest is in the page, so that no other does.
    script = environment.loader.get_source(environment, "page.js")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(name).render(
        shown,
        main=Markup(main),
        script=Markup(script),
        script_digest=f"'sha256-{digest}'",
        style=Markup(style()),
        paper=(light()["paper"], dark()["paper"]),
    )


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
    environment.filters |= {
        "number": number, "times": times, "percent": percent, "share": share, "rank": rank,
        "counted": counted,
    }  # fmt: skip
    return environment
