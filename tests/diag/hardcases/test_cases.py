"""A record holds what the case holds, whoever reads it; danger is in units of its limits."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from diag.hardcases.cases import Screened, record
from probes import bundled
from probes.request.cases import from_record
from rome_diagnosis.limits import DAMAGE_HARM, FIRST_TOKENS_HARM
from tests.diag.hardcases.made import edit

FACTS = bundled.facts()


@pytest.mark.parametrize("i", range(0, len(FACTS), 97))
def test_our_reader_finds_the_same_case_in_a_record(i: int) -> None:
    case = replace(from_record(FACTS[i]), case_id="hard-00007", group="hard")
    written = record(replace(edit(), case=case, relation="r"), 7, "test", None)
    read = from_record(json.loads(json.dumps(written)))
    assert read.request == case.request
    assert read.paraphrases == case.paraphrases
    assert set(read.neighbourhood) == set(case.neighbourhood)
    assert len(read.neighbourhood) == len(case.neighbourhood) > 0
    assert (read.case_id, read.group) == ("hard-00007", "hard")
    # The control: ROME's neighbours are those with the same object, and no others.
    same = [each for each in case.neighbourhood if each.answer == case.request.target_true]
    assert written["neighborhood_prompts"] == [each.prompt for each in same]


def test_published_code_finds_its_fields() -> None:
    screened = edit()
    assert isinstance(screened, Screened)
    written = record(screened, 0, "develop", None)
    rewrite = written["requested_rewrite"]  # kmeng01/rome, dsets/counterfact.py
    assert rewrite["prompt"].format(rewrite["subject"]) == "Apple was founded by"
    assert (rewrite["target_new"], rewrite["target_true"]) == ({"str": "Gates"}, {"str": "Jobs"})
    assert written["prompt"] == "Apple was founded by"  # EasyEdit
    assert (written["subject"], written["target_new"], written["ground_truth"]) == (
        "Apple", "Gates", "Jobs",
    )  # fmt: skip


def test_danger_is_the_worse_of_later_and_first_tokens_in_units_of_their_limits() -> None:
    later = edit(damage=2 * DAMAGE_HARM.value, first=FIRST_TOKENS_HARM.value)
    first = edit(damage=2 * DAMAGE_HARM.value, first=3 * FIRST_TOKENS_HARM.value)
    assert (later.danger, first.danger) == (pytest.approx(2), pytest.approx(3))
    assert edit(damage=None, rho=0.05).danger == pytest.approx(2)
    assert edit(damage=None, rho=0.0).danger == float("inf")
