"""Performs edits of facts the bundled model knows, and holds what happens against the claims.

    python -m benchmarks.studies.verify_bundled --edits 200 --output verify.json [--evidence]

With ``--evidence`` the result also goes to docs/evidence/verified.json.gz, which the tests render.
Half of the edits look their subject up at the first token. The others are split between subjects
of several tokens at the start of the prompt and later subjects. An interrupted run resumes
where it stopped.
"""

from __future__ import annotations

import argparse
import gzip
import random
import sys
import time
from pathlib import Path
from typing import Any

import torch

from diag.mathematics.damage import rms_change
from diag.mathematics.update import RankOne
from diag.verify.run import Verifier, prepare
from diag.verify.settings import Settings, Texts
from probes import bundled
from probes.edited.answers import AnswerMeter, Question
from probes.forward.batches import batches
from probes.forward.bridge import run_to
from probes.model.load import load
from probes.model.loaded import LoadedModel
from probes.request.cases import EditCase, from_record
from probes.request.records import Edits
from probes.second_moment.choose import for_model
from probes.setup import Setup
from probes.text import corpus
from reports.text.verify import show
from rome_diagnosis.disk import files
from rome_diagnosis.editors import EDITORS

EVIDENCE = Path(__file__).parent.parent.parent / "docs" / "evidence" / "verified.json.gz"


def known(model: LoadedModel, facts: list[dict[str, Any]], layer: int) -> list[dict[str, Any]]:
    """Facts whose true object greedy decoding gives in a wording with the subject further on."""
    asked = [
        (fact, Question(wording.replace("{}", fact["subject"]), (fact["target_true"],)))
        for fact in facts
        for wording in fact["paraphrases"]
        if not wording.startswith("{}")
    ]
    replies = AnswerMeter(model, [question for _, question in asked], layer).before
    right: dict[int, int] = {}
    for (fact, _), reply in zip(asked, replies, strict=True):
        right[id(fact)] = right.get(id(fact), 0) + reply.scores[0].greedy
    return [fact for fact in facts if right.get(id(fact), 0) > 0]


def later(fact: dict[str, Any]) -> dict[str, Any]:
    """The fact, edited under its first wording in which something stands before the subject."""
    wording = next(text for text in fact["paraphrases"] if not text.startswith("{}"))
    others = [fact["prompt"], *(text for text in fact["paraphrases"] if text != wording)]
    return fact | {"prompt": wording, "paraphrases": others}


def choose(facts: list[dict[str, Any]], n: int, seed: int) -> list[EditCase]:
    """``n`` edits, half of them of one-token subjects at the start of the prompt."""
    shuffled = random.Random(seed).sample(facts, len(facts))
    single = [fact for fact in shuffled if fact["single_token"] and fact["prompt"][:2] == "{}"]
    several = [fact for fact in shuffled if not fact["single_token"]]
    first = single[: n // 2]
    start = several[: n // 4]
    inside = [later(fact) for fact in [*several[n // 4 :], *single[n // 2 :]]]
    chosen = [*first, *start, *inside[: n - len(first) - len(start)]]
    return [from_record(fact) for fact in chosen]


def on_the_corpus(run: Verifier, changes: list[RankOne]) -> list[float]:
    """RMS change of the MLP's output over the very tokens that C was estimated on."""
    bench = run.bench
    moment, model = bench.moment, bench.model
    assert moment.provenance is not None
    provenance = moment.provenance
    directions = torch.stack([change.u / change.u.norm() for change in changes], dim=1)
    total, n = torch.zeros(len(changes), dtype=torch.float64), 0
    rows: list[list[int]] = []
    for row in corpus.rows(model, corpus.packaged(), length=provenance.row_length):
        if n + sum(map(len, rows)) >= provenance.n_tokens:
            break
        rows.append(row)

    def add(key: torch.Tensor, hook: Any) -> None:
        nonlocal total, n
        flat = key.flatten(0, 1).double()
        total += (flat @ directions).square().sum(0)
        n += len(flat)

    for start in range(0, len(rows), 64):
        for batch in batches(rows[start : start + 64], model):
            run_to(model, batch, bench.layer, [(model.hook(bench.layer, "key"), add)])
    assert n == provenance.n_tokens, (
        f"{n} tokens of the corpus, but C rests on {provenance.n_tokens}"
    )
    sizes = torch.stack([change.r.norm() * change.u.norm() for change in changes])
    return ((total / n).sqrt() * sizes).tolist()


def closed_form(run: Verifier, cases: list[EditCase]) -> float:
    """Largest relative difference between predicted and actual change on C's own corpus."""
    bench = run.bench
    changes, predicted = [], []
    for case, target in zip(cases, bench.target_values(cases), strict=True):
        for change in bench.factors(bench.observe(case), target).values():
            changes.append(change)
            wanted = float(change.r.norm()) * abs(change.denominator)
            moment = bench.moment.moment
            predicted.append(rms_change(wanted, change.u, change.denominator, moment))
    actual = on_the_corpus(run, changes)
    return max(abs(a / p - 1) for a, p in zip(actual, predicted, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edits", type=int, default=200)
    parser.add_argument("--texts", type=int, default=30, help="texts for perplexity")
    parser.add_argument("--generated-tokens", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", metavar="FILE", required=True)
    parser.add_argument("--evidence", action="store_true", help="keep the result in docs/evidence")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    layer = bundled.edit_layer()
    model = load(bundled.model_path(), name="bundled")
    moment = for_model(model, layer)
    facts = known(model, bundled.facts(), layer)
    cases = choose(facts, options.edits, options.seed)
    print(f"{len(facts)} of {len(bundled.facts())} facts are known; {len(cases)} are edited")
    setup = Setup(model=model, layer=layer, second_moment=moment, seed=options.seed)
    settings = Settings(
        texts=Texts.read(limit=options.texts), generated_tokens=options.generated_tokens
    )
    run = prepare(setup.prepare(), settings)
    start = time.perf_counter()
    result = run.many(
        Edits(tuple(cases)),
        journal=f"{options.output}.journal",
        progress=lambda done: print(f"\r{done}", end="", file=sys.stderr, flush=True),
    )
    seconds = time.perf_counter() - start
    files.write_text(options.output, result.to_json())
    if options.evidence:
        EVIDENCE.parent.mkdir(exist_ok=True)
        EVIDENCE.write_bytes(gzip.compress(result.to_json().encode(), mtime=0))
    show(result.document)
    performed = [edit for edit in result.edits if "error" not in edit]
    ranks = result.summary["damage_against_perplexity"]
    print(f"\n{len(performed)} edits in {seconds:.0f} s")
    print("collapsed:", result.summary["collapsed"])
    print("largest ratio under c_rome where rome collapsed:", result.summary["rescue"])
    for editor in EDITORS:
        ratios = sorted(edit["arms"][editor]["perplexity"]["ratio"] for edit in performed)
        print(f"perplexity ratio, {editor}: median {ratios[len(ratios) // 2]:.3f}, "
              f"largest {ratios[-1]:.3f}")  # fmt: skip
    print("damage against perplexity:", ranks)
    print(f"closed form on C's own corpus, largest relative difference: "
          f"{closed_form(run, cases[:3] + cases[-3:]):.2e}")  # fmt: skip


if __name__ == "__main__":
    main()
