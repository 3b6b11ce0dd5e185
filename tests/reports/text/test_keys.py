"""A diagnosis in a terminal: fifteen lines of argument, and everything on request."""

from __future__ import annotations

from typing import Any

import pytest

from reports.numbers import number, percent
from reports.tables.verdicts import label
from reports.text import keys as keys_text
from tests.documents import sample
from tests.reports.reading import printed

Document = dict[str, Any]


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("name", ["keys", "keys_identity"])
def test_a_diagnosis_is_an_argument_of_fifteen_lines(name: str, width: int) -> None:
    document, sentence = (
        sample(name),
        "A sentence of sixty characters that says what this comes to. ",
    )
    document["summary"] = sentence * 30
    text = printed(keys_text.show, document, width=width)
    assert 10 <= len(text.splitlines()) <= 15
    sentences = text.count("sixty")
    assert sentences >= 1
    document["summary"] = sentence * sentences
    assert printed(keys_text.show, document, width=width) == text  # none is cut in two


def test_an_argument_says_what_its_verdict_rests_on(keys: Document) -> None:
    text = printed(keys_text.show, keys)
    denominators = keys["denominators"]
    for part in (
        label(keys["verdict"]).text.upper(), "Apple was founded by", "'Apple', index 0",
        *(number(denominators[name]) for name in ("rome", "c_rome", "p_rome", "ratio")),
        number(denominators["ratio_interval"][0]),
        number(keys["keys"]["whitened_cosine"]), percent(keys["damage"]["rome"]["relative_bound"]),
        "--verbose",
    ):  # fmt: skip
        assert part in text
    assert "first_token_key" not in text


def test_verbose_shows_numbers_reasons_and_what_was_measured_with(keys: Document) -> None:
    text = " ".join(printed(keys_text.show, keys, verbose=True).split())
    assert "ROME as published" in text and "✗" in text and "✓" in text
    for finding in keys["findings"]:
        assert finding["id"] in text and " ".join(finding["message"].split())[:60] in text
    for row in keys["first_token"]["layers"]:
        assert number(row["key_norm_unprefixed"]) in text
    assert "condition number" in text and "--layer 1" in text


def test_safe_beside_a_failed_ratio_is_one_line_of_reasoning(keys: Document) -> None:
    for finding in keys["findings"]:
        finding["status"] = "fail" if finding["id"] == "ratio" else "pass"
    text = printed(keys_text.show, keys | {"verdict": "safe"}, verbose=True)
    assert "✗" not in text and "ratio explains how the update" in text
    assert "✗" in printed(keys_text.show, keys | {"verdict": "collapse_risk"}, verbose=True)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_verdict_is_never_without_its_reason(width: int) -> None:
    document = sample("keys")
    reason = "The reason, which is long enough to fill two lines of a terminal by itself, stands."
    document["summary"] = f"The verdict. {reason} " + "And more that does not fit. " * 40
    text = " ".join(printed(keys_text.show, document, width=width).split())
    assert f"The verdict. {reason}" in text
