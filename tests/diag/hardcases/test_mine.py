"""Which edits of a data set are hard: one for each subject, each its worst, in turns."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diag.hardcases import mine
from diag.hardcases.cases import Screened
from diag.hardcases.mine import hardest
from rome_diagnosis.errors import UserError
from tests.diag.hardcases.made import EDITS, edit


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


def test_a_data_set_without_new_objects_cannot_be_mined(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text('{"subject": "Apple", "prompt": "{} is", "target_true": "red"}\n[]\n')
    with pytest.raises(UserError, match=r"none of the 2 rows.*line 1: target_new is missing"):
        mine.read_candidates(str(path))
