"""What the bundled world supplies is said; what was given, even nothing, is never replaced."""

from __future__ import annotations

import pytest

from probes import bundled
from probes.request.known import complete, with_tests
from probes.request.request import request
from rome_diagnosis.errors import UserError

FACT = next(fact for fact in bundled.facts() if fact["subject"] == "Apple")


def test_what_is_left_out_is_supplied_and_said() -> None:
    edit = complete("Apple")
    assert (edit.prompt, edit.target_new) == (FACT["prompt"], FACT["target_new"])
    (note,) = edit.notes
    assert note == (
        "prompt, new object and true object not given: taken from the bundled world's facts"
    )
    partly = complete("Apple", target_new="Mars", target_true="Venus")
    assert (partly.target_new, partly.target_true) == ("Mars", "Venus")
    assert partly.notes == ("prompt not given: taken from the bundled world's facts",)
    assert complete("Zzyzx").prompt == "{} is"
    assert "'{} is' is used" in complete("Zzyzx").notes[0]


def test_what_is_given_is_taken_as_it_is() -> None:
    edit = complete("Apple", "{} lies on", target_new="Mars")
    assert edit == request("Apple", "{} lies on", target_new="Mars")
    assert edit.target_true is None
    assert not edit.notes


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"subject": "Apple", "target_new": ""}, r"new object \(target_new\) is empty"),
        ({"subject": "Apple", "target_true": " "}, r"true object \(target_true\) is empty"),
        ({"subject": "Apple", "prompt": ""}, "prompt is empty"),
        ({"subject": ""}, "subject is empty"),
        ({"subject": ["Apple"]}, "subject is a list: one text is expected"),
        ({"subject": "Apple", "prompt": ["{} is"]}, "prompt is a list"),
        ({"subject": "Apple", "target_new": ["x"]}, "is a list"),
        ({"subject": "\udcff"}, "subject is not valid Unicode"),
        ({"subject": "Apple", "target_new": "\udcff"}, "is not valid Unicode"),
        ({"subject": "Apple", "prompt": "{} \ud800"}, "prompt is not valid Unicode"),
    ],
)
def test_mistakes_are_refused_and_never_replaced(
    arguments: dict[str, object], complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        complete(**arguments)  # type: ignore[arg-type]


def test_an_edit_of_a_bundled_fact_brings_its_tests() -> None:
    edit = request("Apple", FACT["prompt"], target_new="Mars")
    assert with_tests(edit).paraphrases
    assert with_tests(edit).request is edit
    assert not with_tests(request("Apple", "{} is", target_new="Mars")).paraphrases
