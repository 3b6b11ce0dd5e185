"""Screening beside the published way: same model, contexts and second moment, in one run.

    python -m benchmarks.published.screen --rome CHECKOUT_OF_kmeng01/rome --dataset COUNTERFACT.json

The published way finds key and denominator of one request after the other: all contexts of each
through the whole model, then the bare prompt once more. The two take turns: the screening runs
whole, each time anew, between parts of the published run. Measured are requests per second of both,
how far the denominators are apart, and which share of the machine's speed at multiplying matrices
the screening reaches.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.published.denominators import PublishedDenominator
from benchmarks.published.reference import Reference
from benchmarks.sides import add_engine_option, matrix_rate, random_gpt2, settle
from diag.screen.shard import Screener
from probes import bundled
from probes.forward.gpt2.prefix_tree import TokenIds, trees
from probes.keys.many_edits import TOKENS, Placed, SharedPrefixes
from probes.keys.shard_size import LARGEST_SHARD
from probes.model.load import load
from probes.model.loaded import LoadedModel
from probes.request import cases, records
from probes.request import prefixes as contexts
from probes.request.request import Request
from probes.second_moment import choose
from probes.second_moment.moment import SecondMoment
from rome_diagnosis.errors import UserError

FLOOR = {"bundled": 25.0, "random": 15.0}
END_TO_END = 1e-4  # of the key's length, the bound of benchmarks/published/denominators.py
TURNS = {"bundled": 20, "random": 5}  # a turn of the random model takes a quarter of a minute


def draw(path: Path, n: int, seed: int) -> list[Request]:
    """Random requests of a data set."""
    requests = []
    for row in records.rows(path):
        try:
            requests.append(cases.edit(row.record))
        except UserError:
            continue
    return random.Random(seed).sample(requests, n)


def operations(shared: SharedPrefixes, edits: list[Request]) -> float:
    """Floating point operations of the matrix products that screening cannot do without."""
    d, m = int(shared.model.config.d_model), int(shared.model.config.d_mlp)
    total = 0.0
    placed = [at for at in shared.place(edits) if not isinstance(at, UserError)]
    for start in range(0, len(placed), LARGEST_SHARD):
        embedded: set[tuple[int, tuple[TokenIds, ...]]] = set()
        for head, texts in _by_head(placed[start : start + LARGEST_SHARD]).items():
            # In block 0 the same after all prefixes of one length.
            first = (len(shared.heads[head]), tuple(texts))
            attention = shared.layer - (first in embedded and shared.layer > 0)
            embedded.add(first)
            for tree in trees(texts, nodes=TOKENS["cpu"]):
                nodes, rows = len(tree.ids), len(tree.rows)
                total += 2 * nodes * (3 * d * d * attention + (d * d + 2 * d * m) * shared.layer)
                total += 2 * rows * (4 * d * d + d * m)
    return total


def _by_head(placed: list[Placed]) -> dict[int, list[TokenIds]]:
    """The distinct texts after each distinct prefix."""
    by_head: dict[int, dict[TokenIds, None]] = {}
    for at in placed:
        for head, text in at.suffixes:
            by_head.setdefault(head, {})[text] = None
    return {head: list(texts) for head, texts in by_head.items()}


def compare(
    name: str, model: LoadedModel, layer: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Both ways on the same requests."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    moment = choose.for_model(model, layer)
    assert moment.moment is not None
    prefixes = contexts.sample(model, seed=options.seed)
    edits = draw(options.dataset, options.n, options.seed)
    checkout = options.rome.resolve()
    plain = AutoModelForCausalLM.from_pretrained(model.path).eval()
    published = PublishedDenominator(
        Reference(checkout, plain, AutoTokenizer.from_pretrained(model.path)), checkout, layer
    )
    inverse = torch.inverse(moment.moment).float()
    published.hand_in(inverse)
    templates = ["{}", *(p.replace("{", "(").replace("}", ")") + "{}" for p in prefixes)]
    published(edits[0], templates)  # what is only done once is not counted, on neither side
    Screener(SharedPrefixes(model, layer, prefixes), moment).screen(edits)

    # Nor is, on either side, a search through all that is loaded for what is garbage by now.
    settle()

    # Turn about, so that whatever else the machine does hits both sides.
    ours, published_seconds, theirs = 0.0, 0.0, []
    turns = TURNS[name]
    for turn in range(turns):
        began = time.perf_counter()
        # Running the prefixes is counted.
        shared = SharedPrefixes(model, layer, prefixes)
        rows = Screener(shared, moment).screen(edits)
        ours += (time.perf_counter() - began) / turns
        began = time.perf_counter()
        theirs += [
            published(edit, templates)
            for edit in edits[turn * len(edits) // turns : (turn + 1) * len(edits) // turns]
        ]
        published_seconds += time.perf_counter() - began

    apart, relative = _apart(shared, moment, edits, rows, [ratio for ratio, _ in theirs])
    floor = FLOOR[name]
    return {
        "model": name, "layer": layer, "requests": len(edits), "threads": torch.get_num_threads(),
        "seconds": ours, "published_seconds": published_seconds,
        "per_second": len(edits) / ours, "published_per_second": len(edits) / published_seconds,
        "times": published_seconds / ours, "floor": floor,
        "largest_difference_over_key": max(apart),
        "median_relative_difference": sorted(relative)[len(relative) // 2],
        "condition_number": moment.condition_number,
        "held": published_seconds / ours >= floor and max(apart) <= END_TO_END,
    }  # fmt: skip


def _apart(
    shared: SharedPrefixes,
    moment: SecondMoment,
    edits: list[Request],
    rows: list[Any],
    published: list[float],
) -> tuple[list[float], list[float]]:
    """How far the denominators are apart, of the bare key's length and of the denominator."""
    placed = [at for at in shared.place(edits) if not isinstance(at, UserError)]
    keys = shared.capture(placed).of()
    # The reference divides by the length of its direction, which a table of raw numbers has not.
    lengths = moment.solve(keys.mean(1)).norm(dim=1).tolist()
    bare = keys[:, 0].norm(dim=1).tolist()
    ours = [row["d_rome"] / length for row, length in zip(rows, lengths, strict=True)]
    difference = [abs(own - theirs) for own, theirs in zip(ours, published, strict=True)]
    return (
        [by / length for by, length in zip(difference, bare, strict=True)],
        [by / abs(own) for by, own in zip(difference, ours, strict=True)],
    )


