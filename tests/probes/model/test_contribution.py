"""From the MLP's output to the stream: measured, so that a wrong layout is not believed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from probes.edited.blocks_above import UpperBlocks
from probes.model import architecture
from probes.model.architecture import Layout
from probes.model.contribution import contribution
from probes.model.load import load
from probes.model.loaded import LoadedModel
from rome_diagnosis.errors import UserError


@pytest.mark.parametrize(
    ("name", "scale", "phrase"),
    [
        ("gpt2", 1.0, "added to the residual stream as it is"),
        ("granite", 0.22, "added to the residual stream times 0.22"),
        ("gemma2", None, "normalised, then added to the residual stream"),
        ("opt-post", None, "added to the residual stream, and the sum normalised"),
    ],
)
def test_what_it_says(
    name: str, scale: float | None, phrase: str, tiny_model: Callable[[str], LoadedModel]
) -> None:
    said = contribution(tiny_model(name), 1)
    assert said.scale == scale
    assert said.describe() == phrase
    assert said.takes_stream == (name == "opt-post")
    assert contribution(tiny_model(name), 1) is said  # measured once


@pytest.mark.parametrize(
    ("name", "model_type", "wrong"),
    [
        ("granite", "granite", Layout()),
        ("gemma2", "gemma2", Layout()),
        ("opt-post", "opt", Layout()),
        ("opt-post", "opt", Layout(norm="final_layer_norm")),
        ("llama", "llama", Layout(norm="post_attention_layernorm")),
    ],
)
def test_a_layout_that_is_wrong_is_noticed(
    name: str,
    model_type: str,
    wrong: Layout,
    tiny_dir: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = load(tiny_dir(name))
    monkeypatch.setattr(architecture, "LAYOUTS", architecture.LAYOUTS | {model_type: wrong})
    said = contribution(model, 1)
    assert said.scale is None
    assert said.unknown is not None and "is not known to this toolkit" in said.describe()
    change = torch.ones(1, int(model.config.d_model))
    with pytest.raises(UserError, match="is not known"):
        said.stream_change(torch.ones(1, int(model.config.d_mlp)), None, change)
    with pytest.raises(UserError, match="is not known"):
        UpperBlocks(model, 1)


def test_streams_that_are_missing_are_asked_for(tiny_model: Callable[[str], LoadedModel]) -> None:
    said = contribution(tiny_model("opt-post"), 1)
    with pytest.raises(UserError, match="keeps no streams beside its keys: estimate it again"):
        said.stream_change(torch.ones(2, 40), None, torch.ones(2, 16))


def test_sixteen_bits_do_not_hide_the_layout(tiny_dir: Callable[[str], Path]) -> None:
    for dtype in ("float16", "bfloat16"):
        said = contribution(load(tiny_dir("granite"), dtype=dtype), 1)  # type: ignore[arg-type]
        assert said.scale == 0.22
