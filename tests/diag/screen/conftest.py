"""A data set, and second moments of several blocks to screen it at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from probes.model.load import load
from probes.second_moment import stored
from tests.diag.screen.test_command import BAD_LINES
from tests.diag.screen.test_shard import solvable

LAYERS = (0, 1, 3)


@pytest.fixture(scope="package")
def place(tiny_dir: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, and second moments of a float64 model, in which rounding hides nothing."""
    folder = tmp_path_factory.mktemp("layers")
    edits = [
        {"case_id": i, "subject": subject, "prompt": prompt, "target_new": "X"}
        for i, (subject, prompt) in enumerate(
            (subject, prompt)
            for prompt in ("{} is", "{} was founded by", "The capital, {} lies")
            for subject in ("Apple", "Paris", "Danielle Darrieux", "Space Needle", "Seattle")
        )
    ]
    lines = [json.dumps(edit) for edit in edits]
    (folder / "edits.jsonl").write_text("\n".join([*lines[:4], BAD_LINES[0], *lines[4:]]) + "\n")
    model = load(tiny_dir("gpt2"), dtype="float64")
    for layer in LAYERS:
        stored.save(solvable(model, layer), folder / f"c-{layer}.safetensors")
    return folder
