"""What a table of one block sums up to: counts, the first errors, the riskiest rows."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pyarrow.parquet as pq

from diag.judgement.verdict import Verdict
from diag.screen import document
from diag.screen.across import groups
from diag.screen.table import FLOATS, column
from probes.request import records
from rome_diagnosis import envelope
from rome_diagnosis.disk import files
from rome_diagnosis.limits import RESPONSE_FAINT

if TYPE_CHECKING:
    from diag.screen.run import ScreenPlan

SCHEMA = "diag.screen/1"
RISKIEST_LISTED = 20
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


def document_of(plan: ScreenPlan) -> dict[str, Any]:
    """What the document of a screening at one block has beside every screening's."""
    shared = plan.screeners.shared
    counted, errors, riskiest = _sum_up(plan)
    return {
        "site": {"layer": shared.layer, "hook": shared.model.hook(shared.layer, "key")},
        "second_moment": plan.screeners.described[0]["second_moment"],
        "summary": counted,
        "errors": errors,
        "riskiest": riskiest,
        "riskiest_file": plan.riskiest,
        **_by_method(plan),
    }


def _by_method(plan: ScreenPlan) -> dict[str, Any]:
    """What the table says of the method beside the published editor, where there is one."""
    if not plan.methods:
        return {}
    import pandas as pd

    (of,) = plan.screeners.methods
    screened = pd.read_parquet(plan.output)
    screened = screened[screened["error"].isna()]
    limit = RESPONSE_FAINT.value
    written = document.method(of) | {
        "faint": int((screened[column("bare", of.method)] < limit).sum()),
        "faint_below": limit,
        "groups": groups(screened, plan.methods),
    }
    return {"method": envelope.finite(written)}


def _sum_up(plan: ScreenPlan) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """Counts, the first errors and the riskiest rows, in one pass over the table."""
    verdicts: Counter[str] = Counter()
    by_position: dict[str, Counter[str]] = {"first": Counter(), "later": Counter()}
    errors: list[dict[str, Any]] = []
    n_errors = 0
    numbers: dict[str, list[float]] = {"rho": [], "relative_bound_rome": []}
    listed = max(RISKIEST_LISTED, plan.n_riskiest if plan.riskiest else 0)
    worst: list[tuple[tuple[float, float, int], dict[str, Any]]] = []
    for batch in pq.ParquetFile(plan.output).iter_batches(batch_size=4096):
        for row in batch.to_pylist():
            if row["error"] is not None:
                n_errors += 1
                if len(errors) < document.ERRORS_LISTED:
                    errors.append({"row": row["row"], "error": row["error"]})
                continue
            verdicts[row["verdict"]] += 1
            by_position["first" if row["is_first_token"] else "later"][row["verdict"]] += 1
            for name, values in numbers.items():
                if row[name] is not None:
                    values.append(row[name])
            item = (_risk(row), row)
            if len(worst) < listed:
                heapq.heappush(worst, item)
            else:
                heapq.heappushpop(worst, item)
    ranked = [row for _, row in sorted(worst, key=lambda item: item[0], reverse=True)]
    if plan.riskiest:
        _write_riskiest(plan, ranked[: plan.n_riskiest])
    names = get_args(Verdict)
    summary = {
        "n": plan.scan.n_rows,
        "screened": sum(verdicts.values()),
        "errors": n_errors,
        "verdicts": {name: verdicts[name] for name in names},
        "by_position": {
            where: {name: counts[name] for name in names} for where, counts in by_position.items()
        },
        "quantiles": {
            "at": list(QUANTILES),
            **{
                name: np.quantile(values, QUANTILES).tolist() if values else None
                for name, values in numbers.items()
            },
        },
    }
    return summary, errors, ranked[:RISKIEST_LISTED]


def _risk(row: Mapping[str, Any]) -> tuple[float, float, int]:
    """Orders rows by the damage ROME would do, by 1/|ρ| where that is not known; then as listed."""
    relative = row["relative_bound_rome"]
    if relative is None:
        relative = float("inf") if row["d_rome"] == 0.0 else -1.0
    return relative, -abs(row["rho"]), -row["row"]


def _write_riskiest(plan: ScreenPlan, ranked: list[dict[str, Any]]) -> None:
    """Writes the riskiest records with all that tests the edits, and their measurements."""
    wanted = {row["row"]: row for row in ranked}
    chosen: dict[int, Any] = {}
    for row in records.rows(plan.scan.path):
        if row.row in wanted:
            measured = wanted[row.row]
            screened = {name: measured[name] for name in ("row", "verdict", *FLOATS)}
            chosen[row.row] = {**row.record, "screen": screened}
    assert plan.riskiest is not None
    # Tables hold dates and the like, which JSON does not know.
    lines = [json.dumps(chosen[row], default=str) + "\n" for row in wanted]
    files.write_text(plan.riskiest, "".join(lines))
