"""Holds what the screening says before any edit against what the edits then did to the model.

    python -m diag.verify --edits FILE --json verify.json
    python -m benchmarks.studies.screen_verdicts verify.json

Wanted: every edit that collapsed was flagged, and of those that did not at most a tenth, with one
meaning of flagged for both: called a collapse risk, or not called safe.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from diag.screen.shard import Screener
from probes import bundled
from probes.keys.many_edits import SharedPrefixes
from probes.model.load import load
from probes.request.request import request
from probes.second_moment.choose import for_model

FALSE_ALARMS = 0.10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("verified", type=Path, help="a list's document of diag.verify --json")
    parser.add_argument(
        "--collapse-ratio", type=float, help="perplexity ratio (default: as the document decided)"
    )
    options = parser.parse_args()
    document = json.loads(options.verified.read_text(encoding="utf-8"))
    name = document["model"]["name"]
    model = load(bundled.model_path() if name == "bundled" else name)
    if model.fingerprint != document["model"]["fingerprint"]:
        sys.exit(f"{options.verified} is of other weights than {name}: verify again")
    layer = document["site"]["layer"]
    edits = [edit for edit in document["edits"] if "error" not in edit]
    asked = [request(e["request"]["subject"], e["request"]["prompt"]) for e in edits]
    shared = SharedPrefixes(model, layer, document["settings"]["prefixes"])
    rows = Screener(shared, for_model(model, layer)).screen(asked)
    limit = options.collapse_ratio
    broken = [
        bool(edit["collapsed"]["rome"])
        if limit is None
        else not (ratio := edit["arms"]["rome"]["perplexity"]["ratio"]) or ratio >= limit
        for edit in edits
    ]
    table: Counter[tuple[str, bool]] = Counter()
    for row, broke in zip(rows, broken, strict=True):
        assert isinstance(row, dict), row
        table[row["verdict"], broke] += 1
    for verdict in ("collapse_risk", "unclear", "safe"):
        print(f"{verdict:>14}  collapsed {table[verdict, True]:>4}  "
              f"did not {table[verdict, False]:>4}")  # fmt: skip
    collapsed = sum(n for (_, broke), n in table.items() if broke)
    sound = len(edits) - collapsed
    held = False
    for what, flagged in (
        ("risk", ("collapse_risk",)),
        ("risk or unclear", ("collapse_risk", "unclear")),
    ):
        caught = sum(table[verdict, True] for verdict in flagged)
        alarms = sum(table[verdict, False] for verdict in flagged)
        print(f"flag = {what}: {caught} of {collapsed} that collapsed, "
              f"{alarms} of {sound} that did not ({alarms / max(1, sound):.1%})")  # fmt: skip
        held |= caught == collapsed and alarms <= FALSE_ALARMS * sound
    # The best one number could do, whatever limits are set.
    for column in ("relative_bound_rome", "rho"):
        sign = -1.0 if column == "rho" else 1.0
        score = [sign * abs(row[column]) for row in rows if isinstance(row, dict)]
        least = min((x for x, y in zip(score, broken, strict=True) if y), default=0.0)
        alarms = sum(x >= least for x, y in zip(score, broken, strict=True) if not y)
        pairs = collapsed * sound
        order = sum(
            (x > z) + 0.5 * (x == z)
            for x, y in zip(score, broken, strict=True) if y
            for z, w in zip(score, broken, strict=True) if not w
        ) / max(1, pairs)  # fmt: skip
        print(f"{column}: all that collapsed lie {'below' if sign < 0 else 'above'} "
              f"{abs(least):.3g}, and so do {alarms} of {sound} that did not "
              f"({alarms / max(1, sound):.1%}); area under the curve {order:.3f}")  # fmt: skip
    print(f"every collapse flagged with at most {FALSE_ALARMS:.0%} false alarms: {held}")
    sys.exit(not held)


if __name__ == "__main__":
    main()
