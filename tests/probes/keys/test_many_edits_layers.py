"""Keys of several layers come from one pass, and are those of each layer alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

from probes.forward.unhooked import plain
from probes.keys.many_edits import Placed, SharedPrefixes
from probes.keys.one_edit import capture
from probes.model.bridge import wrap
from probes.model.loaded import LoadedModel
from probes.request.lookup import lookup
from rome_diagnosis.defaults import Engines
from tests import tiny
from tests.probes.keys.test_many_edits import EDITS, PREFIXES, worst

LAYERS = (0, 1, 3)


def placed(shared: SharedPrefixes) -> list[Placed]:
    return [at for at in shared.place(EDITS) if isinstance(at, Placed)]


@pytest.mark.parametrize(
    ("name", "engine"), [("gpt2", "fast"), *((name, "general") for name in tiny.ARCHITECTURES)]
)
def test_each_layer_has_the_keys_it_has_alone(
    name: str, engine: Engines, tiny_model: Callable[[str], LoadedModel]
) -> None:
    model = tiny_model(name).run_by(engine)
    layers = (0, int(model.config.n_layers) - 1)
    shared = SharedPrefixes(model, layers, PREFIXES)
    at = placed(shared)
    both = shared.capture_layers(at)
    for layer, found in zip(layers, both, strict=True):
        for context, keys in zip(["", *PREFIXES], found.of().unbind(1), strict=True):
            expected = capture(model, [lookup(model, edit, context) for edit in EDITS], layer)
            assert worst(keys, expected) <= 1e-5
    # The last of them is computed as it is alone, to the bit; the first is not the last.
    assert torch.equal(both[-1].of(), shared.at(layers[-1]).capture(at).of())
    assert not torch.allclose(both[0].of(), both[-1].of(), rtol=0.1)


@pytest.mark.parametrize("engine", ["fast", "general"])
def test_in_float64_to_the_last_digits(engine: Engines, tiny_dir: Callable[[str], Path]) -> None:
    directory = str(tiny_dir("gpt2"))
    hub = transformers.AutoModelForCausalLM.from_pretrained(directory).double()
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    shared = SharedPrefixes(
        wrap(hub, tokenizer, name="tiny", path=directory).run_by(engine), LAYERS, PREFIXES
    )
    at = placed(shared)
    for layer, found in zip(LAYERS, shared.capture_layers(at), strict=True):
        alone = shared.at(layer).capture(at).of()
        assert float((found.of() - alone).norm() / alone.norm()) <= 1e-13


def test_no_block_runs_twice_and_none_above_the_last(
    tiny_model: Callable[[str], LoadedModel],
) -> None:
    model = tiny_model("llama").run_by("general")
    runs: Counter[int] = Counter()

    def count(layers: int | tuple[int, ...]) -> Counter[int]:
        runs.clear()
        shared = SharedPrefixes(model, layers, PREFIXES)
        shared.capture_layers(placed(shared))
        return runs.copy()

    handles = [
        plain(model).block(i).register_forward_pre_hook(lambda *_, i=i: runs.update([i]))
        for i in range(int(model.config.n_layers))
    ]
    try:
        several, alone, deeper = count((0, 1, 2)), count(2), count(3)
    finally:
        for handle in handles:
            handle.remove()
    assert several == alone
    assert set(alone) == {0, 1, 2} and 3 in deeper
