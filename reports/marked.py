"""Pieces of Markdown: lines, headings, lists and tables.

Every text is escaped where it is put into one; only what is :class:`Marked` is Markdown already.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rome_diagnosis.text import markdown


class Marked(str):
    """Text that is Markdown already."""

    __slots__ = ()


def line(*parts: object) -> Marked:
    """Texts one after another on a line, escaped unless they are marked."""
    return Marked("".join(part if isinstance(part, Marked) else _escaped(part) for part in parts))


def bold(text: object) -> Marked:
    """A text set in bold; nothing is bold about blanks alone."""
    shown = markdown(text)
    return Marked(f"**{shown}**" if shown else "")


def code(value: str) -> list[str]:
    """A block of code, in a fence longer than any in it."""
    longest = max((len(run) for run in re.findall(r"`+", value)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence, value, fence, ""]


def heading(level: int, *parts: object) -> list[str]:
    """A heading."""
    return ["#" * level + " " + line(*parts), ""]


def bullets(items: Iterable[object]) -> list[str]:
    """A list."""
    return [*("- " + line(item) for item in items), ""]


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> list[str]:
    """A table whose first column is text and whose others are figures."""
    lines = [head, *rows]
    written = ["| " + " | ".join(line(cell) for cell in row) + " |" for row in lines]
    return [written[0], "| --- |" + " ---: |" * (len(head) - 1), *written[1:], ""]


def _escaped(part: object) -> str:
    """An escaped text with the blanks at its ends, which separate it from its neighbours."""
    text = str(part)
    shown = markdown(text)
    if not shown:
        return text and " "
    before = " " if text[:1].isspace() else ""
    after = " " if text[-1:].isspace() else ""
    return f"{before}{shown}{after}"


def repeat(documents: Sequence[Mapping[str, Any] | None], shown: dict[str, Any]) -> list[str]:
    """The commands that measure the same again, and with what it was measured."""
    lines = []
    if missing := shown.get("unmeasured"):
        lines += heading(2, "What was not measured")
        for what, command in missing:
            lines += [line(what, ". This command does it:"), "", *code(command)]
    lines += heading(2, "How to repeat it")
    for document in documents:
        if document and document.get("command"):
            lines += code(str(document["command"]))
    return [*lines, line(" ".join(shown["measured_with"])), ""]
