"""A tiny model, a text for it, and its second moments of two layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from diag.covariance.command import main
from probes.second_moment import corpus_pass, stored
from probes.second_moment.moment import SecondMoment
from tests import tiny
from tests.diag.covariance.words import TEXTS, words


@pytest.fixture(scope="package")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model and a text for it."""
    folder = tmp_path_factory.mktemp("covariance")
    tiny.save("gpt2", folder / "model")
    (folder / "text.txt").write_text("\n\n".join(TEXTS))
    return folder


@pytest.fixture(scope="package")
def pieces() -> Any:
    """Chunks of a few rows, so that a small text has many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_pass, "PIECE_TOKENS", 256)
        yield


@pytest.fixture(scope="package")
def made(files: Path, pieces: None) -> dict[int, SecondMoment]:
    """Two layers in one pass."""
    output = files / "c-{layer}.safetensors"
    saving = ["--json", str(files / "c.json"), "--html", str(files / "c.html")]
    assert main([*words(files, output), *saving]) == 0
    assert not list(files.glob("*.checkpoint"))
    return {layer: stored.load_moment(files / f"c-{layer}.safetensors") for layer in (1, 2)}
