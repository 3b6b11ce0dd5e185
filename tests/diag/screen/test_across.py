"""What a table of several blocks sums up to: which blocks spare the list, and which do not."""

from __future__ import annotations

from typing import Any

import pytest

from diag.screen.across import summary
from rome_diagnosis.editors import EDITORS, PUBLISHED, REMEDY


def verdicts_at(**by_block: dict[str, int]) -> list[dict[str, Any]]:
    """Rows with verdicts alone, as ``b3=dict(safe=2)``."""
    names = ("collapse_risk", "damage_risk", "unclear", "safe")
    return [
        {
            "layer": int(block[1:]),
            "screened": sum(own.values()),
            "groups": {"all": {"editors": {
                editor: {"verdicts": dict.fromkeys(names, 0) | own} for editor in EDITORS
            }}},
        }
        for block, own in by_block.items()
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            verdicts_at(
                b0={"collapse_risk": 3}, b1={"safe": 3}, b2={"safe": 3}, b5={"collapse_risk": 3}
            ),
            "no edit of 3 is a collapse risk at blocks 1–2; blocks 0, 5 have most, 3. All are safe "
            "at blocks 1–2.",
        ),
        (
            verdicts_at(b0={"collapse_risk": 3}, b4={"collapse_risk": 1, "safe": 2}),
            "of 3 edits some are a collapse risk at every block, fewest at block 4 (1); block 0 "
            "has most, 3. At most 2 of 3 are safe, at block 4.",
        ),
        (
            verdicts_at(b7={"unclear": 1}),
            "no edit of 1 is a collapse risk at block 7. None is safe at any block.",
        ),
    ],
)
def test_what_the_summary_says(rows: list[dict[str, Any]], said: str) -> None:
    assert summary(rows) == " ".join(f"{EDITORS[n].label}: {said}" for n in ("rome", "c_rome"))


def test_a_block_where_nothing_could_be_measured_spares_no_edit() -> None:
    said = summary(verdicts_at(b0={"collapse_risk": 2}, b1={}, b2={"safe": 1}))
    assert said.count("at every block, fewest at block 0 (2); block 0 has most, 2.") == len(
        (PUBLISHED, REMEDY)
    )
    assert said.endswith(" Left out: blocks 1–2, where not all edits could be measured.")
    assert summary(verdicts_at(b0={}, b1={})) == "No edit could be measured at any block."
