"""A run over a data set: shards, each measured once at every block, then one table and its summary.

One block is the case of several in which rows do not say their block.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diag.screen import across, document, scan, summary
from diag.screen.scan import Scan
from diag.screen.screeners import Screeners
from diag.screen.shard import Measured
from diag.screen.table import Parts, with_methods
from probes.keys.shard_size import shard_size
from probes.model.loaded import describe_model
from probes.ranks import Ranks
from probes.request import cases, records
from probes.request.request import Request
from rome_diagnosis import envelope, limits
from rome_diagnosis.disk import files
from rome_diagnosis.errors import UserError
from rome_diagnosis.version import __version__

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class ScreenPlan:
    """What is screened, how, and where results go.

    Attributes:
        scan: The data set.
        output: The table to be.
        screeners: Measure and judge, at each block.
        several: Whether the table and the summary are by block.
        sampled: Whether the contexts were sampled with the screeners' seed.
        riskiest: A file for the riskiest cases, or ``None``.
        n_riskiest: How many.
        in_order: Forecasts the data set as a list of edits; ``None`` where that is not asked.
    """

    scan: Scan
    output: str
    screeners: Screeners
    several: bool
    sampled: bool
    riskiest: str | None = None
    n_riskiest: int = 0
    in_order: Callable[[ScreenPlan], dict[str, Any]] | None = None

    @property
    def methods(self) -> list[str]:
        """Names of the methods that have columns beside the published editor's."""
        return [of.method for of in self.screeners.methods]

    @property
    def schema(self) -> str:
        """What the summary's document is."""
        return across.SCHEMA if self.several else summary.SCHEMA

    @property
    def shard(self) -> int:
        """Rows of the data set in a shard."""
        shared = self.screeners.shared
        width = int(shared.model.config.d_mlp) * len(shared.layers)
        return shard_size(len(shared.prefixes), width)

    @property
    def shards(self) -> range:
        """The shards of the data set."""
        return range(-(-self.scan.n_rows // self.shard))

    @property
    def settings(self) -> dict[str, Any]:
        """Everything the table depends on."""
        shared, screeners = self.screeners.shared, self.screeners
        tuned = [document.method(of) for of in screeners.methods]
        if self.several:
            blocks = {"layers": list(shared.layers), "second_moments": screeners.moments}
        else:
            blocks = {"layer": shared.layer, "second_moment": screeners.moments[0]}
        return {
            "schema": self.schema,
            "version": __version__,
            "dataset": self.scan.digest,
            "model": shared.model.fingerprint,
            "bos": shared.model.bos,
            "dtype": shared.model.arithmetic,
            **blocks,
            "prefixes": shared.prefixes,
            "hyperparameters": screeners.hyperparameters.to_json(),
            "seed": screeners.seed,
            "shard": self.shard,
            "limits": limits.of_verdicts(),
            **({"method": tuned} if tuned and not self.several else {}),
        }

    def rows(self, rows: Iterable[records.Row]) -> list[dict[str, Any]]:
        """Measures the rows of a shard: rows of the table, for each row every block in turn."""
        listed, edits = read_requests(rows)
        measured = self.screeners.screen([edit for _, _, edit in edits])
        by_layer = [
            [{**each, "layer": layer} for each in filled(listed, edits, of)]
            for layer, of in zip(self.screeners.shared.layers, measured, strict=True)
        ]
        return [each for at_all in zip(*by_layer, strict=True) for each in at_all]


def run(
    plan: ScreenPlan, group: Ranks, progress: Progress, *, command_line: str | None = None
) -> dict[str, Any]:
    """Makes the parts that are not there yet, this process its own, and puts them together.

    Args:
        plan: What to do.
        group: The processes that share the work.
        progress: Called with the rows done and all rows.
        command_line: What repeats the run.

    Returns:
        The document that sums the table up.

    Raises:
        UserError: If a file cannot be written or belongs to another run.
    """
    with files.locked(plan.output, plan.riskiest):
        began = time.perf_counter()
        parts = _opened(plan, group)
        figures = _fill(parts, plan, group, progress)
        written: dict[str, Any] = {}
        if group.is_first:
            each = len(plan.screeners.shared.layers)
            parts.merge(plan.shards, plan.scan.n_rows, each=each)
            work = document.work(figures, plan.scan.n_rows, time.perf_counter() - began)
            written = envelope.head(plan.schema, command_line) | _document(plan) | {"run": work}
            if plan.in_order is not None:
                written["in_order"] = plan.in_order(plan)
        return dict(group.share(envelope.plain(written)))


def _opened(plan: ScreenPlan, group: Ranks) -> Parts:
    """The parts of the table, in every process that shares the work; the first makes the folder."""
    columns = with_methods(plan.methods, layer=plan.several)
    for first in (True, False):
        if group.is_first == first:
            parts = Parts(plan.output, plan.settings, columns=columns, first=first)
        group.wait()
    return parts


def _fill(parts: Parts, plan: ScreenPlan, group: Ranks, progress: Progress) -> list[Any]:
    """Makes the parts that are not there yet, this process its own.

    Returns:
        Of every process, when it has finished, the rows it measured and its peak memory.
    """
    own = [i for i in plan.shards if group.mine(i)]
    waiting = {i for i in own if parts.path(i) is None}
    measured = 0
    for index, rows in scan.shards(plan.scan.path, plan.shard):
        if index not in waiting:
            continue
        parts.write(index, plan.rows(rows))
        measured += len(rows)
        waiting.remove(index)
        done = 1 - len(waiting) / len(own)
        progress(round(done * plan.scan.n_rows), plan.scan.n_rows)
    # Others may still be at work: what they measured and took is theirs to report.
    return group.gather(document.figures(measured))


def read_requests(
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
        edit, problem = scan.read_row(row)
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
        listed: The rows, of :func:`read_requests`.
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


def _document(plan: ScreenPlan) -> dict[str, Any]:
    screeners = plan.screeners
    seed = screeners.seed if plan.sampled else None
    return {
        "dataset": document.dataset(plan.scan),
        "table": plan.output,
        "model": describe_model(screeners.shared.model),
        "contexts": document.contexts(screeners.shared, seed),
        "clamp_factor": screeners.hyperparameters.clamp_norm_factor,
        "limits": limits.of_verdicts(),
        **(across if plan.several else summary).document_of(plan),
    }
