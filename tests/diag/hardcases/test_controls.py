"""Controls of hard edits: of the same relation and objects, safe, and of the same half."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from diag.hardcases import compose, controls, wordings
from diag.hardcases.cases import Screened
from diag.hardcases.controls import of_mined, paired
from diag.hardcases.mine import hardest
from diag.screen.shard import Screener
from tests.diag.hardcases.made import EDITS, edit, safe


def test_a_control_differs_in_its_key_alone(
    composed: compose.Composition, screener: Screener, relations: list[wordings.Relation]
) -> None:
    easy = controls.of_composed(screener, composed.hard, relations, seed=0)
    assert sum(each is not None for each in easy) >= 38
    for hard, control in zip(composed.hard, easy, strict=True):
        if control is None:
            continue
        one, other = hard.case.request, control.case.request
        assert control.row["verdict"] == "safe" and not control.row["is_first_token"]
        assert (one.target_new, one.target_true) == (other.target_new, other.target_true)
        assert control.relation == hard.relation
        assert other.subject == one.subject or " " in other.subject
        assert other.text not in control.case.paraphrases


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
