"""The plain model that the bridge wraps: what it refuses, and who does without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from probes.forward import activations, unhooked
from probes.forward.batches import batches
from probes.forward.bridge import Bridge
from probes.forward.engine import engine_for
from probes.forward.unhooked import plain
from probes.keys.many_edits import SharedPrefixes
from probes.model.load import load
from probes.model.loaded import LoadedModel
from rome_diagnosis.errors import UserError
from tests import tiny
from tests.probes.keys.test_many_edits import EDITS, PREFIXES


def refuse(model: LoadedModel) -> Any:
    raise UserError("not one matrix")


def test_weights_that_are_no_floating_point_numbers_are_refused(
    tiny_dir: Callable[[str], Path],
) -> None:
    model = load(tiny_dir("gpt2"))
    name = next(name for name in model.state_dict if name.endswith("c_proj.weight"))
    quantised = {**model.state_dict, name: model.state_dict[name].to(torch.int8)}
    model = replace(model, state_dict=quantised)
    for _ in range(2):  # the refusal is remembered
        with pytest.raises(UserError, match="do not fit its Hugging Face class"):
            plain(model)


def test_a_hook_that_is_left_on_the_bridge_is_refused(tiny_dir: Callable[[str], Path]) -> None:
    model = load(tiny_dir("gpt2"))
    untouched = plain(model)
    model.bridge.add_hook("blocks.0.hook_out", lambda activation, hook: 0 * activation)
    with pytest.raises(UserError, match=r"a hook is left on blocks\.0\.hook_out"):
        plain(model)
    model.bridge.reset_hooks(including_permanent=True)
    assert plain(model) is untouched


def test_screening_does_without_it(
    tiny_model: Callable[[str], LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = SharedPrefixes(tiny_model("gpt2"), 2, PREFIXES)
    placed: Any = shared.place(EDITS)
    expected = shared.capture(placed).of()
    monkeypatch.setattr(unhooked, "plain", refuse)
    shared = SharedPrefixes(tiny_model("gpt2"), 2, PREFIXES)
    assert isinstance(engine_for(tiny_model("gpt2")), Bridge)
    found = shared.capture(placed).of()
    assert float((found - expected).norm() / expected.norm()) <= 1e-5


def test_a_pass_over_a_corpus_does_without_it(
    tiny_model: Callable[[str], LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("gpt2")
    (batch,) = batches([model.tokens(text).ids for text in tiny.TRAINING_TEXT[:3]], model)
    real = batch.mask.bool()
    expected = activations.reader(model, [0, 2])(batch)
    monkeypatch.setattr(unhooked, "plain", refuse)
    found = activations.reader(model, [0, 2])(batch)
    for layer in (0, 2):
        for site in activations.SITES:
            apart = (found[layer][site] - expected[layer][site])[real].norm()
            assert float(apart / expected[layer][site][real].norm()) <= 1e-5
