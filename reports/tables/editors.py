"""The editors and arms a document holds, in the table's order, with how each is shown.

A document may hold editors that this version does not know, or lack some: whatever it holds is
shown, unknown ones last and under the name they have there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rome_diagnosis.editors import ARMS, EDITORS, PUBLISHED, Arm, Editor

UNKNOWN_COLOUR, UNKNOWN_MARKER = "#59636e", "^"


@dataclass(frozen=True)
class Shown:
    """How one editor or arm is shown.

    Attributes:
        name: Its name in documents.
        label: Its name in full.
        short: Its name in figures and columns.
        note: What it puts where, in a phrase; empty if unknown.
        formula: Its denominator; empty if unknown.
        colour: ``#rrggbb``.
        marker: A matplotlib marker.
        style: A name for style sheets, whatever the document calls it.
        editor: Its row of the table; ``None`` if unknown.
    """

    name: str
    label: str
    short: str
    note: str
    formula: str
    colour: str
    marker: str
    style: str
    editor: Editor | None

    @property
    def described(self) -> str:
        """Its short name, and what it puts where."""
        return f"{self.short}, {self.note}" if self.note else self.short


def editors(names: Iterable[str]) -> list[Shown]:
    """Editors in the order of the table, unknown ones after them in the order given."""
    return [editor(name) for name in _ordered(names, EDITORS)]


def arms(names: Iterable[str]) -> list[Shown]:
    """Arms of a verification, in the order of the table, unknown ones after them."""
    return [arm(name) for name in _ordered(names, {**ARMS, **EDITORS})]


def editor(name: str) -> Shown:
    """How an editor is shown.

    Args:
        name: Its name in a document.

    Returns:
        Its look.
    """
    row = EDITORS.get(name)
    if row is None:
        return Shown(
            name, name, name, "", "", UNKNOWN_COLOUR, UNKNOWN_MARKER, "unknown", None
        )  # fmt: skip
    return Shown(
        name, row.label, row.short, row.note, row.formula, row.colour, row.marker, _style(row), row
    )


def arm(name: str) -> Shown:
    """How an arm is shown.

    Args:
        name: Its name in a document.

    Returns:
        Its look; an editor's own where the table of arms does not name it.
    """
    row = ARMS.get(name)
    if row is None or (row.editor == name and not row.prefixed):
        return editor(name)
    return replace(
        editor(row.editor), name=name, label=row.label, short=row.label, note="",
        colour=row.colour, marker=row.marker, style=_style(row),
    )  # fmt: skip


def looks() -> list[Shown]:
    """Every look that has a style of its own: what a page's style sheet must define."""
    return list({shown.style: shown for shown in arms({**ARMS, **EDITORS})}.values())


def damaging(document: Mapping[str, Any]) -> list[Shown]:
    """The editors whose damage a ``diag.keys/1`` document holds."""
    return editors(name for name, bound in document["damage"].items() if isinstance(bound, Mapping))


def unprefixed(names: Iterable[str]) -> list[Shown]:
    """The arms without a test-time prefix: one for each editor."""
    return [shown for shown in arms(names) if not (row := ARMS.get(shown.name)) or not row.prefixed]


def judged(names: Collection[str]) -> str:
    """The editor a document's headline is about: the published one, else the first there is."""
    return PUBLISHED if PUBLISHED in names else _ordered(names, EDITORS)[0]


def _ordered(names: Iterable[str], table: Collection[str]) -> list[str]:
    given = list(names)
    return [name for name in table if name in given] + [n for n in given if n not in table]


def _style(row: Editor | Arm) -> str:
    return row.name.replace("_", "-")
