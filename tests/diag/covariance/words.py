"""The command line that the tests of this folder begin with."""

from __future__ import annotations

from pathlib import Path

from tests import tiny

ROOT = Path(__file__).parents[3]
TEXTS = [
    *tiny.TRAINING_TEXT[:4],
    "I think the river is in Seattle.",
    "Apple, Apple and the weather; Paris.",
    "They walked to the Space Needle because the weather was fine, and read this in French.",
] * 24


def words(files: Path, output: Path, layers: str = "1,2") -> list[str]:
    return [
        "--model", str(files / "model"), "--layers", layers, "--text", str(files / "text.txt"),
        "--row-length", "32", "-o", str(output), "--quiet",
    ]  # fmt: skip
