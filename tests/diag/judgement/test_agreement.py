"""Verdicts beside outcomes: every pair says what it should."""

from __future__ import annotations

import pytest

from diag.judgement.agreement import compare_with_performed
from diag.judgement.outcome import OUTCOMES, Outcome
from diag.judgement.verdict import VERDICTS, Verdict

EXPECTED = {
    ("safe", "intact"): "as predicted",
    ("safe", "damaged"): "worse",
    ("safe", "collapsed"): "worse",
    ("damage_risk", "intact"): "milder",
    ("damage_risk", "damaged"): "as predicted",
    ("damage_risk", "collapsed"): "worse",
    ("collapse_risk", "intact"): "milder",
    ("collapse_risk", "damaged"): "as predicted",
    ("collapse_risk", "collapsed"): "as predicted",
}


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_pair(verdict: Verdict, outcome: Outcome) -> None:
    found = compare_with_performed(verdict, outcome)
    assert found.agreement == EXPECTED.get((verdict, outcome), "open")
    wrong = "wrong" in found.sentence or "false alarm" in found.sentence
    assert wrong == (found.agreement in ("milder", "worse"))
    assert outcome in found.sentence.replace("has ", "")
