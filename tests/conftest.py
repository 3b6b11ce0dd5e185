"""Shared fixtures: models, each loaded once a session, and recorded documents."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):  # they share the cores
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

from tests import shapes  # noqa: F401, I001 - installs its hook before anything is imported
from probes import bundled
from probes.model.fingerprint import fingerprint
from probes.model.load import load
from probes.model.loaded import LoadedModel
from reports.document import read_document
from tests import tiny
from tests.documents import EVIDENCE, FOLDER, sample
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
def bundled_model() -> Iterator[LoadedModel]:
    """The bundled model, loaded. Tests leave it as it was, which is checked when all are done."""
    model = load(bundled.model_path(), name="bundled")
    before = _state(model)
    yield model
    assert _state(model) == before, "a test has changed the bundled model that all tests share"


def _state(model: LoadedModel) -> tuple[Any, ...]:
    """What a test could change for the others: weights, modules, settings and hooks."""
    modules = [(name, type(each)) for name, each in model.bridge.original_model.named_modules()]
    hooked = sorted(name for name, point in model.bridge.hook_dict.items() if point.has_hooks())
    return (
        fingerprint(model.state_dict), modules, hooked, model.bridge.training,
        str(model.hf_config), str(model.tokenizer), model.tokenizer.pad_token,
    )  # fmt: skip


@pytest.fixture(scope="session")
def evidence() -> dict[str, Any]:
    """Two hundred edits of the bundled model, performed by benchmarks.studies.verify_bundled.

    Tests leave the document as it was.
    """
    return read_document(str(EVIDENCE))


@pytest.fixture
def keys() -> dict[str, Any]:
    """A diagnosis whose verdict is neither safe nor collapse."""
    return sample("keys")


@pytest.fixture
def performed() -> dict[str, Any]:
    """The same edit, performed."""
    return sample("edit")


@pytest.fixture
def probes() -> dict[str, Any]:
    """First-token probes of the same model and block."""
    return sample("first_token")


@pytest.fixture
def screened() -> dict[str, Any]:
    """A screened data set with its rows."""
    return read_document(str(FOLDER / "screen.json.gz"))


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
