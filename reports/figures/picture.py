"""One figure of a result: matplotlib axes that a notebook shows and that save themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from reports.figures import (
    batch,
    canvas,
    covariance,
    edit,
    first_token,
    layers,
    many,
    projections,
    sequence,
    several,
    shares,
    surrogate,
    sweep,
)
from reports.figures.canvas import Drawing
from reports.tables import terms
from reports.tables.edits import edits
from rome_diagnosis.disk import files
from rome_diagnosis.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Document = Mapping[str, Any]
Makers = Mapping[str, Callable[[], Drawing | None]]
# Figures that are drawn from a document alone, by the document's schema.
FIGURES: Mapping[str, Mapping[str, Callable[[Document], Drawing | None]]] = {
    "diag.sweep/1": {"damage": sweep.damage, "stream": sweep.stream},
    "diag.screen_layers/1": layers.FIGURES,
    "diag.sequence/1": {
        "damage": sequence.damage, "perplexity": sequence.perplexity,
        "efficacy": sequence.efficacy, "tasks": sequence.tasks,
    },
    "diag.surrogate/1": {
        "tasks": surrogate.tasks, "damage": surrogate.damage,
        "first_tokens": surrogate.first_tokens,
    },
    "diag.apply/1": {"shares": shares.applied},
    "diag.hardcases/1": {"broken": shares.broken},
    "diag.tasks/1": {"scores": shares.tasks},
    "diag.compare/1": {
        "panels": several.panels, "damage": several.damage, "first_tokens": several.first_tokens,
    },
    "diag.batch/1": {"matrix": batch.matrix, "response": batch.response, "family": batch.family},
}  # fmt: skip


@dataclass(frozen=True, repr=False)
class Picture:
    """A figure on matplotlib axes.

    Attributes:
        drawing: What it shows.
        axes: The axes it was drawn on; whatever is changed there is shown and saved.
        is_own: Whether the figure holds these axes alone, drawn for this picture.
    """

    drawing: Drawing
    axes: Axes
    is_own: bool

    @property
    def figure(self) -> Figure:
        """The figure the axes belong to."""
        return cast("Figure", self.axes.figure)

    def save(self, path: str, **options: Any) -> None:
        """Writes the whole figure in the format that the file's name ends in.

        Args:
            path: The file, e.g. ``terms.pdf``, ``terms.png`` or ``terms.svg``.
            **options: For :meth:`matplotlib.figure.Figure.savefig`, e.g. ``dpi=300``.

        Raises:
            UserError: If there is no such format.
            UserError: If the file cannot be written.
        """
        form = Path(path).suffix.lstrip(".").lower()
        known = self.figure.canvas.get_supported_filetypes()
        if form not in known:
            raise UserError(
                f"cannot tell the format of {path!r}: its name must end in one of "
                f"{', '.join(f'.{name}' for name in sorted(known))}"
            )
        # The same bytes each time: formats that would hold the date hold none.
        dated = {"svg": "Date", "svgz": "Date", "pdf": "CreationDate", "ps": "CreationDate"}
        settings = {"metadata": {dated[form]: None}} if form in ("svg", "svgz", "pdf") else {}
        with files.atomic(path) as part, canvas.style(self.drawing.name):
            self.figure.savefig(
                part, **{"format": form, "facecolor": "white", **settings, **options}
            )

    def __repr__(self) -> str:
        return f"Picture({self.drawing.alt!r})"

    def _repr_html_(self) -> str | None:
        # Axes that were given belong to a figure that shows itself.
        if not self.is_own:
            return None
        from reports.style import style

        svg = canvas.inline(self.figure, self.drawing.name, self.drawing.alt)
        return (
            f"<style>{style()}</style><div class='rome-diagnosis'><figure>{svg}</figure></div>"
        )  # fmt: skip


def of_edit(
    name: str, keys: Document | None = None, verify: Document | None = None, *,
    ax: Axes | None = None,
) -> Picture:  # fmt: skip
    """A figure of one edit.

    Args:
        name: ``terms``, ``split``, ``plane``, ``perplexity`` or ``shares``.
        keys: A ``diag.keys/1`` document, or
        verify: a ``diag.verify/1`` document of one edit.
        ax: Axes to draw on; new ones by default.

    Returns:
        The figure.

    Raises:
        UserError: If what it would show was not measured.
    """
    document = keys or verify
    assert document is not None
    per_editor = terms.of_keys(document) if keys else terms.of_edit(document)
    split = terms.split(per_editor)
    return _drawn(
        name,
        {
            "terms": lambda: edit.terms(per_editor),
            "split": lambda: edit.split(split) if split else None,
            "plane": lambda: edit.plane(document["first_token"]["projection"]),
            "perplexity": lambda: edit.perplexity(
                document, float(document["settings"]["collapse_ratio"])
            ),
            "shares": lambda: edit.shares(document),
        },
        ax,
    )


def of_many(name: str, document: Document, *, ax: Axes | None = None) -> Picture:
    """A figure of many edits.

    Args:
        name: ``ratio``, ``damage``, ``plane``, ``perplexity``, ``closed_form``, or
            ``keys_pca``, ``keys_tsne``, ``directions_pca``, ``directions_tsne``.
        document: As for :func:`reports.tables.edits.edits`.
        ax: Axes to draw on; new ones by default.

    Returns:
        The figure.

    Raises:
        UserError: If what it would show was not measured.
    """
    listed = edits(document)
    collapse = float(document.get("settings", {}).get("collapse_ratio", 1.0))
    limits = document.get("limits", {})
    return _drawn(
        name,
        {
            "ratio": lambda: many.ratio(listed, limits),
            "damage": lambda: many.damage(listed, limits),
            "plane": lambda: many.plane(listed, limits),
            "perplexity": lambda: many.perplexity(listed, collapse, limits),
            "closed_form": lambda: many.closed_form(listed),
            **_projections(document, projections.of_edits(document.get("edits", ()))),
        },
        ax,
    )


def of_first_tokens(name: str, document: Document, *, ax: Axes | None = None) -> Picture:
    """A figure of the inquiry into first tokens.

    Args:
        name: ``shares``, ``recovery``, ``keys_pca``, ``keys_tsne``, ``directions_pca`` or
            ``directions_tsne``.
        document: A ``probes.first_token/1`` document.
        ax: Axes to draw on; new ones by default.

    Returns:
        The figure.

    Raises:
        UserError: If what it would show was not measured.
    """
    return _drawn(
        name,
        {
            "shares": lambda: first_token.shares(document["attribution"]),
            "recovery": lambda: first_token.recovery(document["patching"]["patches"]),
            **_projections(document, projections.of_subjects(document["rho"]["collapse_limit"])),
        },
        ax,
    )


def of_moments(document: Document, layer: int | None = None, *, ax: Axes | None = None) -> Picture:
    """How well a second moment is known.

    Args:
        document: A ``diag.covariance/1`` document.
        layer: The block; the first by default.
        ax: Axes to draw on; new ones by default.

    Returns:
        The figure.

    Raises:
        UserError: If that was not measured.
    """
    rows = [row for row in document["layers"] if layer in (None, row["layer"])]
    name = "convergence"
    return _drawn(name, {name: lambda: covariance.convergence(rows[0]) if rows else None}, ax)


def of_document(name: str, document: Document, *, ax: Axes | None = None) -> Picture:
    """A figure of a document that is a result by itself.

    Args:
        name: One of its :data:`FIGURES`.
        document: The document.
        ax: Axes to draw on; new ones by default.

    Returns:
        The figure.

    Raises:
        UserError: If what it would show was not measured.
    """
    makers = FIGURES[document["schema"]]
    return _drawn(name, {name: lambda: makers[name](document)}, ax)


def _projections(document: Document, naming: projections.Naming) -> Makers:
    def maker(what: str, method: str) -> Callable[[], Drawing | None]:
        stored = document.get("projections")
        return lambda: projections.figure(stored, what, method, naming) if stored else None

    return {
        f"{what}_{method}": maker(what, method)
        for what in projections.SHOWN
        for method in projections.METHODS
    }


def _drawn(name: str, makers: Makers, ax: Axes | None) -> Picture:
    drawing = makers[name]()
    if drawing is None:
        raise UserError(f"there is no figure {name!r}: what it shows was not measured")
    if ax is not None:
        drawing.on(ax)
        return Picture(drawing, ax, is_own=False)
    return Picture(drawing, drawing.figure().axes[0], is_own=True)
