"""Markdown: the page's argument, and nothing of it that a text from outside has written."""

from __future__ import annotations

from typing import Any

import pytest

from reports.markdown import line, render, table
from reports.numbers import percent
from tests.documents import sample
from tests.reports.reading import words

Document = dict[str, Any]


def test_markdown_holds_the_argument(
    keys: Document, performed: Document, pages: dict[str, str]
) -> None:
    text = render(keys, performed)
    for part in (
        "# Unclear: **Apple** was founded by",
        "## The update equation",
        "## What the edits",
    ):
        assert part in text
    assert percent(keys["damage"]["rome"]["relative_bound"]).replace("\u00a0", " ") in render(keys)
    assert "## What was not measured" in render(keys)
    assert "** of their norm" in render(keys)  # a blank between bold text and its neighbour
    for title in [part for part in render(keys).splitlines() if part.startswith("## ")]:
        assert title.removeprefix("## ") in words(pages["keys"])


@pytest.mark.parametrize(
    "name", ["edits", "covariance", "first_token", "keys_identity", "sweep", "batch", "hardcases"]
)
def test_every_kind_has_its_tables(name: str) -> None:
    text = render(sample(name))
    rows = [part for part in text.splitlines() if part.startswith("|")]
    assert rows and text.startswith("# ")
    assert text.count("| --- |") >= 1


def test_screened_edits_are_listed(screened: Document) -> None:
    text = render(screened)
    assert "## The riskiest edits" in text and "| **" in text


def test_cells_are_escaped_unless_they_are_marked() -> None:
    assert table(("a", "b|c"), [("<x>", line("*", 1))])[2] == r"| \<x\> | \*1 |"
    assert line("a ", "b") == "a b" and line(line("*")) == r"\*"
