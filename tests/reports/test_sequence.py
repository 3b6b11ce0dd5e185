"""A list of edits as text, page and Markdown: the forecast, what was measured, the culprit."""

from __future__ import annotations

import html
from typing import Any

import pytest

from diag.sequence.result import Trajectory
from reports.figures import sequence as figures
from reports.markdown import render as markdown
from reports.pages.page import render
from reports.tables import sequence
from reports.text.sequence import show
from rome_diagnosis.errors import UserError
from tests.documents import sample, with_tasks
from tests.reports.reading import HOSTILE, parse, printed, words

Document = dict[str, Any]


@pytest.fixture
def forecast() -> Document:
    """A list that was not made."""
    return sample("sequence")


@pytest.fixture
def performed() -> Document:
    """One that was, until it broke the model."""
    return sample("sequence_performed")


def test_texts_without_facts_are_said_alone(performed: Document) -> None:
    assert "; recall of" in words(render(performed))
    del performed["known_facts"]
    for form in (words(render(performed)), markdown(performed), printed(show, performed)):
        assert "Perplexity, token" in form and "; recall of" not in form


def test_every_form_says_the_same_of_a_forecast(forecast: Document) -> None:
    (first, *_) = forecast["forecast"]["dangerous"]
    forms = (
        html.unescape(words(render(forecast))),
        " ".join(markdown(forecast).replace("\\", "").replace("*", "").split()),
        " ".join(printed(show, forecast, width=400).split()),
    )
    for form in forms:
        assert sequence.headline(forecast) in form
        for sentence in forecast["advice"]:
            assert sentence in form
        assert first["subject"] in form and "record 5" in form  # its index is 4
        assert " ".join((sequence.two_limits(forecast) or "").split()) in form
        assert "--perform" in form


def test_a_method_is_shown_with_what_it_is_tuned_with(forecast: Document) -> None:
    own = forecast["editors"].pop(forecast["method"])
    forecast |= {"method": "memit_seq", "batch": 10, "parameters": {"weight": 512.0}}
    forecast |= {"command": None, "editors": {"memit_seq": own, "new": own}}
    assert "with MEMIT with history (λ = 512), 10 at a time: " in sequence.headline(forecast)
    assert [row[0] for row in sequence.reaches_by_editor(forecast)] == ["MEMIT+S", "new"]
    again = "--method memit_seq --order given --batch 10 --weight 512"
    page = html.unescape(words(render(forecast)))
    for form in (page, " ".join(printed(show, forecast, width=400).split())):
        assert again in form and sequence.headline(forecast) in form
    assert "edits 10 at a time" in page
    drawing = figures.damage(forecast)
    assert drawing is not None
    labels = [line.get_label() for line in drawing.figure().axes[0].lines]
    assert "MEMIT+S" in labels and "new" in labels


def test_every_form_names_the_culprit(performed: Document) -> None:
    told = " ".join((sequence.culprit(performed) or "").split())
    assert performed["performance"]["culprit"]["subject"] in told
    page = html.unescape(words(render(performed)))
    for form in (
        page,
        " ".join(markdown(performed).replace("\\", "").replace("*", "").split()),
        " ".join(printed(show, performed, width=400).split()),
    ):
        assert told in form
        assert f"it broke at {performed['collapse_at']}" in form
        assert f"Edit {performed['collapse_at']} (" in form  # in the order given: one count
    assert page.count("broke the model") == 1
    performed["performance"]["culprit"] = None
    assert sequence.culprit(performed) is None


def test_the_band_is_drawn_before_the_measured_curve(performed: Document) -> None:
    drawing = figures.damage(performed)
    assert drawing is not None
    axes = drawing.figure().axes[0]
    assert [line.get_label() for line in axes.lines].index("measured") > 0
    assert axes.collections[0].get_label() == "interval"
    measured = next(line for line in axes.lines if line.get_label() == "measured")
    assert list(measured.get_xdata()) == [
        point["edits"] for point in performed["checkpoints"] if point["damage_measured"]
    ]
    assert f"{len(performed['checkpoints'])} checkpoints" in drawing.alt


