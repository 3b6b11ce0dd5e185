"""A list of edits and a tiny model to make them on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LAYER = 1
WORDS = ("Apple", "Paris", "Danielle Darrieux", "Space Needle", "Steve Jobs", "Seattle")
PROMPTS = ("{} is", "I think {} is", "The capital, {} lies")
PREFIXES = ("The sky. ", "In the summer. ", "A dog barks. ")
RECORDS: list[dict[str, Any]] = [
    {
        "case_id": i, "subject": word, "prompt": prompt, "target_new": "Paris",
        "target_true": "Seattle", "paraphrases": ["{} may be"],
        "neighbourhood": ["The dog is"], "neighbourhood_targets": ["Seattle"],
    }
    for i, (prompt, word) in enumerate((prompt, word) for prompt in PROMPTS for word in WORDS)
]  # fmt: skip


def write(folder: Path) -> Path:
    """A file of these edits, with a record among them that is none."""
    path = folder / "edits.json"
    path.write_text(json.dumps([*RECORDS[:3], {"subject": 3}, *RECORDS[3:]]))
    return path
