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
    "keys", "keys_identity", "edit", "edits", "screen", "screen_identity", "covariance",
    "first_token", "sequence", "sequence_performed", "sweep", "compare", "batch", "apply",
    "hardcases",
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
