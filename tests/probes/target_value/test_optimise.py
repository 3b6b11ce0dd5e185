"""v* against an optimisation written out naively: whole texts, one edit, PyTorch's own Adam."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch
import transformers

from probes.edited.answers import target_tokens
from probes.request.request import request
from probes.target_value.hyperparameters import Hyperparameters
from probes.target_value.optimise import optimise
from rome_diagnosis.errors import UserError
from rome_diagnosis.methods import METHODS
from tests import tiny
from tests.probes.edited.test_blocks_above import projection

PREFIXES = ["The weather was fine. ", "Therefore I think they walked. ", "You. "]
EDITS = [
    request("Apple", "{} was founded by", target_new="Danielle"),
    request("The Space Needle", "{} is in", target_new="Paris on the Seine"),
    request("Danielle Darrieux", "The mother tongue of {} is", target_new=" French"),
]
SETTINGS = Hyperparameters(evaluations=6, learning_rate=0.1)


def block(model, layer):
    """The block itself, whose output is the residual stream after it."""
    base = getattr(model, model.base_model_prefix)
    return (base.h if hasattr(base, "h") else base.layers)[layer]


def places(tokenizer, edit, prefixes):
    """Ids, lookup index and wanted tokens of every context, then of the KL prompt."""
    target = edit.target_new if edit.target_new[0] == " " else " " + edit.target_new
    rows = []
    for prefix in ["", *prefixes]:
        front = prefix + edit.before + edit.subject
        encoded = tokenizer(prefix + edit.text + target, return_offsets_mapping=True)
        offsets, ids = encoded["offset_mapping"], encoded["input_ids"]
        at = max(i for i, (a, b) in enumerate(offsets) if a < len(front) <= b)
        n = sum(b > len(prefix + edit.text) for a, b in offsets)
        rows.append((ids[:-1], at, ids[-n:]))
    encoded = tokenizer(f"{edit.subject} is a", return_offsets_mapping=True)
    at = max(i for i, (a, b) in enumerate(encoded["offset_mapping"]) if a < len(edit.subject) <= b)
    rows.append((encoded["input_ids"], at, []))
    return rows


def attention(model, layer):
    """The attention's output projection, found by its name in each architecture."""
    names = ("attn.c_proj", "out_proj", "attention.dense", "o_proj", "attention.out_proj")
    found = [m for name, m in block(model, layer).named_modules() if name.endswith(names)]
    assert len(found) == 1
    return found[0]


SITES = {"value": projection, "resid_post": block, "attention": attention}
PMET = METHODS["pmet"].sites


def hooked(directory, layer, sites, dtype):
    """A plain model whose hooks read ``initial`` at ``place``, then add ``deltas`` there."""
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).eval()
    model.requires_grad_(False)
    at = SimpleNamespace(place=0, deltas=None, initial={})

    def hook_of(site):
        def hook(module, arguments, result):
            output = result[0] if isinstance(result, tuple) else result
            if at.deltas is None:
                at.initial.setdefault(site, output[0, at.place].clone())
                return result
            output = output.clone()
            output[0, at.place] += at.deltas[site]
            return (output, *result[1:]) if isinstance(result, tuple) else output

        return hook

    for site in sites:
        SITES[site](model, layer).register_forward_hook(hook_of(site))
    return model, at


