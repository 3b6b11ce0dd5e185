"""What a page gives away: contents, permalinks, and files of its tables and figures."""

from __future__ import annotations

import base64
import csv
import io
import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from reports.numbers import number
from reports.pages.page import fragment, render
from reports.pages.parts.publish import latex, published, read_table
from tests.documents import sample
from tests.reports.conftest import PAGES
from tests.reports.reading import parse

Document = dict[str, Any]


def files(page: str) -> dict[str, str]:
    """Everything a page offers, by file name."""
    found = re.findall(r'download="([^"]+)" href="data:[\w/+-]+;base64,([^"]+)"', page)
    assert len(found) == len(dict(found)), "two files of one name"
    return {name: base64.b64decode(data).decode() for name, data in found}


@pytest.mark.parametrize("name", PAGES)
def test_every_heading_table_and_figure_can_be_cited_and_taken(
    name: str, pages: dict[str, str]
) -> None:
    page = pages[name]
    headings = re.findall(r'<h2 id="([\w-]+)"', page)
    contents = re.search(r"<nav.*?</nav>", page, re.DOTALL)
    assert contents and re.findall(r'href="#([\w-]+)"', contents[0]) == headings
    assert re.findall(r'class="permalink" href="#([\w-]+)"', page) == headings
    given = files(page)
    assert sum(file.endswith(".svg") for file in given) == page.count("<svg ")
    tables = [file for file in given if file.endswith(".csv")]
    assert len(tables) == sum(file.endswith(".tex") for file in given) >= 1
    for file, content in given.items():
        if file.endswith(".svg"):
            ET.fromstring(content)
            assert "var(--" not in content and "xmlns=" in content
        elif file.endswith(".csv"):
            rows = list(csv.reader(io.StringIO(content)))
            assert len({len(row) for row in rows}) == 1 and len(rows) >= 2, file
        else:
            # Nothing that LaTeX would stop at, but in what the model itself was given or says.
            assert not set(content) & set("−ρφΔ‖→⁻σδλ√"), file
            assert content.count(r"\begin{tabular}") == content.count(r"\end{tabular}") == 1


def test_a_table_of_edits_gives_numbers_that_a_program_reads(
    evidence: Document, pages: dict[str, str]
) -> None:
    (name,) = (file for file in files(pages["group"]) if file.endswith("-riskiest.csv"))
    rows = list(csv.DictReader(io.StringIO(files(pages["group"])[name])))
    assert len(rows) == len(evidence["edits"])
    by_subject = {(row["Edit"], float(row["Perplexity"])): row for row in rows}
    for edit in evidence["edits"][:20]:
        ratio = edit["arms"]["rome"]["perplexity"]["ratio"]
        assert (edit["request"]["subject"], 1e300 if ratio is None else ratio) in by_subject


def test_names_of_two_rows_of_heads_are_put_together() -> None:
    head, rows, values = read_table(
        "<table><thead><tr><td></td><th colspan='2'>A</th></tr><tr><th>x</th><th>y</th><th>z</th>"
        "</tr></thead><tbody><tr><th>p<br>q</th><td data-v='-0.25'>−0.3</td><td><details><summary>s"
        "</summary>more<table><tr><td>inner</td></tr></table></details></td></tr></tbody></table>"
    )
    assert head == ["x", "A: y", "A: z"]
    assert rows == [["p q", "−0.3", "s"]] and values == [["p q", "-0.25", "s"]]


def test_cells_are_neither_commands_of_latex_nor_formulas_of_a_spreadsheet() -> None:
    hostile = r"\input{x} & 50 % $y$ #1 a_b ^ ~"
    written = latex(["C⁻¹k̄"], [[hostile]])
    assert r"\textbackslash{}input\{x\} \& 50 \% \$y\$ \#1 a\_b" in written
    assert r"C$^{-1}$$\bar{k}$" in written
    cells = "".join(f"<tr><td>{text}</td></tr>" for text in ("=1+1", "@x", "-cmd", "−1,234.5", "7"))
    (content,) = (
        text
        for name, text in files(published(f"<table><tbody>{cells}</tbody></table>", "t")).items()
        if name == "t.csv"
    )
    assert content.split("\n") == ["'=1+1", "'@x", "'-cmd", "-1234.5", "7", ""]


def test_a_card_in_a_notebook_holds_the_page_behind_an_expander() -> None:
    keys = sample("keys")
    card, page = fragment(keys), render(keys)
    shown, _, rest = card.partition("<summary>Everything</summary>")
    assert number(keys["denominators"]["ratio"]) in rest and "<section" not in shown
    assert keys["summary"].split(".")[0] in shown and "</details>" in rest
    assert parse(card).opened.count("section") == parse(page).opened.count("section")
    assert "download=" not in card