def test_what_was_not_measured_has_no_figure(forecast: Document) -> None:
    assert figures.perplexity(forecast) is None and figures.efficacy(forecast) is None
    result = Trajectory(forecast)
    with pytest.raises(UserError, match="was not measured"):
        result.plot_perplexity()
    assert "edits" in result.plot_damage().drawing.alt
    forecast["forecast"]["curve"] = []
    forecast["forecast"]["not_checked"] = "C is the identity"
    assert figures.damage(forecast) is None
    assert "C is the identity" in words(render(forecast))
    assert "could not be forecast" in sequence.headline(forecast)


def test_tasks_are_drawn_where_they_were_asked(performed: Document) -> None:
    assert figures.tasks(performed) is None
    with_tasks(performed)
    steps = len(performed["checkpoints"])
    drawn = figures.tasks(performed)
    assert drawn is not None
    assert f"of 2 tasks over edits, from 60 to {100 * (0.7 / steps + 0.5) / 2:.3g}" in drawn.alt
    assert "Scores in downstream tasks" in words(render(performed))
    lines = Trajectory(performed).plot_tasks().axes.lines
    assert [len(line.get_xdata()) for line in lines[:3]] == [steps + 1] * 3


def test_a_perplexity_beyond_all_numbers_is_left_out(performed: Document) -> None:
    performed["checkpoints"][-1] |= {"perplexity": None, "ratio": None, "ratio_interval": None}
    drawing = figures.perplexity(performed)
    assert drawing is not None
    line = drawing.figure().axes[0].lines[0]
    assert len(line.get_xdata()) == len(performed["checkpoints"]) - 1
    parse(render(performed))


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_from_outside_stay_texts(text: str, performed: Document) -> None:
    performed["edits"][0]["subject"] = performed["dataset"]["name"] = text
    performed["checkpoints"][0]["text"] = performed["performance"]["culprit"]["subject"] = text
    performed["refused"] = [{"index": 0, "reason": text}]
    tags = parse(render(performed))
    assert tags.opened.count("script") == 1
    assert "\x1b" not in printed(show, performed)
    assert "<script>" not in markdown(performed)


def test_no_name_of_the_legend_is_cut_off(forecast: Document) -> None:
    """With the many methods of MEMIT's family, too."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    for editors in (["rome", "c_rome"], ["emmet", "memit", "memit_seq", "pmet", "alphaedit"]):
        reach = next(iter(forecast["editors"].values()))
        document = forecast | {"editors": dict.fromkeys(editors, reach), "method": editors[0]}
        drawing = figures.damage(document)
        assert drawing is not None
        figure = drawing.figure()
        FigureCanvasAgg(figure).draw()
        box = figure.axes[0].get_legend().get_window_extent()
        assert box.y1 <= figure.bbox.y1 and box.x0 >= 0 and box.x1 <= figure.bbox.x1


def test_an_edit_is_shown_with_what_is_expected_of_it(forecast: Document) -> None:
    edit = forecast["edits"][0] | {"damage": 2.87, "first_tokens": 3.18}
    shown = [cell.replace("\xa0", " ") for cell in sequence.alone(edit | {"expected_share": 0.25})]
    assert shown == ["71.8 % (≤ 287 %)", "79.5 % (≤ 318 %)"]
    edit.pop("expected_share", None)  # as documents of earlier versions are
    for same in (edit, edit | {"expected_share": 1.0}):
        assert [cell.replace("\xa0", " ") for cell in sequence.alone(same)] == ["287 %", "318 %"]
    assert sequence.alone(edit | {"damage": None, "first_tokens": None}) == ("–", "–")


def test_curves_are_told_apart_without_colour(forecast: Document) -> None:
    drawing = figures.damage(forecast | {"checkpoints": []})
    assert drawing is not None
    lines = [line for line in drawing.figure().axes[0].lines if line.get_label()[0] != "_"]
    looks = {(line.get_linestyle(), line.get_marker(), line.get_linewidth()) for line in lines}
    assert len(looks) == len(lines) == 3


def test_what_the_bare_prompt_receives_stands_beside_each_edit(forecast: Document) -> None:
    forecast["edits"][0]["response"] = -0.0346
    for form in (words(render(forecast)), markdown(forecast)):
        assert "φ, bare prompt" in form
        assert "−3.46\xa0%" in form or "−3.46 %" in form
    assert "response" not in forecast["edits"][1]  # as in documents of earlier versions
