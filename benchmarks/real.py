"""Any model, stage by stage: seconds, peak memory, and the published way in the same run.

    python -m benchmarks.real --model DIR [--identity] [--stages NAMES]

Both sides run on the same weights in one process; the published way is complete passes over every
context (:mod:`benchmarks.published.full_passes`). Prefixes are drawn with nothing cached.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from benchmarks.published.full_passes import FullPasses
from benchmarks.sides import Timed, settle, timed
from diag.keys.run import diagnose
from diag.mathematics.update import rank_one
from probes import bundled
from probes.edited.perplexity import PerplexityMeter
from probes.edited.weights import edited
from probes.forward.engine import engine_for
from probes.keys.observe import observe
from probes.request import prefixes as contexts
from probes.request.lookup import lookup
from probes.request.request import Request, request
from probes.second_moment import corpus_pass
from probes.second_moment.estimate import of_sums
from probes.second_moment.moment import SecondMoment
from probes.setup import Prepared, load_model
from probes.target_value.constants import rows_of
from probes.target_value.hyperparameters import Hyperparameters
from probes.target_value.optimise import TargetValue, optimise
from probes.text import corpus
from rome_diagnosis.editors import EDITORS

STAGES = ("prefixes", "diagnosis", "second_moment", "target_value", "perplexity")
CLAMP = 4.0


@dataclass(frozen=True)
class Stage:
    """One row: what was timed, on either side, and how far the two results are apart.

    Attributes:
        name: What was timed.
        ours: Our seconds.
        published: Seconds of the published way, where it has such a stage.
        apart: Relative difference of the results.
    """

    name: str
    ours: float
    published: float | None = None
    apart: float | None = None


class Bench:
    """A model, an edit, and what both sides need."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.loading = timed(lambda: load_model(options.model))
        self.model = self.loading.result
        self.layer = self.model.default_layer() if options.layer is None else options.layer
        self.edit = request(options.subject, options.prompt, target_new=options.target_new)
        self.other = request(options.second_subject, options.prompt)
        self.drawing = timed(self._draw)
        self.prefixes: list[str] = self.drawing.result
        self.published = FullPasses(self.model, self.layer)

    def _draw(self) -> list[str]:
        rows = contexts.draw(
            engine_for(self.model), contexts._starts(self.model, None), n=20, seed=0
        )
        return [contexts._as_prefix(self.model, row) for row in rows]

    @cached_property
    def sums(self) -> Timed:
        """Sums over ``--tokens`` tokens of packaged text."""
        job = corpus_pass.Pass(
            self.model, [self.layer], corpus.packaged(), self.row_length, self.options.tokens
        )
        return timed(lambda: corpus_pass.run(job)[self.layer])

    @cached_property
    def moment(self) -> SecondMoment:
        """C."""
        if self.options.identity:
            return SecondMoment.identity(int(self.model.config.d_mlp))
        return of_sums(
            self.sums.result, self.model, self.layer, corpus.packaged(), row_length=self.row_length
        )

    @property
    def row_length(self) -> int:
        """Tokens in a row of the corpus."""
        return corpus.row_length(self.model)

    @cached_property
    def target(self) -> Timed:
        """v* of the edit."""
        return timed(lambda: optimise(self.model, [self.edit], self.prefixes, self.layer)[0])

    def prepared(self) -> Prepared:
        """What a diagnosis needs, at hand."""
        return Prepared(
            model=self.model,
            layer=self.layer,
            prefixes=tuple(self.prefixes),
            sampled=True,
            seed=0,
            moment=self.moment,
        )

    def texts(self, edit: Request) -> list[list[int]]:
        """Tokens of the edit's contexts."""
        return [lookup(self.model, edit, prefix).ids for prefix in ("", *self.prefixes)]


def prefixes(bench: Bench) -> Iterator[Stage]:
    """Drawing twenty prefixes."""
    yield Stage("draw 20 prefixes", bench.drawing.wall)


def diagnosis(bench: Bench) -> Iterator[Stage]:
    """The main job with everything loaded: the first subject, and one more."""
    at = bench.prepared()
    if bench.moment.moment is not None:
        bench.moment.factor  # noqa: B018 - C at hand is factorised once for all subjects
    first = timed(lambda: diagnose(bench.edit, at, clamp=CLAMP))
    yield Stage("diagnose, prefixes included", bench.drawing.wall + first.wall)
    second = timed(lambda: diagnose(bench.other, at, clamp=CLAMP))
    yield Stage("diagnose a second subject", second.wall)
    keys = timed(lambda: observe(bench.model, bench.edit, bench.layer, bench.prefixes).keys)
    theirs = timed(lambda: bench.published.keys(bench.texts(bench.edit)))
    yield Stage("keys of 21 contexts", keys.wall, theirs.wall, _apart(keys.result, theirs.result))


