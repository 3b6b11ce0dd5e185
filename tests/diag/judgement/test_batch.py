"""What is said of a batch: each limit from both sides, and nothing unmeasured called safe."""

from __future__ import annotations

import pytest

from diag.judgement import batch
from diag.mathematics.pairs import Pair
from rome_diagnosis.limits import CONDITION, KEYS_ALIKE, RESPONSE_FAINT, SHARE_LEFT


def test_lambda_is_read_against_the_width() -> None:
    narrow = batch.weight(15_000.0, 1536, ordinary=0.09, median=0.05)
    wide = batch.weight(15_000.0, 16_384, ordinary=0.79, median=0.9)
    assert narrow is not None and wide is not None
    assert (narrow.status, wide.status) == ("warn", "pass")
    assert "d_mlp = 1,536" in narrow.message and "1,536 would be its like" in narrow.message
    assert narrow.limit == SHARE_LEFT.value
    assert batch.weight(0.0, 1536, ordinary=1.0, median=None) is None


def test_condition_and_singularity() -> None:
    assert batch.condition(CONDITION.value - 1, 3).status == "pass"
    assert batch.condition(CONDITION.value, 3).status == "warn"
    singular = batch.condition(None, 3)
    assert singular.status == "fail" and "block 3" in singular.message


def test_pairs_name_the_subjects() -> None:
    assert batch.conflicts([], []).status == "pass"
    near = batch.conflicts([Pair(0, 1, 0.95, "parallel_keys")], ["Apple", "Pear"])
    assert near.status == "warn" and "'Apple' and 'Pear'" in near.message
    assert near.limit == KEYS_ALIKE.value
    two = [Pair(0, 1, 1.0, "contradiction"), Pair(1, 2, 0.9, "same_subject")]
    contradiction = batch.conflicts(two, ["Apple"] * 3)
    assert contradiction.status == "fail" and "and 1 more" in contradiction.message


def test_one_subject_is_not_said_to_be_one_key() -> None:
    apart, alike = (
        batch.conflicts([Pair(0, 1, cosine, "same_subject")], ["Apple", "Apple"]).message
        for cosine in (0.2, 0.95)
    )
    assert apart.endswith("cosine 0.2: one subject, two changes")
    assert alike.endswith("cosine 0.95: nearly one key, two changes")


@pytest.mark.parametrize(("rank", "status"), [(0, "fail"), (1, "pass"), (15, "pass"), (16, "warn")])
def test_a_projector_leaves_something_to_write_in_and_something_to_keep(
    rank: int, status: str
) -> None:
    found = batch.directions(rank, 16, 0.02)
    assert found is not None and found.status == status
    assert ("nothing is edited" in found.message) == (rank == 0)
    assert batch.directions(None, 16, 0.02) is None


def test_edits_that_will_not_take_are_counted() -> None:
    limit = RESPONSE_FAINT.value
    assert batch.takes([limit, 1.0], None).status == "pass"
    some = batch.takes([limit - 0.01, 1.0, 0.0], [0.9, 1.0, 0.1])
    assert some.status == "warn" and some.value == pytest.approx(1 / 3)
    assert (
        some.message.startswith("2 of 3 edits")
        and "after a prefix 1 of them receive that much" in some.message
    )
    assert batch.takes(None, None).status == "not_checked"


def test_disturbance_needs_two_edits() -> None:
    assert batch.disturbance(None, None, alone=True).message == "there is one edit alone"
    assert batch.disturbance(None, None, alone=False).message == "M is singular"
    assert batch.disturbance(-0.5, ("a", "b"), alone=False).status == "warn"
    assert batch.disturbance(0.1, ("a", "b"), alone=False).status == "pass"


@pytest.mark.parametrize(
    ("expected", "bound", "first", "verdict", "status"),
    [
        (0.9, 1.5, (0.0, 0.0), "collapse_risk", "fail"),
        (0.3, 0.5, (0.0, 0.0), "damage_risk", "warn"),
        (0.01, 0.05, (0.3, 0.4), "damage_risk", "pass"),
        (0.01, 0.05, (0.05, 0.3), "unclear", "pass"),  # at first tokens it is expected of none
        (0.01, 0.05, (0.05, 0.05), "safe", "pass"),
        (0.01, 0.5, (0.05, 0.05), "unclear", "warn"),  # if all targets pull the same way it is not
        (0.01, 0.05, (None, None), "unclear", "pass"),  # first tokens were not checked
        (None, None, (0.05, 0.05), "unclear", "not_checked"),
    ],
)
def test_verdicts(
    expected: float | None,
    bound: float | None,
    first: tuple[float | None, float | None],
    verdict: str,
    status: str,
) -> None:
    usual, most = first
    assert batch.verdict((expected, usual), (bound, most)) == verdict
    assert batch.damage(expected, bound, "C is the identity").status == status
    found = batch.first_tokens(usual, most, None)
    assert found.status == ("not_checked" if most is None else "warn" if most > 0.1 else "pass")
