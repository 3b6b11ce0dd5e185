"""The page of one edit: what it argues, what it says is missing, and what it refuses."""

from __future__ import annotations

import re
from typing import Any

import pytest

from reports.numbers import number, percent
from reports.pages.page import fragment, render
from reports.tables import terms
from reports.tables.verdicts import label
from reports.text.keys import show
from rome_diagnosis.errors import UserError
from tests.reports.reading import ids, parse, printed, words

SECTIONS = (
    "lookup", "equation", "plane", "first", "why", "did", "instead", "findings", "unmeasured",
    "repeat",
)  # fmt: skip
Document = dict[str, Any]


def test_a_page_is_complete_and_says_what_was_measured(keys: Document) -> None:
    page = render(keys)
    tags = parse(page)
    assert tags.opened.count("main") == tags.opened.count("h1") == 1
    assert not {"link", "form", "base"} & set(tags.opened)
    assert tags.opened.count("script") == 1  # whose digest the policy names
    text = words(page)
    for part in (
        label(keys["verdict"]).text, "Apple", "␣Apple", keys["command"],
        number(keys["denominators"]["rome"]), number(keys["denominators"]["c_rome"]),
    ):  # fmt: skip
        assert part in text
    assert " ".join(keys["summary"].split()) in text
    assert page == render(keys)
    assert parse(fragment(keys)).opened.count("html") == 0


def test_a_page_argues_in_order_and_refers_only_to_what_is_there(
    pages: dict[str, str], performed: Document
) -> None:
    page = pages["both"]
    assert tuple(re.findall(r'<section aria-labelledby="([\w-]+)"', page)) == tuple(
        name for name in SECTIONS if name != "why"
    )
    whole = re.findall(r'<section aria-labelledby="([\w-]+)"', pages["all"])
    assert tuple(whole) == tuple(name for name in SECTIONS if name != "unmeasured")
    names = ids(page)
    assert len(names) == len(set(names))
    referred = set(re.findall(r'(?:href="#|url\(#|aria-labelledby=")([\w-]+)', page))
    assert referred <= set(names)
    assert parse(page).opened.count("svg") >= 7
    said = words(page)
    for arm in performed["arms"].values():
        assert number(arm["perplexity"]["after"]) in said
        assert " ".join(arm["efficacy"]["generated"].split()) in said
    for term in terms.of_edit(performed):
        assert number(term.denominator) in said


def test_what_was_not_measured_is_said_with_the_command_that_measures_it(
    pages: dict[str, str],
) -> None:
    assert "python -m diag.verify --model bundled" in words(pages["keys"])
    assert "python -m diag.keys --model bundled" in words(pages["edit"])
    for page, other in ((pages["keys"], "did"), (pages["edit"], "plane")):
        assert f'id="{other}"' not in page and f'id="{other}"' in pages["both"]
        end = page.split('id="unmeasured"', 1)[1]
        assert end.count("<h2") == 1  # after it only how to repeat what was measured
        assert end.count("This command does it") == 2
    assert words(pages["both"]).count("This command does it") == 1  # the first token's key
    assert "unmeasured" not in pages["all"]


def test_a_model_that_has_not_collapsed_is_not_called_unharmed(performed: Document) -> None:
    performed.pop("outcome", None)
    unbroken = performed | {"collapsed": dict.fromkeys(performed["collapsed"], False)}
    page = words(render(unbroken))
    assert "Not collapsed" in page and "What to do instead" in page
    assert "can make this edit" not in page and "intact" not in page.lower()
    broken = words(render(performed | {"collapsed": performed["collapsed"] | {"rome": True}}))
    assert "Not collapsed" not in broken  # the control


def test_outcomes_have_three_steps(performed: Document) -> None:
    performed["outcome"] = {
        "rome": "damaged", "c_rome": "intact", "p_rome": "collapsed", "c_rome_prefixed": "intact",
    }  # fmt: skip
    performed["collapsed"] |= {"rome": False, "p_rome": True}
    page = words(render(performed))
    assert page.startswith(f"Editing {performed['request']['subject']}")
    assert "Damaged" in page and "ROME damaged it" in page and "P-ROME broke the model" in page
    assert "What to do instead" in page
    performed["outcome"]["rome"] = "intact"
    assert "What to do instead" not in words(render(performed))  # the control


