"""Measures the bundled model: what it knows, its first position, and what ROME does to it.

``python -m benchmarks.studies.bundled_model`` prints what the model must show and what it does
show; with ``--card`` all figures also go into the model's card. The edits are drawn by a seed
before anything is measured. Hyper-parameters, contexts and second moment are the toolkit's
defaults.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.studies.measures import (
    Draw,
    Fact,
    draw,
    first_position,
    perform,
    ratios,
    recall,
    same_token_ratios,
    summary,
    wordings,
)
from probes import bundled
from probes.edited.perplexity import PerplexityMeter
from probes.model.load import load
from probes.model.loaded import LoadedModel
from probes.request.prefixes import sample
from probes.second_moment.choose import for_model
from probes.second_moment.estimate import estimate
from probes.text.corpus import packaged


def text_rows(model: LoadedModel, texts: Sequence[str]) -> list[list[int]]:
    """Rows of equal length for attention statistics, one from each text that is long enough."""
    ids = [model.tokens(text).ids for text in texts]
    length = min(64, model.n_ctx)
    return [row[:length] for row in ids if len(row) >= length]


def measure(
    model: LoadedModel, layer: int, *, n_edits: int, n_texts: int, survey: int, seed: int
) -> dict[str, Any]:
    """All figures of the card."""
    facts, texts = bundled.facts(), bundled.texts()[:n_texts]
    draws = {
        name: draw(facts, n_edits, first=name == "first", seed=seed) for name in ("first", "later")
    }
    prefixes, unseen = sample(model), sample(model, n=1, seed=1000)[0]
    moment = for_model(model, layer)
    rows = text_rows(model, texts)
    figures: dict[str, Any] = {
        "layer": layer,
        "seed": seed,
        "world": {
            "subjects": len({fact["subject"] for fact in facts}),
            "single_token_subjects": len({f["subject"] for f in facts if f["single_token"]}),
            "facts": len(facts),
            "relations": len({fact["relation"] for fact in facts}),
        },
        "second_moment": moment.describe(),
        "recall": recall(model, facts, prefixes),
    }
    canonical: dict[str, Fact] = {}
    for fact in facts:
        if fact["single_token"]:
            canonical.setdefault(fact["subject"], fact)
    pairs = {
        first: [
            Draw(fact, wordings(fact, first=first, held_out=False)[0])
            for fact in canonical.values()
        ]
        for first in (True, False)
    }
    figures["layers"] = first_position(model, rows)
    for i, statistics_ in enumerate(figures["layers"]):
        here = moment
        if i != layer:
            here = estimate(model, i, packaged(), max_tokens=100_000)
        for first, name in ((True, "first"), (False, "later")):
            sizes = [abs(x) for x in ratios(model, pairs[first], prefixes, i, here)]
            statistics_[f"median_abs_ratio_{name}"] = statistics.median(sizes)
            statistics_[f"share_below_0.1_{name}"] = statistics.mean(x <= 0.1 for x in sizes)
        if survey:
            meter = PerplexityMeter(model, texts[:50], i)
            for name, chosen in draws.items():
                done = perform(model, chosen[:survey], prefixes, unseen, i, here, meter)
                statistics_[f"edits_{name}"] = summary(done)
    after_a_line_break = same_token_ratios(model, pairs[True], prefixes, layer, moment)
    figures["same_token_median_abs_ratio"] = statistics.median(map(abs, after_a_line_break))
    meter = PerplexityMeter(model, texts, layer)
    figures["perplexity"] = meter.before.to_json()
    figures["edits"] = {}
    for name, chosen in draws.items():
        results = perform(model, chosen, prefixes, unseen, layer, moment, meter)
        figures["edits"][name] = summary(results) | {"each": results}
    figures["must_show"] = must_show(figures)
    return figures


def must_show(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """Each requirement with its figure, its limit, and whether the model meets it."""
    claims: list[tuple[str, float, str, float]] = []
    places = {
        "first": "bare prompts with a one-token subject first",
        "prefixed": "the same prompts after a prefix",
        "later": "prompts with a one-token subject later",
    }
    for kind, limit in (("trained", 0.95), ("held_out", 0.80)):
        for place, words in places.items():
            value = figures["recall"][f"{kind}.{place}.single_token"]["recall"]
            name = f"recall on {kind.replace('_', '-')} wordings, {words}"
            claims.append((name, value, "≥", limit))
    at = figures["layers"][figures["layer"]]
    claims.append(("median |ρ|, one-token subject first", at["median_abs_ratio_first"], "≤", 0.1))
    claims.append(("median |ρ|, the same subjects later", at["median_abs_ratio_later"], "≥", 0.5))
    first, later = figures["edits"]["first"], figures["edits"]["later"]
    claims += [
        ("first subjects: edits that collapse under ROME", first["rome"]["collapsed"], "≥", 20),
        ("first subjects: edits that collapse under C-ROME", first["c_rome"]["collapsed"], "≤", 0),
        ("later subjects: edits that collapse under ROME", later["rome"]["collapsed"], "≤", 0),
        ("later subjects: edits that collapse under C-ROME", later["c_rome"]["collapsed"], "≤", 0),
        ("later subjects: efficacy under ROME", later["rome"]["success_bare"], "≥", 0.9),
        ("later subjects: efficacy under C-ROME", later["c_rome"]["success_bare"], "≥", 0.9),
        (
            "first subjects: efficacy under C-ROME with a prefix at test time",
            first["c_rome"]["success_prefixed"],
            "≥",
            0.9,
        ),
    ]
    return [
        {
            "claim": claim,
            "value": value,
            "limit": f"{sign} {limit:g}",
            "met": value >= limit if sign == "≥" else value <= limit,
        }
        for claim, value, sign, limit in claims
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.bundled_model", description=__doc__
    )
    parser.add_argument("--model", default=str(bundled.model_path()), help="directory of the model")
    parser.add_argument("--layer", type=int, help="edited layer (default: the card's)")
    parser.add_argument("--edits", type=int, default=60, help="edits in each group (default 60)")
    parser.add_argument("--texts", type=int, default=150, help="held-out texts (default 150)")
    parser.add_argument("--survey", type=int, default=10, help="edits in each group at every layer")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of the edits")
    parser.add_argument("--threads", type=int, default=2, help="threads for PyTorch (default 2)")
    parser.add_argument("--json", metavar="FILE", help="write all figures")
    parser.add_argument("--card", action="store_true", help="write the figures into the card")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    began = time.monotonic()
    layer = bundled.edit_layer() if options.layer is None else options.layer
    figures = measure(
        load(options.model),
        layer,
        n_edits=options.edits,
        n_texts=options.texts,
        survey=options.survey,
        seed=options.seed,
    )
    for claim in figures["must_show"]:
        met = "yes" if claim["met"] else "NO "
        print(f"{met}  {claim['value']:8.3f}  {claim['limit']:7}  {claim['claim']}")
    print(f"{(time.monotonic() - began) / 60:.1f} minutes")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1, ensure_ascii=False)
    if options.card:
        from world.card import update

        update(figures)


if __name__ == "__main__":
    main()
