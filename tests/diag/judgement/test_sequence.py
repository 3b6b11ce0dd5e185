"""Advice on a list names the remedy where that helps, and calls nothing safe that is unclear."""

from __future__ import annotations

from dataclasses import replace

import pytest

from diag.judgement.sequence import NOTHING, ListFigures, advice, danger, once_made
from diag.judgement.verdict import Grounds


def case(
    n: int, dangerous: int, repaired: int | None, unclear: int = 0, method: str = "rome"
) -> ListFigures:
    return ListFigures(
        method=method, n=n, checked=True, dangerous=list(range(dangerous)), repaired=repaired,
        unclear=unclear, harm_at=None, collapse_at=None, farthest=method, lost=0, pairs=0,
        weak=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (case(3, 3, 3), "All 3 edits are dangerous alone: make them with C-ROME, which makes each "
                        "of them safe by itself."),
        (case(1, 1, 1), "The one edit of the list is dangerous alone: make it with C-ROME, which "
                        "makes it safe by itself."),
        (case(3, 3, 3, 2), "All 3 edits are dangerous alone: make them with C-ROME, with which "
                           "none of them is dangerous alone, though 2 of them cannot be called "
                           "safe."),
        (case(3, 3, 1), "All 3 edits are dangerous alone: make them with C-ROME, which still "
                        "leaves 2 dangerous."),
        (case(3, 3, 0), "All 3 edits are dangerous alone, with C-ROME too: try another layer or a "
                        "smaller clamp factor."),
        (case(3, 3, 0, method="c_rome"), "All 3 edits are dangerous alone: try another layer, "
                                         "another method or a smaller clamp factor."),
        (case(9, 2, 2), "Leave out edits 1, 2, or make them with C-ROME, which makes each of them "
                        "safe by itself."),
        (case(9, 2, None, method="memit"), "Leave out edits 1, 2: each is dangerous alone."),
        (case(9, 1, 0), "Leave out edit 1: each is dangerous alone, with C-ROME too."),
        (case(9, 1, 1, 1), "Leave out edit 1, or make it with C-ROME, with which it is not "
                           "dangerous alone, though it cannot be called safe."),
    ],
)  # fmt: skip
def test_dangerous_edits_are_given_the_remedy_that_helps(given: ListFigures, said: str) -> None:
    sentences = advice(given)
    assert sentences[0] == said
    after_a_prefix = any("after a prefix only" in sentence for sentence in sentences)
    assert after_a_prefix == ((given.repaired or 0) > 0 or given.method == "c_rome")


def test_nothing_dangerous_is_left_alone_and_what_is_unclear_is_said() -> None:
    fine = case(3, 0, 0)
    assert advice(fine) == ["Nothing speaks against making the list as it is."]
    for doubtful, which in ((1, "one"), (2, "2")):
        (said,) = advice(replace(fine, doubtful=doubtful))
        assert said.startswith("No edit of the list is called dangerous")
        assert f"but {which} cannot be called safe alone" in said


def test_contradictions_are_named_first_even_where_damage_is_not_checked() -> None:
    contradicting = replace(case(9, 2, 2), contradictions=[(0, 1), (3, 8)])
    said = "Leave out one of edits 1 and 2, 4 and 9: they give one prompt two objects."
    assert advice(contradicting)[0] == said
    assert advice(replace(contradicting, checked=False))[0] == said
    many = replace(case(9, 0, 0), contradictions=[(0, 1)] * 7)
    assert "(and 2 more pairs)" in advice(many)[0]


def test_prompts_that_begin_with_their_subject_are_spoken_of_where_there_are_some() -> None:
    remedied = case(9, 2, 2)
    assert "after a prefix only" in advice(remedied)[-1]
    assert "after a prefix only" not in advice(replace(remedied, begin_with_subject=False))[-1]


@pytest.mark.parametrize(("harm_at", "most"), [(1, "none"), (2, "at most 1"), (41, "at most 40")])
def test_a_list_is_made_as_far_as_it_does_no_harm(harm_at: int, most: str) -> None:
    (said,) = advice(replace(case(60, 0, 0), harm_at=harm_at))
    more = "from the first on" if harm_at == 1 else "with more of them"
    assert said == (
        f"Make {most} of the edits on one copy of the model: {more} ordinary growth costs other "
        "facts."
    )


def test_a_list_that_left_the_model_damaged_is_not_waved_through() -> None:
    before = [NOTHING, "And a second sentence."]
    assert once_made(before, "intact", 1) == before
    after = once_made(before, "damaged", 1)
    assert after == [
        "Do not keep the list as it was made: after one edit the model was damaged.",
        "And a second sentence.",
    ]
    assert "after 1,200 edits the model had collapsed" in once_made([], "collapsed", 1200)[0]


def test_an_edit_is_dangerous_for_what_is_expected_of_it() -> None:
    told = danger(Grounds(0.02, 3.0, 0.1, 1.0, 0.1), has_two_keys=True)
    assert "by about 30 % and up to 300 % of their norm (limit 25 %); ρ is 0.02" in told
    by_first_tokens = danger(Grounds(0.02, 0.9, 2.0, 1.0, 0.2), has_two_keys=False)
    assert (
        "first tokens by about 40 % and up to 200 % of their norm (limit 20 %)" in by_first_tokens
    )
    assert "ρ" in danger(Grounds(0.02, None, None), has_two_keys=True)
