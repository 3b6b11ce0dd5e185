"""Outcomes of edits: each limit from both sides, and the edits that were recorded."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from diag.judgement.outcome import judge, settled
from rome_diagnosis import limits

EVIDENCE = Path(__file__).parents[3] / "docs" / "evidence" / "verified.json.gz"


def arm(
    *,
    ratio: float | None = 1.01,
    recall: float | None = 0.97,
    locality: float | None = 0.8,
    entropy: float = 4.0,
) -> dict[str, Any]:
    return {
        "perplexity": {
            "before": 2.0,
            "after": None if ratio is None else 2 * ratio,
            "ratio": ratio,
        },
        "recall": None if recall is None else {"before": 1.0, "after": recall, "n": 100},
        "locality": None if locality is None else {"before": 1.0, "after": locality, "n": 5},
        "entropy": {"before": 4.5, "after": entropy},
    }


@pytest.mark.parametrize(
    ("measured", "outcome", "reason"),
    [
        ({}, "intact", None),
        ({"ratio": 10.0}, "collapsed", "10-fold"),
        ({"ratio": 9.99}, "damaged", "9.99-fold"),
        ({"ratio": None}, "collapsed", "finite"),
        ({"ratio": float("nan")}, "collapsed", "finite"),
        ({"ratio": 1.24}, "intact", None),
        ({"ratio": 1.26}, "damaged", "1.26-fold"),
        ({"recall": 0.84}, "damaged", "84 %"),
        ({"recall": 0.86}, "intact", None),
        ({"recall": None, "locality": None}, "intact", None),
        ({"locality": 0.0}, "damaged", "0 % of 5"),
        ({"locality": 0.2}, "intact", None),  # four of five lost can be chance
        ({"entropy": 2.6}, "damaged", "entropy"),
        ({"entropy": 2.8}, "intact", None),
    ],
)
def test_each_measurement_can_decide(
    measured: dict[str, Any], outcome: str, reason: str | None
) -> None:
    judged = judge(arm(**measured), collapse_ratio=10.0)
    assert judged.outcome == outcome
    assert (reason is None) == (judged.reasons == ())
    if reason is not None:
        assert any(reason in text for text in judged.reasons)


def test_an_edit_that_leaves_perplexity_alone_and_takes_the_facts_is_damage() -> None:
    """P-ROME on Apple: perplexity ×1.07, recall 100 → 45 %, locality 100 → 0 %."""
    judged = judge(arm(ratio=1.07, recall=0.45, locality=0.0), collapse_ratio=10.0)
    assert judged.outcome == "damaged"
    assert len(judged.reasons) == 2


def test_recorded_edits() -> None:
    edits = json.loads(gzip.decompress(EVIDENCE.read_bytes()))["edits"]

    def outcomes(name: str, *, first: bool) -> list[str]:
        return [
            judge(edit["arms"][name], collapse_ratio=10.0).outcome
            for edit in edits
            if edit["site"]["is_first_token"] == first
        ]

    rome = outcomes("rome", first=True)
    assert rome.count("collapsed") == 41
    assert rome.count("intact") == 0
    p_rome = outcomes("p_rome", first=True)
    assert p_rome.count("damaged") >= 0.95 * len(p_rome)
    for control in (outcomes("c_rome", first=True), outcomes("rome", first=False)):
        assert control.count("intact") >= 0.95 * len(control)


def test_limits_lie_between_the_controls_and_the_rest() -> None:
    edits = json.loads(gzip.decompress(EVIDENCE.read_bytes()))["edits"]
    controls = [edit["arms"]["c_rome"] for edit in edits]
    assert max(a["perplexity"]["ratio"] for a in controls) < limits.PERPLEXITY_DAMAGED.value
    assert min(a["recall"]["after"] for a in controls) > limits.RECALL_KEPT.value
    shares = [a["entropy"]["after"] / a["entropy"]["before"] for a in controls]
    assert min(shares) > limits.ENTROPY_KEPT.value


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (None, False),
        ((0.99, 1.01), True),
        ((0.9, 1.2), False),  # no limit inside, but too wide
        ((1.24, 1.26), False),  # beside the limit of damage
        ((1.25, 1.27), True),
        ((9.9, 10.1), False),
        ((11.0, 80.0), True),  # wide, and collapsed all the same
    ],
)
def test_texts_suffice_when_no_limit_lies_inside_the_interval(
    interval: tuple[float, float] | None, expected: bool
) -> None:
    assert settled(interval, collapse_ratio=10.0, precision=0.05) is expected
