"""Figures: their colours, what they refuse, and what they are outside a page."""

from __future__ import annotations

import copy
import html
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from reports import colours, pdf
from reports.command import main
from reports.document import read_document
from reports.figures import many
from reports.figures import picture as pictures
from reports.figures.canvas import Drawing
from reports.style import style
from reports.tables import editors, terms
from reports.tables.edits import edits
from rome_diagnosis import limits
from rome_diagnosis.errors import UserError
from tests.documents import EVIDENCE, FOLDER, sample
from tests.reports.conftest import PAGES

ROOT = Path(__file__).parents[2]
Document = dict[str, Any]


def test_figures_take_their_colours_from_the_page(pages: dict[str, str]) -> None:
    sheet = style()
    light, dark = sheet.split("@media screen and (prefers-color-scheme: dark)", 1)
    for name in ("keys", "all", "group", "moments", "sequence"):
        used = set(re.findall(r"var\((--[\w-]+)\)", pages[name]))
        assert {"--ink", "--rome", "--c-rome"} <= used
        for variable in used - {"--editor"}:
            assert f"{variable}:" in light and f"{variable}:" in dark.split("\n}\n", 1)[0]
        for svg in re.findall(r"<svg.*?</svg>", pages[name], re.DOTALL):
            tags = "".join(re.findall(r"<[^>]+>", svg))
            assert not re.search(r"#[0-9a-f]{6}\b", tags)  # no colour of its own


