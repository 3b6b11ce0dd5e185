"""What every engine gains over the more general one, and the table of it in docs/engines.md.

    python -m benchmarks.engines [--dataset COUNTERFACT.json] [--write]

Two models, the bundled one and a GPT-2 small with random weights, and the jobs that run an engine
often. Sides take turns in one process; the shortest time of each counts.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from benchmarks.published.screen import draw
from benchmarks.sides import in_turn, random_gpt2
from probes import bundled
from probes.forward.batches import Reader, batches
from probes.forward.bridge import Bridge
from probes.forward.engine import Engine, engine_for
from probes.keys.many_edits import SharedPrefixes
from probes.model.load import load
from probes.model.loaded import LoadedModel
from probes.request import prefixes as contexts
from probes.request.request import Request, request
from probes.target_value.optimise import optimise
from probes.text import corpus
from rome_diagnosis.errors import UserError

PAGE = Path(__file__).parent.parent / "docs" / "engines.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
LEAST_GAIN = 1.5


@dataclass(frozen=True)
class Case:
    """A model, and how much work makes a turn of a few seconds.

    Attributes:
        name: What it is called in the table.
        model: The model.
        layer: The edited block.
        requests: How many requests are screened together.
        rows: How many rows of 128 tokens are read.
        turns: How many turns count.
    """

    name: str
    model: LoadedModel
    layer: int
    requests: int
    rows: int
    turns: int


@dataclass(frozen=True)
class Gain:
    """One row of the table: a job on a model, two engines, seconds of both."""

    job: str
    model: str
    engines: tuple[str, str]
    seconds: tuple[float, float]

    @property
    def gain(self) -> float:
        """How many times as fast the second one is."""
        return self.seconds[0] / self.seconds[1]


def jobs(case: Case, requests: list[Request]) -> Iterator[tuple[str, dict[str, Callable[[], Any]]]]:
    """The jobs, with the two engines that do them."""
    model, layer = case.model, case.layer
    prefixes = contexts.sample(model)
    starts = contexts._starts(model, None)
    ids = list(islice(corpus.rows(model, corpus.packaged(), length=128), case.rows))

    def drawn(engine: Engine) -> Callable[[], Any]:
        return lambda: contexts.draw(engine, starts, n=20, seed=0)

    def read(engine: Engine) -> Callable[[], Any]:
        ignore: Reader = lambda activation: None  # noqa: E731

        @torch.no_grad()
        def job() -> None:
            for batch in batches(ids, model):
                engine.read(batch, {(layer, "key"): ignore, (layer, "resid_post"): ignore})

        return job

    def keys(run: LoadedModel) -> Callable[[], Any]:
        def job() -> torch.Tensor:
            shared = SharedPrefixes(run, layer, prefixes)
            placed = [at for at in shared.place(requests) if not isinstance(at, UserError)]
            return shared.capture(placed).distinct

        return job

    def values(run: LoadedModel, edits: list[Request]) -> Callable[[], Any]:
        return lambda: optimise(run, edits, prefixes, layer)

    general, fast = model.run_by("general"), model.run_by("fast")
    bridge, unhooked = Bridge(model), engine_for(general)
    yield "20 prefixes drawn", {"Bridge": drawn(bridge), "Unhooked": drawn(unhooked)}
    yield (
        f"a corpus read, {len(ids) * 128:,} tokens",
        {"Bridge": read(bridge), "Unhooked": read(unhooked)},
    )
    yield (
        f"keys of {len(requests)} requests in 21 contexts",
        {"Unhooked": keys(general), "GPT2": keys(fast)},
    )
    edits = [
        request(fact["subject"], fact["prompt"], target_new=fact["target_new"])
        for fact in bundled.facts()[:4]
    ]
    for n in (1, 4):
        yield (
            f"v* of {n} edit{'s' * (n > 1)}",
            {"Unhooked": values(general, edits[:n]), "GPT2": values(fast, edits[:n])},
        )


def measure(case: Case, requests: list[Request]) -> Iterator[Gain]:
    """Times every job on one model."""
    for job, sides in jobs(case, requests):
        taken = in_turn(sides, case.turns)
        general, fast = taken
        yield Gain(job, case.name, (general, fast), (taken[general].wall, taken[fast].wall))


def table(gains: list[Gain]) -> str:
    """The rows as Markdown."""
    lines = [
        "| job | model | engines | seconds | gain |",
        "|---|---|---|---|---|",
    ]
    for gain in gains:
        general, fast = gain.seconds
        lines.append(
            f"| {gain.job} | {gain.model} | {gain.engines[0]} → {gain.engines[1]} "
            f"| {general:.3g} → {fast:.3g} | {gain.gain:.2f}× |"
        )
    return "\n".join(lines)


def cases(folder: Path) -> Iterator[Case]:
    """The two models."""
    yield Case(
        "bundled: 6 blocks, d_model 128, block 1",
        load(bundled.model_path()), bundled.edit_layer(), requests=200, rows=128, turns=5,
    )  # fmt: skip
    yield Case(
        "random GPT-2: 12 blocks, d_model 768, block 5",
        load(random_gpt2(folder), name="random GPT-2"), 5, requests=24, rows=8, turns=3,
    )  # fmt: skip


def write(page: Path, figures: str) -> None:
    """Puts the figures into the page."""
    text = page.read_text(encoding="utf-8")
    head, tail = text.split(BEGIN)[0], text.split(END)[1]
    page.write_text(f"{head}{BEGIN}\n\n{figures}\n\n{END}{tail}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description="What every engine gains.")
    parser.add_argument("--dataset", type=Path, help="requests to screen (default: bundled facts)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="put the table into docs/engines.md")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    gains: list[Gain] = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(Path(folder)):
            requests = draw(options.dataset or bundled.facts_path(), case.requests, 0)
            for gain in measure(case, requests):
                gains.append(gain)
                print(f"{gain.job}, {gain.model}: {gain.gain:.2f}×", flush=True)
    print(table(gains))
    if options.write:
        write(PAGE, table(gains))
    best: dict[tuple[str, str], float] = {}
    for gain in gains:
        path = gain.job.split(" of ")[0].split(",")[0], gain.engines[1]
        best[path] = max(best.get(path, 0.0), gain.gain)
    lost = [path for path, gained in best.items() if gained < LEAST_GAIN]
    print(f"every path gains {LEAST_GAIN}× on a model: {not lost} {lost or ''}")
    return int(bool(lost))


if __name__ == "__main__":
    raise SystemExit(main())
