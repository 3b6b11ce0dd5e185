"""How predictions agree with performed edits: ``python docs/agreement.py EVIDENCE.json.gz``."""

from __future__ import annotations

import gzip
import json
import sys
from collections import Counter

import pandas as pd

from rome_diagnosis.editors import EDITORS, PUBLISHED

VERDICTS = ("safe", "unclear", "damage risk", "collapse risk")
OUTCOMES = ("intact", "damaged", "collapsed")


def table(document: dict) -> pd.DataFrame:
    """Numbers of edits by what was predicted of ROME and what happened; of others what happened.

    Args:
        document: A ``diag.verify/1`` document of many edits.

    Returns:
        A row for each verdict, and one for each other editor.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for edit in document["edits"]:
        predicted = edit["prediction"]["verdict"].replace("_", " ")
        counts[f"ROME, {predicted}", edit["outcome"][PUBLISHED]] += 1
        for name, outcome in edit["outcome"].items():
            if name in EDITORS and name != PUBLISHED:
                counts[f"{EDITORS[name].short}, whatever was predicted", outcome] += 1
    verdicts = [f"ROME, {verdict}" for verdict in VERDICTS]
    rows = dict.fromkeys([*verdicts, *(row for row, _ in counts)])
    return pd.DataFrame(
        {outcome: [counts[row, outcome] for row in rows] for outcome in OUTCOMES}, index=list(rows)
    )


if __name__ == "__main__":
    with gzip.open(sys.argv[1]) as file:
        print(table(json.load(file)).to_string())
