"""Eight performed runs, each equal to a plain one, and Shapley values that add up."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import torch

from probes.first_token import attribution
from probes.first_token import subjects as subject_set
from probes.forward.counterfactual import perform_readings
from probes.model.loaded import LoadedModel
from rome_diagnosis.errors import UserError
from tests.probes.first_token import probing

ARCHITECTURES = ("gpt2", "gptj", "neox", "llama", "qwen2", "gemma2")
LAYER = 2


def test_shapley_values_are_those_of_the_definition() -> None:
    worth = torch.randn(2, 2, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values = attribution.shapley(worth).numpy()
    v = worth.numpy()
    expected = np.zeros((3, 5))
    for order in permutations(range(3)):
        on = [0, 0, 0]
        for player in order:
            before = v[tuple(on)]
            on[player] = 1
            expected[player] += (v[tuple(on)] - before) / 6
    assert np.allclose(values, expected, atol=1e-12)
    assert np.allclose(values.sum(0), v[1, 1, 1] - v[0, 0, 0], atol=1e-12)
    parts = attribution.dividends(worth)
    assert len(parts) == 7
    assert np.allclose(sum(parts.values()).numpy(), v[1, 1, 1] - v[0, 0, 0], atol=1e-12)
    for player in range(3):
        shared = sum(part / len(who) for who, part in parts.items() if player in who)
        assert np.allclose(values[player], shared.numpy(), atol=1e-12)


def test_shapley_of_games_whose_answer_is_known() -> None:
    a, b, c = torch.meshgrid(*[torch.arange(2.0)] * 3, indexing="ij")
    sums = attribution.shapley(2 * a + 3 * b - c)
    assert torch.allclose(sums, torch.tensor([2.0, 3.0, -1.0]))
    both = attribution.shapley(6 * a * c)  # worth something together only
    assert torch.allclose(both, torch.tensor([3.0, 0.0, 3.0]))
    assert float(attribution.dividends(6 * a * c)[(0, 2)]) == 6.0


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_combination_is_a_run_of_the_plain_model(
    name: str, tiny_model: Callable[[str], LoadedModel], tiny_dir: Callable[[str], Path]
) -> None:
    model = tiny_model(name)
    plain = probing.Plain(tiny_dir(name), LAYER)
    pairs = [subject.pairs[0] for subject in probing.measured(model, LAYER)][::2]
    for form, position, attention in product((False, True), repeat=3):
        runs = [pair.run(form=form, position=position, attention=attention) for pair in pairs]
        found = perform_readings(model, runs, LAYER)
        for key, pair in zip(found, pairs, strict=True):
            tail = pair.spaced if form else pair.bare
            front = [*pair.head, *(pair.prefix if attention else [])]
            start = len(pair.head) + (len(pair.prefix) if position else 0)
            told = [*range(len(front)), *range(start, start + len(tail))]
            expected = plain.key([*front, *tail], told)
            assert float((key - expected).norm() / expected.norm()) < 1e-5


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_attribution_sums_and_reproduces(
    name: str, tiny_model: Callable[[str], LoadedModel]
) -> None:
    model = tiny_model(name)
    subjects = probing.measured(model, LAYER)
    found = attribution.attribute(model, subjects, LAYER)
    assert found.efficiency_error < 1e-6
    assert found.reproduction_error < 1e-4
    total = sum(estimate.mean for estimate in found.shapley.values())
    assert total == pytest.approx(found.delta.mean, abs=1e-6)
    for row in found.subjects:
        parts = sum(row[factor] for factor in attribution.FACTORS)
        assert parts == pytest.approx(row["delta"], abs=1e-6)
    single = sum(estimate.mean for estimate in found.alone.values())
    together = sum(estimate.mean for estimate in found.interactions.values())
    assert single + together == pytest.approx(found.delta.mean, abs=1e-6)
    if model.config.positional_embedding_type == "rotary" or name != "gpt2":
        # A token that sees no other has the same key at every position.
        assert abs(found.alone["position"].mean) < 1e-5 or model.bos
    else:
        assert abs(found.alone["position"].mean) > 1e-3
    assert abs(found.alone["attention"].mean) > 1e-4
    sentence = attribution.in_words(found)
    assert all(factor in sentence for factor in attribution.FACTORS)


def test_rho_of_a_substituted_key_is_linear_and_ends_where_it_should(
    tiny_model: Callable[[str], LoadedModel],
) -> None:
    model = tiny_model("gpt2")
    metric = probing.moment(int(model.config.d_mlp))
    for subject in probing.measured(model, LAYER):
        mean = subject.keys.mean(0)
        assert subject.rho == pytest.approx(metric.ratio(subject.keys[0], mean), rel=1e-9)
        assert float(mean @ subject.direction) == pytest.approx(1.0)
        n = len(subject.keys) - 1
        assert subject.rho + n * subject.rho_prefixed == pytest.approx(n + 1)


def test_an_attribution_whose_ends_are_not_the_keys_is_refused(
    tiny_model: Callable[[str], LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("gpt2")
    subjects = probing.measured(model, LAYER)
    run = subject_set.TokenPair.run

    def without_position(self, *, form, position, attention):
        return run(self, form=form, position=False, attention=attention)

    monkeypatch.setattr(subject_set.TokenPair, "run", without_position)
    with pytest.raises(UserError, match="does not reproduce the prefixed key"):
        attribution.attribute(model, subjects, LAYER)
