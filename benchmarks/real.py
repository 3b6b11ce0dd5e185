"""Any model, stage by stage: seconds, peak memory, and the published way in the same run.

    python -m benchmarks.real --model DIR [--identity] [--stages NAMES] [--records COUNTERFACT.json]
    python -m benchmarks.real --random gptj-6b --device cuda --autocast bfloat16

Both sides run on the same weights in one process; the published way is complete passes over every
context (:mod:`benchmarks.published.full_passes`), always in the weights' own type. Prefixes are
drawn with nothing cached. The share of the machine's matrix rate is that of the operations that
PyTorch counts in a run of its own, against products of the model's width in the weights' type.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoTokenizer

from benchmarks import sides
from benchmarks.published.full_passes import FullPasses
from diag.keys.run import diagnose
from diag.mathematics.update import rank_one
from diag.screen.shard import Screener
from probes import bundled
from probes.edited.perplexity import PerplexityChange, PerplexityMeter
from probes.edited.weights import edited
from probes.forward.engine import engine_for
from probes.keys.many_edits import SharedPrefixes
from probes.keys.observe import observe
from probes.model.loaded import LoadedModel
from probes.request import prefixes as contexts
from probes.request.lookup import lookup
from probes.request.records import read_edits
from probes.request.request import Request, request
from probes.second_moment import corpus_pass
from probes.second_moment.estimate import of_sums
from probes.second_moment.moment import SecondMoment
from probes.setup import Prepared, load_model
from probes.target_value.constants import rows_of
from probes.target_value.hyperparameters import Hyperparameters
from probes.target_value.optimise import TargetValue, optimise
from probes.text import corpus
from rome_diagnosis.defaults import AUTOCAST
from rome_diagnosis.editors import EDITORS
from rome_diagnosis.errors import UserError

STAGES = ("prefixes", "diagnosis", "second_moment", "target_value", "perplexity")
MORE = ("screening", "seven_layers")  # which take a data set, or a while
SCREENED = 100  # requests that are screened either way


@dataclass(frozen=True)
class Stage:
    """One row: what was timed, on either side, and how far the two results are apart.

    Attributes:
        name: What was timed.
        ours: Our seconds.
        published: Seconds of the published way, where it has such a stage.
        apart: Relative difference of the results.
        operations: Floating point operations of our matrix products.
        rate: What they are a share of: operations a second.
    """

    name: str
    ours: float
    published: float | None = None
    apart: float | None = None
    operations: float | None = None
    rate: float | None = None

    @property
    def share(self) -> float | None:
        """Share of the machine's matrix rate that our side reaches."""
        if self.operations is None or self.rate is None:
            return None
        return self.operations / self.ours / self.rate


