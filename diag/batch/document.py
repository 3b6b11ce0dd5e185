"""The ``diag.batch/1`` document: what a pre-flight preflight, and what became of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from diag.batch.check import Preflight
from diag.batch.perform import PerformedBatch
from diag.batch.preflight import Shares
from diag.judgement.words import capital
from probes.model.loaded import describe_model
from probes.request.cases import EditCase
from probes.request.records import Refused
from probes.statistics import spearman
from rome_diagnosis import envelope, limits
from rome_diagnosis.envelope import finite

SCHEMA = "diag.batch/1"
MOST_PICTURED = 60  # edits whose cosines are kept: more are too small to see
MOST_PAIRS = 100
# Findings of one status, the one a reader needs first at the beginning.
IMPORTANCE = (
    "damage", "common_token", "asked_with", "directions", "ratio", "condition", "takes",
    "first_tokens", "pairs", "weight", "cross_response",
)  # fmt: skip


def of_preflight(
    preflight: Preflight,
    cases: Sequence[EditCase],
    *,
    refused: Sequence[Refused] = (),
    notes: Sequence[str] = (),
    command_line: str | None = None,
) -> dict[str, Any]:
    """The document of a batch that was checked.

    Args:
        preflight: The pre-flight.
        cases: The edits.
        refused: Records that are none.
        notes: What was supplied or changed in reading them.
        command_line: What repeats it.

    Returns:
        The document.
    """
    return envelope.plain(
        finite(
            {
                **envelope.head(SCHEMA, command_line),
                **_measured_with(preflight),
                "layers": _layers(preflight),
                "edits": _edits(preflight, cases),
                "refused": [asdict(each) for each in refused],
                "pairs": [asdict(pair) for pair in preflight.pairs[:MOST_PAIRS]],
                "n_pairs": len(preflight.pairs),
                "family": _family(preflight),
                "picture": _picture(preflight),
                "findings": [asdict(finding) for finding in preflight.findings],
                "limits": limits.of_verdicts(),
                "verdict": preflight.verdict,
                "summary": summary(preflight),
                "notes": [
                    *notes,
                    *preflight.workplace.notes,
                ],
            }
        )
    )


def summary(preflight: Preflight) -> str:
    """A sentence or two on a batch: the worst that was preflight of it, or that nothing was.

    Args:
        preflight: The pre-flight.

    Returns:
        The sentences.
    """
    order = ("fail", "warn")
    loud = sorted(
        (each for each in preflight.findings if each.status in order),
        key=lambda each: (order.index(each.status), IMPORTANCE.index(each.id)),
    )
    unknown = [each for each in preflight.findings if each.id == "damage" and each.value is None]
    if loud:
        return " ".join(capital(each.message) for each in loud[:2])
    return capital(unknown[0].message if unknown else "nothing in this batch is beyond its limit")


def of_performed(
    preflight: Preflight, made: PerformedBatch, measured: Mapping[str, Any]
) -> dict[str, Any]:
    """The document's ``performed``.

    Args:
        preflight: The pre-flight.
        made: What was written.
        measured: What :meth:`diag.batch.measure.BatchBench.measure` returned.

    Returns:
        The object.
    """
    figures = dict(measured)
    on_texts = figures.pop("damage_measured")
    received = made.received.tolist()
    losses = [target.losses[-1] for target in made.targets]
    edits = [
        {"received": received[edit["index"]], "loss": losses[edit["index"]], **edit}
        for edit in figures["edits"]
    ]
    indices = [edit["index"] for edit in edits]
    predicted = [] if preflight.bare is None else preflight.bare[indices].tolist()
    neighbours = [
        (edit["neighbours_receive"], edit["locality_lost"])
        for edit in edits
        if None not in (edit["neighbours_receive"], edit["locality_lost"])
    ]
    return finite(
        {
            "targets": {
                "loss": float(torch.tensor(losses).median()),
                "clamped": sum(target.clamp_saturated for target in made.targets),
                "n": len(losses),
            },
            "layers": _written(preflight, made, on_texts),
            **figures,
            "edits": edits,
            "predicted_received": _rank(predicted, [edit["received"] for edit in edits]),
            "received_efficacy": _rank(predicted, [edit["bare"]["p_after"] for edit in edits]),
            "neighbours_locality": _rank(
                *zip(*neighbours, strict=True) if neighbours else ([], [])
            ),
        }
    )


def _measured_with(preflight: Preflight) -> dict[str, Any]:
    """Model, method and contexts."""
    workplace, chosen = preflight.workplace, preflight.workplace.chosen
    return {
        "model": describe_model(workplace.model),
        "method": {
            "name": chosen.method,
            "parameters": workplace.geometries[workplace.layers[0]].in_effect,
            "clamp": chosen.target.clamp_norm_factor,
            "spread": chosen.row.spread,
            "post": chosen.post,
        },
        "contexts": {
            "seed": workplace.seed if workplace.sampled else None,
            "sampled": workplace.sampled,
            "n": len(workplace.prefixes),
            "prefixes": list(workplace.prefixes),
        },
    }


def _family(preflight: Preflight) -> list[dict[str, Any]]:
    return [
        {
            "name": row.method.name,
            "parameters": row.parameters,
            "regulariser": row.regulariser,
            "condition_number": row.condition_number,
            "rank": row.rank,
            "response": None if row.shares is None else _medians(row.shares),
        }
        for row in preflight.family
    ]


def _written(preflight: Preflight, batch: PerformedBatch, on_texts: float) -> list[dict[str, Any]]:
    rows = []
    for i, written in enumerate(batch.layers):
        moment = preflight.workplace.moments[written.layer].moment
        weight = preflight.workplace.model.output_weight(written.layer).double().norm()
        rows.append(
            {
                "layer": written.layer,
                "update_norm": written.norm,
                "relative_update_norm": written.norm / float(weight),
                "residual": float(written.update.residuals.square().sum(1).mean().sqrt()),
                "received": float(written.received.median()),
                "damage": None if moment is None else written.damage(moment),
                "damage_measured": on_texts if i == 0 else None,
            }
        )
    return rows


def _layers(preflight: Preflight) -> list[dict[str, Any]]:
    workplace = preflight.workplace
    return [
        {
            "layer": layer.layer,
            "hook": workplace.model.hook(layer.layer, "key"),
            "second_moment": workplace.moments[layer.layer].describe(workplace.model.computed_in),
            "regulariser": layer.regulariser,
            "condition_number": layer.condition_number,
            "rank": layer.rank,
            "damage": asdict(layer.damage),
        }
        for layer in preflight.layers
    ]


def _edits(preflight: Preflight, cases: Sequence[EditCase]) -> list[dict[str, Any]]:
    first = preflight.layers[0]
    each_response = [None] * len(cases) if first.shares is None else _each(first.shares, len(cases))
    rows = []
    for i, (case, lookup) in enumerate(zip(cases, preflight.observation.lookups, strict=True)):
        edit = case.request
        rows.append(
            {
                "request": edit.describe(),
                "case_id": case.case_id,
                "token": lookup.token,
                "token_index": lookup.index,
                "is_first_token": lookup.is_first_token,
                "longest": float(preflight.longest[i]),
                "expected_share": float(preflight.expected_share[i]),
                "key_length": float(first.lengths[i]),
                "response": each_response[i],
                "received_bare": _at(preflight.bare, i),
                "received_prefixed": _at(preflight.prefixed, i),
                "nearest": _other(first.cosines, i),
                "disturbed_by": None if first.cross is None else _other(first.cross, i),
            }
        )
    return rows


def _picture(preflight: Preflight) -> dict[str, Any]:
    first = preflight.layers[0]
    n = min(MOST_PICTURED, len(preflight.requests))
    return {
        "layer": first.layer,
        "edits": list(range(n)),
        "cosines": first.cosines[:n, :n].clamp(-1.0, 1.0).tolist(),
        "cross_response": None if first.cross is None else first.cross[:n, :n].tolist(),
    }


def _each(shares: Shares, n: int) -> list[dict[str, Any]]:
    return [
        {
            "bare": float(shares.bare[i]),
            "prefixed": _at(shares.prefixed, i),
            "other_first_tokens": _at(shares.first_tokens, i),
            "later_tokens": _at(shares.later_tokens, i),
        }
        for i in range(n)
    ]


def _medians(shares: Shares) -> dict[str, Any]:
    return {
        "bare": float(shares.bare.median()),
        "prefixed": _median(shares.prefixed),
        "other_first_tokens": _median(shares.first_tokens),
        "later_tokens": _median(shares.later_tokens),
    }


def _other(matrix: Tensor, i: int) -> dict[str, Any] | None:
    """The other edit with the largest entry in a row; ``None`` in a batch of one."""
    if len(matrix) < 2:
        return None
    row = matrix[i].abs().clone()
    row[i] = -1.0
    j = int(row.argmax())
    return {"index": j, "value": float(matrix[i, j])}


def _rank(one: Sequence[float], other: Sequence[float]) -> dict[str, Any]:
    return {"rho": spearman(one, other) if len(one) > 2 else None, "n": len(one)}


def _at(values: Tensor | None, i: int) -> float | None:
    return None if values is None else float(values[i])


def _median(values: Tensor | None) -> float | None:
    return None if values is None else float(values.median())
