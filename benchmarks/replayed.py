"""What a GPU gains where it replays the steps of v*, and that the results are the same bits.

    python -m benchmarks.replayed [MODEL …] [--device cuda]

Random weights in the shapes of published models (:data:`benchmarks.sides.RANDOM`), one edit and
ten at once; both sides take turns in one process.
"""

from __future__ import annotations

import argparse

import torch
from transformers import AutoTokenizer

from benchmarks.sides import RANDOM, in_turn, random_model, step_by_step
from probes import bundled
from probes.request.cases import from_record
from probes.setup import load_model
from probes.target_value.optimise import TargetValue, optimise

PREFIXES = [f"On day {i} the weather was fine. " for i in range(20)]


def same(one: list[TargetValue], other: list[TargetValue]) -> bool:
    """Whether all target values agree in every bit."""
    return all(torch.equal(a.delta, b.delta) for a, b in zip(one, other, strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["smollm2-135m", "gptj-6b"], choices=RANDOM)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--turns", type=int, default=2)
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(bundled.model_path())
    edits = [from_record(fact).request for fact in bundled.facts()[:10]]
    differing = 0
    for name in options.models:
        model = load_model(random_model(name, options.device), tokenizer=tokenizer)
        for some in (edits[:1], edits):

            def replayed() -> list[TargetValue]:
                return optimise(model, some, PREFIXES, model.default_layer())  # noqa: B023

            def one_by_one() -> list[TargetValue]:
                with step_by_step():
                    return replayed()

            taken = in_turn({"step by step": one_by_one, "replayed": replayed}, options.turns)
            before, after = taken.values()
            alike = same(before.result, after.result)
            differing += not alike
            print(
                f"{name:13} {len(some):2} edits: {before.wall:6.3f} s step by step, "
                f"{after.wall:6.3f} s replayed, {before.wall / after.wall:.2f}×, "
                f"{'the same bits' if alike else 'results differ'}",
                flush=True,
            )
    return int(differing > 0)


if __name__ == "__main__":
    raise SystemExit(main())
