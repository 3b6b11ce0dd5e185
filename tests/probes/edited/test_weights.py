"""Edits are what their factors say, and leave nothing behind."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
import transformers

from probes.edited.weights import edited, relative_norm, save_edited
from probes.forward.unhooked import plain
from probes.model.load import load
from rome_diagnosis.errors import UserError
from tests import tiny
from tests.probes.edited.test_blocks_above import projection

IDS = torch.tensor([[5, 301, 9, 44, 260, 31, 8]])


@dataclass(frozen=True)
class Change:
    u: torch.Tensor
    r: torch.Tensor


def change(model, seed=0):
    torch.manual_seed(seed)
    weight = model.bridge.blocks[1].mlp.W_out
    return Change(
        torch.randn(weight.shape[0], dtype=torch.float64),
        torch.randn(weight.shape[1], dtype=torch.float64),
    )


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_edit_equals_the_materialised_change_and_is_undone_bitwise(tiny_dir, tiny_model, name):
    model = tiny_model(name)
    one, two = change(model, 1), change(model, 2)
    before = {key: value.clone() for key, value in model.state_dict.items()}
    with torch.no_grad():
        logits = model.bridge(IDS)
        with edited(model, [one, two], 1):
            inside = model.bridge(IDS)
            inside_plain = plain(model).model(IDS).logits
        after = model.bridge(IDS)
        other = transformers.AutoModelForCausalLM.from_pretrained(tiny_dir(name)).eval()
        weight = projection(other, 1).weight
        matrix = (torch.outer(one.u, one.r) + torch.outer(two.u, two.r)).float()
        weight += matrix if weight.shape == matrix.shape and name == "gpt2" else matrix.T
        theirs = other(IDS).logits
    torch.testing.assert_close(inside, theirs, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(inside_plain, theirs, atol=1e-4, rtol=1e-4)
    assert (inside - logits).abs().max() > 1e-2
    assert torch.equal(after, logits)
    assert all(torch.equal(model.state_dict[key], before[key]) for key in before)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_restored_whatever_is_raised(tiny_model, error):
    model = tiny_model("gpt2")
    weight = model.bridge.blocks[1].mlp.W_out
    before = weight.clone()

    def fail():
        with edited(model, [change(model)], 1):
            assert not torch.equal(weight, before)
            raise error

    with pytest.raises(error):
        fail()
    assert torch.equal(weight, before)


def test_restored_when_interrupted_while_restoring(tiny_model, monkeypatch):
    from probes.edited import weights

    model = tiny_model("gpt2")
    weight = model.bridge.blocks[1].mlp.W_out
    before = weight.clone()
    calls = []

    class Interrupted:
        def __init__(self):
            calls.append(1)
            if len(calls) == 1:
                raise KeyboardInterrupt

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    changed = weight.clone()
    with torch.no_grad():
        weight.add_(1.0)
        changed.copy_(weight)
    with monkeypatch.context() as patch:
        patch.setattr(weights.torch, "no_grad", Interrupted)
        weight.requires_grad_(False)
        with pytest.raises(KeyboardInterrupt):
            weights._restore(weight, before)
    assert len(calls) == 2
    assert not torch.equal(changed, before)
    assert torch.equal(weight, before)


def test_scale_of_the_factors_does_not_matter(tiny_model):
    """Factors of 1e±30 neither over- nor underflow in float32."""
    model = tiny_model("gpt2")
    small = change(model)
    large = Change(small.u * 1e30, small.r * 1e-30)
    with torch.no_grad():
        with edited(model, [small], 1):
            expected = model.bridge(IDS)
        with edited(model, [large], 1):
            found = model.bridge(IDS)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_relative_norm(tiny_model):
    model = tiny_model("gpt2")
    one = change(model)
    matrix = torch.outer(one.u, one.r)
    weight = model.state_dict["transformer.h.1.mlp.c_proj.weight"].double()
    assert relative_norm(model, one, 1) == pytest.approx(float(matrix.norm() / weight.norm()))


@pytest.mark.parametrize("name", ["gpt2", "neox", "llama", "gemma2"])
def test_saved_model_is_the_edited_one(tiny_model, tmp_path, name):
    model = tiny_model(name)
    one = change(model)
    target = save_edited(model, [one], 1, tmp_path / "edited")
    with torch.no_grad():
        before = plain(model).model(IDS).logits
        with edited(model, [one], 1):
            expected = plain(model).model(IDS).logits
    loaded = transformers.AutoModelForCausalLM.from_pretrained(target).eval()
    with torch.no_grad():
        found = loaded(IDS).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (found - before).abs().max() > 1e-2
    again = load(target)
    assert again.tokens("Apple was").ids == model.tokens("Apple was").ids
    assert again.fingerprint != model.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["edited"]


def test_saving_refuses_and_leaves_nothing(tiny_model, tmp_path, monkeypatch):
    model = tiny_model("gpt2")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    with pytest.raises(UserError, match="exists already"):
        save_edited(model, [change(model)], 1, tmp_path / "there")
    with pytest.raises(UserError, match="no directory"):
        save_edited(model, [change(model)], 1, tmp_path / "a" / "b")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model.tokenizer, "save_pretrained", full, raising=False)
    with pytest.raises(UserError, match="No space left"):
        save_edited(model, [change(model)], 1, tmp_path / "edited")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]


def test_refuses_storage_that_loses_small_edits(tiny_dir):
    model = load(tiny_dir("gpt2"), dtype="bfloat16")
    with pytest.raises(UserError, match="float32"):
        edited(model, [change(model)], 1).__enter__()
