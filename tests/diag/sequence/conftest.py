"""A list of edits in a file, and what it is made with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from diag.batch.settings import Workplace
from probes.model.loaded import LoadedModel
from probes.setup import Prepared
from probes.target_value.method_file import defaults
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


@pytest.fixture(scope="module")
def workplace_of(setup: Prepared) -> Callable[..., Workplace]:
    """Gives a workplace for a method; λ and L₂ fit the width of the tiny model."""

    def make(method: str = "rome", **target: float) -> Workplace:
        chosen = defaults(method)
        fitting = {"weight": 8.0, "l2": 0.01, "ridge": 0.0, "damping": 0.1, "threshold": 0.1}
        return Workplace(
            model=setup.model,
            chosen=dataclasses.replace(
                chosen, layers=(LAYER,),
                parameters={name: fitting[name] for name in chosen.parameters},
                target=dataclasses.replace(chosen.target, **target),
            ),
            prefixes=PREFIXES, sampled=False, seed=0, moments={LAYER: setup.moment},
        )  # fmt: skip

    return make
