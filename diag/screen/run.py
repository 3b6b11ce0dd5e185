"""A run over a data set: shards, each measured once, then one table and its summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from diag.judgement import limits
from diag.screen import document, scan
from diag.screen.across import groups
from diag.screen.result import Screening
from diag.screen.scan import Scan
from diag.screen.shard import Measured, Screener, shard_size
from diag.screen.summary import sum_up
from diag.screen.table import Parts, column, with_methods
from probes.model.loaded import describe
from probes.ranks import Ranks
from probes.request import cases, records
from probes.request.request import Request
from rome_diagnosis import envelope, files
from rome_diagnosis.errors import UserError
from rome_diagnosis.version import __version__

SCHEMA = "diag.screen/1"
Progress = Callable[[int, int], None]
# Rows of a data set in, rows of the table out.
Measure = Callable[[Sequence[records.Row]], list[dict[str, Any]]]


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
    def methods(self) -> list[str]:
        """Names of the methods that have columns beside the published editor's."""
        return [of.method for of in self.screener.methods]

    @property
    def shard(self) -> int:
        """Rows in a shard."""
        shared = self.screener.shared
        return shard_size(len(shared.prefixes), int(shared.model.config.d_mlp))

    @property
    def settings(self) -> dict[str, Any]:
        """Everything the table depends on."""
        methods = self.screener.methods
        shared, moment = self.screener.shared, self.screener.moment
        return {
            "schema": SCHEMA,
            "version": __version__,
            "dataset": self.scan.digest,
            "model": shared.model.fingerprint,
            "bos": shared.model.bos,
            "dtype": shared.model.arithmetic,
            "layer": shared.layer,
            "prefixes": shared.prefixes,
            "second_moment": [moment.describe(), *moment.eigenvalues],
            "hyperparameters": self.screener.hyperparameters.to_json(),
            "seed": self.screener.seed,
            "shard": self.shard,
            "limits": limits.of_verdicts(),
            **({"method": [document.method(of) for of in methods]} if methods else {}),
        }


def run(plan: Plan, group: Ranks, progress: Progress) -> Screening:
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
        began = time.perf_counter()
        columns = with_methods(plan.methods, layer=False)
        parts = opened(plan.output, plan.settings, group, columns)
        figures = fill(
            parts, plan.scan, plan.shard, lambda rows: screen_rows(plan.screener, rows),
            group, progress,
        )  # fmt: skip
        written: dict[str, Any] = {}
        if group.is_first:
            parts.merge(shards(plan.scan, plan.shard), plan.scan.n_rows)
            written = _document(plan, figures, time.perf_counter() - began)
            if plan.in_order is not None:
                written["in_order"] = plan.in_order(plan)
        return Screening(plan.output, group.share(envelope.plain(written)))


def opened(output: str, settings: Mapping[str, Any], group: Ranks, columns: pa.Schema) -> Parts:
    """The parts of a table, in every process that shares the work; the first makes the folder."""
    for first in (True, False):
        if group.is_first == first:
            parts = Parts(output, settings, columns=columns, first=first)
        group.wait()
    return parts


def shards(of: Scan, size: int) -> range:
    """The shards of a data set."""
    return range(-(-of.n_rows // size))


def fill(
    parts: Parts, of: Scan, size: int, measure: Measure, group: Ranks, progress: Progress
) -> list[Any]:
    """Makes the parts that are not there yet, this process its own.

    Args:
        parts: The parts.
        of: The data set.
        size: Rows in a shard.
        measure: Measures the rows of a shard.
        group: The processes that share the work.
        progress: Called with the rows done and all rows.

    Returns:
        Of every process, when it has finished, the rows it measured and its peak memory.
    """
    own = [i for i in shards(of, size) if group.mine(i)]
    waiting = {i for i in own if not parts.has(i)}
    measured = 0
    for index, rows in scan.shards(of.path, size):
        if index not in waiting:
            continue
        parts.write(index, measure(rows))
        measured += len(rows)
        waiting.remove(index)
        done = 1 - len(waiting) / len(own)
        progress(round(done * of.n_rows), of.n_rows)
    # Others may still be at work: what they measured and took is theirs to report.
    return group.gather(document.figures(measured))


def screen_rows(screener: Screener, rows: Iterable[records.Row]) -> list[dict[str, Any]]:
    """Measures the rows of a shard.

    Args:
        screener: Measures and judges.
        rows: Rows of the data set.

    Returns:
        Rows of the table.
    """
    listed, edits = read(rows)
    return filled(listed, edits, screener.screen([edit for _, _, edit in edits]))


def read(
    rows: Iterable[records.Row],
) -> tuple[list[dict[str, Any]], list[tuple[int, str, Request]]]:
    """Rows of the table as far as the data set has them.

    Args:
        rows: Rows of the data set.

    Returns:
        A row for each, and the edits: the row, its place in the file, and the request.
    """
    listed: list[dict[str, Any]] = []
    edits: list[tuple[int, str, Request]] = []
    for row in rows:
        edit, problem = scan.read(row)
        listed.append({"row": row.row, "case_id": cases.case_id(row.record), "error": problem})
        if edit is not None:
            listed[-1] |= {"subject": edit.subject, "prompt": edit.prompt}
            edits.append((len(listed) - 1, row.place, edit))
    return listed, edits


def filled(
    listed: Sequence[Mapping[str, Any]],
    edits: Sequence[tuple[int, str, Request]],
    measured: Measured,
) -> list[dict[str, Any]]:
    """Rows of the table with what was measured.

    Args:
        listed: The rows, of :func:`read`.
        edits: The edits among them.
        measured: For each edit its columns, or why it could not be measured.

    Returns:
        The rows.
    """
    results = [dict(row) for row in listed]
    for (at, place, _), result in zip(edits, measured, strict=True):
        if isinstance(result, UserError):
            results[at]["error"] = f"{place}: {result}"
        else:
            results[at] |= result
    return results


def _document(plan: Plan, figures: list[Any], seconds: float) -> dict[str, Any]:
    screener = plan.screener
    shared, moment = screener.shared, screener.moment
    summary, errors, riskiest = sum_up(plan)
    return {
        **envelope.head(SCHEMA, plan.command_line),
        "dataset": document.dataset(plan.scan),
        "table": plan.output,
        "model": describe(shared.model),
        "site": {"layer": shared.layer, "hook": shared.model.hook(shared.layer, "key")},
        "contexts": document.contexts(shared, screener.seed if plan.sampled else None),
        "second_moment": moment.describe(shared.model.computed_in),
        "clamp_factor": screener.hyperparameters.clamp_norm_factor,
        "limits": limits.of_verdicts(),
        "summary": summary,
        "errors": errors,
        "riskiest": riskiest,
        "riskiest_file": plan.riskiest,
        "run": document.work(figures, plan.scan.n_rows, seconds),
        **_by_method(plan),
    }


def _by_method(plan: Plan) -> dict[str, Any]:
    """What the table says of the method beside the published editor, where there is one."""
    if not plan.methods:
        return {}
    import pandas as pd

    (of,) = plan.screener.methods
    screened = pd.read_parquet(plan.output)
    screened = screened[screened["error"].isna()]
    limit = limits.RESPONSE_FAINT.value
    bare = screened[column("bare", of.method)]
    written = document.method(of) | {
        "faint": int((bare < limit).sum()),
        "faint_below": limit,
        "groups": groups(screened, plan.methods),
    }
    return {"method": envelope.finite(written)}
