"""Every engine reads, continues and decodes texts as the bridge does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from probes.forward import activations
from probes.forward.batches import Reader, TokenBatch, batches
from probes.forward.bridge import Bridge
from probes.forward.engine import Engine, engine_for
from probes.forward.gpt2.engine import GPT2
from probes.forward.unhooked import Unhooked
from probes.model.loaded import LoadedModel, Site
from rome_diagnosis.defaults import Engines
from rome_diagnosis.errors import UserError
from tests import tiny

TEXTS = tiny.TRAINING_TEXT[:3]


@pytest.mark.parametrize(
    ("name", "prefer", "engine"),
    [
        ("gpt2", "auto", GPT2),
        ("gpt2", "fast", GPT2),
        ("gpt2", "general", Unhooked),
        ("gptj", "auto", Unhooked),
    ],
)
def test_the_engine_is_the_one_asked_for(
    name: str, prefer: Engines, engine: type, tiny_model: Callable[[str], LoadedModel]
) -> None:
    assert type(engine_for(tiny_model(name).run_by(prefer))) is engine


def test_a_fast_engine_that_there_is_not_is_refused(
    tiny_model: Callable[[str], LoadedModel],
) -> None:
    with pytest.raises(UserError, match="no fast engine for tiny-gptj"):
        engine_for(tiny_model("gptj").run_by("fast"))


def read(
    engine: Engine, batch: TokenBatch, sites: tuple[Site, ...]
) -> dict[tuple[int, Site], torch.Tensor]:
    seen: dict[tuple[int, Site], torch.Tensor] = {}

    def keep(place: tuple[int, Site]) -> Reader:
        return lambda activation: seen.update({place: activation})

    with torch.no_grad():
        engine.read(batch, {(i, site): keep((i, site)) for i in (1, 2) for site in sites})
    return seen


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_activations_are_the_bridge_s(name: str, tiny_model: Callable[[str], LoadedModel]) -> None:
    model = tiny_model(name)
    sites = (*activations.sites(model), "value")
    ids = [model.tokens(text).ids for text in TEXTS]
    # Rows of one length need no padding, those of several lengths do.
    for rows in ([row[:9] for row in ids], ids):
        (batch,) = batches(rows, model)
        real = batch.mask.bool()
        assert bool(real.all()) == (rows is not ids)
        found = read(engine_for(model), batch, sites)
        expected = read(Bridge(model), batch, sites)
        assert found.keys() == expected.keys()
        for place in found:
            apart = (found[place] - expected[place])[real].norm()
            assert float(apart / expected[place][real].norm()) <= 1e-5


@pytest.mark.parametrize(
    ("stop", "finished"),
    [
        ("resid_pre", []),
        ("key", []),
        ("value", ["projection"]),
        ("resid_post", ["projection", "mlp", "block"]),
    ],
)
def test_nothing_is_run_after_what_is_read(
    stop: Site, finished: list[str], tiny_model: Callable[[str], LoadedModel]
) -> None:
    engine = Unhooked(tiny_model("llama"))
    (batch,) = batches([engine.model.tokens(TEXTS[0]).ids], engine.model)
    seen: list[str] = []
    modules = {
        "projection": engine.plain.output_projection(1),
        "mlp": engine.plain.mlp(1),
        "block": engine.plain.block(1),
        "above": engine.plain.block(2),
    }
    handles = [
        module.register_forward_hook(lambda *_, name=name: seen.append(name))
        for name, module in modules.items()
    ]
    with torch.no_grad():
        engine.read(batch, {(1, stop): lambda _: None})
    for handle in handles:
        handle.remove()
    assert seen == finished
    assert not any(module._forward_pre_hooks for module in engine.plain.model.modules())


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_a_cache_changes_no_logits(name: str, tiny_model: Callable[[str], LoadedModel]) -> None:
    model = tiny_model(name)
    ids = [model.tokens(text).ids for text in TEXTS]
    for rows in ([row[:9] for row in ids], [row[: 5 + 3 * i] for i, row in enumerate(ids)]):
        cached, whole = engine_for(model).decode(rows), Bridge(model).decode(rows)
        with torch.no_grad():
            for step in range(4):
                found, expected = cached.logits(), whole.logits()
                torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
                tokens = torch.tensor([[7 + step], [300], [11 * step]])
                cached.append(tokens)
                whole.append(tokens)
            first = engine_for(model).decode(rows).logits()
    assert not torch.allclose(first, found, atol=1e-2)  # the control: tokens change the logits
