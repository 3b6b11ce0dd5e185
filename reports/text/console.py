"""The parts that documents are laid out with in a terminal: headlines, sections, tables.

Every text is text: nothing in it is read as markup, and :func:`show` writes out control characters
before anything else sees the document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reports.tables.verdicts import Label
from rome_diagnosis.text import cleaned, line

Document = Mapping[str, Any]
STYLES = {"fail": "red", "warn": "yellow", "pass": "green", "none": "dim"}
BADGES = {
    "fail": "bold white on red",
    "warn": "bold black on yellow",
    "pass": "bold white on green",
    "none": "bold",
}


def showing(render: Callable[[Document], RenderableType]) -> Callable[..., None]:
    """A function that prints a document as it is laid out, on a console or on standard output."""

    def prints(document: Document, console: Console | None = None) -> None:
        show(render, document, console)

    return prints


def show(
    render: Callable[[Document], RenderableType], document: Document, console: Console | None
) -> None:
    """Prints a document.

    Args:
        render: Lays it out.
        document: The saved result.
        console: Where to; standard output by default.
    """
    (console or Console(highlight=False)).print(render(cleaned(document)))


def page(*parts: RenderableType | None) -> Group:
    """Parts one after another; those that are ``None`` are left out."""
    return Group(*(_text(part) for part in parts if part is not None))


def section(title: str, *parts: RenderableType | None) -> Group:
    """Parts under a title, indented, with an empty line before it."""
    return page("", Text(line(title), style="bold"), *map(indented, parts))


def indented(part: RenderableType | None) -> RenderableType | None:
    """A part with a margin on either side."""
    return None if part is None else Padding(_text(part), (0, 2))


def table(
    head: Sequence[str] | None, rows: Iterable[Sequence[RenderableType]], *, gap: int = 2
) -> Table:
    """A table of texts.

    Args:
        head: Titles of the columns, or ``None`` for none. A title that begins with ``>`` makes its
            column align to the right.
        rows: Cells; strings are shown as they are, on one line.
        gap: Blanks between columns.

    Returns:
        The table.
    """
    listed = [[_cell(cell) for cell in row] for row in rows]
    widest = max((len(row) for row in listed), default=0)
    titles = list(head) if head is not None else [""] * widest
    laid_out = Table(
        box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="dim",
        show_header=head is not None,
    )  # fmt: skip
    for title in titles:
        right = title.startswith(">")
        laid_out.add_column(
            Text(title.removeprefix(">")), justify="right" if right else "left",
            no_wrap=not laid_out.columns, overflow="fold",
        )  # fmt: skip
    for row in listed:
        laid_out.add_row(*row)
    return laid_out


def dim(text: str) -> Text:
    """Text of minor importance; its line breaks stay."""
    return Text(text, style="dim")


def badge(label: Label) -> Text:
    """A verdict or outcome in a coloured box."""
    return Text(f" {line(label.text).upper()} ", style=BADGES[label.style])


def edited(request: Document, *, style: str = "underline") -> Text:
    """A request's prompt with its subject set apart."""
    before, after = request["prompt"].split("{}", 1)
    return Text.assemble(line(before), (line(request["subject"]), style), line(after))


def quoted(token: str) -> str:
    """A token in quotation marks, which show blanks at its ends."""
    return f"'{line(token)}'"


def shortened(text: str, limit: int = 90) -> str:
    """The beginning of a text, on one line."""
    one = " ".join(line(text).split())
    return one if len(one) <= limit else one[: limit - 1] + "…"


def first_of(lines: Sequence[str], n: int = 10, *, more: int | None = None) -> str:
    """The first lines of a list, and how many more there are.

    Args:
        lines: Lines.
        n: How many to show.
        more: How many others there are; by default those of the list.

    Returns:
        Lines.
    """
    rest = len(lines) - n if more is None else more
    shown = [line(each) for each in lines[:n]]
    return "\n".join(shown + ([f"and {rest:,} more"] if rest > 0 else []))


def _text(part: RenderableType) -> RenderableType:
    return Text(part) if isinstance(part, str) else part


def _cell(cell: RenderableType) -> RenderableType:
    return Text(line(cell)) if isinstance(cell, str) else cell
