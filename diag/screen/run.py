"""A run over a data set: shards, each measured once, then one table and its summary."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow.parquet as pq

from diag.judgement import limits
from diag.judgement.verdict import Verdict
from diag.screen.result import Screening
from diag.screen.shard import Screener, shard_size
from diag.screen.table import FLOATS, Parts
from probes.model.loaded import describe
from probes.ranks import Ranks
from probes.request import cases, records
from probes.request.request import Request
from rome_diagnosis import envelope, files
from rome_diagnosis.errors import UserError
from rome_diagnosis.version import __version__

SCHEMA = "diag.screen/1"
OnError = Literal["skip", "refuse"]
ERRORS_LISTED = 100
RISKIEST_LISTED = 20
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


@dataclass(frozen=True)
class Scan:
    """A data set, read through once before any work is done.

    Attributes:
        path: The file.
        digest: SHA-256 of its bytes.
        n_rows: Its rows.
        n_malformed: Rows that are no edits.
        notes: What was left out or changed in reading, for people to read.
    """

    path: str
    digest: str
    n_rows: int
    n_malformed: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What is screened, how, and where results go.

    Attributes:
        scan: The data set.
        output: The table to be.
        screener: Measures and judges.
        sampled: Whether the contexts were sampled with the screener's seed.
        riskiest: A file for the riskiest cases, or ``None``.
        n_riskiest: How many.
        command_line: What repeats the run.
        in_order: Forecasts the data set as a list of edits; ``None`` where that is not asked.
    """

    scan: Scan
    output: str
    screener: Screener
    sampled: bool
    riskiest: str | None
    n_riskiest: int
    command_line: str | None
    in_order: Callable[[Plan], dict[str, Any]] | None = None

    @property
    def shard(self) -> int:
        """Rows in a shard."""
        shared = self.screener.shared
        return shard_size(len(shared.prefixes), int(shared.model.config.d_mlp))

    @property
    def settings(self) -> dict[str, Any]:
        """Everything the table depends on."""
        shared, moment = self.screener.shared, self.screener.moment
        return {
            "schema": SCHEMA,
            "version": __version__,
            "dataset": self.scan.digest,
            "model": shared.model.fingerprint,
            "bos": shared.model.bos,
            "dtype": shared.model.computed_in,
            "layer": shared.layer,
            "prefixes": shared.prefixes,
            "second_moment": [moment.describe(), *moment.eigenvalues],
            "hyperparameters": self.screener.hyperparameters.to_json(),
            "seed": self.screener.seed,
            "shard": self.shard,
            "limits": limits.of_verdicts(),
        }


def scan(path: str, *, on_error: OnError = "skip") -> Scan:
    """Reads a data set through once: counts, digests, and finds what is no edit.

    Args:
        path: The file.
        on_error: ``refuse`` makes a malformed row end the run here.

    Returns:
        What it holds.

    Raises:
        UserError: If the file cannot be read, none of its rows is an edit, or one is not and that
            is to be refused.
    """
    n_rows, malformed, example = 0, 0, ""
    notes = records.Notes()
    for row in records.rows(path):
        n_rows += 1
        request, problem = _read(row)
        if request is not None:
            notes.add(row.record, request.notes)
        if problem is not None:
            malformed += 1
            example = example or problem
            if on_error == "refuse":
                raise UserError(f"{path}: {problem} (--on-error skip keeps such rows as errors)")
        if malformed == n_rows == records.HOPELESS:
            break
    if malformed == n_rows:
        raise records.none_is_an_edit(path, n_rows, example)
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return Scan(path, digest.hexdigest(), n_rows, malformed, notes.lines())


def run(plan: Plan, group: Ranks, progress: Callable[[int, int], None]) -> Screening:
    """Makes the parts that are not there yet, this process its own, and puts them together.

    Args:
        plan: What to do.
        group: The processes that share the work.
        progress: Called with the rows done and all rows.

    Returns:
        The table and its summary.

    Raises:
        UserError: If a file cannot be written or belongs to another run.
    """
    with files.locked(plan.output, plan.riskiest):
        return _run(plan, group, progress)