def second_moment(bench: Bench) -> Iterator[Stage]:
    """C, for a thousand tokens."""
    rows = corpus.rows(bench.model, corpus.packaged(), length=bench.row_length)
    some = list(islice(rows, -(-bench.options.tokens // bench.row_length)))
    theirs = timed(lambda: bench.published.second_moment(some))
    sums = bench.sums.result
    apart = _apart(sums.total / sums.n_tokens, theirs.result)
    per = 1000 / sums.n_tokens
    yield Stage("C, 1,000 tokens", bench.sums.wall * per, theirs.wall * per, apart)


def target_value(bench: Bench) -> Iterator[Stage]:
    """v* of one edit."""
    rows = rows_of(bench.model, bench.edit, bench.prefixes, bench.model.n_ctx)
    ours = bench.target
    theirs = timed(lambda: bench.published.target_value(rows, Hyperparameters()))
    yield Stage("v*", ours.wall, theirs.wall, _apart(ours.result.delta, theirs.result))


def perplexity(bench: Bench) -> Iterator[Stage]:
    """Perplexity before an edit and after it."""
    seen = observe(bench.model, bench.edit, bench.layer, bench.prefixes)
    target: TargetValue = bench.target.result
    change = rank_one(EDITORS["c_rome"], seen.keys, seen.values, target.value, bench.moment)
    texts = bundled.texts()[: bench.options.texts]
    ours = timed(lambda: PerplexityMeter(bench.model, texts, bench.layer).compare([change]))
    ids = [bench.model.tokens(text).ids for text in texts]

    def full() -> float:
        before = bench.published.loss(ids)
        with edited(bench.model, [change], bench.layer):
            return bench.published.loss(ids) - before

    theirs = timed(full)
    difference = ours.result.after.loss - ours.result.before.loss
    yield Stage(
        f"perplexity of {len(texts)} texts, before and after",
        ours.wall,
        theirs.wall,
        abs(difference - theirs.result) / abs(theirs.result),
    )


def _apart(ours: Tensor, theirs: Tensor) -> float:
    return float((ours.cpu() - theirs.cpu()).norm() / theirs.norm())


RUNS: dict[str, Callable[[Bench], Iterator[Stage]]] = {
    "prefixes": prefixes,
    "diagnosis": diagnosis,
    "second_moment": second_moment,
    "target_value": target_value,
    "perplexity": perplexity,
}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All stages that are asked for."""
    bench = Bench(options)
    settle()
    stages = [Stage("load", bench.loading.wall)]
    for name in options.stages:
        for stage in RUNS[name](bench):
            stages.append(stage)
            print(line(stage), flush=True)
    weights = sum(value.numel() * value.element_size() for value in bench.model.state_dict.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "model": options.model,
        "layer": bench.layer,
        "threads": torch.get_num_threads(),
        "stages": [asdict(stage) for stage in stages],
        "weights_GB": weights / 1e9,
        "peak_memory_GB": peak / 1e9,
    }


def line(stage: Stage) -> str:
    """One row as text."""
    beside = ""
    if stage.published is not None:
        beside = f"{stage.published:10.2f} published, {stage.published / stage.ours:6.1f}×"
    apart = "" if stage.apart is None else f", {stage.apart:.1e} apart"
    return f"{stage.name:<45} {stage.ours:8.3f} s {beside}{apart}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Any model, stage by stage.")
    parser.add_argument("--model", help="a directory or a hub name (default: the bundled model)")
    parser.add_argument("--layer", type=int)
    parser.add_argument("--subject", default="Apple")
    parser.add_argument("--second-subject", default="Microsoft")
    parser.add_argument("--prompt", default="{} was founded by")
    parser.add_argument("--target-new", default="Bill Gates")
    parser.add_argument("--identity", action="store_true", help="C = I instead of an estimate")
    parser.add_argument("--tokens", type=int, default=8192, help="of the estimate of C")
    parser.add_argument("--texts", type=int, default=20, help="texts of the perplexity")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = measure(options)
    print(
        f"load {found['stages'][0]['ours']:.1f} s, weights {found['weights_GB']:.2f} GB, peak "
        f"memory {found['peak_memory_GB']:.2f} GB"
    )
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
