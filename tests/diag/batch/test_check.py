"""A batch checked beforehand: one edit is judged as ``diag.keys`` judges it, however few steps."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from diag.batch import settings
from diag.batch.check import check_batch
from diag.keys.judge import judge
from diag.mathematics import family
from probes.keys.batch import observe_batch
from probes.keys.observe import observe
from probes.second_moment.moment import SecondMoment
from probes.target_value.hyperparameters import Hyperparameters
from rome_diagnosis.limits import FIRST_TOKENS_HARM
from tests.diag.batch.conftest import CASES, PREFIXES

STEPS = (Hyperparameters(), Hyperparameters(evaluations=3, learning_rate=0.01))


def with_target(workplace, target: Hyperparameters):
    chosen = dataclasses.replace(workplace.chosen, target=target)
    return dataclasses.replace(workplace, chosen=chosen)


@pytest.mark.parametrize("name", ["rome", "c_rome", "p_rome"])
@pytest.mark.parametrize("target", STEPS)
def test_one_edit_is_expected_to_do_what_its_diagnosis_says(
    workplace_of, name: str, target: Hyperparameters
) -> None:
    workplace = with_target(workplace_of(name), target)
    (layer,) = workplace.layers
    for case in CASES:
        found = check_batch(workplace, [case.request])
        observation = observe(workplace.model, case.request, layer, PREFIXES)
        alone = judge(observation, workplace.moments[layer], hyperparameters=target, seed=0)
        bound, damage = alone.damage[name], found.layers[0].damage
        assert bound.relative_bound is not None
        share = float(found.expected_share[0])
        assert share == pytest.approx(bound.expected_share, rel=1e-9)
        assert damage.relative_bound == pytest.approx(bound.relative_bound, rel=1e-6)
        assert damage.relative_expected == pytest.approx(share * bound.relative_bound, rel=1e-6)
        assert damage.relative_first_tokens == pytest.approx(
            bound.relative_bound_first_tokens, rel=1e-6
        )
        assert damage.relative_expected_first_tokens == pytest.approx(
            share * bound.relative_bound_first_tokens, rel=1e-6
        )
        assert (share < 1) == (target is not STEPS[0])


def test_few_steps_raise_no_alarm_at_first_tokens_that_the_diagnosis_does_not(workplace_of) -> None:
    target = dataclasses.replace(STEPS[1], clamp_norm_factor=100.0)
    workplace = with_target(workplace_of("rome"), target)
    (layer,) = workplace.layers
    moment, bounds = workplace.moments[layer], []
    for case in CASES:
        observation = observe(workplace.model, case.request, layer, PREFIXES)
        alone = judge(observation, moment, hyperparameters=target, seed=0)
        assert check_batch(workplace, [case.request]).verdict == alone.verdict == "unclear"
        bounds.append(alone.damage["rome"].relative_bound_first_tokens)
    assert max(bounds) > FIRST_TOKENS_HARM.value


@pytest.mark.parametrize("contexts", [0, 1, len(PREFIXES)])
def test_one_edit_is_safe_where_its_diagnosis_is(workplace_of, contexts: int) -> None:
    target = Hyperparameters(clamp_norm_factor=0.1)
    workplace = dataclasses.replace(
        with_target(workplace_of("rome"), target), prefixes=PREFIXES[:contexts]
    )
    (layer,) = workplace.layers
    for case in CASES:
        observation = observe(workplace.model, case.request, layer, PREFIXES[:contexts])
        moment = workplace.moments[layer]
        alone = judge(observation, moment, hyperparameters=target, seed=workplace.seed)
        assert check_batch(workplace, [case.request]).verdict == alone.verdict
        assert (alone.verdict == "safe") <= (contexts > 1)


@pytest.mark.parametrize("name", ["rome", "c_rome"])
def test_without_a_corpus_one_edit_is_as_dangerous_as_its_diagnosis_says(
    workplace_of, name: str
) -> None:
    workplace = workplace_of(name)
    (layer,), case = workplace.layers, CASES[0]
    moment = SecondMoment.identity(workplace.moments[layer].d_mlp)
    observation = observe(workplace.model, case.request, layer, PREFIXES)
    workplace = dataclasses.replace(workplace, moments={layer: moment})
    for length in (1.0, 1e-3):
        keys = observation.keys.clone()
        keys[0] *= length
        batched = observe_batch(workplace.model, [case.request], [layer], PREFIXES)
        found = dataclasses.replace(
            check_batch(workplace, [case.request]),
            observation=dataclasses.replace(batched, keys={layer: keys[None]}),
        )
        alone = judge(
            dataclasses.replace(observation, keys=keys), moment,
            hyperparameters=workplace.chosen.target, seed=0,
        )  # fmt: skip
        accused = name == "rome" and length < 1
        assert found.verdict == alone.verdicts[name] == ("collapse_risk" if accused else "unclear")
        statuses = {finding.id: finding.status for finding in found.findings}
        assert (
            statuses.get("ratio") == {"c_rome": None, "rome": "fail" if accused else "pass"}[name]
        )


def test_many_edits_are_safe_at_first_tokens_only_if_all_may_pull_the_same_way(
    workplace_of,
) -> None:
    workplace = workplace_of("memit")
    together = check_batch(workplace, [case.request for case in CASES]).layers[0].damage
    assert together.relative_first_tokens > together.relative_expected_first_tokens


@pytest.mark.parametrize("name", ["memit", "alphaedit"])
def test_few_steps_make_less_expected_and_nothing_less_possible(workplace_of, name: str) -> None:
    requests = [case.request for case in CASES]
    full, few = (check_batch(with_target(workplace_of(name), target), requests) for target in STEPS)
    assert torch.equal(full.longest, few.longest)
    assert bool((few.expected_share < full.expected_share).all())
    for one, other in zip(full.layers, few.layers, strict=True):
        assert one.damage.bound == other.damage.bound
        assert other.damage.expected < one.damage.expected


@pytest.mark.parametrize("name", ["memit", "pmet"])
def test_a_target_in_the_mlps_output_receives_from_the_last_layer_alone(workplace_of, name) -> None:
    """PMET's z lies where lower layers do not write; MEMIT's, in the stream, where all do."""
    workplace = workplace_of(name)
    found = check_batch(workplace, [case.request for case in CASES])
    low, high = (layer.shares.bare for layer in found.layers)
    outputs = workplace.model.mlp_output(found.observation.keys[1][:, 0], 1)
    start, expected = {
        "memit": (found.observation.stream, 1 - (1 - low / 2) * (1 - high)),
        "pmet": (outputs, high),
    }[name]
    torch.testing.assert_close(found.bare, expected)
    torch.testing.assert_close(found.longest, 0.75 * start.norm(dim=1), atol=1e-9, rtol=1e-9)
    assert float((found.bare - found.layers[0].shares.bare).abs().max()) > 1e-3  # the control


def test_a_wide_layer_is_not_taken_apart_for_a_comparison(
    workplace_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [case.request for case in CASES]
    everything = [row.method.name for row in check_batch(workplace_of("memit"), requests).family]
    monkeypatch.setattr(settings, "LARGEST_DECOMPOSED", 8)
    monkeypatch.setattr(family, "projector", lambda *_: pytest.fail("eigenvectors were computed"))
    workplace = workplace_of("memit")
    found = check_batch(workplace, requests)
    assert (
        [row.method.name for row in found.family]
        == [name for name in everything if name != "alphaedit"]
        != everything
    )
    assert any("--method alphaedit" in note for note in workplace.notes)
    monkeypatch.undo()
    monkeypatch.setattr(settings, "LARGEST_DECOMPOSED", 8)
    asked = workplace_of("alphaedit")
    assert [row.method.name for row in check_batch(asked, requests).family] == everything
    assert not asked.not_compared
