"""Edits spread over the range of damage that is foretold of them, from a list that is screened.

    python -m benchmarks.studies.spread_edits FACTS.jsonl --edits 40 -o edits.jsonl
        [--model smollm2 …]

Every edit of the list is screened; those chosen are evenly spaced in the logarithm of the bound on
ROME's damage, so that ``diag.verify --edits edits.jsonl --tasks …`` meets harmless edits, ruinous
ones and those between, whatever most of the list are like.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import Any

from diag.screen import screen
from probes.reading.rows import rows


def spread(bounds: dict[int, float], n: int) -> list[int]:
    """Rows whose bounds are evenly spaced in their logarithm: of each of ``n`` parts the first."""
    logs = {row: math.log(bound) for row, bound in bounds.items() if bound and bound > 0}
    low, high = min(logs.values()), max(logs.values())
    targets = [low + (high - low) * i / max(1, n - 1) for i in range(n)]
    chosen: list[int] = []
    for target in targets:
        left = [row for row in logs if row not in chosen]
        chosen.append(min(left, key=lambda row: (abs(logs[row] - target), row)))
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("facts", metavar="FILE")
    parser.add_argument("--edits", type=int, default=40)
    parser.add_argument("--model", default=None)
    parser.add_argument("--layer", type=int, default=None)
    parser.add_argument("--second-moment", default="auto")
    parser.add_argument("-o", "--output", metavar="FILE", required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = screen(
            options.facts,
            Path(folder) / "screen.parquet",
            model=options.model,
            layer=options.layer,
            second_moment=options.second_moment,
        )
        table = result.to_pandas()
    table = table[table["error"].isna()]
    bounds = dict(zip(table["row"], table["relative_bound_rome"], strict=True))
    records: dict[int, Any] = {row.row: row.record for row in rows(options.facts, what="the facts")}
    chosen = spread(bounds, options.edits)
    lines = [json.dumps(records[row], ensure_ascii=False) for row in chosen]
    Path(options.output).write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(chosen)} of {len(table)} edits, bounds {bounds[chosen[0]]:.3g} to "
          f"{bounds[chosen[-1]]:.3g}")  # fmt: skip


if __name__ == "__main__":
    main()
