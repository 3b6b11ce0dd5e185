"""The size of a change says nothing by itself: what counts is whether texts take its direction."""

from __future__ import annotations

import random
from typing import Any

import pytest

import rome_diagnosis as rd
from diag.verify.settings import Facts
from probes import bundled
from probes.model.loaded import LoadedModel
from probes.request.cases import fact, from_record
from tests.diag.batch.conftest import PREFIXES

EDITS = [from_record(one) for one in bundled.facts()[:60:6]]
FEW: dict[str, Any] = {"facts": Facts("few", tuple(fact(one) for one in bundled.facts()[:4]))}


def random_texts(model: Any, n: int) -> list[str]:
    """Tokens drawn from all of the vocabulary: as unlike the corpus as texts can be."""
    draw, tokenizer = random.Random(0), model.tokenizer
    return [tokenizer.decode(draw.choices(range(len(tokenizer)), k=60)) for _ in range(n)]


@pytest.mark.parametrize(("method", "breaks"), [("memit", False), ("rome", True)])
def test_a_change_of_a_hundred_times_the_matrix_changes_no_text(
    method: str, breaks: bool, bundled_model: LoadedModel
) -> None:
    """Units that never fire make room for it; ROME's is larger still, and reaches some that do."""
    for texts in (bundled.texts()[:8], random_texts(bundled_model, 8)):
        made = rd.batch(
            EDITS, method=method, perform=True, model=bundled_model, prefixes=PREFIXES,
            texts=texts, quiet=True, **FEW,
        )  # fmt: skip
        performed = made.document["performed"]
        assert performed["layers"][0]["relative_update_norm"] > 50
        ratio = performed["perplexity"]["ratio"]
        assert (abs(ratio - 1) > 0.5) == breaks, (made.verdict, ratio)
        assert (made.verdict == "safe") != breaks
