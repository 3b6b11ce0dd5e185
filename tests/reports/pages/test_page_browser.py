"""What a browser makes of the pages: no complaint, no request, no overflow, a table that works."""

from __future__ import annotations

import base64
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests import browser

Document = dict[str, Any]
COLUMN = """(n) => [...document.querySelectorAll('.riskiest > tbody > tr')]
  .filter((row) => !row.hidden).map((row) => row.cells[n].dataset.v ?? row.cells[n].textContent)"""
KINDS = (
    "keys", "all", "identity", "first_token", "group", "screened", "moments", "sequence", "sweep",
    "layers", "compare",
    "batch", "apply", "hardcases", "tasks", "surrogate",
)  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_a_page_opens_without_complaint(
    name: str, tab: browser.Tab, pages: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    path.write_text(pages[name], encoding="utf-8")
    for width in (400, 1440):
        tab.open(path, width, dark=width == 400)
        assert tab.complaints() == []
        assert tab.requests() == []
        assert tab.run("document.documentElement.scrollWidth") <= width
        sections = pages[name].count("<section ")
        assert tab.run("document.querySelectorAll('section > h2').length") == sections >= 2
        drawn = "[...document.querySelectorAll('svg')].every(s => s.getBBox().width > 100)"
        assert tab.run(drawn) is True


def test_no_figure_draws_beyond_its_frame(
    tab: browser.Tab, pages: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    outside = """[...document.querySelectorAll('svg')].flatMap(svg => {
      const frame = svg.getBoundingClientRect();
      return [...svg.querySelectorAll('text')].filter(text => {
        const box = text.getBoundingClientRect();
        return box.left < frame.left - 1 || box.right > frame.right + 1
          || box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
      }).map(text => text.textContent); })"""
    for name in KINDS:
        path.write_text(pages[name], encoding="utf-8")
        tab.open(path, 1000)
        assert tab.run(outside) == [], name
    wide = pages["keys"].replace("k_u, length", "k_u, length " + "and more " * 20)
    path.write_text(wide, encoding="utf-8")
    tab.open(path, 1000)
    assert tab.run(outside)  # the control


def test_the_browser_would_have_noticed(tab: browser.Tab, tmp_path: Path) -> None:
    """The control: a page that does everything a page must not."""
    path = tmp_path / "bad.html"
    path.write_text(
        "<p style='width:3000px'>wide</p><img src='picture.png'><script>nonsense()</script>"
    )
    tab.open(path, 400)
    assert tab.complaints()
    assert tab.requests()
    assert tab.run("document.documentElement.scrollWidth") > 400


def test_the_policy_stops_any_other_script(
    tab: browser.Tab, pages: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    page = pages["group"].replace("</main>", "</main><script>window.evil = 1</script>")
    path.write_text(page, encoding="utf-8")
    tab.open(path, 1440)
    assert tab.run("window.evil") is None
    assert tab.complaints()


def test_the_table_sorts_filters_and_opens(
    tab: browser.Tab, pages: dict[str, str], evidence: Document, tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    path.write_text(pages["group"], encoding="utf-8")
    tab.open(path, 1440)

    def column(n: int) -> list[str]:
        cells: list[str] = tab.run(f"({COLUMN})({n})")
        return cells

    def click(n: int) -> str:
        head = f"document.querySelectorAll('.riskiest > thead th')[{n}]"
        tab.run(f"{head}.querySelector('button').click()")
        return str(tab.run(f"{head}.getAttribute('aria-sort')"))

    heads = tab.run(
        "[...document.querySelectorAll('.riskiest > thead th')].map((head) => head.textContent)"
    )
    (perplexity,) = (i for i, head in enumerate(heads) if "Perplexity" in head)
    before = [float(x) for x in column(perplexity)]
    assert len(before) == 200 and before == sorted(before, reverse=True)
    assert click(4) == "ascending"
    rho = [float(x) for x in column(4)]
    assert rho == sorted(rho) and len(set(rho)) > 1
    assert click(4) == "descending"
    assert [float(x) for x in column(4)] == sorted(rho, reverse=True)

    def texts(edit: Document) -> str:
        request = edit["request"]
        prompt = request["prompt"].replace("{}", request["subject"])
        return f"{prompt} {edit['site']['token']}".lower()

    wanted = "Was born"
    matching = [edit for edit in evidence["edits"] if wanted.lower() in texts(edit)]
    first = [edit for edit in matching if edit["site"]["index"] == 0]
    assert 0 < len(first) < len(matching) < 200  # the filters have something to do
    tab.run(f"""(() => {{ const s = document.querySelector('.controls input[type=search]');
      s.value = '{wanted}'; s.dispatchEvent(new Event('input')); }})()""")
    assert sorted(column(0)) == sorted(edit["request"]["subject"] for edit in matching)
    status = "document.querySelector('[role=status]').textContent"
    assert tab.run(status) == f"{len(matching)} of 200 shown"
    tab.run("document.querySelector('.controls input[type=checkbox]').click()")
    assert set(column(3)) == {"0"} and len(column(3)) == len(first)

    tab.run("document.querySelector('.riskiest tbody tr:not([hidden]) summary').click()")
    opened = tab.run("document.querySelector('.riskiest details[open]').innerText")
    assert "Perplexity" in opened and "python -m diag.keys" in opened


def test_a_list_of_edits_in_order_is_searched_and_its_files_are_downloaded(
    tab: browser.Tab, pages: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    path.write_text(pages["sequence"], encoding="utf-8")
    tab.open(path, 400)
    shown = "[...document.querySelectorAll('.riskiest tbody tr')].filter(r => !r.hidden).length"
    everything = tab.run(shown)
    assert tab.run("document.querySelector('.controls input[type=checkbox]')") is None
    tab.run(
        "{ const box = document.querySelector('.controls input'); box.value = 'turkey';"
        " box.dispatchEvent(new Event('input')); }"
    )
    assert tab.run(shown) == 1 < everything
    tab.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    tab.run("document.querySelector('[download$=\".csv\"]').click()")
    for _ in range(100):
        if saved := list(tmp_path.glob("*.csv")):
            break
        time.sleep(0.1)
    assert "Turkey" in saved[0].read_text(encoding="utf-8")
    assert tab.complaints() == []


def test_every_table_of_things_sorts_as_its_numbers_are_written(
    tab: browser.Tab, pages: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    cells = ("1,237\u00a0%", "−6.51\u00a0%", "–", "2.5e−5", "118\u00a0%", "")
    rows = "".join(
        f"<tr><th>{'abcdef'[i]}</th><td>{cell}</td></tr>" for i, cell in enumerate(cells)
    )
    table = (
        "<table class='sortable'><thead><tr><th>name</th><th>share</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )
    path.write_text(pages["tasks"].replace("</main>", f"{table}</main>"), encoding="utf-8")
    tab.open(path, 1000)
    order = (
        "[...document.querySelectorAll('main > table tbody th')].map(c => c.textContent).join('')"
    )
    click = "document.querySelectorAll('main > table thead button')[{}].click()"
    assert tab.run(order) == "abcdef"
    tab.run(click.format(1))
    assert tab.run(order) == "bdeacf"  # what was not measured stays at the end
    tab.run(click.format(1))
    assert tab.run(order) == "aedbcf"
    tab.run(click.format(0))
    assert tab.run(order) == "abcdef"
    assert tab.complaints() == []


def test_commands_and_tables_are_copied(
    tab: browser.Tab, pages: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    path.write_text(pages["keys"], encoding="utf-8")
    tab.open(path, 1000)
    tab.send("Emulation.setFocusEmulationEnabled", enabled=True)
    tab.run("window.taken = []; navigator.clipboard.writeText = async t => { taken.push(t); }")
    commands = tab.run("[...document.querySelectorAll('pre code')].map(c => c.textContent)")
    assert any("diag.keys" in command for command in commands)
    tab.run("document.querySelectorAll('.copy').forEach(button => button.click())")
    copied = tab.run("taken")
    tables = re.findall(r'download="[^"]+\.(?:csv|tex)" href="data:[^,]+,([^"]+)"', pages["keys"])
    texts = [base64.b64decode(data).decode() for data in tables]
    assert sorted(copied) == sorted([*commands, *texts]) and any("␣Apple" in t for t in texts)
    assert tab.run("document.querySelector('.copy').textContent") == "Copied"
    assert tab.complaints() == []


def test_a_page_is_read_without_its_script(
    tab: browser.Tab, pages: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    path.write_text(pages["group"], encoding="utf-8")
    text = "document.querySelector('main').innerText.length"
    tab.open(path, 1000)
    with_script = tab.run(text)
    assert tab.run("document.querySelectorAll('button').length") > 10
    tab.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.open(path, 1000)
        assert tab.run("document.querySelectorAll('button').length") == 0
        assert tab.run("document.querySelectorAll('.riskiest > tbody > tr').length") == 200
        assert tab.run(text) > 0.9 * with_script
        assert tab.complaints() == [] == tab.requests()
    finally:
        tab.send("Emulation.setScriptExecutionDisabled", value=False)


def test_print_cuts_nothing_off(tab: browser.Tab, pages: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    beyond = """[...document.querySelectorAll('table, svg, pre')].filter(element =>
      element.getBoundingClientRect().right > innerWidth + 1).length"""
    hidden = """[...document.querySelectorAll('details')].filter(element =>
      !element.closest('td') && element.getBoundingClientRect().height < 40).length"""
    for name in KINDS:
        path.write_text(pages[name], encoding="utf-8")
        tab.open(path, 700)  # A4 less its margins
        if name == "sequence":
            assert tab.run(hidden)  # the control: on a screen they are closed
        tab.send("Emulation.setEmulatedMedia", media="print", features=[])
        assert tab.run(beyond) == tab.run(hidden) == 0, name
