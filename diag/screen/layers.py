"""A run over a data set at several blocks: one pass over its texts, a row for each block.

Keys of all blocks are read at once. Second moments stay in memory where all of them fit; elsewhere
they are read again for each shard, one at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from diag.judgement import limits
from diag.screen import document
from diag.screen.across import SCHEMA, row, summary
from diag.screen.result import LayerScreening
from diag.screen.run import Progress, fill, filled, opened, read, shards
from diag.screen.scan import Scan
from diag.screen.shard import Measured, Screener, able, shard_size
from diag.screen.table import with_methods
from probes.keys.many_edits import SharedPrefixes
from probes.model.loaded import describe
from probes.ranks import Ranks
from probes.request import records
from probes.request.request import Request
from probes.second_moment import forecast
from probes.second_moment.moment import SecondMoment
from probes.target_value.hyperparameters import Hyperparameters
from probes.target_value.method_file import MethodFile
from rome_diagnosis import envelope, files
from rome_diagnosis.editors import EDITORS
from rome_diagnosis.version import __version__

Moments = Callable[[], Iterable[tuple[int, SecondMoment]]]


class Screeners:
    """One screener for each block, all of the same contexts.

    Attributes:
        shared: Model, blocks and contexts.
        hyperparameters: Of v*: how long its δ gets.
        seed: Seed of the bootstrap over contexts.
        described: For each block what documents say of it: its number, second moment and norm.
        moments: Of each block what its second moment is told from others by.
    """

    def __init__(
        self, shared: SharedPrefixes, find: Moments, hyperparameters: Hyperparameters, seed: int
    ) -> None:
        """Looks at every second moment once.

        Args:
            shared: Model, blocks and contexts.
            find: Gives each block's second moment, one after another.
            hyperparameters: Of v*.
            seed: Seed of the bootstrap over contexts.
        """
        self.shared, self.hyperparameters, self.seed = shared, hyperparameters, seed
        self._find = find
        self._kept: list[Screener] = []
        self.described: list[dict[str, Any]] = []
        self.moments: list[list[Any]] = []
        # C and its factor, of every block.
        matrices = [*shared.layers, *shared.layers]
        fit = len(forecast.groups(matrices, int(shared.model.config.d_mlp), halves=False)) == 1
        for layer, moment in find():
            screener = self._screener(layer, moment)
            self.moments.append([moment.describe(), *moment.eigenvalues])
            self.described.append(
                {
                    "layer": layer,
                    "second_moment": moment.describe(shared.model.computed_in),
                    "residual_norm": screener.stream.unit,
                }
            )
            if fit:
                self._kept.append(screener)

    def __iter__(self) -> Iterator[Screener]:
        """The screeners, by block."""
        if self._kept:
            yield from self._kept
        else:
            yield from (self._screener(layer, moment) for layer, moment in self._find())

    def screen(self, requests: Sequence[Request]) -> list[Measured]:
        """Measures requests at every block, from one pass.

        Args:
            requests: The edits.

        Returns:
            For each block what :meth:`diag.screen.shard.Screener.screen` gives.
        """
        placed = self.shared.place(requests)
        keys = self.shared.capture_layers(able(placed))
        return [screener.judge(placed, of)[0] for screener, of in zip(self, keys, strict=True)]

    def _screener(self, layer: int, moment: SecondMoment) -> Screener:
        editors = tuple(MethodFile(method=name, target=self.hyperparameters) for name in EDITORS)
        return Screener(self.shared.at(layer), moment, self.hyperparameters, self.seed, editors)


@dataclass(frozen=True)
class LayersPlan:
    """What is screened, how, and where results go.

    Attributes:
        scan: The data set.
        output: The table to be.
        screeners: Measure and judge.
        sampled: Whether the contexts were sampled with the screeners' seed.
        command_line: What repeats the run.
    """

    scan: Scan
    output: str
    screeners: Screeners
    sampled: bool
    command_line: str | None

    @property
    def shard(self) -> int:
        """Rows of the data set in a shard."""
        shared = self.screeners.shared
        width = int(shared.model.config.d_mlp) * len(shared.layers)
        return shard_size(len(shared.prefixes), width)

    @property
    def settings(self) -> dict[str, Any]:
        """Everything the table depends on."""
        shared = self.screeners.shared
        return {
            "schema": SCHEMA,
            "version": __version__,
            "dataset": self.scan.digest,
            "model": shared.model.fingerprint,
            "bos": shared.model.bos,
            "dtype": shared.model.arithmetic,
            "layers": list(shared.layers),
            "prefixes": shared.prefixes,
            "second_moments": self.screeners.moments,
            "hyperparameters": self.screeners.hyperparameters.to_json(),
            "seed": self.screeners.seed,
            "shard": self.shard,
            "limits": limits.of_verdicts(),
        }

    def rows(self, rows: Iterable[records.Row]) -> list[dict[str, Any]]:
        """Measures the rows of a shard: rows of the table, for each row every block in turn."""
        listed, edits = read(rows)
        measured = self.screeners.screen([edit for _, _, edit in edits])
        by_layer = [
            [{**each, "layer": layer} for each in filled(listed, edits, of)]
            for layer, of in zip(self.screeners.shared.layers, measured, strict=True)
        ]
        return [each for at_all in zip(*by_layer, strict=True) for each in at_all]


def run(plan: LayersPlan, group: Ranks, progress: Progress) -> LayerScreening:
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
    with files.locked(plan.output):
        began = time.perf_counter()
        parts = opened(plan.output, plan.settings, group, with_methods(EDITORS, layer=True))
        figures = fill(parts, plan.scan, plan.shard, plan.rows, group, progress)
        written: dict[str, Any] = {}
        if group.is_first:
            each = len(plan.screeners.shared.layers)
            parts.merge(shards(plan.scan, plan.shard), plan.scan.n_rows, each=each)
            written = _document(plan, figures, time.perf_counter() - began)
        return LayerScreening(plan.output, group.share(envelope.plain(written)))


def _document(plan: LayersPlan, figures: list[Any], seconds: float) -> dict[str, Any]:
    import pandas as pd

    screeners = plan.screeners
    model = describe(screeners.shared.model)
    table = pd.read_parquet(plan.output)
    rows = [row(about, table[table["layer"] == about["layer"]]) for about in screeners.described]
    written: dict[str, Any] = {
        **envelope.head(SCHEMA, plan.command_line),
        "dataset": document.dataset(plan.scan),
        "table": plan.output,
        "model": model,
        "contexts": document.contexts(screeners.shared, screeners.seed if plan.sampled else None),
        "clamp_factor": screeners.hyperparameters.clamp_norm_factor,
        "limits": limits.of_verdicts(),
        "validity": limits.validity(model["architecture"]),
        "layers": rows,
        **document.refused(table),
        "summary": summary(rows),
        "run": document.work(figures, plan.scan.n_rows, seconds),
    }
    return dict(envelope.finite(written))
