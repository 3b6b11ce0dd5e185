"""A small corpus, and the second moment of a tiny model's keys over it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from probes.model.loaded import LoadedModel
from probes.second_moment.estimate import estimate
from probes.second_moment.moment import SecondMoment
from probes.text.corpus import Corpus
from tests import tiny

TEXTS = [
    text + "\n"
    for text in (
        *tiny.TRAINING_TEXT[:4],
        "I think the river is in Seattle.",
        "Apple, Apple and the weather; Paris.",
    )
    * 12
]


@pytest.fixture(scope="package")
def text() -> Corpus:
    return Corpus.of("test text", TEXTS)


@pytest.fixture(scope="package")
def estimated(tiny_model: Callable[[str], LoadedModel], text: Corpus) -> SecondMoment:
    """Of block 1 of a tiny GPT-2, in rows of 32 tokens."""
    return estimate(tiny_model("gpt2"), 1, text, row_length=32)