def whole(model: LoadedModel, layer: int, options: argparse.Namespace) -> dict[str, Any]:
    """How fast many requests are, and what of the machine that takes."""
    moment = choose.for_model(model, layer)
    prefixes = contexts.sample(model, seed=options.seed)
    shared = SharedPrefixes(model, layer, prefixes)
    screener = Screener(shared, moment)
    edits = draw(options.dataset, options.many, options.seed)
    screener.screen(edits[:2])
    speed = matrix_rate(model.device, int(model.config.d_model))
    began = time.perf_counter()
    for start in range(0, len(edits), LARGEST_SHARD):
        screener.screen(edits[start : start + LARGEST_SHARD])
    seconds = time.perf_counter() - began
    needed = operations(shared, edits)
    return {
        "requests": len(edits), "seconds": seconds, "per_second": len(edits) / seconds,
        "operations": needed, "operations_per_second": needed / seconds,
        "machine": speed, "share_of_machine": needed / seconds / speed,
        "peak_memory_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Screening beside the published way.")
    parser.add_argument("--rome", type=Path, required=True, help="a checkout of kmeng01/rome")
    parser.add_argument("--dataset", type=Path, required=True, help="e.g. COUNTERFACT")
    parser.add_argument("--n", type=int, default=200, help="requests of the comparison")
    parser.add_argument("--many", type=int, default=2048, help="requests of the measurement alone")
    parser.add_argument("--models", nargs="+", choices=tuple(FLOOR), default=list(FLOOR))
    parser.add_argument("--seed", type=int, default=0)
    add_engine_option(parser)
    options = parser.parse_args()
    held = True
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            path = bundled.model_path() if name == "bundled" else random_gpt2(Path(folder))
            model = load(path).run_by(options.engine)
            layer = bundled.edit_layer() if name == "bundled" else 5
            comparison = compare(name, model, layer, options)
            print(json.dumps(comparison, indent=1), flush=True)
            held &= comparison["held"]
            if options.many:
                print(json.dumps(whole(model, layer, options), indent=1), flush=True)
    sys.exit(not held)


if __name__ == "__main__":
    main()
