"""The page of a list of edits."""

from __future__ import annotations

from typing import Any

import pytest

from reports.markdown import render as markdown
from reports.pages.page import render
from reports.text.sequence import show
from tests.reports.reading import HOSTILE, parse, printed, words

Document = dict[str, Any]


def test_texts_without_facts_are_said_alone(made: Document) -> None:
    assert "; recall of" in words(render(made))
    del made["known_facts"]
    for form in (words(render(made)), markdown(made), printed(show, made)):
        assert "Perplexity, token" in form and "; recall of" not in form


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_from_outside_stay_texts(text: str, made: Document) -> None:
    made["edits"][0]["subject"] = made["dataset"]["name"] = text
    made["checkpoints"][0]["text"] = made["performance"]["culprit"]["subject"] = text
    made["refused"] = [{"index": 0, "reason": text}]
    tags = parse(render(made))
    assert tags.opened.count("script") == 1
    assert "\x1b" not in printed(show, made)
    assert "<script>" not in markdown(made)


def test_what_the_bare_prompt_receives_stands_beside_each_edit(forecast: Document) -> None:
    forecast["edits"][0]["response"] = -0.0346
    for form in (words(render(forecast)), markdown(forecast)):
        assert "φ, bare prompt" in form
        assert "−3.46\xa0%" in form or "−3.46 %" in form
    assert "response" not in forecast["edits"][1]  # as in documents of earlier versions
