"""The ``diag.sequence/1`` document, from an outlook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from diag.judgement.sequence import ListFigures, advice, danger, entangled
from diag.mathematics.pairs import contradictions
from diag.sequence import outlook as looks
from diag.sequence.forecast import Curve, Forecast, reached
from diag.sequence.outlook import DANGEROUS, Outlook
from rome_diagnosis import limits
from rome_diagnosis.editors import REMEDY
from rome_diagnosis.envelope import finite
from rome_diagnosis.limits import RESIDUAL_SHORT, SEQUENCE_COLLAPSE, SEQUENCE_HARM, STEP_REACH

DIGITS = 6  # of the damage after each of thousands of edits


def of_limits() -> dict[str, float]:
    """The limits a forecast rests on, as documents hold them."""
    own = {
        "sequence_collapse": SEQUENCE_COLLAPSE,
        "sequence_harm": SEQUENCE_HARM,
        "residual_short": RESIDUAL_SHORT,
        "step_reach": STEP_REACH,
    }
    return limits.of_verdicts() | {name: limit.value for name, limit in own.items()}


def of_outlook(outlook: Outlook, method: str, *, weak: str | None = None) -> dict[str, Any]:
    """What a document says before anything is edited.

    Args:
        outlook: What is known of the list.
        method: The chosen method.
        weak: A sentence on a parameter that leaves little of the change, if one does.

    Returns:
        ``edits``, ``refused``, ``forecast``, ``editors`` and ``advice``.
    """
    listed = outlook.listed
    refused = sorted(listed.refused, key=lambda one: one.index)
    return finite(
        {
            "edits": _edits(outlook),
            "refused": [{"index": one.index, "reason": one.reason} for one in refused],
            "forecast": _forecast(outlook),
            "editors": {name: _editor(outlook, of) for name, of in outlook.editors.items()},
            "advice": advice(_case(outlook, method, weak)),
        }
    )


def _edits(outlook: Outlook) -> list[dict[str, Any]]:
    listed, chosen = outlook.listed, outlook.chosen
    damage, first = _values(chosen.alone.corpus), _values(chosen.alone.first_tokens)
    rho, response = listed.rho.tolist(), outlook.response.tolist()
    forgetting = outlook.forgetting.tolist()
    return [
        {
            "index": listed.indices[i],
            "case_id": case.case_id,
            "subject": case.request.subject,
            "prompt": case.request.prompt,
            "token": at.token,
            "is_first_token": at.is_first_token,
            "rho": rho[i],
            "damage": damage[i] if damage else None,
            "first_tokens": first[i] if first else None,
            "expected_share": chosen.grounds[i].expected_share,
            "verdict": chosen.verdicts[i],
            "response": response[i],
            "forgetting": forgetting[i],
        }
        for i, (case, at) in enumerate(zip(listed.cases, listed.lookups, strict=True))
    ]


def _forecast(outlook: Outlook) -> dict[str, Any]:
    listed, chosen = outlook.listed, outlook.chosen
    method = chosen.plan.geometry.method
    subjects = [case.request.subject for case in listed.cases]
    return {
        "collapse_at": looks.collapse_at(chosen),
        "collapse_between": [
            None if of is None else reached(of.corpus, SEQUENCE_COLLAPSE.value)
            for of in (chosen.high, chosen.low)
        ],
        "harm_at": looks.harm_at(chosen),
        "dangerous": [
            {
                "index": listed.indices[i],
                "subject": subjects[i],
                "reason": danger(chosen.grounds[i], has_two_keys=method.along != method.divide_by),
                "verdict": chosen.verdicts[i],
            }
            for i in outlook.dangerous
        ],
        "pairs": [
            {
                "earlier": listed.indices[pair.earlier],
                "later": listed.indices[pair.later],
                "share": pair.share,
                "reason": entangled(subjects[pair.earlier], subjects[pair.later], pair.share),
            }
            for pair in outlook.pairs
        ],
        "damage": [float(f"{value:.{DIGITS}g}") for value in _values(chosen.curve.corpus)],
        "curve": _curve(outlook, chosen),
        "without_dangerous": _reach(outlook.without),
        "with_remedy": None if outlook.remedied is None else _reach(outlook.remedied),
        "remedy": REMEDY,
        "forgetting": {
            # Nothing comes after the last edit.
            "median": float(outlook.forgetting[: max(1, len(listed) - 1)].median()),
            "n_lost": int((outlook.forgetting >= 1.0).sum()),
            "n": len(listed),
        },
        "not_checked": outlook.not_checked,
    }


def _editor(outlook: Outlook, of: Forecast) -> dict[str, Any]:
    return {
        **_reach(of),
        "n_dangerous": sum(verdict in DANGEROUS for verdict in of.verdicts),
        "curve": _curve(outlook, of),
    }


def _reach(of: Forecast | None) -> dict[str, Any]:
    if of is None:
        return {
            "edits": 0, "harm_at": None, "collapse_at": None, "damage": None, "first_tokens": None
        }  # fmt: skip
    damage, first = _values(of.curve.corpus), _values(of.curve.first_tokens)
    return {
        "edits": len(of.plan.chosen),
        "harm_at": looks.harm_at(of),
        "collapse_at": looks.collapse_at(of),
        "damage": damage[-1] if damage else None,
        "first_tokens": first[-1] if first else None,
    }


def _curve(outlook: Outlook, of: Forecast) -> list[dict[str, Any]]:
    if of.curve.corpus is None:
        return []
    return [
        {
            "edits": at,
            "damage": _at(of, at, "corpus"),
            "first_tokens": None if of.curve.first_tokens is None else _at(of, at, "first_tokens"),
        }
        for at in looks.places(outlook)
    ]


def _at(of: Forecast, at: int, where: str) -> Mapping[str, float]:
    """A figure after a number of edits; without an interval where none was forecast."""

    def value(curve: Curve) -> float:
        return float(f"{float(getattr(curve, where)[at - 1]):.{DIGITS}g}")

    ends = {"low": of.low, "high": of.high}
    return {
        "expected": value(of.curve),
        **{name: value(curve) for name, curve in ends.items() if curve is not None},
    }


def _case(outlook: Outlook, method: str, weak: str | None) -> ListFigures:
    listed = outlook.listed
    without, remedied = outlook.without, outlook.editors.get(REMEDY)
    repaired = [] if remedied is None else [
        remedied.verdicts[i] for i in outlook.dangerous if remedied.verdicts[i] not in DANGEROUS
    ]  # fmt: skip
    return ListFigures(
        method=method,
        n=len(listed),
        checked=outlook.not_checked is None,
        dangerous=[listed.indices[i] for i in outlook.dangerous],
        repaired=None if remedied is None else len(repaired),
        unclear=repaired.count("unclear"),
        harm_at=None if without is None else looks.harm_at(without),
        collapse_at=None if without is None else looks.collapse_at(without),
        farthest=max(
            outlook.editors, key=lambda name: _length(outlook.editors[name], name == method)
        ),
        lost=int((outlook.forgetting >= 1.0).sum()),
        pairs=len(outlook.pairs),
        contradictions=[
            (listed.indices[i], listed.indices[j])
            for i, j in contradictions([case.request for case in listed.cases])
        ],
        begin_with_subject=any(at.is_first_token for at in listed.lookups),
        weak=weak,
        doubtful=outlook.chosen.verdicts.count("unclear"),
    )


def _length(of: Forecast, preferred: bool) -> tuple[float, bool]:
    """How far a list gets; of equals the one that was chosen."""
    at = looks.collapse_at(of)
    return (float("inf") if at is None else float(at), preferred)


def _values(curve: Tensor | None) -> list[float]:
    return [] if curve is None else curve.tolist()
