"""Recordings that wait on disk come back to the bit, and leave nothing behind."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from diag.mathematics.update import RankOne
from probes.edited.answers import AnswerMeter, Question
from probes.edited.perplexity import PerplexityMeter
from probes.forward import recording
from probes.model.loaded import LoadedModel

TEXTS = ["The first token of a text is unlike every other.", "Vienna is a city in Austria."]
QUESTIONS = [Question("Vienna is a city in", ("Austria", "Peru")), Question("A", ("b",))]


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "phi"])
def test_measures_are_the_same_with_recordings_on_disk(
    tiny_model: Callable[[str], LoadedModel], name: str, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    model = tiny_model(name)
    generator = torch.Generator().manual_seed(0)
    u, r = (
        torch.randn(size, generator=generator, dtype=torch.float64)
        for size in (int(model.config.d_mlp), int(model.config.d_model))
    )
    change = RankOne(u=u, r=r, denominator=1.0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def measured() -> tuple[object, ...]:
        texts, answers = PerplexityMeter(model, TEXTS, 1), AnswerMeter(model, QUESTIONS, 1)
        steps = u[None]
        return (
            texts.before, texts.after([change]), texts.rms_change([change]),
            answers.after([change]), answers.response(steps).tolist(), len([*tmp_path.glob("*/*")]),
        )  # fmt: skip

    *in_memory, none = measured()
    monkeypatch.setattr(recording, "AT_HAND", 0)
    *on_disk, files = measured()
    assert on_disk == in_memory
    assert none == 0 and isinstance(files, int) and files >= 2
    gc.collect()
    assert not [*tmp_path.iterdir()]
