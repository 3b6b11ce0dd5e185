"""What an edit costs at first tokens and at later ones: the doses that two damage limits rest on.

    python -m benchmarks.studies.first_token_damage [--subjects 12] [--output doses.json]

Subjects that are the first token of their prompt are edited with ROME and P-ROME, the change of the
output scaled from a tenth to the full one. After each edit the recall of other facts and the
perplexity of held-out text are measured. P-ROME hardly changes later tokens, so what it costs it
costs at first tokens; ROME changes both. ``rome_diagnosis.limits`` and docs/method.md quote the
tables.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from benchmarks.studies.verify_bundled import choose, known
from diag.mathematics.stream import Stream
from diag.mathematics.update import RankOne
from diag.verify.one_edit import Bench
from diag.verify.settings import Settings, Texts
from probes import bundled
from probes.model.contribution import contribution
from probes.request.cases import EditCase
from probes.setup import Setup
from rome_diagnosis.disk import files

EDITORS = ("p_rome", "rome")
SCALES = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0)
# For each editor the column that its doses are sorted by, and where the table's rows begin.
TABLES = {
    "p_rome": ("first_tokens", (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7)),
    "rome": ("corpus", (0.0, 0.1, 0.2, 0.25, 0.5, 0.85, 5.0)),
}


def doses(bench: Bench, case: EditCase) -> list[dict[str, Any]]:
    """One subject, edited at every scale with every editor.

    Args:
        bench: The model and what is measured on it.
        case: The edit.

    Returns:
        A row for each dose.
    """
    stream = Stream(bench.moment, contribution(bench.model, bench.layer))
    (target,) = bench.target_values([case])
    factors = bench.factors(bench.observe(case), target)
    rows = []
    for editor in EDITORS:
        full = factors[editor]
        for scale in SCALES:
            change = RankOne(full.u, scale * full.r, full.denominator)
            moved = stream.change(change.u, change.denominator, change.r * change.denominator)
            recall = bench.recall.after([change], without=case.request.subject)
            assert moved is not None and recall is not None
            perplexity = bench.texts.after([change]).token_weighted
            rows.append(
                {
                    "subject": case.request.subject,
                    "editor": editor,
                    "scale": scale,
                    "corpus": moved.corpus,
                    "first_tokens": moved.first_tokens,
                    "recall": recall["after"],
                    "perplexity_ratio": perplexity / bench.texts.before.token_weighted,
                }
            )
    return rows


def table(rows: Sequence[dict[str, Any]], editor: str) -> list[str]:
    """Recall and perplexity by dose.

    Args:
        rows: Rows that :func:`doses` returned.
        editor: Name of the editor whose rows are shown.

    Returns:
        Lines.
    """
    column, edges = TABLES[editor]
    lines = [f"{editor}, by {column}:    n   recall, lowest median highest   perplexity at most"]
    for low, high in pairwise(edges):
        group = [r for r in rows if r["editor"] == editor and low <= r[column] < high]
        if group:
            recall = [row["recall"] for row in group]
            middle = statistics.median_high(recall)
            worst = max(row["perplexity_ratio"] for row in group)
            lines.append(
                f"  {low:.2f} to {high:.2f}  {len(group):4}   {min(recall):.2f} {middle:.2f} "
                f"{max(recall):.2f}   {worst:.2f}"
            )
    return lines


def main() -> None:
    """Runs the doses and prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", metavar="FILE", help="keep every dose as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    setup = Setup(quiet=True).prepare()
    facts = known(setup.model, bundled.facts(), setup.layer)
    cases = choose(facts, 2 * options.subjects, 0)[: options.subjects]
    bench = Bench(setup, Settings(texts=Texts.read(limit=30)))
    rows = [row for case in cases for row in doses(bench, case)]
    for editor in EDITORS:
        print("\n".join(table(rows, editor)))
    if options.output:
        files.write_text(options.output, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
