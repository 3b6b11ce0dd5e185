"""Captured keys against plain PyTorch hooks on the Hugging Face model, on every architecture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from probes.forward.batches import batches, batches_on
from probes.forward.bridge import run_to
from probes.keys.one_edit import capture
from probes.model.loaded import LoadedModel
from probes.request.lookup import lookup
from probes.request.request import request
from rome_diagnosis.errors import UserError
from tests import oracle, tiny

PREFIXES = ("", "The weather was fine. ", "I think you should read this. ", "Paris. ")
EDITS = (
    ("Apple", "{} was founded by"),
    ("Danielle Darrieux", "The mother tongue of {} is"),
    ("France", "The capital of {}"),
)


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return float((found - expected).norm() / expected.norm()) <= 1e-5


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_keys_and_values_equal_plain_hooks_batched_or_alone(
    name: str, tiny_model: Callable[[str], LoadedModel], tiny_dir: Callable[[str], Path]
) -> None:
    model = tiny_model(name)
    for layer in (1, model.n_layers - 1):
        lookups = [lookup(model, request(*edit), p) for edit in EDITS for p in PREFIXES]
        batched = capture(model, lookups, layer)
        for i in (0, 3, 5, 10):
            key, value = oracle.key_and_value(tiny_dir(name), lookups[i].ids, layer)
            alone = capture(model, lookups[i : i + 1], layer)
            assert close(batched.keys[i], key)
            assert close(alone.keys[0], key)
            assert close(batched.values[i], value)
    # Positive control: other contexts and other layers do have other keys.
    assert not close(batched.keys[1], batched.keys[0])
    assert not close(capture(model, lookups[:1], 0).keys[0], batched.keys[0])


def test_later_text_cannot_change_a_key(tiny_model: Callable[[str], LoadedModel]) -> None:
    model = tiny_model("gpt2")
    one = lookup(model, request("Apple", "{} was founded by"))
    other = lookup(model, request("Apple", "{} lies on the Seine."))
    assert one.ids == other.ids


def test_nothing_is_computed_that_the_answer_does_not_need(
    tiny_model: Callable[[str], LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, layer = tiny_model("gpt2"), 1
    blocks: list[int] = []
    handles = [
        block.register_forward_pre_hook(lambda module, args, i=i: blocks.append(i))
        for i, block in enumerate(model.bridge.original_model.transformer.h)
    ]
    widths: list[tuple[int, ...]] = []
    original = run_to

    def counting(model: LoadedModel, batch: Any, layer: int, hooks: Any) -> None:
        widths.append(tuple(batch.ids.shape))
        original(model, batch, layer, hooks)

    monkeypatch.setattr("probes.keys.one_edit.run_to", counting)
    found = lookup(model, request("Apple", "{} was founded by Steve Jobs."), "Paris. ")
    keys = capture(model, [found, found, found], layer).keys
    for handle in handles:
        handle.remove()
    assert max(blocks) <= layer + 1  # the bridge stops where the next block begins
    assert widths == [(1, found.index + 1)]  # equal texts once, and nothing after the subject
    assert torch.equal(keys[0], keys[2])


def test_hooks_leave_nothing_behind(tiny_model: Callable[[str], LoadedModel]) -> None:
    model = tiny_model("gpt2")
    ids = torch.tensor([model.tokens("Apple was founded by").ids])
    before = model.bridge(ids, return_type="logits")
    edit = lookup(model, request("Apple", "{} was founded by"))

    def broken(activation: torch.Tensor, hook: Any) -> None:
        raise RuntimeError("broken hook")

    batch = next(batches([edit.ids], model))
    with pytest.raises(RuntimeError, match="broken hook"):
        run_to(model, batch, 1, [(model.hook(1, "key"), broken)])
    capture(model, [edit], 1)
    assert torch.equal(model.bridge(ids, return_type="logits"), before)


def test_batches_hold_every_text_once_and_stay_small() -> None:
    texts = [[7] * n for n in (5, 1, 9, 3, 3, 12, 2)]
    made = list(batches_on(torch.device("cpu"), texts, batch_tokens=12))
    assert sorted(row for batch in made for row in batch.rows) == list(range(len(texts)))
    for batch in made:
        assert batch.ids.numel() <= 12
        for i, row in enumerate(batch.rows):
            assert int(batch.mask[i].sum()) == len(texts[row])
            assert int(batch.last[i]) == len(texts[row]) - 1
    assert len(made) < len(texts)


def test_layers_out_of_range_are_refused(tiny_model: Callable[[str], LoadedModel]) -> None:
    model = tiny_model("gpt2")
    edit = lookup(model, request("Apple", "{} is"))
    for layer in (-1, 4):
        with pytest.raises(UserError, match="layers 0 to 3"):
            capture(model, [edit], layer)
