"""One figure of a result, as notebooks show it and as a file for a paper."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from reports.document import ReportError
from reports.figures import edit, first_token, many, projections
from reports.pages import covariance
from reports.tables import terms
from reports.tables.edits import edits

Document = Mapping[str, Any]


@dataclass(frozen=True, repr=False)
class Picture:
    """A figure that shows itself.

    Attributes:
        svg: An ``<svg>`` element in the page's colours.
    """

    svg: str

    def save(self, path: str) -> None:
        """Writes the figure as an SVG file, its text as text.

        Args:
            path: The file.
        """
        Path(path).write_text(self.standalone() + "\n", encoding="utf-8")

    def standalone(self) -> str:
        """The figure in the colours of a light page, for where there is no page."""
        colours = _light()
        svg = re.sub(r"var\((--[\w-]+)\)", lambda match: colours[match[1]], self.svg)
        return svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" '
                           'font-family="sans-serif" ', 1)  # fmt: skip

    def __repr__(self) -> str:
        alt = re.search(r"<title[^>]*>(.*?)</title>", self.svg, re.DOTALL)
        return f"Picture({alt[1] if alt else ''!r})"

    def _repr_html_(self) -> str:
        return (
            f"<style>{_style()}</style><div class='rome-diagnosis'>"
            f"<figure>{self.svg}</figure></div>"
        )


def of_edit(name: str, keys: Document | None = None, verify: Document | None = None) -> Picture:
    """A figure of one edit.

    Args:
        name: ``terms``, ``split``, ``plane``, ``perplexity`` or ``shares``.
        keys: A ``diag.keys/1`` document, or
        verify: a ``diag.verify/1`` document of one edit.

    Returns:
        The figure.

    Raises:
        ReportError: If what it would show was not measured.
    """
    document = keys or verify
    assert document is not None
    found = terms.of_keys(document) if keys else terms.of_edit(document)
    split = terms.split(found)
    makers: dict[str, Callable[[], str | None]] = {
        "terms": lambda: edit.terms(found),
        "split": lambda: edit.split(split) if split else None,
        "plane": lambda: edit.plane(document["first_token"]["projection"]),
        "perplexity": lambda: edit.perplexity(
            document, float(document["settings"]["collapse_ratio"])
        ),
        "shares": lambda: edit.shares(document),
    }
    return _made(name, makers[name]())


def of_many(name: str, document: Document) -> Picture:
    """A figure of many edits.

    Args:
        name: ``ratio``, ``damage``, ``plane``, ``perplexity``, ``closed_form``, or
            ``keys_pca``, ``keys_tsne``, ``directions_pca``, ``directions_tsne``.
        document: As for :func:`reports.tables.edits.edits`.

    Returns:
        The figure.

    Raises:
        ReportError: If what it would show was not measured.
    """
    found = edits(document)
    collapse = float(document.get("settings", {}).get("collapse_ratio", 1.0))
    limits = document.get("limits", {})
    makers: dict[str, Callable[[], str | None]] = {
        "ratio": lambda: many.ratio(found, limits),
        "damage": lambda: many.damage(found, limits),
        "plane": lambda: many.plane(found, limits),
        "perplexity": lambda: many.perplexity(found, collapse, limits),
        "closed_form": lambda: many.closed_form(found),
        **_projections(document, projections.of_edits(document.get("edits", ()))),
    }
    return _made(name, makers[name]())


def of_first_tokens(name: str, document: Document) -> Picture:
    """A figure of the inquiry into first tokens.

    Args:
        name: ``shares``, ``recovery``, ``keys_pca``, ``keys_tsne``, ``directions_pca`` or
            ``directions_tsne``.
        document: A ``probes.first_token/1`` document.

    Returns:
        The figure.

    Raises:
        ReportError: If what it would show was not measured.
    """
    makers: dict[str, Callable[[], str | None]] = {
        "shares": lambda: first_token.shares(document["attribution"]),
        "recovery": lambda: first_token.recovery(document["patching"]["patches"]),
        **_projections(document, projections.of_subjects(document["rho"]["collapse_limit"])),
    }
    return _made(name, makers[name]())


def of_moments(document: Document, layer: int | None = None) -> Picture:
    """How well a second moment is known.

    Args:
        document: A ``diag.covariance/1`` document.
        layer: The block; the first by default.

    Returns:
        The figure.

    Raises:
        ReportError: If that was not measured.
    """
    rows = [row for row in document["layers"] if layer in (None, row["layer"])]
    return _made("convergence", covariance.convergence(rows[0]) if rows else None)


def _projections(
    document: Document, naming: projections.Naming
) -> dict[str, Callable[[], str | None]]:
    def maker(what: str, method: str) -> Callable[[], str | None]:
        made = document.get("projections")
        return lambda: projections.figure(made, what, method, naming) if made else None

    return {
        f"{what}_{method}": maker(what, method)
        for what in projections.SHOWN
        for method in projections.METHODS
    }


def _made(name: str, svg: str | None) -> Picture:
    if svg is None:
        raise ReportError(f"there is no figure {name!r}: what it shows was not measured")
    return Picture(svg)


@lru_cache(maxsize=1)
def _style() -> str:
    return (
        resources.files("reports.pages").joinpath("templates/style.css").read_text(encoding="utf-8")
    )


@lru_cache(maxsize=1)
def _light() -> dict[str, str]:
    """The variables of the style's first rule."""
    return dict(re.findall(r"(--[\w-]+): (#\w+)", _style().split("}", 1)[0]))
