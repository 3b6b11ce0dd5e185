"""The family beside its published code, and what its quantities foretell, on the bundled model.

    python -m benchmarks.family published --memit DIR --emmet DIR --alphaedit DIR --encore DIR
    python -m benchmarks.family prediction [--each 50] [--batches 10,50,200]

``published`` hands both sides the same weights in float64, the same contexts, C, hyper-parameters
and edits, one and a batch, in one run: cosine of z, keys, ΔW of each layer, time.

``prediction`` performs single edits of first-token and of later subjects, then batches, and holds
what was foretold against what came: whether MEMIT does not collapse the model where ROME does,
and fails to take at the bare prompt instead.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diag.batch.check import check
from diag.batch.document import of_performed
from diag.batch.measure import BatchBench
from diag.batch.settings import Workplace, prepare
from diag.verify.one_edit import Bench
from diag.verify.settings import Settings
from probes import bundled
from probes.request.cases import EditCase, from_record
from probes.setup import Setup
from probes.statistics import spearman
from probes.target_value.method_file import MethodFile, defaults


def like_published(d_mlp: int) -> float:
    """λ that is to a model's d_mlp about what the published 15,000 is to GPT-J's 16,384."""
    return float(d_mlp)


LIKE_PUBLISHED = like_published(512)  # of the bundled model
# What is not taken as it was published: λ, and λₙ, which stands beside λC.
LIKE: Mapping[str, Mapping[str, float]] = {
    "memit": {"weight": LIKE_PUBLISHED},
    "encore": {"weight": LIKE_PUBLISHED, "ridge": 20 * LIKE_PUBLISHED / 15_000},
}
IN_BATCHES = ("memit", "emmet", "alphaedit")


def method(name: str, layers: Sequence[int], **parameters: float) -> MethodFile:
    """A method with its published values but for layers and the parameters given."""
    chosen = defaults(name)
    return dataclasses.replace(
        chosen, layers=tuple(layers), parameters={**chosen.parameters, **parameters}
    )


def cases(n: int, seed: int, *, first: bool | None = None) -> list[EditCase]:
    """Facts of the bundled world, one for each subject.

    Args:
        n: How many.
        seed: Of the draw.
        first: Only one-token subjects at the beginning of their prompt, or only longer ones.

    Returns:
        The edits.
    """
    facts = bundled.facts()
    random.Random(seed).shuffle(facts)
    by_subject = {fact["subject"]: fact for fact in facts if fact["prompt"].startswith("{}")}
    chosen = [f for f in by_subject.values() if first is None or f["single_token"] == first]
    return [from_record(fact) for fact in chosen[:n]]


def published(options: argparse.Namespace) -> dict[str, Any]:
    """Each method beside its published code, on the same edits."""
    from benchmarks.published.batches import FASTER, beyond, compare
    from benchmarks.published.reference_batches import REFERENCES

    layers = [int(part) for part in options.layers.split(",")]
    n = options.edits
    edits = [case.request for case in cases(2 * n, options.seed)]
    methods: dict[str, Any] = {}
    for name in REFERENCES:
        checkout = getattr(options, name)
        if checkout is None:
            continue
        found = prepare(Setup(quiet=True), method(name, layers, **LIKE.get(name, {})))
        sequences = {"1": [edits[:1]], str(n): [edits[:n]]}
        if found.method.remembers:
            sequences[f"{n} after {n}"] = [edits[:n], edits[n:]]
        rows = compare(found, checkout, sequences)
        methods[name] = {"parameters": dict(found.chosen.parameters), "edits": rows}
        for label, row in rows.items():
            theirs, ours = row["processor_seconds"]
            broken = [f"{what} beyond its bound" for what in beyond(row)]
            if name == "memit" and label == str(n) and row["times_faster"] < FASTER:
                broken.append(f"less than {FASTER:g} times as fast")
            print(f"{name}, {label}: published {theirs:.1f} s, ours {ours:.1f} s, "
                  f"{row['times_faster']:.1f} times as fast (processor); "
                  f"{', '.join(broken) or 'all bounds hold'}", flush=True)  # fmt: skip
    return {"layers": layers, "methods": methods}


def prediction(options: argparse.Namespace) -> dict[str, Any]:
    """What was foretold beside what came."""
    layers = [int(part) for part in options.layers.split(",")]
    arms = {
        **{name: method(name, layers[:1]) for name in ("rome", "c_rome", "p_rome")},
        "memit, one layer": method("memit", layers[:1], weight=LIKE_PUBLISHED),
        **{name: method(name, layers, **LIKE.get(name, {})) for name in IN_BATCHES},
    }
    groups = {
        "first": cases(options.each, options.seed, first=True),
        "later": cases(options.each, options.seed, first=False),
    }
    singly: dict[str, Any] = {}
    everything: list[dict[str, Any]] = []
    for arm, chosen in arms.items() if options.each else ():
        workplace = prepare(Setup(quiet=True), chosen)
        bench: Bench | None = None
        for name, some in groups.items():
            rows = []
            for case in some:
                made, bench = _perform(workplace, [case], bench)
                rows.append(made)
            singly.setdefault(arm, {})[name] = summed(rows)
            everything += rows
            print(arm, name, json.dumps(singly[arm][name]), flush=True)
    over_family = ranks(everything) if everything else None
    if over_family:
        print("all of them", json.dumps(over_family), flush=True)
    batches: dict[str, Any] = {}
    for n in (int(part) for part in options.batches.split(",") if part):
        some = cases(n, options.seed)
        for name in (*IN_BATCHES, "encore"):
            workplace = prepare(Setup(quiet=True), method(name, layers, **LIKE.get(name, {})))
            made, _ = _perform(workplace, some, None)
            batches.setdefault(name, {})[n] = _of_batch(made)
            print(name, n, json.dumps(batches[name][n]), flush=True)
    return {
        "weight": LIKE_PUBLISHED, "layers": layers, "singly": singly, "over_family": over_family,
        "batches": batches,
    }  # fmt: skip


def _perform(
    workplace: Workplace, some: Sequence[EditCase], bench: Bench | None
) -> tuple[dict[str, Any], Bench]:
    found = check(workplace, [case.request for case in some])
    ready = BatchBench(workplace, some, Settings(), bench=bench)
    with ready.perform() as made:
        pass
    measured = of_performed(found, made, ready.measure(made))
    foretold = {
        **{
            name: [None] * len(some) if shares is None else shares.tolist()
            for name, shares in (("bare", found.bare), ("prefixed", found.prefixed))
        },
        "damage": found.total("relative_expected"),
        "bound": found.total("relative_bound"),
        "condition": max(layer.condition_number for layer in found.layers),
    }
    return {**measured, "foretold": foretold}, ready.bench


def ranks(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Spearman's rank correlations of what was foretold with what came, over single edits."""
    edits = [row["edits"][0] for row in rows]
    told = {name: [row["foretold"][name][0] for row in rows] for name in ("bare", "prefixed")}
    near = [
        (edit["neighbours_receive"], edit["locality_lost"])
        for edit in edits
        if None not in (edit["neighbours_receive"], edit["locality_lost"])
    ]
    return {
        "n": len(rows),
        "received": spearman(told["bare"], [edit["received"] for edit in edits]),
        "p_bare": spearman(told["bare"], [edit["bare"]["p_after"] for edit in edits]),
        "p_prefixed": spearman(
            told["prefixed"], [edit["editing_prefix"]["p_after"] for edit in edits]
        ),
        "locality_lost": spearman(*zip(*near, strict=True)) if near else None,
        "n_with_neighbours": len(near),
        "perplexity_ratio": spearman(
            [row["foretold"]["damage"] for row in rows], [_ratio(row) for row in rows]
        ),
    }


