"""How tests read what renderers write: pages by an HTML parser, text without its layout."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

from rich.console import Console

HOSTILE = (
    "<script>alert('x')</script>", '"><img src=x onerror=alert(1)>', "</script><b>", "a | b\n| c |",
    "{{ 7 * 7 }}{% for x in d %}", "שלום עולם", "🙂" * 50, "x" * 10_000, "[bold red]markup[/]",
    "$\\frac{1}{2", "# heading", "```\n# code", "[link](http://a.example)",
    "\x1b[2J\x1b]0;title\x07", "\u202ereversed", "\ud83d", "&lt;b&gt;", "' onclick='alert(1)",
)  # fmt: skip
VOID = {"meta", "br", "img", "use"}


class Tags(HTMLParser):
    """Elements and attributes of a page; fails where elements are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.attributes: set[tuple[str, str]] = set()
        self.stack: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened.append(tag)
        if tag not in VOID:
            self.stack.append(tag)
        for name, value in attrs:
            self.attributes.add((tag, name))
            assert not name.startswith("on")
            assert name not in ("src", "href") or not str(value).startswith("http")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parse(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    tags.close()
    assert tags.stack == []
    return tags


def words(html: str) -> str:
    """The text of a page, blanks between words alone."""
    return " ".join(" ".join(parse(html).text).split())


def ids(html: str) -> list[str]:
    return re.findall(r'\sid="([^"]+)"', html)


def printed(show: Callable[..., None], document: Any, *, width: int = 100, **options: Any) -> str:
    """What a terminal of some width gets, without colours; whatever else is there is there."""
    written = io.StringIO()
    show(document, Console(width=width, file=written, highlight=False), **options)
    return written.getvalue()
