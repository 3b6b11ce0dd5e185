"""One pass over the contexts of an edit sees what separate passes and the plain model see."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from probes.keys.observe import observe
from probes.keys.one_edit import capture
from probes.model.loaded import LoadedModel
from probes.request.lookup import lookup
from probes.request.request import request
from probes.statistics import cosine
from rome_diagnosis.errors import UserError
from tests import tiny

PREFIXES = ("The weather was fine. ", "I think you should read this. ", "Paris. ")


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_keys_and_values_are_those_captured_by_themselves(
    name: str, tiny_model: Callable[[str], LoadedModel]
) -> None:
    model, edit = tiny_model(name), request("Apple", "{} was founded by")
    seen = observe(model, edit, 1, PREFIXES)
    alone = capture(model, [lookup(model, edit, prefix) for prefix in ("", *PREFIXES)], 1)
    assert torch.equal(seen.keys, alone.keys)
    assert torch.equal(seen.values, alone.values)
    assert not torch.equal(seen.keys[0], seen.keys[1])
    assert seen.prefixes == list(PREFIXES)


def test_each_distinct_text_is_run_once(
    tiny_model: Callable[[str], LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, runs = tiny_model("gpt2"), []
    from probes.forward import bridge
    from probes.keys import observe as module

    def counting(model: LoadedModel, batch: Any, layer: int, hooks: Any) -> None:
        runs.extend(batch.rows)
        bridge.run_to(model, batch, layer, hooks)

    monkeypatch.setattr(module, "run_to", counting)
    seen = observe(model, request("Apple", "{} was"), 1, [PREFIXES[0], PREFIXES[1], PREFIXES[0]])
    assert sorted(runs) == [0, 1, 2]
    assert torch.equal(seen.keys[1], seen.keys[3])
    contexts = [position.context for position in seen.profile.positions]
    assert sorted(set(contexts)) == [0, 1, 2, 3]


def test_keys_that_are_not_finite_are_refused(tiny_model: Callable[[str], LoadedModel]) -> None:
    model = tiny_model("gpt2")
    weight = model.bridge.original_model.transformer.h[1].mlp.c_proj.weight
    kept = weight.detach().clone()
    try:
        with torch.no_grad():
            weight[3, 3] = torch.nan
        with pytest.raises(UserError, match=r"MLP outputs of .* are not finite"):
            observe(model, request("Apple", "{} was"), 1, PREFIXES)
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    observe(model, request("Apple", "{} was"), 1, PREFIXES)


@pytest.mark.parametrize("name", ["gpt2", "gptj", "llama", "gemma2"])
def test_profile_agrees_with_captured_keys_and_plain_residuals(
    name: str, tiny_model: Callable[[str], LoadedModel]
) -> None:
    model, layer = tiny_model(name), 2
    seen = observe(model, request("Apple", "{} was"), layer, PREFIXES)
    lookups, measured = seen.lookups, seen.profile
    for statistics in measured.layers:
        keys = capture(model, lookups, statistics.layer).keys
        assert statistics.key_norm_unprefixed == pytest.approx(float(keys[0].norm()), rel=1e-5)
        expected = cosine(keys[0], keys[1:].mean(0))
        assert statistics.cosine == pytest.approx(expected, abs=1e-5)
    # The residual stream entering a block, by the Hugging Face model's own hidden states.
    hidden = []
    for found in lookups:
        out = model.bridge.original_model(
            torch.tensor([found.ids]), output_hidden_states=True, use_cache=False
        )
        hidden.append([state[0].double() for state in out.hidden_states])
    first = torch.stack([states[layer][0].norm() for states in hidden]).mean()
    later = torch.cat([states[layer][1:].norm(dim=-1) for states in hidden]).median()
    assert measured.layers[layer].residual_norm_first == pytest.approx(float(first), rel=1e-4)
    assert measured.layers[layer].residual_norm_later == pytest.approx(float(later), rel=1e-4)
    assert len(measured.positions) == sum(len(found.ids) for found in lookups)
    for position in measured.positions:
        expected = float(hidden[position.context][layer][position.index].norm())
        assert position.residual_norm == pytest.approx(expected, rel=1e-4)
        is_last = position.index == lookups[position.context].index
        assert (position.attention is None) == is_last


def test_attention_to_first_is_that_of_the_plain_model(
    tiny_dir: Callable[[str], Path], tiny_model: Callable[[str], LoadedModel]
) -> None:
    from transformers import AutoModelForCausalLM

    model, layer = tiny_model("gpt2"), 1
    seen = observe(model, request("The weather was fine. Paris", "{} lies on"), layer, [])
    (found,) = seen.lookups
    statistics = seen.profile.layers[layer]
    plain = AutoModelForCausalLM.from_pretrained(tiny_dir("gpt2"), attn_implementation="eager")
    with torch.no_grad():
        pattern = plain(torch.tensor([found.ids]), output_attentions=True).attentions[layer][0]
    expected = float(pattern[:, 1:, 0].double().mean())
    assert statistics.attention_to_first == pytest.approx(expected, rel=1e-5)
