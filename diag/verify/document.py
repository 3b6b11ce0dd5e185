"""What a ``diag.verify/1`` document says of one edit, beside the measurements of its arms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from diag.judgement import agreement
from diag.judgement.outcome import Judged
from diag.keys.judge import Judgement
from probes.keys.observe import Observation
from probes.request.cases import EditCase
from probes.target_value.optimise import TargetValue
from rome_diagnosis.editors import PUBLISHED
from rome_diagnosis.envelope import finite


def of_edit(case: EditCase, observation: Observation, target: TargetValue) -> dict[str, Any]:
    """The edit: what was asked for, where it is made, how v* was optimised.

    Args:
        case: The edit.
        observation: Its keys and lookups.
        target: Its optimised value.

    Returns:
        ``request``, ``site`` and ``optimisation``.
    """
    edit, first = case.request, observation.lookups[0]
    return {
        "request": edit.describe()
        | {
            "case_id": case.case_id,
            "group": case.group,
        },
        "site": {
            "layer": observation.layer,
            "hook": observation.hook,
            "token": first.token,
            "index": first.index,
            "is_first_token": first.is_first_token,
        },
        "optimisation": {
            "steps": target.steps,
            "loss": target.losses[-1],
            "losses": list(target.losses),
            "probability": target.probability,
            "delta_norm": float(target.delta.norm()),
            "initial_norm": float(target.initial.norm()),
            "clamp_saturated": target.clamp_saturated,
        },
    }


def of_outcomes(judgement: Judgement, judged: Mapping[str, Judged]) -> dict[str, Any]:
    """What became of the model in each arm, beside what was predicted.

    Args:
        judgement: The diagnosis before the edit.
        judged: The outcome of each arm.

    Returns:
        ``prediction``, ``collapsed``, ``outcome`` and ``outcome_reasons``.
    """
    published = PUBLISHED
    compared = agreement.compare_with_performed(judgement.verdict, judged[published].outcome)
    return {
        "prediction": {
            "verdict": judgement.verdict,
            "relative_bound": finite(judgement.damage[published].relative_bound),
            "expected_share": judgement.damage[published].expected_share,
            **asdict(compared),
        },
        "collapsed": {arm: judgement.outcome == "collapsed" for arm, judgement in judged.items()},
        "outcome": {arm: judgement.outcome for arm, judgement in judged.items()},
        "outcome_reasons": {arm: list(judgement.reasons) for arm, judgement in judged.items()},
    }
