"""Documents as commands wrote them, recorded once: small, and of every kind.

They are written with the bundled model, e.g. ``python -m diag.keys --subject Apple --n-prefixes 5
--json keys.json``; ``*_identity`` with ``--second-moment identity``. They stay as they are, because
documents of earlier versions must stay readable; a document with new fields gets a new name.
"""

from __future__ import annotations

import copy
import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "recorded"
EVIDENCE = Path(__file__).parent.parent / "docs" / "evidence" / "verified.json.gz"
SAMPLES = (
    "keys", "keys_identity", "edit", "edits", "screen", "screen_identity", "screen_layers",
    "covariance", "first_token", "sequence", "sequence_performed", "sweep", "compare", "batch",
    "apply", "hardcases",
    "tasks", "surrogate",
)  # fmt: skip


def sample(name: str) -> dict[str, Any]:
    """A recorded document, to be changed as one likes.

    Args:
        name: One of :data:`SAMPLES`.

    Returns:
        The document; of a screened data set without the rows of its table, which lies beside it.
    """
    return copy.deepcopy(_read(name))


@cache
def _read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        gzip.decompress((FOLDER / f"{name}.json.gz").read_bytes())
    )
    return document


def with_tasks(performed: dict[str, Any]) -> dict[str, Any]:
    """A list that was performed, as if two tasks had been asked, of which one suffers."""
    score = {"metric": "acc", "stderr": None, "n": 10}
    change = {"metric": "acc", "change_stderr": None, "n": 10}
    performed["tasks"] = {
        "piqa": score | {"score": 0.7, "others": {}},
        "boolq": score | {"score": 0.5, "others": {}},
    }
    for step, point in enumerate(performed["checkpoints"], 1):
        point["tasks"] = {
            "piqa": change | {"before": 0.7, "after": 0.7 / step},
            "boolq": change | {"before": 0.5, "after": 0.5},
        }
    return performed