class Bench:
    """A model, an edit, and what both sides need."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.loading = sides.timed(self._load)
        self.model: LoadedModel = self.loading.result
        self.rate = sides.matrix_rate(self.model.device, int(self.model.config.d_model))
        self.layer = self.model.default_layer() if options.layer is None else options.layer
        self.edit = request(options.subject, options.prompt, target_new=options.target_new)
        self.other = request(options.second_subject, options.prompt)
        self.drawing = sides.timed(self._draw)
        self.prefixes: list[str] = self.drawing.result
        self.published = FullPasses(self.model.exact(), self.layer)

    def _load(self) -> LoadedModel:
        options = self.options
        load = partial(load_model, autocast=options.autocast, engine=options.engine)
        if options.random is None:
            return load(options.model, device=options.device)
        model = sides.random_model(options.random, options.device)
        return load(model, tokenizer=AutoTokenizer.from_pretrained(bundled.model_path()))

    def _draw(self) -> list[str]:
        rows = contexts.draw(
            engine_for(self.model), contexts._starts(self.model, None), n=20, seed=0
        )
        return [contexts._as_prefix(self.model, row) for row in rows]

    @cached_property
    def sums(self) -> sides.Timed:
        """Sums over ``--tokens`` tokens of packaged text."""
        job = self.corpus_pass([self.layer], self.options.tokens)
        return sides.timed(lambda: corpus_pass.pass_over(job)[self.layer])

    def corpus_pass(self, layers: Sequence[int], tokens: int) -> corpus_pass.Pass:
        """A pass over packaged text."""
        return corpus_pass.Pass(self.model, layers, corpus.packaged(), self.row_length, tokens)

    @cached_property
    def estimated(self) -> SecondMoment:
        """C of those sums, which it takes for itself."""
        return of_sums(
            self.sums.result, self.model, self.layer, corpus.packaged(), row_length=self.row_length
        )

    @property
    def moment(self) -> SecondMoment:
        """The C that edits are diagnosed and screened by."""
        if self.options.identity:
            return SecondMoment.identity(int(self.model.config.d_mlp))
        return self.estimated

    @property
    def row_length(self) -> int:
        """Tokens in a row of the corpus."""
        return corpus.row_length(self.model)

    @cached_property
    def target(self) -> sides.Timed:
        """v* of the edit."""
        return sides.timed(lambda: optimise(self.model, [self.edit], self.prefixes, self.layer)[0])

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
    first = sides.timed(lambda: diagnose(bench.edit, at, hyperparameters=Hyperparameters()))
    yield Stage("diagnose, prefixes included", bench.drawing.wall + first.wall)
    second = sides.timed(lambda: diagnose(bench.other, at, hyperparameters=Hyperparameters()))
    yield Stage("diagnose a second subject", second.wall)

    def read() -> Tensor:
        return observe(bench.model, bench.edit, bench.layer, bench.prefixes).keys

    keys = sides.timed(read)
    theirs = sides.timed(lambda: bench.published.keys(bench.texts(bench.edit)))
    apart = _apart(keys.result, theirs.result)
    yield Stage("keys of 21 contexts", keys.wall, theirs.wall, apart, operations(read))


def screening(bench: Bench) -> Iterator[Stage]:
    """Keys, denominators and verdicts of a data set, and of a hundred of its records either way."""
    shared = SharedPrefixes(bench.model, bench.layer, bench.prefixes)
    read = [case.request for case in read_edits(bench.options.records).cases]
    placed = zip(read, shared.place(read), strict=True)
    edits = [edit for edit, at in placed if not isinstance(at, UserError)]
    some = edits[:SCREENED]

    def screen(requests: Sequence[Request]) -> list[Any]:
        shared = SharedPrefixes(bench.model, bench.layer, bench.prefixes)
        return Screener(shared, bench.moment).screen(requests)

    def published() -> Tensor:
        keys = [bench.published.keys(bench.texts(edit)) for edit in some]
        return torch.stack([own[0] for own in keys])

    if bench.moment.moment is not None:
        bench.moment.factor  # noqa: B018
    screen(some[:2])  # what is prepared once
    counted = operations(lambda: screen(some))
    ours, theirs = sides.timed(lambda: screen(some)), sides.timed(published)
    own = Screener(shared, bench.moment).screen_with_keys(some)[1][:, 0]
    apart = _apart(own, theirs.result)
    yield Stage(f"screen {len(some)} requests", ours.wall, theirs.wall, apart, counted)
    every = sides.timed(lambda: screen(edits))
    yield Stage(f"screen {len(edits)} requests", every.wall)
    print(f"{'':45} {len(edits) / every.wall:8.0f} requests a second")


def second_moment(bench: Bench) -> Iterator[Stage]:
    """C, for a thousand tokens."""
    rows = corpus.rows(bench.model, corpus.packaged(), length=bench.row_length)
    some = list(islice(rows, -(-bench.options.tokens // bench.row_length)))
    theirs = sides.timed(lambda: bench.published.second_moment(some))
    sums = bench.sums.result
    assert bench.estimated.moment is not None
    apart = _apart(bench.estimated.moment, theirs.result)
    per = 1000 / sums.n_tokens
    counted = _of_pass(bench, [bench.layer]) * 1000
    yield Stage("C, 1,000 tokens", bench.sums.wall * per, theirs.wall * per, apart, counted)


def seven_layers(bench: Bench) -> Iterator[Stage]:
    """C of seven blocks, to the top, for a thousand tokens."""
    last = bench.model.n_layers - 1
    layers = sorted({round(last * i / 6) for i in range(7)})
    job = bench.corpus_pass(layers, bench.options.tokens)
    ours = sides.timed(lambda: corpus_pass.pass_over(job))
    per = 1000 / ours.result[layers[0]].n_tokens
    counted = _of_pass(bench, layers) * 1000
    yield Stage(f"C of {len(layers)} layers, 1,000 tokens", ours.wall * per, operations=counted)


def _of_pass(bench: Bench, layers: Sequence[int]) -> float:
    """Operations of a pass over a corpus, a token; of one row, whose share of samples is alike."""
    sums: list[Any] = []
    job = bench.corpus_pass(layers, 1)
    counted = operations(lambda: sums.append(corpus_pass.pass_over(job)))
    return counted / int(sums[0][layers[0]].n_tokens)


def target_value(bench: Bench) -> Iterator[Stage]:
    """v* of one edit."""
    rows = rows_of(bench.model, bench.edit, bench.prefixes, bench.model.n_ctx)
    ours = bench.target
    counted = operations(lambda: optimise(bench.model, [bench.edit], bench.prefixes, bench.layer))
    theirs = sides.timed(lambda: bench.published.target_value(rows, Hyperparameters()))
    apart = _apart(ours.result.delta, theirs.result)
    yield Stage("v*", ours.wall, theirs.wall, apart, counted)


def perplexity(bench: Bench) -> Iterator[Stage]:
    """Perplexity before an edit and after it."""
    seen = observe(bench.model, bench.edit, bench.layer, bench.prefixes)
    target: TargetValue = bench.target.result
    change = rank_one(EDITORS["c_rome"], seen.keys, seen.values, target.value, bench.moment)
    read_whole = [t for t in bundled.texts() if len(bench.model.tokens(t).ids) <= bench.model.n_ctx]
    texts = read_whole[: bench.options.texts]

    def compare() -> PerplexityChange:
        return PerplexityMeter(bench.model, texts, bench.layer).compare([change])

    ours = sides.timed(compare)
    ids = [bench.model.tokens(text).ids for text in texts]

    def full() -> float:
        before = bench.published.loss(ids)
        with edited(bench.model, [change], bench.layer):
            return bench.published.loss(ids) - before

    theirs = sides.timed(full)
    difference = ours.result.after.loss - ours.result.before.loss
    yield Stage(
        f"perplexity of {len(texts)} texts, before and after",
        ours.wall,
        theirs.wall,
        abs(difference - theirs.result) / abs(theirs.result),
        operations(compare),
    )


def operations(job: Callable[[], Any]) -> float:
    """Floating point operations of a job's matrix products, as PyTorch counts them."""
    # Attention as the products it consists of: the counter knows no shared keys and values.
    attention = sdpa_kernel(SDPBackend.MATH)
    with FlopCounterMode(display=False) as counter, attention, sides.step_by_step():
        job()
    return float(counter.get_total_flops())


