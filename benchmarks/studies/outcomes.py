"""Do the texts that settle an edit's outcome say what all of them say?

    python -m benchmarks.studies.outcomes EDITS.json -o OUT.jsonl --model DIR --layer N
        --second-moment FILE

Every edit is performed by ROME and C-ROME, and its perplexity ratio is written down with its
interval after every 512 tokens, up to the last text. A run that was stopped resumes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diag.judgement import outcome
from diag.verify.one_edit import Bench
from diag.verify.settings import Settings
from probes.edited import perplexity
from probes.request.records import read_edits
from probes.setup import Setup
from rome_diagnosis.defaults import PRECISION
from rome_diagnosis.limits import FEWEST_TOKENS, PERPLEXITY_COLLAPSE, PERPLEXITY_DAMAGED

EDITED_BY = ("rome", "c_rome")


def by_perplexity(ratio: float) -> str:
    """The outcome that a perplexity ratio alone stands for."""
    if not ratio < PERPLEXITY_COLLAPSE.value:
        return "collapsed"
    return "damaged" if ratio >= PERPLEXITY_DAMAGED.value else "intact"


def settling(
    steps: Sequence[Mapping[str, Any]], fewest: float = FEWEST_TOKENS.value
) -> Mapping[str, Any]:
    """The first step at which an edit's outcome is settled, or the last."""
    for step in steps:
        if step["n_tokens"] >= fewest and outcome.settled(
            step["interval"], collapse_ratio=PERPLEXITY_COLLAPSE.value, precision=PRECISION
        ):
            return step
    return steps[-1]


def ratios(bench: Bench, case: Any) -> dict[str, list[dict[str, Any]]]:
    """Perplexity ratios after every portion of the texts, by editor."""
    (target,) = bench.target_values([case])
    changes = bench.factors(bench.observe(case), target)
    by_editor: dict[str, list[dict[str, Any]]] = {editor: [] for editor in EDITED_BY}
    for editor, steps in by_editor.items():

        def note(so_far: perplexity.PerplexityChange, steps: list[dict[str, Any]] = steps) -> bool:
            n, interval = so_far.after.n_tokens, so_far.interval
            steps.append({"n_tokens": n, "ratio": so_far.ratio, "interval": interval})
            return False

        bench.texts.compare([changes[editor]], settled=note)
    return by_editor


def main() -> int:
    """Measures what is missing and prints how often a part of the texts says something else.

    Returns:
        0, or 1 if an outcome differs.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("edits")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--layer", type=int, required=True)
    parser.add_argument("--second-moment", required=True)
    args = parser.parse_args()
    perplexity.PORTION = 512
    args.output.touch()
    rows = [json.loads(line) for line in args.output.read_text().splitlines()]
    cases = read_edits(args.edits).cases
    if len(rows) < len(cases):
        setup = Setup(model=args.model, layer=args.layer, second_moment=args.second_moment)
        bench = Bench(setup.prepare(), Settings())
    for case in cases[len(rows) :]:
        rows.append({"subject": case.request.subject, "editors": ratios(bench, case)})
        with args.output.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(case.request.subject, flush=True)
    pairs = [(settling(steps), steps[-1]) for row in rows for steps in row["editors"].values()]
    wrong = sum(by_perplexity(a["ratio"]) != by_perplexity(b["ratio"]) for a, b in pairs)
    tokens = sum(a["n_tokens"] for a, _ in pairs) / len(pairs)
    print(f"{len(pairs)} edited models: {tokens:,.0f} tokens settle one, {wrong} differ from all")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
