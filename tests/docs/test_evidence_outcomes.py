"""What settles an outcome: twenty recorded edits, of which all texts were measured."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.studies.outcomes import by_perplexity, settling
from rome_diagnosis.limits import FEWEST_TOKENS

EVIDENCE = Path(__file__).parents[2] / "docs" / "evidence" / "outcomes-smollm2.jsonl.gz"


@pytest.fixture(scope="module")
def models() -> list[list[dict[str, Any]]]:
    """Of each edited model the perplexity ratio after every 512 tokens."""
    rows = map(json.loads, gzip.decompress(EVIDENCE.read_bytes()).splitlines())
    return [steps for row in rows for steps in row["editors"].values()]


def test_the_texts_that_settle_an_outcome_say_what_all_of_them_say(
    models: list[list[dict[str, Any]]],
) -> None:
    outcomes = [by_perplexity(steps[-1]["ratio"]) for steps in models]
    assert len(outcomes) == 40
    assert set(outcomes) == {"intact", "damaged", "collapsed"}  # the control: all three occur
    settled = [settling(steps) for steps in models]
    assert [by_perplexity(step["ratio"]) for step in settled] == outcomes
    early = [step["n_tokens"] for step in settled if step["n_tokens"] < FEWEST_TOKENS.value + 512]
    assert len(early) >= 30 and min(early) >= FEWEST_TOKENS.value
