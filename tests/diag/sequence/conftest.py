"""A list of edits in a file, and what it is made with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from probes.model.loaded import LoadedModel
from probes.setup import Prepared
from tests.diag.screen.test_shard import solvable
from tests.diag.sequence.listing import LAYER, PREFIXES, write


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("sequence"))


@pytest.fixture(scope="module")
def setup(tiny_model: Callable[[str], LoadedModel]) -> Prepared:
    model = tiny_model("gpt2")
    return Prepared(
        model=model, layer=LAYER, prefixes=PREFIXES, sampled=False, seed=0,
        moment=solvable(model, LAYER),
    )  # fmt: skip
