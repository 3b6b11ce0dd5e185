"""Saved results as text and pages: what came from outside is text, rendering needs no model."""

from __future__ import annotations

import copy
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from diag.keys import diagnose
from reports import __main__ as reports_main
from reports import document as documents
from reports.numbers import number, times
from reports.pages.edit import VERDICTS as LABELS
from reports.pages.page import fragment, render
from reports.text.keys import VERDICTS, show

HOSTILE = (
    "<script>alert('x')</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% for x in d %}",
    "שלום עולם",
    "🙂" * 50,
    "x" * 10_000,
    "[bold red]markup[/]",
)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return dict(diagnose("Apple", "{} was founded by").document)


@pytest.fixture(scope="module")
def page(document: dict[str, Any]) -> str:
    return render(document)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.stack: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.opened.append(tag)
        if tag not in ("meta", "br"):
            self.stack.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            assert name not in ("src", "href") or not str(value).startswith("http")

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


def printed(document: dict[str, Any]) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"), highlight=False)  # noqa: SIM115
    show(document, console)
    return console.export_text()


def test_a_page_is_whole_and_says_what_was_measured(document: dict[str, Any]) -> None:
    page = render(document)
    tags = parse(page)
    assert tags.opened.count("main") == 1
    assert tags.opened.count("h1") == 1
    assert "script" not in tags.opened
    assert "link" not in tags.opened
    text = " ".join(" ".join(tags.text).split())
    for part in (
        LABELS[document["verdict"]], "Apple", "␣Apple", document["summary"], document["command"],
        number(document["denominators"]["rome"]), number(document["denominators"]["c_rome"]),
    ):  # fmt: skip
        assert part in text
    assert page == render(document)
    assert parse(fragment(document)).opened.count("html") == 0


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_outside_stays_text(document: dict[str, Any], page: str, text: str) -> None:
    hostile = copy.deepcopy(document)
    hostile["request"] |= {
        "subject": text,
        "target_new": text,
        "prompt": text[:9] + "{} is " + text,
    }
    hostile["lookup"]["prefixed"][1]["prefix"] = text
    hostile["lookup"]["prefixed"][1]["token"] = text
    hostile["summary"] = hostile["command"] = hostile["model"]["name"] = text
    hostile["findings"][0]["message"] = text
    tags = parse(render(hostile))
    assert set(tags.opened) == set(parse(page).opened)
    assert text in "".join(tags.text)
    assert text[:100] in printed(hostile).replace("\n", "") or len(text) > 100


def test_the_terminal_shows_verdict_numbers_and_reasons(document: dict[str, Any]) -> None:
    text = printed(document)
    for part in (
        VERDICTS[document["verdict"]][0], "ROME as published", "✗", "✓",
        number(document["denominators"]["ratio"]),
    ):  # fmt: skip
        assert part in text
    for finding in document["findings"]:
        assert finding["id"] in text


def test_command_renders_saved_results(
    document: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved, page = tmp_path / "r.json", tmp_path / "r.html"
    saved.write_text(json.dumps(document), encoding="utf-8")
    assert reports_main.main([str(saved), "-o", str(page)]) == 0
    assert page.read_text(encoding="utf-8") == render(document)
    assert reports_main.main([str(saved)]) == 0
    assert VERDICTS[document["verdict"]][0] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot read"),
        ("not json", "is not JSON"),
        ("[1]", "names no schema"),
        ('{"schema": "other/9"}', "cannot render schema 'other/9'"),
    ],
)
def test_wrong_files_get_one_line(
    content: str | None, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.json"
    if content is not None:
        path.write_text(content)
    assert reports_main.main([str(path), "-o", str(tmp_path / "r.html")]) == 2
    err = capsys.readouterr().err
    assert complaint in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "r.html").exists()


def test_unwritable_pages_get_one_line(
    document: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "r.json"
    saved.write_text(json.dumps(document))
    assert reports_main.main([str(saved), "-o", "/nowhere/at/all.html"]) == 2
    assert "cannot write" in capsys.readouterr().err
    with pytest.raises(documents.ReportError, match="known are"):
        render({"schema": "other"})


def test_numbers_are_written_one_way() -> None:
    assert [number(x) for x in (None, 0, 0.0, 3, -0.5, 1234.5, 1e-5, 2.5e7, 12345)] == [
        "–", "0", "0", "3", "−0.5", "1,234", "1.00e−05", "2.50e+07", "12,345",
    ]  # fmt: skip
    assert times(1.9) == "1.9×"
    assert times(None) == "–"