def naive(directory, tokenizer, edit, prefixes, layer, chosen, *, sites=("value",), dtype=None):
    """ROME's optimisation, MEMIT's or PMET's, without any shortcut; of two δ it gives the last."""
    rows = places(tokenizer, edit, prefixes)
    model, at = hooked(directory, layer, sites, dtype)
    at.place = rows[0][1]
    model(torch.tensor([rows[0][0]]))
    at.place = rows[-1][1]
    held = torch.log_softmax(model(torch.tensor([rows[-1][0]])).logits[0, at.place], -1)
    initial = at.initial
    at.deltas = {site: torch.zeros_like(v, requires_grad=True) for site, v in initial.items()}
    adam = torch.optim.Adam(at.deltas.values(), lr=chosen.learning_rate)
    losses, led, factor = [], 0, chosen.nll_factor
    for evaluation in range(chosen.evaluations):
        each, leads = [], []
        for ids, at.place, wanted in rows[:-1]:
            logits = torch.log_softmax(model(torch.tensor([ids])).logits[0], -1)
            picked = [logits[len(ids) - len(wanted) + j, t] for j, t in enumerate(wanted)]
            each.append(-sum(picked) / len(wanted))
            leads.append(logits[-len(wanted) :].argmax(-1).tolist() == wanted)
        at.place = rows[-1][1]
        now = torch.log_softmax(model(torch.tensor([rows[-1][0]])).logits[0, at.place], -1)
        kl = torch.nn.functional.kl_div(held, now, log_target=True, reduction="sum")
        loss = (
            factor * sum(each) / len(each)
            + chosen.kl_factor * kl
            + chosen.weight_decay
            * sum(d.norm() / initial[s].norm() ** 2 for s, d in at.deltas.items())
        )
        losses.append(float(loss.detach()))
        led += all(leads[1:] or leads)  # the bare prompt apart
        if chosen.most_probable and led >= chosen.most_probable:
            break
        factor = chosen.nll_factor * (chosen.leading_nll if all(leads) else 1)
        if all(leads) and 0 < chosen.kl_factor * kl <= chosen.leading_kl:
            break
        if loss < chosen.stop_below or evaluation == chosen.evaluations - 1:
            break
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            for site, delta in at.deltas.items():
                limit = chosen.clamp_norm_factor * initial[site].norm()
                delta *= (limit / delta.norm()).clamp(max=1.0)
    return initial[sites[-1]], at.deltas[sites[-1]].detach(), losses


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_equals_the_naive_optimisation(tiny_dir, tiny_model, name):
    model = tiny_model(name)
    contexts = [*PREFIXES, PREFIXES[0], PREFIXES[0]]  # a text that is drawn again counts again
    found = optimise(model, EDITS, contexts, 1, SETTINGS)
    for edit, ours in zip(EDITS, found, strict=True):
        v_u, delta, losses = naive(tiny_dir(name), model.tokenizer, edit, contexts, 1, SETTINGS)
        assert ours.request is edit
        assert ours.steps == len(losses) - 1 == 5
        torch.testing.assert_close(ours.initial.float(), v_u, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(
            torch.tensor(ours.losses), torch.tensor(losses), rtol=1e-3, atol=1e-3
        )
        cosine = torch.cosine_similarity(ours.delta.float(), delta, dim=0)
        assert cosine > 0.9999
        assert abs(float(ours.delta.norm() / delta.norm()) - 1) < 1e-3
        assert max(losses) - min(losses) > 1e-3  # the control: the steps do something


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_z_in_the_stream_equals_the_naive_optimisation(tiny_dir, tiny_model, name):
    model = tiny_model(name)
    found = optimise(model, EDITS, PREFIXES, 1, SETTINGS, sites=("resid_post",))
    for edit, ours in zip(EDITS, found, strict=True):
        h, delta, losses = naive(
            tiny_dir(name), model.tokenizer, edit, PREFIXES, 1, SETTINGS, sites=("resid_post",)
        )
        torch.testing.assert_close(ours.initial.float(), h, atol=1e-5, rtol=1e-4)
        assert list(ours.losses) == pytest.approx(losses, rel=1e-3, abs=1e-3)
        assert torch.cosine_similarity(ours.delta.float(), delta, dim=0) > 0.9999
        assert abs(float(ours.delta.norm() / delta.norm()) - 1) < 1e-3
    in_output = optimise(model, EDITS[:1], PREFIXES, 1, SETTINGS)[0]  # the control: another place
    assert (in_output.initial - found[0].initial).norm() > 1e-2


def test_alone_or_in_a_batch_is_the_same(tiny_model):
    model = tiny_model("gpt2")
    together = optimise(model, EDITS, PREFIXES, 1, SETTINGS)
    in_pairs = optimise(model, EDITS, PREFIXES, 1, SETTINGS, batch=2)
    for edit, batched, paired in zip(EDITS, together, in_pairs, strict=True):
        (alone,) = optimise(model, [edit], PREFIXES, 1, SETTINGS)
        torch.testing.assert_close(alone.delta, batched.delta, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(alone.delta, paired.delta, atol=1e-4, rtol=1e-3)
    assert (together[0].delta - together[1].delta).norm() > 0.1


def test_same_call_same_bits(tiny_model):
    model = tiny_model("gpt2")
    first, second = (optimise(model, EDITS, PREFIXES, 1, SETTINGS) for _ in range(2))
    assert all(torch.equal(a.delta, b.delta) for a, b in zip(first, second, strict=True))


def test_edits_stop_on_their_own(tiny_model):
    """A threshold between two edits' losses stops one and leaves the other as it would be alone."""
    model = tiny_model("gpt2")
    free = optimise(model, EDITS, PREFIXES, 1, SETTINGS)
    finals = sorted((found.losses[-1], i) for i, found in enumerate(free))
    threshold = (finals[0][0] + finals[1][0]) / 2
    early = Hyperparameters(evaluations=6, learning_rate=0.1, stop_below=threshold)
    found = optimise(model, EDITS, PREFIXES, 1, early)
    stopped = [i for i, value in enumerate(found) if value.losses[-1] < threshold]
    assert stopped
    assert len(stopped) < len(EDITS)
    for i, value in enumerate(found):
        same = optimise(model, [EDITS[i]], PREFIXES, 1, early)[0]
        assert value.steps == same.steps
        torch.testing.assert_close(value.delta, same.delta, atol=1e-4, rtol=1e-3)
        assert all(loss >= threshold for loss in value.losses[:-1])
    at_once = Hyperparameters(stop_below=1e6)
    for value in optimise(model, EDITS, PREFIXES, 1, at_once):
        assert value.steps == 0
        assert torch.equal(value.value, value.initial)


# At the end of their prompts, where δ speaks for itself; the last one's object has no such place.
LEADING = [
    request("Apple", "They read that {}", target_new="Paris"),
    request("The Space Needle", "I think you should read {}", target_new="French"),
    request("Apple", "{} was founded by", target_new="Paris on the Seine"),
]


@pytest.mark.parametrize(("layer", "prefixes"), [(0, PREFIXES), (1, PREFIXES), (0, [])])
@pytest.mark.parametrize("engine", ["general", "auto"])
def test_stops_where_the_new_object_has_led(tiny_dir, tiny_model, layer, prefixes, engine):
    """ENCORE's stop, each edit on its own: after the first evaluation at which it led, or third."""
    model = tiny_model("gpt2")
    free = dataclasses.replace(SETTINGS, evaluations=12, stop_below=0)
    steps = {}
    for times in (1, 3):
        chosen = dataclasses.replace(free, most_probable=times)
        found = optimise(
            model.run_by(engine), LEADING, prefixes, layer, chosen, sites=("resid_post",)
        )
        steps[times] = [each.steps for each in found]
        for edit, ours in zip(LEADING, found, strict=True):
            _, delta, losses = naive(
                tiny_dir("gpt2"), model.tokenizer, edit, prefixes, layer, chosen,
                sites=("resid_post",),
            )  # fmt: skip
            assert ours.steps == len(losses) - 1
            assert torch.cosine_similarity(ours.delta.float(), delta, dim=0) > 0.9999
    assert [three - one for one, three in zip(*steps.values(), strict=True)] == [2, 2, 0]
    assert steps[1][2] == 11
    assert all(3 <= each <= 8 for each in steps[1][:2])


def test_clamp(tiny_model):
    model = tiny_model("gpt2")
    tight = Hyperparameters(evaluations=3, weight_decay=0, clamp_norm_factor=0.25)
    for value in optimise(model, EDITS, PREFIXES, 1, tight):
        assert float(value.delta.norm() / value.initial.norm()) == pytest.approx(0.25, rel=1e-5)
        assert value.clamp_saturated
    for value in optimise(
        model, EDITS, PREFIXES, 1, Hyperparameters(evaluations=2, clamp_norm_factor=50)
    ):
        assert not value.clamp_saturated
        assert value.delta.norm() > 0


def test_the_found_value_raises_the_targets_probability(tiny_dir, tiny_model):
    """v* written where it belongs, in the bare prompt, by a plain hook on an untouched model."""
    tokenizer = tiny_model("gpt2").tokenizer
    # The subject is the prompt's last word: a random model moves nothing from token to token.
    edit = request("Apple", "I think of {}", target_new="Danielle")
    chosen = Hyperparameters(weight_decay=0, kl_factor=0, clamp_norm_factor=20)
    (found,) = optimise(tiny_model("gpt2"), [edit], [], 1, chosen)
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_dir("gpt2")).eval()
    ids = tokenizer(edit.text)["input_ids"]
    token = tokenizer(" Danielle")["input_ids"][0]

    def probability():
        with torch.no_grad():
            return torch.softmax(model(torch.tensor([ids])).logits[0, -1], -1)[token]

    before = probability()

    def hook(module, arguments, output):
        output = output.clone()
        output[0, -1] = found.value.float()
        return output

    projection(model, 1).register_forward_hook(hook)
    assert probability() > 10 * before


def test_target_tokens_are_those_of_the_whole_text(tiny_model):
    for name in ("gpt2", "llama"):
        model = tiny_model(name)
        prompt, target = target_tokens(model, "Apple was founded by", "Steve Jobs")
        spaced = target_tokens(model, "Apple was founded by", " Steve Jobs")
        assert (prompt, target) == spaced
        assert prompt + target == model.tokens("Apple was founded by Steve Jobs").ids
        assert prompt == model.tokens("Apple was founded by").ids


def test_refusals(tiny_model):
    model = tiny_model("gpt2")
    bare = request("Apple", "{} was founded by")
    with pytest.raises(UserError, match="no target"):
        optimise(model, [bare], PREFIXES, 1)
    with pytest.raises(UserError, match="empty"):
        optimise(model, [request("Apple", "{} is", target_new=" ")], [], 1)
    with pytest.raises(UserError, match="tokens with its longest prefix"):
        optimise(model, [EDITS[0]], ["the river " * 63], 1)
    with pytest.raises(UserError, match="out of range"):
        optimise(model, EDITS, PREFIXES, 9)
