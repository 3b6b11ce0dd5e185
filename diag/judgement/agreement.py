"""Whether what became of the model is what was predicted before the edit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diag.judgement.outcome import Outcome
from diag.judgement.verdict import Verdict

Agreement = Literal["as predicted", "milder", "worse", "open"]


@dataclass(frozen=True)
class Compared:
    """A verdict beside an outcome.

    Attributes:
        agreement: ``milder`` and ``worse`` say how the outcome differs from what was expected;
            ``open`` that the verdict expected nothing in particular.
        sentence: The same in words.
    """

    agreement: Agreement
    sentence: str


# The outcomes a verdict expects, the mildest first. A collapse risk is a bound: it says that the
# edit can destroy the model, and damage is within what it says.
EXPECTED: dict[Verdict, tuple[Outcome, ...]] = {
    "safe": ("intact",),
    "damage_risk": ("damaged",),
    "collapse_risk": ("damaged", "collapsed"),
    "unclear": (),
}
SEVERITY: dict[Outcome, int] = {"intact": 0, "damaged": 1, "collapsed": 2}
BEFORE: dict[Verdict, str] = {
    "safe": "Before the edit it was called safe",
    "damage_risk": "Before the edit a risk of damage was reported",
    "collapse_risk": "Before the edit a risk of collapse was reported",
    "unclear": "Before the edit its outcome was unclear",
}
AFTER: dict[Outcome, str] = {
    "intact": "the model is intact",
    "damaged": "the model is damaged",
    "collapsed": "the model has collapsed",
}


def compare_with_performed(verdict: Verdict, outcome: Outcome) -> Compared:
    """Holds an outcome against the verdict on ROME as published.

    Args:
        verdict: What :mod:`diag.keys` says before the edit.
        outcome: What became of the model.

    Returns:
        The comparison.
    """
    text = f"{BEFORE[verdict]}; {AFTER[outcome]}"
    expected = EXPECTED[verdict]
    if not expected:
        return Compared("open", f"{text}.")
    severity = SEVERITY[outcome]
    if severity < SEVERITY[expected[0]]:
        return Compared("milder", f"{text}: a false alarm.")
    if severity > SEVERITY[expected[-1]]:
        return Compared("worse", f"{text}: the prediction was wrong.")
    if verdict == "collapse_risk" and outcome == "damaged":
        return Compared("as predicted", f"{text}: within the bound, which allows a collapse.")
    return Compared("as predicted", f"{text}, as predicted.")