def _run(plan: Plan, group: Ranks, progress: Callable[[int, int], None]) -> Screening:
    began = time.perf_counter()
    for first in (True, False):
        if group.is_first == first:
            parts = Parts(plan.output, plan.settings, first=first)
        group.wait()
    n_shards = -(-plan.scan.n_rows // plan.shard)
    waiting = {i for i in range(n_shards) if group.mine(i) and not parts.has(i)}
    total = sum(1 for i in range(n_shards) if group.mine(i))
    measured = 0
    for index, rows in _shards(plan.scan.path, plan.shard):
        if index not in waiting:
            continue
        parts.write(index, screen_rows(plan.screener, rows))
        measured += len(rows)
        waiting.remove(index)
        done = 1 - len(waiting) / total
        progress(round(done * plan.scan.n_rows), plan.scan.n_rows)
    # Others may still be at work: what they measured and took is theirs to report.
    figures = group.gather(_figures(measured))
    document: dict[str, Any] = {}
    if group.is_first:
        parts.merge(range(n_shards), plan.scan.n_rows)
        document = _document(plan, figures, time.perf_counter() - began)
        if plan.in_order is not None:
            document["in_order"] = plan.in_order(plan)
    return Screening(plan.output, group.share(envelope.plain(document)))


def screen_rows(screener: Screener, rows: Iterable[records.Row]) -> list[dict[str, Any]]:
    """Measures the rows of a shard.

    Args:
        screener: Measures and judges.
        rows: Rows of the data set.

    Returns:
        Rows of the table.
    """
    results: list[dict[str, Any]] = []
    edits: list[tuple[int, str, Request]] = []
    for row in rows:
        edit, problem = _read(row)
        results.append({"row": row.row, "case_id": cases.case_id(row.record), "error": problem})
        if edit is not None:
            results[-1] |= {"subject": edit.subject, "prompt": edit.prompt}
            edits.append((len(results) - 1, row.place, edit))
    measured = screener.screen([edit for _, _, edit in edits])
    for (at, place, _), result in zip(edits, measured, strict=True):
        if isinstance(result, UserError):
            results[at]["error"] = f"{place}: {result}"
        else:
            results[at] |= result
    return results


def _read(row: records.Row) -> tuple[Request | None, str | None]:
    if row.error is not None:
        return None, f"{row.place}: {row.error}"
    try:
        return cases.edit(row.record), None
    except UserError as error:
        return None, f"{row.place}: {error}"


def _shards(path: str, size: int) -> Iterator[tuple[int, list[records.Row]]]:
    rows = records.rows(path)
    for index in itertools.count():
        shard = list(itertools.islice(rows, size))
        if not shard:
            return
        yield index, shard


def _figures(measured: int) -> Any:
    """Rows this process measured, and its peak memory in bytes."""
    import resource

    import torch

    # Linux counts kibibytes, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return torch.tensor([measured, peak], dtype=torch.int64)


def _document(plan: Plan, figures: list[Any], seconds: float) -> dict[str, Any]:
    screener = plan.screener
    shared, moment = screener.shared, screener.moment
    summary, errors, riskiest = _sum_up(plan)
    measured = [int(row[0]) for row in figures]
    return {
        **envelope.head(SCHEMA, plan.command_line),
        "dataset": {
            "name": Path(plan.scan.path).name,
            "digest": plan.scan.digest,
            "notes": list(plan.scan.notes),
        },
        "table": plan.output,
        "model": describe(shared.model),
        "site": {"layer": shared.layer, "hook": shared.model.hook(shared.layer, "key")},
        "contexts": {
            "seed": screener.seed if plan.sampled else None,
            "sampled": plan.sampled,
            "n": len(shared.prefixes),
            "prefixes": shared.prefixes,
        },
        "second_moment": moment.describe(shared.model.computed_in),
        "clamp_factor": screener.hyperparameters.clamp_norm_factor,
        "limits": limits.of_verdicts(),
        "summary": summary,
        "errors": errors,
        "riskiest": riskiest,
        "riskiest_file": plan.riskiest,
        "run": {
            "processes": len(figures),
            "seconds": seconds,
            "measured": sum(measured),
            "resumed": plan.scan.n_rows - sum(measured),
            "requests_per_second": sum(measured) / seconds,
            "peak_memory": [int(row[1]) for row in figures],
        },
    }


def _sum_up(plan: Plan) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
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
                if len(errors) < ERRORS_LISTED:
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


def _write_riskiest(plan: Plan, ranked: list[dict[str, Any]]) -> None:
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
