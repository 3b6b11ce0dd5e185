"""Edits that were made to stay: text, Markdown and page say what was done and how to undo it."""

from __future__ import annotations

import html
from typing import Any

from diag.saved import record
from diag.saved.result import Applied
from reports.pages.page import render
from reports.text import apply as text
from tests.documents import sample
from tests.reports.reading import printed, words

Document = dict[str, Any]


def test_every_form_names_the_edits_what_the_model_says_and_the_way_back() -> None:
    document = sample("apply")
    page = " ".join(html.unescape(words(render(document))).split())
    note = record.note(document)
    terminal = " ".join(printed(text.show, document).split())
    for edit in document["edits"]:
        request = edit["request"]
        for shown in (page, note, terminal):
            assert request["prompt"].replace("{}", request["subject"]) in shown
            assert request["target_new"] in shown
        assert " ".join(edit["says"]["prefixed"]["after"].split()) in page
    for shown in (page, note, terminal):
        assert "python -m diag.apply --undo" in shown and "The model is intact" in shown
        assert "only when some text precedes the prompt" in shown
        assert "99\u00a0% (95 to 100) of 100 other facts" in shown.replace("99 %", "99\u00a0%")
    assert Applied(document, "edited").to_html() == render(document)


def test_what_was_not_asked_is_not_invented() -> None:
    document = sample("apply")
    for edit in document["edits"]:
        edit["needs_prefix"] = False
        for name in ("after", "says", "locality"):
            edit.pop(name)
    document["recall"] = None
    page = words(render(document))
    assert "not asked" in page and "recalled" not in page
    assert "What the model says" not in page and "precedes the prompt" not in page
    assert "What the model says" in words(render(sample("apply")))  # the control


def test_an_edit_that_may_not_be_answered_is_named_everywhere() -> None:
    document = sample("apply")
    for edit in document["edits"]:
        edit["target_warning"] = "v_u lies far away"
    more = f"same of {len(document['edits']) - 1} other edit"
    page = " ".join(html.unescape(words(render(document))).split())
    for shown in (page, record.note(document), " ".join(printed(text.show, document).split())):
        assert "v_u lies far away" in shown.replace("\\_", "_") and more in shown
    assert "far away" not in words(render(sample("apply")))


def test_edits_that_are_safe_alone_and_damage_together_are_explained() -> None:
    document = sample("apply")
    assert len(document["edits"]) > 1 and document["outcome"] == "intact"
    told = "Each edit was judged by itself"
    assert told not in words(render(document))
    document["outcome"] = "damaged"
    for shown in (words(render(document)), record.note(document), printed(text.show, document)):
        assert told in shown
