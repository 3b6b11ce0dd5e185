"""Shared fixtures: tiny random models on disk, loaded once a session."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):  # they share the cores
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

from tests import shapes  # noqa: F401, I001 - installs its hook before anything is imported
from probes.model.load import load
from probes.model.loaded import LoadedModel
from tests import tiny
from tests.written import results_are_what_their_schemas_say as results_are_what_their_schemas_say

if TYPE_CHECKING:
    from tests.matrix.case import Case


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Estimates of second moments go here instead of in the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["ROME_DIAGNOSIS_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the directory of a tiny random model of an architecture."""
    written: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in written:
            written[name] = tiny.save(name, tmp_path_factory.mktemp(name))
        return written[name]

    return get


@pytest.fixture(scope="session")
def tiny_model(tiny_dir: Callable[[str], Path]) -> Callable[[str], LoadedModel]:
    """Gives a tiny random model, loaded. Tests leave it as it was."""
    loaded: dict[str, LoadedModel] = {}

    def get(name: str) -> LoadedModel:
        if name not in loaded:
            loaded[name] = load(tiny_dir(name), name=f"tiny-{name}")
        return loaded[name]

    return get


@pytest.fixture(scope="session")
def matrix(
    tiny_dir: Callable[[str], Path], tiny_model: Callable[[str], LoadedModel]
) -> Callable[[str], Case]:
    """Gives an architecture, loaded by the toolkit and as plain Hugging Face does."""
    from tests.matrix.case import Case

    cases: dict[str, Case] = {}

    def get(name: str) -> Case:
        if name not in cases:
            cases[name] = Case(tiny_model(name), tiny_dir(name))
        return cases[name]

    return get
