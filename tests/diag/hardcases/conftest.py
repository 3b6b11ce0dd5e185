"""Hard edits composed for the bundled model, and what screens them."""

from __future__ import annotations

import pytest

from diag.hardcases import compose, wordings
from diag.screen.shard import Screener
from probes import bundled
from probes.keys.many_edits import SharedPrefixes
from probes.setup import Prepared, Setup
from tests.diag.hardcases.made import FEW


@pytest.fixture(scope="package")
def setup() -> Prepared:
    return Setup(**FEW).prepare()


@pytest.fixture(scope="package")
def screener(setup: Prepared) -> Screener:
    return Screener(SharedPrefixes(setup.model, setup.layer, setup.prefixes), setup.moment)


@pytest.fixture(scope="package")
def relations() -> list[wordings.Relation]:
    return wordings.read_wordings(bundled.facts_path())


@pytest.fixture(scope="package")
def composed(screener: Screener, relations: list[wordings.Relation]) -> compose.Composition:
    return compose.compose(screener, relations, 40, seed=0)
