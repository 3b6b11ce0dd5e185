"""Which edits are hard, which are their controls, and which half they are in."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diag.hardcases.cases import Screened
from diag.hardcases.controls import of_mined, paired
from diag.hardcases.mine import hardest
from rome_diagnosis.limits import DAMAGE_HARM, FIRST_TOKENS_HARM
from tests.diag.hardcases.made import edit, safe

EDITS = st.lists(
    st.builds(
        edit,
        st.sampled_from(["Apple", "apple", "Paris", "Rome", "Q", "The Hague"]),
        st.sampled_from(["founder", "capital", "{} is"]),
        damage=st.none() | st.floats(0, 1e6),
        first=st.none() | st.floats(0, 1e6),
        rho=st.floats(-2, 2),
        verdict=st.sampled_from(["collapse_risk", "damage_risk", "unclear", "safe"]),
    )
    | st.none(),
    max_size=30,
)


@given(EDITS, st.integers(1, 30))
def test_the_hardest_are_hard_one_for_each_subject_and_each_its_worst(
    edits: list[Screened | None], n: int
) -> None:
    chosen = hardest(edits, n)
    subjects = [each.case.request.subject.casefold() for each in chosen]
    hard = [each for each in edits if each and each.is_hard]
    everyone = {each.case.request.subject.casefold() for each in hard}
    assert len(subjects) == len(set(subjects)) == min(n, len(everyone))
    for each, subject in zip(chosen, subjects, strict=True):
        own = [other for other in hard if other.case.request.subject.casefold() == subject]
        assert each.is_hard and each.danger == max(other.danger for other in own)


def test_relations_take_turns_and_the_worst_of_each_comes_first() -> None:
    edits = [edit(f"A{i}", "many", damage=100 - i) for i in range(50)]
    edits += [edit(f"B{i}", "few", damage=1 + i) for i in range(3)]
    chosen = hardest(edits, 6)
    assert Counter(each.relation for each in chosen) == {"many": 3, "few": 3}
    assert [each.case.request.subject for each in chosen] == ["A0", "B2", "A1", "B1", "A2", "B0"]
    # Without the other relation's turn the six worst are all of the first.
    assert {each.relation for each in hardest(edits[:50], 6)} == {"many"}


def test_danger_is_the_worse_of_later_and_first_tokens_in_units_of_their_limits() -> None:
    later = edit(damage=2 * DAMAGE_HARM.value, first=FIRST_TOKENS_HARM.value)
    first = edit(damage=2 * DAMAGE_HARM.value, first=3 * FIRST_TOKENS_HARM.value)
    assert (later.danger, first.danger) == (pytest.approx(2), pytest.approx(3))
    assert edit(damage=None, rho=0.05).danger == pytest.approx(2)
    assert edit(damage=None, rho=0.0).danger == float("inf")


def test_a_control_has_the_relation_and_the_new_object_and_a_subject_of_its_own() -> None:
    hard = [edit("Apple"), edit("Audi"), edit("Lyon", "city"), edit("Q", objects=("A", "Jobs"))]
    pool = [safe("Apple"), safe("General Motors", true="Durant"), safe("Pixar"), safe("Lotus")]
    pool += [safe("Paris", "country")]
    first, second, third, fourth = of_mined(hard, [*hard, *pool, None])
    assert first and second and fourth and third is None  # no city is safe
    subjects = [each.case.request.subject for each in (first, second, fourth)]
    # The same true object first; what one must write is never what another knows already.
    assert subjects == ["Lotus", "Pixar", "General Motors"]
    assert [each.case.request.target_new for each in (first, second, fourth)] == [
        "Gates", "Gates", "Jobs",
    ]  # fmt: skip
    assert first.case.request.target_true == hard[0].case.request.target_true


@given(EDITS, st.integers(0, 5))
def test_no_subject_is_in_both_halves(edits: list[Screened | None], seed: int) -> None:
    chosen = hardest(edits, 30)
    pairs = paired(chosen, of_mined(chosen, edits), seed=seed)
    halves: dict[str, set[str]] = {"develop": set(), "test": set()}
    for pair in pairs:
        for one in (pair.hard, pair.easy):
            if one is not None:
                halves[pair.split].add(one.case.request.subject.casefold())
    assert not halves["develop"] & halves["test"]
    sizes = Counter(pair.split for pair in pairs)
    assert abs(sizes["develop"] - sizes["test"]) <= 1


def test_the_seed_draws_the_halves() -> None:
    hard = [edit(f"S{i}") for i in range(20)]
    drawn = [[pair.split for pair in paired(hard, [None] * 20, seed=seed)] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