def contrast(a: str, b: str) -> float:
    """WCAG's contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_every_text_colour_can_be_read_in_light_and_dark() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") < 4.5  # the control
    for scheme in (colours.light(), colours.dark()):
        assert set(scheme) >= {shown.style for shown in editors.looks()}
        for name in set(scheme) - {"paper", "soft", "line"}:
            for paper in ("paper", "soft"):
                assert contrast(scheme[name], scheme[paper]) >= 4.5, (name, paper, scheme)


def test_split_is_exact(keys: Document) -> None:
    split = terms.split(terms.of_keys(keys))
    assert split is not None
    assert split.length * split.cosine == pytest.approx(split.rho)
    assert split.rho == pytest.approx(keys["denominators"]["ratio"])
    assert split.length == pytest.approx(keys["keys"]["whitened_length_ratio"])
    assert split.cosine == pytest.approx(keys["keys"]["whitened_cosine"])
    del keys["damage"]["p_rome"]
    assert terms.split(terms.of_keys(keys)) is None


def test_limits_drawn_are_those_of_the_document(evidence: Document) -> None:
    found = edits(evidence)
    value = limits.DAMAGE_COLLAPSE.value
    drawn = many.damage(found, {"damage_collapse": value, "damage_safe": 0.2})
    assert drawn and f"collapse {100 * value:g}\u00a0%" in drawn.__html__()
    moved = many.damage(found, {"damage_collapse": 0.987})
    assert moved
    svg = moved.__html__()
    assert "collapse 98.7\u00a0%" in svg and "safe below" not in svg


def test_an_svg_is_the_same_each_time_and_holds_text(keys: Document) -> None:
    drawing = pictures.of_edit("split", keys).drawing
    assert drawing.__html__() == drawing.__html__()
    assert "k_u, length" in drawing.__html__()  # text is text
    strange = Drawing("x", "<alt> & $", lambda axes: axes.set_title("#c24400 <b> $\\frac{"))
    svg = strange.__html__()
    assert "&lt;alt&gt; &amp; $" in svg and "#c24400 &lt;b&gt; $\\frac{" in svg


@pytest.mark.parametrize(
    ("suffix", "start"),
    [("pdf", b"%PDF"), ("png", b"\x89PNG"), ("svg", b"<?xml"), ("PDF", b"%PDF")],
)
def test_a_picture_is_saved_as_its_name_says(
    suffix: str, start: bytes, keys: Document, tmp_path: Path
) -> None:
    path = tmp_path / f"plane.{suffix}"
    for _ in range(2):
        pictures.of_edit("plane", keys).save(str(path))
        first = path.read_bytes()
    assert first.startswith(start)
    assert (b"<svg" in first) == (suffix == "svg")
    pictures.of_edit("plane", keys).save(str(path))
    assert path.read_bytes() == first  # no date in it


def test_what_cannot_be_saved_is_one_line(keys: Document, tmp_path: Path) -> None:
    picture = pictures.of_edit("terms", keys)
    for name in ("terms", "terms.docx", "terms."):
        with pytest.raises(UserError, match="must end in one of"):
            picture.save(str(tmp_path / name))
    with pytest.raises(UserError, match="cannot write"):
        picture.save(str(tmp_path / "nowhere" / "terms.pdf"))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="not measured"):
        pictures.of_edit("terms", sample("keys_identity"))


def test_pictures_are_axes(keys: Document, tmp_path: Path) -> None:
    picture = pictures.of_edit("terms", keys)
    assert picture.axes.has_data() and picture.figure.axes == [picture.axes]
    assert "rome-diagnosis" in str(picture._repr_html_())
    picture.axes.set_title("A title of one's own")
    assert "A title of one&#39;s own" in str(picture._repr_html_()) or "one's own" in str(
        picture._repr_html_()
    )
    assert repr(picture).startswith("Picture(")

    figure = Figure()
    left, right = figure.subplots(1, 2)
    given = pictures.of_edit("split", keys, ax=right)
    assert given.axes is right and right.has_data() and not left.has_data()
    assert given._repr_html_() is None  # the figure shows itself
    given.save(str(tmp_path / "both.png"))
    assert (tmp_path / "both.png").stat().st_size > 1000


EVERY = {
    "of_edit": (("terms", "split", "plane"), "keys"),
    "of_many": (("ratio", "damage", "plane", "perplexity", "closed_form", "keys_pca"), "evidence"),
    "of_first_tokens": (("shares", "recovery", "keys_tsne", "directions_pca"), "first_token"),
    "of_document": (("damage", "stream"), "sweep"),
}


@pytest.mark.parametrize("maker", EVERY)
def test_every_figure_can_be_drawn_on_axes(maker: str, evidence: Document) -> None:
    names, document = EVERY[maker]
    source = evidence if document == "evidence" else sample(document)
    for name in names:
        axes = Figure().subplots()
        getattr(pictures, maker)(name, source, ax=axes)
        assert axes.has_data(), name


def test_rendering_needs_no_torch_and_gives_the_same_bytes(
    pages: dict[str, str], tmp_path: Path
) -> None:
    pairs = (("keys", "keys"), ("edit", "edit"), ("first_token", "first_token"))
    script = (
        "import sys; from reports.__main__ import main\n"
        "for path in sys.argv[2:]:\n"
        "    name = path.rsplit('/', 1)[1].split('.')[0]\n"
        "    assert main([path, '-o', f'{sys.argv[1]}/{name}.html']) == 0\n"
        "bad = {'torch', 'transformers', 'diag', 'probes', 'matplotlib.pyplot'} & set(sys.modules)"
        "\nassert bad <= {'matplotlib.pyplot'}, bad"  # which seaborn imports
    )
    paths = [str(FOLDER / f"{name}.json.gz") for name, _ in pairs]
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), *paths], cwd=ROOT, capture_output=True,
        text=True, env={"PYTHONHASHSEED": "7", "PATH": "/usr/bin:/bin", "TZ": "Asia/Tokyo"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name, page in pairs:
        assert (tmp_path / f"{name}.html").read_text(encoding="utf-8") == pages[page]


@pytest.mark.parametrize("name", PAGES)
def test_every_figure_of_a_page_is_a_page_of_one_pdf(
    name: str, pages: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "figures.pdf"
    sources = [str(EVIDENCE if part == "evidence" else FOLDER / f"{part}.json.gz")
               for part in PAGES[name]]  # fmt: skip
    shown = re.findall(r'-alt">([^<]+)</title>', pages[name])
    drawn = pdf.of_page(*(read_document(path) for path in sources))
    assert [html.escape(drawing.alt) for drawing in drawn] == shown  # in the page's order
    if not shown:
        with pytest.raises(UserError, match="there is no figure"):
            main([*sources, "-o", str(path)])
        return
    assert main([*sources, "-o", str(path)]) == 0
    content = path.read_bytes()
    assert content.startswith(b"%PDF") and b"CreationDate" not in content
    assert len(re.findall(rb"/Type /Page\b", content)) == len(shown)


def test_shares_stand_where_the_document_has_them() -> None:
    cards, scores = sample("hardcases"), sample("tasks")
    axes = Figure().subplots()
    drawn = pictures.of_document("broken", cards, ax=axes)
    hard = cards["groups"]["hard"]["performed"]
    (line,) = (line for line in axes.lines if line.get_label() == "hard edits")
    assert sorted(line.get_xdata()) == sorted(100 * of["mean"] for of in hard.values())
    ends = [tuple(line.get_xdata()) for line in axes.lines]
    assert (100 * hard["rome"]["low"], 100 * hard["rome"]["high"]) in ends
    assert "ROME" in drawn.drawing.alt
    assert pictures.of_document("scores", scores).axes.has_data()
    for group in cards["groups"].values():
        group["performed"] = None
    with pytest.raises(UserError, match="not measured"):
        pictures.of_document("broken", cards)


def test_an_edit_is_shown_before_and_after() -> None:
    document = sample("apply")
    axes = Figure().subplots()
    pictures.of_document("shares", document, ax=axes)
    lines = {line.get_label(): list(line.get_xdata()) for line in axes.lines}
    asked = [edit["after"]["prefixed"] for edit in document["edits"]]
    for when in ("before", "after"):
        expected = 100 * sum(own[f"p_{when}"] for own in asked) / len(asked)
        assert lines[f"{when} the edits"][1] == pytest.approx(expected)
        assert lines[f"{when} the edits"][-1] == 100 * document["recall"][when]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_few_edits_are_counted_in_whole_numbers_and_no_limit_is_cut(
    scale: float, evidence: Document
) -> None:
    evidence = {**evidence, "edits": copy.deepcopy(evidence["edits"][:3])}
    for i, edit in enumerate(evidence["edits"]):
        edit["arms"]["rome"]["damage"]["relative"] = scale * (1 + i)
    drawn = many.damage(edits(evidence), {"damage_safe": 0.1, "damage_collapse": 0.85})
    assert drawn
    figure = drawn.figure()
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    assert all(tick == int(tick) for tick in axes.get_yticks())
    frame = figure.bbox
    for text in axes.texts:
        box = text.get_window_extent()
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1, text.get_text()


def test_limits_beyond_every_edit_are_named_within_the_frame_and_apart(evidence: Document) -> None:
    evidence = {**evidence, "edits": copy.deepcopy(evidence["edits"][:3])}
    for i, edit in enumerate(evidence["edits"]):
        for arm in edit["arms"].values():
            arm["damage"]["relative"], arm["perplexity"]["ratio"] = 0.01 * (1 + i), 1.0 + i
    drawn = many.perplexity(edits(evidence), 10.0, {"damage_collapse": 0.85})
    assert drawn
    figure = drawn.figure()
    FigureCanvasAgg(figure).draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 2 and not boxes[0].overlaps(boxes[1])
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes)
