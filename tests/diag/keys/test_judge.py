"""What an observation means: judged without a model, the same each time, and never falsely safe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import rome_diagnosis as rd
from diag.apply.choose import options
from diag.judgement.words import number
from diag.keys.api import choose_request
from diag.keys.document import document
from diag.keys.judge import Judgement, judge
from probes import bundled
from probes.keys.observe import Observation, observe
from probes.model.loaded import LoadedModel
from probes.request import prefixes
from probes.request.request import request
from probes.second_moment.choose import for_model
from probes.second_moment.moment import SecondMoment
from probes.target_value.hyperparameters import Hyperparameters
from rome_diagnosis.editors import EDITORS
from rome_diagnosis.errors import UserError
from rome_diagnosis.limits import DAMAGE_COLLAPSE, FIRST_TOKENS_HARM


@pytest.fixture(scope="module")
def moment(bundled_model: LoadedModel) -> SecondMoment:
    return for_model(bundled_model, bundled.edit_layer())


@pytest.fixture(scope="module")
def apple(bundled_model: LoadedModel) -> Observation:
    sampled = prefixes.sample(bundled_model, n=20, seed=0)
    return observe(bundled_model, choose_request("Apple"), bundled.edit_layer(), sampled)


def judged(observation: Observation, moment: SecondMoment, seed: int = 0) -> Judgement:
    return judge(observation, moment, hyperparameters=Hyperparameters(), seed=seed)


def written(observation: Observation, moment: SecondMoment) -> dict[str, object]:
    found = document(observation, judged(observation, moment), moment, seed=0, sampled=True)
    return {name: value for name, value in found.items() if name != "created"}


def findings_of(judgement: Judgement) -> dict[str, str]:
    return {finding.id: finding.message for finding in judgement.findings}


def test_the_same_observation_gives_the_same_document(
    apple: Observation, moment: SecondMoment
) -> None:
    assert written(apple, moment) == written(apple, moment)
    other = replace(apple, keys=apple.keys.flip(0), values=apple.values.flip(0))
    assert written(other, moment)["denominators"] != written(apple, moment)["denominators"]


def test_damage_and_response_are_formulas_of_keys_and_values(
    apple: Observation, moment: SecondMoment
) -> None:
    found, c = judged(apple, moment), moment.moment
    bare, mean = apple.keys[0], apple.keys.mean(0)
    background = moment.background
    first, unit = background.first_keys.double(), background.residual_norm
    gap = float((apple.values[0] - apple.values.mean(0)).norm())
    length = 4.0 * float(apple.values[0].norm())
    for name, along, divided, longest in (
        ("rome", mean, bare, length),
        ("c_rome", mean, mean, length + gap),
        ("p_rome", bare, bare, length),
    ):
        u = moment.solve(along)
        d = float(u @ divided)
        bound = found.damage[name]
        assert bound.relative_bound == pytest.approx(
            longest * float(u @ c @ u) ** 0.5 / abs(d) / unit, rel=1e-9
        )
        rms = float((first @ u / d).square().mean().sqrt())
        assert bound.relative_bound_first_tokens == pytest.approx(longest * rms / unit, rel=1e-9)
        assert found.responses[name].other_first_tokens == pytest.approx(rms, rel=1e-9)
    assert found.responses["c_rome"].bare == pytest.approx(found.denominators.split.ratio)


def test_p_rome_is_not_advised_where_it_reaches_every_first_token(
    apple: Observation, moment: SecondMoment
) -> None:
    found = judged(apple, moment)
    bound = found.damage["p_rome"]
    assert bound.relative_bound < 0.1 < FIRST_TOKENS_HARM.value < bound.relative_bound_first_tokens
    assert "P-ROME reaches every prompt" in findings_of(found)["first_tokens_p_rome"]
    assert "Instead use P-ROME" not in found.summary
    assert "Instead use C-ROME" in found.summary
    assert "C-ROME will not answer the bare prompt" in findings_of(found)["response_c_rome"]


@pytest.mark.parametrize("seed", range(8))
def test_no_seed_of_apple_hides_what_another_says(
    seed: int, bundled_model: LoadedModel, moment: SecondMoment
) -> None:
    """Seed 2 lies beside the limit of collapse, where other seeds lie above it."""
    sampled = prefixes.sample(bundled_model, n=20, seed=seed)
    seen = observe(bundled_model, choose_request("Apple"), bundled.edit_layer(), sampled)
    found = judged(seen, moment, seed)
    message = findings_of(found)["contexts"]
    least, most = (
        found.damage["rome"].relative_bound * found.denominators.split.ratio / end
        for end in reversed(found.interval)
    )
    limit = DAMAGE_COLLAPSE.value
    if found.verdict == "collapse_risk":
        assert ("at the better end the verdict is a risk of damage" in message) == (least < limit)
    else:
        assert found.verdict == "damage_risk"
        assert ("at the worse end the verdict is a risk of collapse" in message) == (most >= limit)
    assert ("no draw changes" in message) == (least >= limit or most < limit)


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("subject", ["Apple", "Microsoft Apple Intel"])
def test_with_too_few_contexts_nothing_is_safe(
    n: int, subject: str, bundled_model: LoadedModel, moment: SecondMoment
) -> None:
    edit = request(subject, "The company {} was founded by")
    layer = bundled.edit_layer()
    few = judged(observe(bundled_model, edit, layer, prefixes.sample(bundled_model, n=n)), moment)
    assert few.verdict != "safe"
    assert few.interval is None
    enough = judged(
        observe(bundled_model, edit, layer, prefixes.sample(bundled_model, n=20)), moment
    )
    assert enough.verdict == "safe"  # with enough of them it is


@pytest.mark.parametrize("field", ["keys", "values"])
def test_nan_gives_no_verdict(field: str, apple: Observation, moment: SecondMoment) -> None:
    tensor = getattr(apple, field).clone()
    tensor[0, 0] = torch.nan
    with pytest.raises(UserError, match="not numbers"):
        judged(replace(apple, **{field: tensor}), moment)


def test_a_denominator_of_exactly_zero_is_a_risk(apple: Observation, moment: SecondMoment) -> None:
    d_mlp = apple.keys.shape[1]
    keys = torch.zeros(3, d_mlp, dtype=torch.float64)
    keys[0, 0], keys[1, 0], keys[1, 1], keys[2, 1] = 1.0, -1.0, 1.0, 1.0  # k̄ ⊥ k_u
    identity = SecondMoment.identity(d_mlp)
    crossed = replace(apple, keys=keys, values=apple.values[:3], lookups=apple.lookups[:3])
    found = judged(crossed, identity)
    assert found.denominators.raw["rome"] == 0.0
    assert found.verdict == "collapse_risk"
    assert found.responses["rome"] is None
    assert found.responses["c_rome"] is not None
    whole = document(crossed, found, identity, seed=0, sampled=False)
    assert whole["response"]["rome"] is None
    assert whole["damage"]["rome"]["relative_bound"] is None


def test_every_editor_has_its_findings(apple: Observation, moment: SecondMoment) -> None:
    found = findings_of(judged(apple, moment))
    for name in EDITORS:
        assert {f"damage_{name}", f"first_tokens_{name}", f"response_{name}"} <= set(found)
    assert "85.4 % of their norm (limit 85 %)" in found["damage_rome"]


def test_the_document_carries_its_limits_and_where_they_hold(
    apple: Observation, moment: SecondMoment
) -> None:
    found = document(apple, judged(apple, moment), moment, seed=0, sampled=True)
    assert found["limits"]["first_tokens_safe"] == 0.1
    assert "the architecture of this model" in found["validity"]
    assert found["damage"]["checked"] == "closed form"
    assert "residual stream" in found["damage"]["contribution"]
    unlike = replace(apple, model={**apple.model, "architecture": "GraniteForCausalLM"})
    elsewhere = document(unlike, judged(unlike, moment), moment, seed=0, sampled=True)
    assert "not on a GraniteForCausalLM" in elsewhere["validity"]


def test_a_target_far_from_the_mean_value_is_said_with_both_norms(
    apple: Observation, moment: SecondMoment
) -> None:
    values = apple.values
    here = {f.id: f for f in judged(apple, moment).findings}["target_c_rome"]
    expected = min(4 * float(values[0].norm()), 0.65 * 19 * 0.5 * values.shape[1] ** 0.5)
    distance = float((values[0] - values.mean(0)).norm())
    assert here.status == "pass" and here.value == pytest.approx(distance / expected)
    # The bare prompt's value moved away, as long as it was: δ is as long, and lies far from v̄.
    away = values.clone()
    away[1:] -= expected * torch.nn.functional.normalize(values[0], dim=0)
    found = judged(replace(apple, values=away), moment)
    there = {f.id: f for f in found.findings}["target_c_rome"]
    assert there.status == "warn" and there.value > 0.5
    distance = float((away[0] - away.mean(0)).norm())
    assert f"{number(distance)} beside ‖δ‖ of about {number(expected)}" in there.message
    assert [choice.target_warning for choice in options(found)] == [None, there.message, None]
    assert [choice.target_warning for choice in options(judged(apple, moment))] == [None] * 3


def test_a_second_moment_of_one_sentence_calls_nothing_safe(
    bundled_model: LoadedModel, tmp_path: Path
) -> None:
    """Along directions that its text does not use damage looks small, and is not."""
    text, output = tmp_path / "text", str(tmp_path / "c-{layer}.safetensors")
    text.write_text("\n\n".join(["France is a country in Europe. " * 12] * 40))
    rd.second_moments(model=bundled_model, layers=[1], text=text, output=output, quiet=True)
    own = rd.diagnose("Apple", model=bundled_model).document
    told = rd.diagnose("Apple", model=bundled_model, second_moment=output.format(layer=1)).document
    assert own["verdict"] == "collapse_risk" and "other_text" not in own["second_moment"]
    for editor in EDITORS:  # so little that it would be safe
        assert told["damage"][editor]["relative_bound"] < 0.1
    assert told["second_moment"]["other_text"] > 100
    assert told["verdict"] == "unclear"
    (finding,) = (f for f in told["findings"] if f["id"] == "second_moment")
    assert finding["status"] == "warn" and "nothing is called safe" in finding["message"]