def _ratio(row: Mapping[str, Any]) -> float:
    ratio = row["perplexity"]["ratio"]
    return float("inf") if ratio is None else float(ratio)


def summed(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures over edits that were performed singly."""
    ratios = [_ratio(row) for row in rows]
    return {
        "n": len(rows),
        "collapsed": sum(row["outcome"] == "collapsed" for row in rows),
        "perplexity_ratio_median": statistics.median(ratios),
        "perplexity_ratio_largest": max(ratios),
        "succeed_bare": _share(row["bare"]["success"] for row in rows),
        "succeed_prefixed": _share(row["editing_prefix"]["success"] for row in rows),
        "p_bare": _share(row["bare"]["p_after"] for row in rows),
        "p_prefixed": _share(row["editing_prefix"]["p_after"] for row in rows),
        "neighbours_kept": _share(row["bare"]["locality"]["after"] for row in rows),
        "foretold_bare_median": statistics.median(row["foretold"]["bare"][0] for row in rows),
        "received_bare_median": statistics.median(row["edits"][0]["received"] for row in rows),
        "spearman": ranks(rows),
    }


def _of_batch(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "outcome": row["outcome"],
        "perplexity_ratio": row["perplexity"]["ratio"],
        "recall": row["recall"]["after"],
        "succeed": [row["bare"]["success"], row["editing_prefix"]["success"]],
        "neighbours_kept": [row[w]["locality"]["after"] for w in ("bare", "editing_prefix")],
        "foretold": {name: row["foretold"][name] for name in ("damage", "bound", "condition")},
        "damage": [row["layers"][0]["damage"], row["layers"][0]["damage_measured"]],
        "spearman": {
            "received": row["predicted_received"]["rho"],
            "p_bare": row["received_efficacy"]["rho"],
            "locality_lost": row["neighbours_locality"]["rho"],
        },
    }


def _share(values: Any) -> float:
    return statistics.mean(float(value) for value in values)


def main() -> None:
    """Runs one part and prints it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("part", choices=("published", "prediction"))
    parser.add_argument("--memit", type=Path, help="a checkout of kmeng01/memit")
    parser.add_argument(
        "--emmet", type=Path, help="of scalable-model-editing/unified-model-editing"
    )
    parser.add_argument("--alphaedit", type=Path, help="of jianghoucheng/AlphaEdit")
    parser.add_argument(
        "--encore", type=Path, help="of scalable-model-editing/knowledge-editing-regularization"
    )
    parser.add_argument("--layers", default="1,2,3")
    parser.add_argument("--edits", type=int, default=50)
    parser.add_argument("--each", type=int, default=50, help="single edits of a group; 0 for none")
    parser.add_argument("--batches", default="10,50,200")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    found = {"published": published, "prediction": prediction}[options.part](options)
    text = json.dumps(found, indent=2)
    print(text)
    if options.output:
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
