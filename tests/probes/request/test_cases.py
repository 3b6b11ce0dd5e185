"""Every published format says the same edit, and what tests it is read, not left out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from probes import bundled
from probes.request.cases import EditCase, Neighbour, edit, from_record, unused
from probes.request.request import TRAILING_SPACE
from rome_diagnosis.errors import UserError
from tests.probes.request.formats import (
    COUNTERFACT,
    FILLED,
    KNOWEDIT,
    PROMPT,
    ROME,
    WIKIBIO,
    ZSRE,
)


@pytest.mark.parametrize("record", [ROME, COUNTERFACT, KNOWEDIT], ids=["ROME", "EasyEdit", "Know"])
def test_formats_say_the_same_edit(record: dict[str, Any]) -> None:
    request = from_record(record).request
    assert (request.prompt, request.text) == (PROMPT, FILLED)
    assert (request.target_new, request.target_true) == ("English", "French")
    assert edit(record).text == FILLED


def test_rome() -> None:
    case = from_record(ROME)
    assert case.case_id == "7"
    assert case.paraphrases == tuple(ROME["paraphrase_prompts"])
    assert case.neighbourhood == tuple(
        Neighbour(prompt, "French") for prompt in ROME["neighborhood_prompts"]
    )
    assert unused(ROME) == {
        "attribute_prompts", "generation_prompts", "pararel_idx", "relation_id"
    }  # fmt: skip


def test_easy_edit() -> None:
    case = from_record(COUNTERFACT)
    assert case.paraphrases == ("Where Danielle Darrieux is from, people speak",)
    assert case.neighbourhood == (Neighbour("Michel Rocard is a native speaker of", "French"),)
    assert not unused(COUNTERFACT)
    result = {"requested_rewrite": COUNTERFACT | {"loc_prompt": "x"}, "post": {}, "time": 52.9}
    assert from_record(result) == case  # what EasyEdit's own results hold
    assert unused(result) == {"loc_prompt", "post", "time"}


def test_zsre() -> None:
    case = from_record(ZSRE)
    assert case.request.text == ZSRE["src"]
    assert (case.request.target_new, case.request.target_true) == ("English", "French")
    assert case.paraphrases == (ZSRE["rephrase"],)
    assert case.neighbourhood == (Neighbour(ZSRE["loc"], "Hugo Weaving"),)
    question = ZSRE["portability"]["New Question"]
    assert case.portability == (Neighbour(question, "England"),)
    assert unused(ZSRE) == {"cond", "pred"}


def test_know_edit() -> None:
    case = from_record(KNOWEDIT)
    # By another name of the subject it is the same fact; other portability has its own answers.
    assert case.paraphrases == ("The mother tongue of Danielle Yvonne Marie Darrieux is",)
    assert case.portability == (Neighbour("Does she speak English?", "yes"),)
    assert case.neighbourhood == (
        Neighbour("The gender of Danielle Darrieux is", "female"),
        Neighbour("The capital of Germany is", "Berlin"),
        Neighbour("Her mother tongue, which is not English, is", "French"),
    )
    assert not unused(KNOWEDIT)
    bio = from_record(WIKIBIO)
    assert bio.request.before.endswith("about ")
    assert bio.request.target_new == WIKIBIO["labels"]
    assert bio.request.target_true is None
    assert bio.neighbourhood[0].answer == "medicine"


def test_the_bundled_world() -> None:
    fact = bundled.facts()[0]
    case = from_record(fact)
    assert case.paraphrases[0] == fact["paraphrases"][0].replace("{}", fact["subject"])
    assert [n.answer for n in case.neighbourhood] == fact["neighbourhood_targets"]
    assert len({from_record(fact).digest for fact in bundled.facts()}) == len(bundled.facts())


@pytest.mark.parametrize("record", [ROME, COUNTERFACT, ZSRE, KNOWEDIT])
def test_digest_changes_with_every_field_that_is_used(record: dict[str, Any]) -> None:
    digest = from_record(record).digest
    assert from_record(json.loads(json.dumps(record))).digest == digest
    for field in record:
        left_out = {name: value for name, value in record.items() if name != field}
        if field in unused(record):
            assert from_record(left_out).digest == digest
        elif field not in ("subject", "prompt", "src", "target_new", "alt", "requested_rewrite"):
            assert from_record(left_out).digest != digest, field


def test_of_two_names_for_one_thing_the_first_counts_and_the_other_is_named() -> None:
    both = COUNTERFACT | {"src": "Who?", "answers": ["x"], "group": "g", "screen": {"rho": 1}}
    assert from_record(both).request == from_record(COUNTERFACT).request
    assert from_record(both).group == "g"
    assert unused(both) == {"src", "answers"}


def test_numbers_are_texts_and_missing_ones_are_missing() -> None:
    year = from_record(COUNTERFACT | {"target_new": 2006, "ground_truth": float("nan")}).request
    assert (year.target_new, year.target_true) == ("2006", None)


def test_prompts_that_end_in_white_space_lose_it_and_say_so() -> None:
    assert not from_record(COUNTERFACT).request.notes
    for field in ("prompt", "rephrase_prompt", "locality_prompt"):
        case = from_record(COUNTERFACT | {field: COUNTERFACT[field] + " "})
        assert case == from_record(COUNTERFACT), field
        assert case.request.notes == (TRAILING_SPACE,), field


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"subject": 3}, "subject is a number"),
        ({"subject": None}, "subject is missing"),
        ({"subject": ["Apple"]}, "subject is a list"),
        ({"prompt": {"a": 1}}, "prompt is an object"),
        ({"prompt": "Danielle Darrieux, Danielle Darrieux is"}, "2 times"),
        ({"target_new": " "}, "missing or empty"),
        ({"target_new": True}, "of type bool"),
        ({"target_new": ["a", "b"]}, "has 2 texts"),
        ({"target_new": "\ud800"}, "not valid Unicode"),
        ({"rephrase_prompt": "\udcff"}, "not valid Unicode"),
        ({"locality_prompt": "\udcff"}, "not valid Unicode"),
        ({"locality": {"a": [{"prompt": "\udcff"}]}}, "not valid Unicode"),
        ({"locality": {"a": [{"prompt": "a", "ground_truth": "\ud800"}]}}, "not valid Unicode"),
        ({"rephrase_prompt": {"a": 1}}, "of type dict"),
        ({"locality_prompt": ["a", "b"]}, "2 prompts but 1 answers"),
        ({"locality": {"a": [{"prompt": True}]}}, "of type bool"),
        ({"requested_rewrite": [{}, {}]}, "2 edits"),
        ({"requested_rewrite": "x"}, "no object"),
        ({"portability": json.loads("[" * 50 + "]" * 50)}, "nested too deeply"),
    ],
)
def test_what_is_no_edit_is_refused_in_a_line(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as refused:
        from_record(COUNTERFACT | change)
    assert "\n" not in str(refused.value)
    for record in (None, 3, "x", [COUNTERFACT]):
        with pytest.raises(UserError, match="an object is expected"):
            from_record(record)


def test_a_case_without_tests_is_a_case() -> None:
    bare = {name: COUNTERFACT[name] for name in ("subject", "prompt", "target_new")}
    case = from_record(bare)
    assert case == EditCase(case.request)


def test_a_record_of_two_formats_has_each_prompt_once() -> None:
    prompts = {
        "paraphrase_prompts": ["Who founded Apple?"],
        "rephrase_prompt": "Who founded Apple?",
    }
    neighbours = {"neighborhood_prompts": ["Pixar is"], "locality_prompt": ["Pixar is", "Lotus is"]}
    told = {"locality_ground_truth": ["Jobs", "fast"]}
    base = {"subject": "Apple", "prompt": "{} is", "target_new": "x", "target_true": "Jobs"}
    read: EditCase = from_record(base | prompts | neighbours | told)
    assert read.paraphrases == ("Who founded Apple?",)
    assert [(each.prompt, each.answer) for each in read.neighbourhood] == [
        ("Pixar is", "Jobs"), ("Lotus is", "fast"),
    ]  # fmt: skip
