"""PMET's two δ against an optimisation written out naively, and the schedule of its likelihood."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from probes.edited.blocks_above import UpperBlocks
from probes.forward.sublayers import Sublayers
from probes.forward.unhooked import plain
from probes.model.load import load
from probes.target_value.hyperparameters import Hyperparameters
from probes.target_value.optimise import optimise
from rome_diagnosis.errors import UserError
from tests import tiny
from tests.probes.target_value.test_optimise import EDITS, LEADING, PMET, PREFIXES, naive

# PMET's own, but for the number of steps and a clamp that only some δ reach.
CHOSEN = Hyperparameters(
    evaluations=8, learning_rate=0.2, kl_factor=1.0, clamp_norm_factor=0.75, leading_nll=0.1,
    leading_kl=0.01,
)  # fmt: skip

# One of each kind of block: giving tuples, in parallel, scaled, with norms before, after or both.
BLOCKS = (
    "bloom", "codegen", "falcon", "gpt-neo", "gptj-small", "mpt", "neox-small", "cohere", "granite",
    "gemma2-window", "olmo2", "opt", "opt-post", "gpt2-small", "gpt-bigcode", "llama-small",
)  # fmt: skip


@pytest.fixture(scope="module")
def exact(tiny_dir):
    """Tiny models in float64."""
    return lambda name: load(tiny_dir(name), name=name, dtype="float64")


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_equals_the_naive_optimisation(tiny_dir, exact, name, layer):
    model = exact(name)
    found = optimise(model, EDITS, PREFIXES, layer, CHOSEN, sites=PMET)
    alone = optimise(model, EDITS, PREFIXES, layer, CHOSEN)
    for edit, ours, other in zip(EDITS, found, alone, strict=True):
        v_u, delta, losses = naive(
            tiny_dir(name), model.tokenizer, edit, PREFIXES, layer, CHOSEN, sites=PMET,
            dtype=torch.float64,
        )  # fmt: skip
        # Of the other models Hugging Face computes norms or positions in float32 all the same.
        bound = 1e-9 if name == "gpt2" else 1e-6
        torch.testing.assert_close(ours.initial, v_u, atol=bound, rtol=bound)
        assert list(ours.losses) == pytest.approx(losses, rel=bound)
        assert (ours.delta - delta).norm() < 10 * bound * delta.norm()
        assert (other.delta - delta).norm() > 1e-2 * delta.norm()  # the control: one δ is another


@pytest.mark.parametrize("engine", ["general", "auto"])
def test_the_likelihood_counts_less_where_the_new_object_leads(tiny_dir, exact, engine):
    """In a batch of which some edits lead and one does not; each stops on its own."""
    model = exact("gpt2").run_by(engine)
    free = dataclasses.replace(CHOSEN, evaluations=10, clamp_norm_factor=4.0, stop_below=0)
    paths = {}
    for kl in (0.0, 0.5):
        chosen = dataclasses.replace(free, leading_kl=kl)
        found = optimise(model, LEADING, PREFIXES, 1, chosen, sites=PMET)
        paths[kl] = [each.steps for each in found]
        for edit, ours in zip(LEADING, found, strict=True):
            _, delta, losses = naive(
                tiny_dir("gpt2"), model.tokenizer, edit, PREFIXES, 1, chosen, sites=PMET,
                dtype=torch.float64,
            )  # fmt: skip
            assert list(ours.losses) == pytest.approx(losses, rel=1e-9)
            torch.testing.assert_close(ours.delta, delta, atol=1e-7, rtol=1e-7)
    assert paths == {0.0: [9, 9, 9], 0.5: [2, 2, 9]}
    always = dataclasses.replace(free, leading_nll=1.0, leading_kl=0.0)
    plainly = optimise(model, LEADING, PREFIXES, 1, always, sites=PMET)
    half = optimise(
        model, LEADING, PREFIXES, 1, dataclasses.replace(always, nll_factor=0.5), sites=PMET
    )
    for some in (found, half):  # the controls
        assert any((a.delta - b.delta).norm() > 0.1 for a, b in zip(some, plainly, strict=True))


@pytest.mark.parametrize("name", BLOCKS)
def test_the_block_alone_gives_what_the_model_does(tiny_dir, tiny_model, name):
    """The stream after the block, with both outputs changed by hooks."""
    model = tiny_model(name)
    whole, layer = plain(model), 2
    upper = UpperBlocks(model, layer)
    ids, at = torch.tensor([[5, 301, 9, 44], [17, 600, 2, 90]]), torch.tensor([2, 0])
    rows = torch.arange(2)
    block = Sublayers.of(upper.plain, upper.layer, ids, at)
    torch.manual_seed(0)
    change = 0.3 * torch.randn(2, 2, block.before.shape[1])
    seen = []

    def add(number):
        def hook(module, arguments, output):
            output = output.clone()
            output.view(2, 4, -1)[rows, at] += change[:, number]
            return output

        return hook

    def read(module, arguments, output):
        seen.append((output[0] if isinstance(output, tuple) else output)[rows, at].clone())

    handles = [whole.block(layer).register_forward_hook(read)]
    with torch.no_grad():
        whole.model(ids)
        handles += [
            whole.attention_projection(layer).register_forward_hook(add(0)),
            whole.output_projection(layer).register_forward_hook(add(1)),
        ]
        whole.model(ids)
    for handle in handles:
        handle.remove()
    expected = seen[1] - seen[0]
    entered = []

    def enter(module, given, named):
        entered.append((given[0] if given else named["hidden_states"]).shape)

    handle = whole.block(layer).register_forward_pre_hook(enter, with_kwargs=True)
    torch.testing.assert_close(block.moved(change), expected, atol=2e-4, rtol=2e-4)
    handle.remove()
    # Blocks that give tuples are skipped by ones that do, or a dimension is lost with each.
    assert entered == [block.before[:, None].shape]
    one = block.keep(torch.tensor([1]))
    torch.testing.assert_close(one.moved(change[1:]), expected[1:], atol=2e-4, rtol=2e-4)
    assert float(expected.norm()) > 0.1


def test_a_block_without_attention_is_refused(tiny_model):
    model = tiny_model("gpt2")
    upper = UpperBlocks(model, 1)
    upper.plain = dataclasses.replace(upper.plain, attention="")
    with pytest.raises(UserError, match="has no output projection of an attention"):
        Sublayers.of(upper.plain, upper.layer, torch.tensor([[5, 301]]), torch.tensor([1]))