def _apart(ours: Tensor, theirs: Tensor) -> float:
    return float((ours.cpu() - theirs.cpu()).norm() / theirs.norm())


RUNS: dict[str, Callable[[Bench], Iterator[Stage]]] = {
    "prefixes": prefixes,
    "diagnosis": diagnosis,
    "screening": screening,
    "seven_layers": seven_layers,
    "second_moment": second_moment,
    "target_value": target_value,
    "perplexity": perplexity,
}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All stages that are asked for."""
    bench = Bench(options)
    sides.settle()
    if bench.model.device.type == "cuda":  # of our work, not of how fast the device is
        torch.cuda.reset_peak_memory_stats(bench.model.device)
    stages = [Stage("load", bench.loading.wall)]
    for name in options.stages:
        for stage in RUNS[name](bench):
            stage = replace(stage, rate=bench.rate)
            stages.append(stage)
            print(line(stage), flush=True)
    peak = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    if bench.model.device.type == "cuda":
        peak = float(torch.cuda.max_memory_allocated())
    return {
        "model": options.model,
        "layer": bench.layer,
        "device": _device(bench.model),
        "autocast": bench.model.autocast,
        "threads": torch.get_num_threads(),
        "matrix_rate": bench.rate,
        "stages": [asdict(stage) for stage in stages],
        "weights_GB": bench.model.weight_bytes / 1e9,
        "peak_memory_GB": peak / 1e9,
    }


def _device(model: LoadedModel) -> str:
    """The processor or GPU by name."""
    if model.device.type == "cuda":
        return torch.cuda.get_device_name(model.device)
    return str(model.device)


def line(stage: Stage) -> str:
    """One row as text."""
    beside = ""
    if stage.published is not None:
        beside = f"{stage.published:10.2f} published, {stage.published / stage.ours:6.1f}×"
    apart = "" if stage.apart is None else f", {stage.apart:.1e} apart"
    share = "" if stage.share is None else f", {stage.share:.0%} of the matrix rate"
    return f"{stage.name:<45} {stage.ours:8.3f} s {beside}{apart}{share}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Any model, stage by stage.")
    parser.add_argument("--model", help="a directory or a hub name (default: the bundled model)")
    parser.add_argument(
        "--random", choices=sides.RANDOM, help="random weights in that model's shape"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--autocast", choices=AUTOCAST)
    sides.add_engine_option(parser)
    parser.add_argument("--records", metavar="FILE", help="edits for --stages screening")
    parser.add_argument("--layer", type=int)
    parser.add_argument("--subject", default="Apple")
    parser.add_argument("--second-subject", default="Microsoft")
    parser.add_argument("--prompt", default="{} was founded by")
    parser.add_argument("--target-new", default="Bill Gates")
    parser.add_argument("--identity", action="store_true", help="C = I instead of an estimate")
    parser.add_argument("--tokens", type=int, default=8192, help="of the estimate of C")
    parser.add_argument("--texts", type=int, default=20, help="texts of the perplexity")
    parser.add_argument("--stages", nargs="+", choices=[*STAGES, *MORE], default=list(STAGES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    if "screening" in options.stages and options.records is None:
        parser.error("--stages screening needs --records FILE")
    torch.set_num_threads(options.threads)
    figures = measure(options)
    print(
        f"load {figures['stages'][0]['ours']:.1f} s, weights {figures['weights_GB']:.2f} GB, peak "
        f"memory {figures['peak_memory_GB']:.2f} GB; {figures['device']}, "
        f"{figures['matrix_rate'] / 1e9:,.0f} GFLOP/s"
    )
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