def test_first_token_probes_explain_an_edit_and_stand_alone(
    keys: Document, probes: Document, pages: dict[str, str]
) -> None:
    for page in (pages["all"], pages["first_token"]):
        said = words(page)
        for effect in probes["interventions"]["effects"]:
            assert effect["name"] in said
            if effect["reason"]:
                assert f"does not apply: {effect['reason']}" in said
        assert len(ids(page)) == len(set(ids(page)))
    assert "t-SNE, first coordinate" in pages["first_token"]  # where the keys lie
    for title in ("How the keys differ", "Attention sinks"):
        assert title in words(pages["first_token"])
    probes["site"]["layer"] += 1
    with pytest.raises(UserError, match="another block"):
        render(keys, probes)


def test_safe_beside_a_failed_ratio_is_one_line_of_reasoning(keys: Document) -> None:
    for finding in keys["findings"]:
        finding["status"] = "fail" if finding["id"] == "ratio" else "pass"
    contradictory = render(keys | {"verdict": "safe"})
    assert "ratio explains how the update grows" in words(contradictory)
    assert 'class="fail">fail</b>' not in contradictory
    consistent = render(keys | {"verdict": "collapse_risk"})
    assert "explains how the update grows" not in words(consistent)
    assert 'class="fail">fail</b>' in consistent


def test_an_editor_that_did_not_pass_is_not_recommended(keys: Document) -> None:
    def advised() -> str:
        page = render(keys).split('id="instead"', 1)[1].split("</section>", 1)[0]
        return page.split("<ul>", 1)[1].split("</ul>", 1)[0]

    assert "C-ROME" in advised() and "P-ROME" in advised()
    keys["findings"].append(
        {
            "id": "damage_p_rome",
            "status": "warn",
            "value": 0.3,
            "limit": 0.1,
            "message": "too much",
        }
    )
    assert "C-ROME" in advised() and "P-ROME" not in advised()
    keys["findings"].append(keys["findings"][-1] | {"id": "damage_c_rome", "status": "fail"})
    assert "try another layer" in advised()
    for finding in keys["findings"][-2:]:
        finding["status"] = "not_checked"
    keys["findings"] = [f for f in keys["findings"] if f["id"] != "damage_rome"]
    assert "damage was not measured" in advised()


def test_damage_at_first_tokens_and_responses_are_shown_where_measured(keys: Document) -> None:
    before = words(render(keys))
    keys["damage"]["p_rome"]["relative_bound_first_tokens"] = 0.987
    keys["response"] = {
        name: {"bare": 1.0, "prefixed": 0.5, "other_first_tokens": 0.777, "later_tokens": 0.01}
        for name in ("rome", "c_rome", "p_rome")
    }
    after = words(render(keys))
    for part in ("98.7 %", "0.777", "Who else receives the edit"):
        assert part not in before and part in after


def test_the_headline_is_what_is_expected_where_that_is_less_than_the_bound(keys: Document) -> None:
    bound = keys["damage"]["rome"]["relative_bound"]
    assert "the most by which ROME as published may change" in words(render(keys))
    for editor in ("rome", "c_rome", "p_rome"):
        keys["damage"][editor]["expected_share"] = 0.25
    page = words(render(keys)).replace("\u00a0", " ")
    expected, most = (percent(of).replace("\u00a0", " ") for of in (bound / 4, bound))
    assert f"{expected} of their norm: by how much ROME as published is expected" in page
    assert f"states; at most {most}" in page and f"about {expected} of their norm" in page
    text = printed(show, keys)
    assert f"{percent(bound / 4)} (≤ {percent(bound)})" in text
    assert len(text.splitlines()) <= 15
    for editor in ("rome", "c_rome", "p_rome"):
        keys["damage"][editor]["relative_bound_first_tokens"] = 0.8
    assert f"ROME {percent(0.2)} (≤ {percent(0.8)})" in printed(show, keys)


def test_no_command_makes_an_edit_that_no_editor_makes_safely(keys: Document) -> None:
    assert "--save-editor c_rome --save-model DIR" in words(render(keys))
    for finding in keys["findings"]:
        if finding["id"].startswith(("damage_", "first_tokens_")):
            finding["status"] = "warn"
    page = words(render(keys))
    assert "None of these editors is known to be safe here" in page
    assert "--save-editor" not in page
