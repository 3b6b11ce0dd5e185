"""A saved result as one self-contained HTML page. Everything that came from outside is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from reports.document import check
from reports.numbers import number, times

if TYPE_CHECKING:
    from jinja2 import Environment

VERDICTS = {
    "collapse_risk": "Collapse risk",
    "unclear": "Unclear",
    "safe": "Safe",
}


def render(document: Mapping[str, Any]) -> str:
    """Renders a result as a page.

    Args:
        document: The saved result.

    Returns:
        HTML that needs no other file and no network.

    Raises:
        ReportError: If the document is of a kind there is no page for.
    """
    return _template("page.html.j2", document)


def fragment(document: Mapping[str, Any]) -> str:
    """Renders a result as a piece of HTML for a notebook, its style confined to itself.

    Args:
        document: The saved result.

    Returns:
        HTML.

    Raises:
        ReportError: If the document is of a kind there is no page for.
    """
    return _template("fragment.html.j2", document)


def _template(name: str, document: Mapping[str, Any]) -> str:
    check(document, ("diag.keys/1",))
    return _environment().get_template(name).render(
        d=document,
        verdict_label=VERDICTS[document["verdict"]],
        before=document["request"]["prompt"].split("{}", 1)[0],
        after=document["request"]["prompt"].split("{}", 1)[1],
    )  # fmt: skip


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("reports", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "times": times}
    return environment
