"""GELU without cancellation: accurate where keys are small, and ρ with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.activations import NewGELUActivation

from probes import bundled
from probes.keys.one_edit import capture
from probes.model import exact_gelu
from probes.model.load import load
from probes.model.loaded import LoadedModel
from probes.request.lookup import lookup
from probes.request.request import request
from probes.second_moment import stored
from probes.second_moment.moment import SecondMoment

PREFIXES = ("", "The weather was fine that day. ", "They walked to the river. ", "I think so. ")


def relative_error(module: nn.Module, exact: nn.Module, x: torch.Tensor) -> float:
    true = exact(x.double())
    return float(((module(x) - true) / true).abs().max())


@pytest.mark.parametrize(
    ("exact", "usual"),
    [
        (exact_gelu.TanhGELU(), nn.GELU(approximate="tanh")), (exact_gelu.ErfGELU(), nn.GELU()),
    ],
)  # fmt: skip
def test_small_values_have_the_relative_accuracy_of_large_ones(
    exact: nn.Module, usual: nn.Module
) -> None:
    x = torch.linspace(-5.5, 8, 10_001)
    x = x[x != 0]
    assert float((exact(x) - usual(x)).abs().max()) < 1e-6  # one function
    eps = torch.finfo(torch.float32).eps
    # x itself is rounded: what that does to the value grows with x², the exponent.
    assert relative_error(exact, exact, x) < 64 * eps
    assert relative_error(usual, exact, x) > 0.1


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("gpt2", exact_gelu.TanhGELU), ("gptj", exact_gelu.TanhGELU),
        ("neox", exact_gelu.ErfGELU), ("gemma2", exact_gelu.TanhGELU), ("llama", None),
    ],
)  # fmt: skip
def test_every_activation_is_replaced(
    name: str, kind: type[nn.Module] | None, tiny_dir: Callable[[str], Path]
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_dir(name)).eval()
    ids = torch.arange(10)[None]
    before = model(ids).logits.detach()
    assert exact_gelu.replace_gelus(model) == (
        0 if kind is None else model.config.num_hidden_layers
    )
    assert kind is None or any(isinstance(module, kind) for module in model.modules())
    assert torch.allclose(model(ids).logits, before, atol=1e-4 * float(before.abs().max()))


def ratios(model: LoadedModel, moment: SecondMoment) -> torch.Tensor:
    edits = [request(fact["subject"], fact["prompt"]) for fact in bundled.facts()[::400]]
    layer = bundled.edit_layer()
    lookups = [lookup(model, edit, prefix) for edit in edits for prefix in PREFIXES]
    keys = capture(model, lookups, layer).keys.unflatten(0, (len(edits), -1))
    return torch.tensor([moment.ratio(key[0], key.mean(0)) for key in keys])


def put_usual_gelus(model: nn.Module) -> None:
    """Puts back what the loader replaced."""
    for name, module in list(model.named_modules()):
        if isinstance(module, exact_gelu.TanhGELU):
            model.set_submodule(name, NewGELUActivation())


def test_the_ratio_is_known_to_float32_without_any_ridge() -> None:
    (path,) = (bundled.DATA / "second_moments").glob("*.safetensors")
    moment = stored.load_moment(path)
    assert moment.ridge == 0 and moment.condition_number > 1e12
    true = ratios(load(bundled.model_path(), dtype="float64"), moment)
    model = load(bundled.model_path())
    exact = ratios(model, moment)
    put_usual_gelus(model.bridge.original_model)
    usual = ratios(model, moment)
    apart = [float((ratio - true).abs().max()) for ratio in (exact, usual)]
    assert apart[0] < 1e-5 and apart[1] > 10 * apart[0]
