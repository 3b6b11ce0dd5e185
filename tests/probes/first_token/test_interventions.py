"""Interventions are performed or refused; each null has a positive control beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from probes.first_token import interventions, patching
from probes.forward import counterfactual
from probes.forward.counterfactual import Patch, Reading, causal, perform_readings, record
from probes.model.loaded import LoadedModel
from rome_diagnosis.errors import UserError
from tests.probes.first_token import probing

ARCHITECTURES = ("gpt2", "gptj", "neox", "llama", "qwen2", "gemma2")
LAYER = 2


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_interventions_apply_or_say_why_not(
    name: str, tiny_model: Callable[[str], LoadedModel]
) -> None:
    model = tiny_model(name)
    kind, effects = interventions.intervene(model, probing.measured(model, LAYER), LAYER)
    assert kind == ("absolute" if name == "gpt2" else "relative")
    by_name = {effect.name: effect for effect in effects}
    assert len(by_name) == len(interventions.catalogue(model))
    null = by_name["own position"]
    assert null.reason is None
    assert abs(null.delta.mean) < 1e-5
    for effect in effects:
        if effect.reason is not None:
            assert effect.n == 0
            assert effect.delta is None
            continue
        assert effect.delta.mean == pytest.approx(
            effect.rho_after.mean - effect.rho_before.mean, abs=1e-9
        )
        if effect.hypothesis != "null":
            assert effect.changed > 0
            assert effect.key_change > 1e-4
    refused = {effect.name for effect in effects if effect.reason}
    assert "attention output" not in refused
    assert "sees only itself" not in refused
    assert ("later position" in refused) == (name != "gpt2")
    if name in ("llama", "gemma2"):
        assert "is there already" in by_name["end of text"].reason
        assert "same token" in by_name["spaced form"].reason
    else:
        assert by_name["spaced form"].n > 0


def test_seeing_only_itself_is_the_plain_model_on_the_subject_alone(
    tiny_model: Callable[[str], LoadedModel], tiny_dir: Callable[[str], Path]
) -> None:
    model = tiny_model("gpt2")
    plain = probing.Plain(tiny_dir("gpt2"), LAYER)
    for subject in probing.measured(model, LAYER)[:3]:
        pair = subject.pairs[0]
        run = interventions._alone(pair.prefixed_run())
        start = len(pair.prefix)
        expected = plain.key(pair.spaced, list(range(start, start + len(pair.spaced))))
        found = perform_readings(model, [run], LAYER)[0]
        assert float((found - expected).norm() / expected.norm()) < 1e-5


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_masks_govern_attention_and_later_tokens_can_be_seen(
    name: str, tiny_model: Callable[[str], LoadedModel]
) -> None:
    model = tiny_model(name)
    ids = model.tokens("Paris lies on the Seine").ids
    n = len(ids)
    plain = perform_readings(model, [Reading(ids, n - 1, 1)], LAYER)
    assert torch.equal(
        plain, perform_readings(model, [Reading(ids, n - 1, 1, None, causal(n))], LAYER)
    )
    forward = causal(n)
    forward[0] = True
    first = perform_readings(model, [Reading(ids, 0, 1), Reading(ids, 0, 1, None, forward)], LAYER)
    assert float((first[0] - first[1]).norm() / first[0].norm()) > 1e-4
    without = causal(n)
    without[1:, 0] = False
    blocked = perform_readings(model, [Reading(ids, n - 1, 1, None, without)], LAYER)
    assert float((blocked - plain).norm() / plain.norm()) > 1e-4


def test_a_model_that_ignores_masks_is_refused(
    tiny_model: Callable[[str], LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("gpt2")
    ids = model.tokens("Paris lies on the Seine").ids
    n = len(ids)
    blocked, forward = causal(n), causal(n)
    blocked[1:, 0] = False
    forward[0] = True
    additive = counterfactual._additive

    def deaf(allowed: torch.Tensor, model: LoadedModel) -> torch.Tensor:
        return additive(causal(allowed.shape[-1]).expand(allowed.shape), model)

    monkeypatch.setattr(counterfactual, "_additive", deaf)
    for sees in (blocked, forward):
        with pytest.raises(UserError, match="ignores attention masks"):
            perform_readings(model, [Reading(ids, n - 1, 1, None, sees)], LAYER)


def test_a_model_that_ignores_positions_is_refused(
    tiny_model: Callable[[str], LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("gpt2")
    subjects = probing.measured(model, LAYER)
    monkeypatch.setattr(
        counterfactual,
        "_positions",
        lambda batch, runs: torch.arange(batch.ids.shape[1]).expand(batch.ids.shape),
    )
    kind, effects = interventions.intervene(model, subjects, LAYER)
    assert kind == "none"
    assert all(effect.reason for effect in effects if effect.hypothesis == "position")
    monkeypatch.setattr(interventions, "position_kind", lambda model, layer: "absolute")
    with pytest.raises(UserError, match="silently ignores the intervention 'later position'"):
        interventions.intervene(model, subjects, LAYER)


def test_side_by_side_blocks_have_no_attention_in_block_0(
    tiny_model: Callable[[str], LoadedModel],
) -> None:
    model = tiny_model("gptj")
    kind, effects = interventions.intervene(model, probing.measured(model, 0), 0)
    assert kind == "none"
    by_name = {effect.name: effect for effect in effects}
    assert "in parallel" in by_name["sees only itself"].reason
    assert by_name["spaced form"].reason is None


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_patching_restores_what_it_must(
    name: str, tiny_model: Callable[[str], LoadedModel]
) -> None:
    model = tiny_model(name)
    found = patching.patch(model, probing.measured(model, LAYER), LAYER)
    assert found.null_error < 1e-5
    assert found.residual_error < 1e-4
    assert found.attention_error < 1e-4
    by_place = {(p.block, p.site, p.direction): p for p in found.patches}
    whole = by_place[LAYER, "embedding_and_attention", "into_bare"]
    assert whole.rho.mean == pytest.approx(found.rho_prefixed.mean, abs=1e-4)
    back = by_place[LAYER, "resid_mid", "into_prefixed"]
    assert back.rho.mean == pytest.approx(found.rho_bare.mean, abs=1e-4)
    # Positive control: a part of it does not restore everything.
    assert abs(by_place[0, "attention", "into_bare"].recovered - 1.0) > 1e-3


def test_a_foreign_patch_changes_the_key_and_leaves_the_model_as_it_was(
    tiny_model: Callable[[str], LoadedModel],
) -> None:
    model = tiny_model("gpt2")
    runs = [Reading(model.tokens(text).ids[:1], 0, 1) for text in ("Apple", "Paris")]
    before = perform_readings(model, runs, LAYER)
    kept = record(model, runs, LAYER, [(1, "resid_pre")])[1, "resid_pre"]
    swapped = perform_readings(model, runs, LAYER, patches=[Patch((1, "resid_pre"), kept[::-1])])
    assert torch.allclose(swapped, before.flip(0), atol=1e-5)
    assert not torch.allclose(swapped, before, atol=1e-2)
    assert torch.equal(perform_readings(model, runs, LAYER), before)


def test_patches_that_are_discarded_are_refused(
    tiny_model: Callable[[str], LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("gpt2")
    subjects = probing.measured(model, LAYER)
    monkeypatch.setattr(counterfactual, "_write", lambda patch, batch, runs: lambda a, hook: None)
    with pytest.raises(UserError, match="not performed as described"):
        patching.patch(model, subjects, LAYER)
    with pytest.raises(UserError, match="silently ignores"):
        interventions.intervene(model, subjects, LAYER)


def test_impossible_runs_are_refused(tiny_model: Callable[[str], LoadedModel]) -> None:
    model = tiny_model("gpt2")
    with pytest.raises(ValueError, match="cannot be read"):
        perform_readings(model, [Reading([1, 2], 2, 1)], LAYER)
    with pytest.raises(ValueError, match="positions for"):
        perform_readings(model, [Reading([1, 2], 1, 1, [0])], LAYER)
    with pytest.raises(ValueError, match="must see itself"):
        perform_readings(
            model, [Reading([1, 2], 1, 1, None, torch.zeros(2, 2, dtype=torch.bool))], LAYER
        )
    with pytest.raises(UserError, match="too long"):
        perform_readings(model, [Reading([1] * 200, 1, 1)], LAYER)
