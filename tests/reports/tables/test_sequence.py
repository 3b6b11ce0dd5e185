"""What is said of a list of edits, the same in text, page and Markdown."""

from __future__ import annotations

import html
from typing import Any

from reports.figures import sequence as figures
from reports.markdown import render as markdown
from reports.pages.page import render
from reports.tables import sequence
from reports.text.sequence import show
from tests.reports.reading import printed, words

Document = dict[str, Any]


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


def test_every_form_names_the_culprit(made: Document) -> None:
    told = " ".join((sequence.culprit(made) or "").split())
    assert made["performance"]["culprit"]["subject"] in told
    page = html.unescape(words(render(made)))
    for form in (
        page,
        " ".join(markdown(made).replace("\\", "").replace("*", "").split()),
        " ".join(printed(show, made, width=400).split()),
    ):
        assert told in form
        assert f"it had broken after {made['collapse_at']}" in form
        assert f"Edit {made['collapse_at']} (" in form  # in the order given: one count
    assert page.count("broke the model") == 1
    made["performance"]["culprit"] = None
    assert sequence.culprit(made) is None


def test_an_edit_is_shown_with_what_is_expected_of_it(forecast: Document) -> None:
    edit = forecast["edits"][0] | {"damage": 2.87, "first_tokens": 3.18}
    shown = [cell.replace("\xa0", " ") for cell in sequence.alone(edit | {"expected_share": 0.25})]
    assert shown == ["71.8 % (≤ 287 %)", "79.5 % (≤ 318 %)"]
    edit.pop("expected_share", None)  # as documents of earlier versions are
    for same in (edit, edit | {"expected_share": 1.0}):
        assert [cell.replace("\xa0", " ") for cell in sequence.alone(same)] == ["287 %", "318 %"]
    assert sequence.alone(edit | {"damage": None, "first_tokens": None}) == ("–", "–")
