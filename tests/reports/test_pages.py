"""The pages: what they show, what they refuse, and what a browser makes of them."""

from __future__ import annotations

import copy
import html
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from diag.covariance import second_moments
from diag.judgement import limits
from diag.keys import diagnose
from diag.mathematics.plane import plane
from diag.screen import screen
from diag.verify import verify_list
from probes import bundled
from probes.first_token import probe
from probes.request.cases import from_record
from probes.second_moment.moment import SecondMoment
from reports import __main__ as reports_main
from reports.document import ReportError, read
from reports.figures import canvas
from reports.figures import many as many_figures
from reports.markdown import render as markdown
from reports.numbers import number
from reports.pages.page import render
from reports.tables import terms
from reports.tables.edits import edits
from tests import browser
from tests.reports.test_documents import HOSTILE, parse
from tests.test_evidence import EVIDENCE

ROOT = Path(__file__).parents[2]
SECTIONS = ("lookup", "equation", "plane", "first", "why", "did", "instead", "findings", "repeat")
Document = dict[str, Any]


@pytest.fixture(scope="module")
def screened(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Document]:
    """Every fifth bundled fact, screened."""
    folder = tmp_path_factory.mktemp("screened")
    (folder / "facts.jsonl").write_text(
        "".join(json.dumps(fact) + "\n" for fact in bundled.facts()[::5]), encoding="utf-8"
    )
    result = screen(str(folder / "facts.jsonl"), str(folder / "table.parquet"))
    (folder / "screen.json").write_text(result.to_json(), encoding="utf-8")
    (folder / "own.html").write_text(result.to_html(), encoding="utf-8")
    assert "first token" in repr(result.plot_plane())
    return folder / "screen.json", read(str(folder / "screen.json"))


def _extreme(screened: tuple[Path, Document], verdict: str) -> Document:
    """The diagnosis of a fact that screening judged so."""
    row = next(row for row in screened[1]["rows"] if row["verdict"] == verdict)
    found = diagnose(row["subject"], row["prompt"])
    assert found.verdict == verdict
    return dict(found.document)


@pytest.fixture(scope="module")
def collapse(screened: tuple[Path, Document]) -> Document:
    return _extreme(screened, "collapse_risk")


@pytest.fixture(scope="module")
def safe(screened: tuple[Path, Document]) -> Document:
    return _extreme(screened, "safe")


@pytest.fixture(scope="module")
def compared(collapse: Document) -> Document:
    """Four edits that were made, the first that of ``collapse``."""
    facts = bundled.facts()
    asked = (collapse["request"]["subject"], collapse["request"]["prompt"])
    same = next(fact for fact in facts if (fact["subject"], fact["prompt"]) == asked)
    cases = [from_record(fact) for fact in (same, facts[0], facts[-1], facts[-2])]
    return dict(verify_list(cases, texts=bundled.texts()[:5], n_prefixes=6).document)


@pytest.fixture(scope="module")
def made(compared: Document) -> Document:
    """The same edit as ``collapse``, performed: the document of one edit."""
    of_lists = ("edits", "refused", "groups", "summary")
    head = {name: value for name, value in compared.items() if name not in of_lists}
    return head | copy.deepcopy(compared["edits"][0])


@pytest.fixture(scope="module")
def group() -> Document:
    """Two hundred edits of the bundled model, as benchmarks/verify_bundled.py made them."""
    return read(str(EVIDENCE))


@pytest.fixture(scope="module")
def pages(
    collapse: Document, safe: Document, made: Document, group: Document,
    screened: tuple[Path, Document], tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:  # fmt: skip
    output = str(tmp_path_factory.mktemp("moments") / "c-{layer}.safetensors")
    moments = second_moments(layers=[0, 1], max_tokens=20_000, output=output)
    return {
        "collapse": render(collapse), "safe": render(safe), "made": render(made),
        "both": render(collapse, made), "group": render(group), "screened": render(screened[1]),
        "moments": moments.to_html(),
    }  # fmt: skip


def ids(html: str) -> list[str]:
    return re.findall(r'\sid="([^"]+)"', html)


def words(html: str) -> str:
    return " ".join(" ".join(parse(html).text).split())


def test_a_page_argues_in_order_and_refers_only_to_what_is_there(
    pages: dict[str, str], made: Document
) -> None:
    page = pages["both"]
    sections = re.findall(r'<section aria-labelledby="([\w-]+)"', page)
    assert tuple(sections) == SECTIONS
    names = ids(page)
    assert len(names) == len(set(names))
    referred = set(re.findall(r'(?:href="#|url\(#|aria-labelledby=")([\w-]+)', page))
    assert referred <= set(names)
    assert parse(page).opened.count("svg") >= 7
    said = words(page)
    for arm in made["arms"].values():
        assert number(arm["perplexity"]["after"]) in said
        assert " ".join(arm["efficacy"]["generated"].split()) in said
    for term in terms.of_edit(made):
        assert number(term.denominator) in said


def test_what_was_not_measured_is_said_with_the_command_that_measures_it(
    pages: dict[str, str],
) -> None:
    only_keys, only_made = pages["collapse"], pages["made"]
    assert "python -m diag.verify --model bundled" in words(only_keys)
    assert "python -m diag.keys --model bundled" in words(only_made)
    both = words(pages["both"])
    for page, other in ((only_keys, "did"), (only_made, "plane")):
        section = re.search(rf'<section aria-labelledby="{other}">(.*?)</section>', page, re.DOTALL)
        assert section and "Not measured" in section[1]
    assert both.count("Not measured") == 1  # interventions on the first token


def test_a_model_that_has_not_collapsed_is_not_called_unharmed(made: Document) -> None:
    unbroken = made | {"collapsed": dict.fromkeys(made["collapsed"], False)}
    page = words(render(unbroken))
    assert "Not collapsed" in page and "What to do instead" in page
    assert "can make this edit" not in page and "intact" not in page.lower()
    broken = words(render(made | {"collapsed": made["collapsed"] | {"rome": True}}))
    assert "Not collapsed" not in broken  # the control


def test_edits_not_made_come_with_commands_whose_files_there_are(
    screened: tuple[Path, Document],
) -> None:
    document = screened[1] | {"command": "python -m diag.screen edits.json -o table.parquet"}
    page = words(render(document | {"riskiest_file": None}))
    assert "-o table.parquet --riskiest riskiest.jsonl" in page
    assert "diag.verify --edits riskiest.jsonl" in page
    page = words(render(document | {"riskiest_file": "my own.jsonl"}))
    assert "--riskiest riskiest.jsonl" not in page
    assert "diag.verify --edits 'my own.jsonl'" in html.unescape(page)


def test_results_about_different_edits_are_not_put_together(
    collapse: Document, made: Document, group: Document, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for where, name in (("request", "prompt"), ("site", "layer"), ("model", "fingerprint")):
        other = copy.deepcopy(made)
        other[where][name] = "{} is" if name == "prompt" else 99
        with pytest.raises(ReportError, match="different"):
            render(collapse, other)
    with pytest.raises(ReportError, match="a page shows one result"):
        render(collapse, group)
    saved = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, document in zip(saved, (collapse, collapse), strict=True):
        path.write_text(json.dumps(document), encoding="utf-8")
    assert reports_main.main([*map(str, saved), "-o", str(tmp_path / "o.html")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_rendering_needs_no_torch_and_gives_the_same_bytes(
    collapse: Document, group: Document, pages: dict[str, str], tmp_path: Path
) -> None:
    saved = [tmp_path / "keys.json", tmp_path / "group.json"]
    for path, document in zip(saved, (collapse, group), strict=True):
        path.write_text(json.dumps(document), encoding="utf-8")
    script = (
        "import sys; from reports.__main__ import main\n"
        "for path in sys.argv[1:]: assert main([path, '-o', path + '.html']) == 0\n"
        "bad = {'torch', 'transformers', 'diag', 'probes', 'matplotlib.pyplot'} & set(sys.modules)"
        # seaborn imports pyplot by itself; this package does not
        "\nassert bad <= {'matplotlib.pyplot'}, bad"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, saved)], cwd=ROOT, capture_output=True,
        text=True, env={"PYTHONHASHSEED": "7", "PATH": "/usr/bin:/bin", "TZ": "Asia/Tokyo"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for path, name in zip(saved, ("collapse", "group"), strict=True):
        assert Path(f"{path}.html").read_bytes() == pages[name].encode()


def test_figures_take_their_colours_from_the_page(pages: dict[str, str]) -> None:
    style = (ROOT / "reports/pages/templates/style.css").read_text(encoding="utf-8")
    for page in pages.values():
        assert not any(placeholder in page for placeholder in canvas.VARIABLES)
        used = set(re.findall(r"var\((--[\w-]+)\)", page))
        light, dark = style.split("@media (prefers-color-scheme: dark)", 1)
        for name in used:
            assert f"{name}:" in light and f"{name}:" in dark.split("\n}\n", 1)[0]


def _contrast(a: str, b: str) -> float:
    """WCAG's contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_every_text_colour_can_be_read_in_light_dark_and_print() -> None:
    assert _contrast("#000", "#ffffff") == pytest.approx(21)
    assert _contrast("#777777", "#fff") < 4.5  # the control
    style = (ROOT / "reports/pages/templates/style.css").read_text(encoding="utf-8")
    schemes = [dict(re.findall(r"(--[\w-]+): (#\w+)", part)) for part in style.split("@media ")]
    schemes = [colours for colours in schemes if colours]
    assert len(schemes) == 3
    for colours in schemes:
        for name in set(colours) - {"--paper", "--soft", "--line"}:
            for paper in ("--paper", "--soft"):
                assert _contrast(colours[name], colours[paper]) >= 4.5, (name, paper, colours)


def test_split_is_exact_and_the_plane_shows_the_denominators() -> None:
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(6, 8, generator=generator, dtype=torch.float64)
    moment = SecondMoment.identity(8)
    bare, mean = keys[0], keys.mean(0)
    placed = plane(keys, moment)
    x, y = placed["unprefixed"]
    assert x * mean.norm() == pytest.approx(float(bare @ mean), rel=1e-3)
    assert (x * x + y * y) ** 0.5 == pytest.approx(float(bare.norm()), rel=1e-3)
    assert placed["mean"] == [pytest.approx(float(mean.norm()), rel=1e-3), 0.0]
    assert len(placed["prefixed"]) == 5
    assert plane(keys[:1], moment)["unprefixed"][1] == 0.0  # one context: the keys are one
    made = [
        terms.Terms(v, d, 1, None, None, None, True)
        for v, d in (
            ("rome", float(bare @ mean)), ("c_rome", float(mean @ mean)),
            ("p_rome", float(bare @ bare)),
        )
    ]  # fmt: skip
    found = terms.split(made)
    assert found is not None
    assert found.length * found.cosine == pytest.approx(found.rho)
    assert found.length == pytest.approx(float(bare.norm() / mean.norm()))


def test_limits_drawn_are_those_of_the_verdict(
    compared: Document, screened: tuple[Path, Document]
) -> None:
    for document in (compared, screened[1], read(screened[1]["table"])):
        assert document["limits"] == limits.of_verdicts()
        drawn = many_figures.damage(edits(document), document["limits"])
        assert drawn and f"collapse {limits.DAMAGE_COLLAPSE.value:g}" in drawn
        moved = many_figures.damage(edits(document), {"damage_collapse": 0.987})
        assert moved and "collapse 0.987" in moved and "safe below" not in moved


def test_five_thousand_screened_edits_fit_and_the_riskiest_stand_first(
    screened: tuple[Path, Document], tmp_path: Path
) -> None:
    rows = [dict(row) for row in screened[1]["rows"]]
    many = [rows[i % len(rows)] | {"row": i} for i in range(5000)]
    many[17] = many[17] | {"error": "line 18: no subject", "verdict": None}
    pq.write_table(pa.Table.from_pylist(many), tmp_path / "many.parquet")
    page = render(read(str(tmp_path / "many.parquet")))
    assert len(page.encode()) < 5_000_000
    parse(page)
    said = words(page)
    assert "4,999 edits" in said
    assert "row 17: line 18: no subject" in said
    body = page.split('<table class="riskiest">', 1)[1].split("<tbody>", 1)[1]
    shown = [
        float(x)
        for x in re.findall(r'data-v="[^"]*">[^<]*</td>\n<td class="n" data-v="([^"]+)">', body)
    ]
    assert len(shown) == 500
    assert shown == sorted(shown, reverse=True)


def test_a_screening_makes_the_page_its_saved_files_make(
    screened: tuple[Path, Document], pages: dict[str, str]
) -> None:
    assert (screened[0].parent / "own.html").read_text(encoding="utf-8") == pages["screened"]


def test_the_command_finds_the_table_beside_its_summary(
    screened: tuple[Path, Document], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = json.loads(screened[0].read_text(encoding="utf-8"))
    table = Path(moved["table"])
    moved["table"] = "/nowhere/" + table.name
    (tmp_path / "s.json").write_text(json.dumps(moved), encoding="utf-8")
    assert reports_main.main([str(tmp_path / "s.json"), "-o", str(tmp_path / "o.html")]) == 2
    assert "cannot read the table" in capsys.readouterr().err
    (tmp_path / table.name).write_bytes(table.read_bytes())
    assert reports_main.main([str(tmp_path / "s.json"), "-o", str(tmp_path / "o.html")]) == 0
    assert reports_main.main([str(tmp_path / "s.json")]) == 0
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    assert reports_main.main([str(tmp_path / "other.parquet"), "-o", str(tmp_path / "p.html")]) == 2
    assert "no table of diag.screen" in capsys.readouterr().err


def test_text_from_outside_stays_text_in_a_table(group: Document) -> None:
    hostile = copy.deepcopy(group)
    texts = (*HOSTILE, "</script><script>alert(1)</script>", "a | b\n| c |")
    hostile["edits"] = hostile["edits"][: len(texts)]
    hostile["projections"] = None  # of the edits that are left out
    for text, edit in zip(texts, hostile["edits"], strict=True):
        edit["request"] |= {"subject": text, "prompt": text[:9] + "{} is", "target_new": text}
        edit["site"]["token"] = text
        for arm in edit["arms"].values():
            arm["efficacy"]["generated"] = text
    hostile["refused"] = [{"index": 9, "reason": text} for text in texts]
    page = render(hostile)
    tags = parse(page)
    assert "img" not in tags.opened
    assert page.count("<script") == 1  # the page's own, which its policy names by digest
    for text in texts:
        assert text in "".join(tags.text)
    told = markdown(hostile)
    assert "<script" not in told.replace("\\<script", "")
    for line in told.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (6, 8)


@pytest.fixture(scope="module")
def probes() -> Document:
    """First-token probes of a few subjects of the bundled model."""
    return dict(probe(n_subjects=12, n_prefixes=5, pairs=1).document)


def test_first_token_probes_explain_an_edit_and_stand_alone(
    collapse: Document, made: Document, probes: Document, tab: browser.Tab, tmp_path: Path
) -> None:
    probes = copy.deepcopy(probes)
    probes["findings"][0]["message"] = "They vary by <i>little</i>."
    page = render(collapse, made, probes)
    assert "Not measured" not in page
    alone = render(probes)
    for rendered in (page, alone):
        said = words(rendered)
        assert "They vary by <i>little</i>." in said
        for effect in probes["interventions"]["effects"]:
            assert effect["name"] in said
            if effect["reason"]:
                assert f"does not apply: {effect['reason']}" in said
        assert "i" not in parse(rendered).opened
        assert len(ids(rendered)) == len(set(ids(rendered)))
        assert "t-SNE, first coordinate" in rendered  # where the keys lie
    for title in ("How the keys differ", "Attention sinks"):
        assert title in words(alone)
    text = markdown(collapse, probes)
    assert "later position" in text and "<i>" not in text.replace("\\<i\\>", "")
    assert "ordinary first" in markdown(probes)
    other = copy.deepcopy(probes)
    other["site"]["layer"] += 1
    with pytest.raises(ReportError, match="another block"):
        render(collapse, other)
    path = tmp_path / "page.html"
    for rendered in (page, alone):
        path.write_text(rendered, encoding="utf-8")
        tab.open(path, 400)
        assert tab.complaints() == [] and tab.requests() == []
        assert tab.run("document.documentElement.scrollWidth") <= 400


def test_markdown_holds_the_argument(collapse: Document, made: Document, tmp_path: Path) -> None:
    text = markdown(collapse, made)
    for part in ("# Collapse risk", "## The update equation", "## What the four edits did"):
        assert part in text
    assert number(collapse["damage"]["rome"]["relative_bound"]) in text
    assert "Not measured" in markdown(collapse)
    saved = tmp_path / "k.json"
    saved.write_text(json.dumps(collapse), encoding="utf-8")
    assert reports_main.main([str(saved), "-o", str(tmp_path / "k.md")]) == 0
    assert (tmp_path / "k.md").read_text(encoding="utf-8") == markdown(collapse)


def test_results_plot_themselves(tmp_path: Path) -> None:
    result = diagnose("Apple", "{} was founded by", prefixes=["I think. ", "The day. "])
    picture = result.plot_plane()
    assert "rome-diagnosis" in picture._repr_html_()
    result.plot_split().save(str(tmp_path / "split.svg"))
    saved = (tmp_path / "split.svg").read_text(encoding="utf-8")
    assert saved.startswith("<svg xmlns=") and "var(" not in saved
    assert "k_u, length" in saved  # text is text
    with pytest.raises(ReportError, match="not measured"):
        diagnose("Apple", "{} is", second_moment="identity", n_prefixes=2).plot_terms()


@pytest.fixture(scope="module")
def tab() -> Iterator[browser.Tab]:
    path = browser.found()
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(browser.NAMES)} is installed")
    with browser.browser(path) as opened:
        yield opened


@pytest.mark.parametrize("name", ["collapse", "safe", "both", "group", "screened", "moments"])
def test_a_browser_opens_the_page_without_complaint(
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
        assert tab.run("document.querySelectorAll('section > h2').length") == sections >= 3
        drawn = "[...document.querySelectorAll('svg')].every(s => s.getBBox().width > 100)"
        assert tab.run(drawn) is True


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


COLUMN = """(n) => [...document.querySelectorAll('.riskiest > tbody > tr')]
  .filter((row) => !row.hidden).map((row) => row.cells[n].dataset.v ?? row.cells[n].textContent)"""


def test_the_table_sorts_filters_and_opens(
    tab: browser.Tab, pages: dict[str, str], group: Document, tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    path.write_text(pages["group"], encoding="utf-8")
    tab.open(path, 1440)

    def column(n: int) -> list[str]:
        found: list[str] = tab.run(f"({COLUMN})({n})")
        return found

    def click(n: int) -> str:
        head = f"document.querySelectorAll('.riskiest > thead th')[{n}]"
        tab.run(f"{head}.querySelector('button').click()")
        return str(tab.run(f"{head}.getAttribute('aria-sort')"))

    before = [float(x) for x in column(5)]
    assert len(before) == 200 and before == sorted(before, reverse=True)
    assert click(3) == "ascending"
    rho = [float(x) for x in column(3)]
    assert rho == sorted(rho) and len(set(rho)) > 1
    assert click(3) == "descending"
    assert [float(x) for x in column(3)] == sorted(rho, reverse=True)

    def texts(edit: Document) -> str:
        request = edit["request"]
        prompt = request["prompt"].replace("{}", request["subject"])
        return f"{prompt} {edit['site']['token']}".lower()

    wanted = "Was born"
    found = [edit for edit in group["edits"] if wanted.lower() in texts(edit)]
    first = [edit for edit in found if edit["site"]["index"] == 0]
    assert 0 < len(first) < len(found) < 200  # the filters have something to do
    tab.run(f"""(() => {{ const s = document.querySelector('.controls input[type=search]');
      s.value = '{wanted}'; s.dispatchEvent(new Event('input')); }})()""")
    assert sorted(column(0)) == sorted(edit["request"]["subject"] for edit in found)
    status = "document.querySelector('[role=status]').textContent"
    assert tab.run(status) == f"{len(found)} of 200 shown"
    tab.run("document.querySelector('.controls input[type=checkbox]').click()")
    assert set(column(2)) == {"0"} and len(column(2)) == len(first)

    tab.run("document.querySelector('.riskiest tbody tr:not([hidden]) summary').click()")
    opened = tab.run("document.querySelector('.riskiest details[open]').innerText")
    assert "Perplexity" in opened and "python -m diag.keys" in opened
