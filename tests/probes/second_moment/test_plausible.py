"""Right second moments of heavy-tailed keys pass; wrong scales and other keys do not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from probes import bundled
from probes.second_moment import plausible, stored
from probes.second_moment.moment import Background, Provenance, SecondMoment, of_moment

D = 48


def population(kind: str, n: int, seed: int) -> torch.Tensor:
    """Keys as models have them."""
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(n, D, dtype=torch.float64, generator=generator)
    keys *= torch.logspace(0, -3, D, dtype=torch.float64)
    if kind == "rare units":  # most units fire on one token in two hundred
        keys[:, 12:] *= (torch.rand(n, D - 12, generator=generator) < 5e-3).double() * 10 + 1e-3
    elif kind == "massive token":  # one token in five thousand carries nearly all of the trace
        keys[torch.rand(n, generator=generator) < 2e-4, 0] += 500.0
    elif kind == "lengths":  # log-normal
        keys *= torch.randn(n, 1, dtype=torch.float64, generator=generator).exp()
    return keys


def moment(keys: torch.Tensor, sampled: torch.Tensor, *, scale: float = 1.0) -> SecondMoment:
    norms = torch.rand(len(sampled), 2, generator=torch.Generator().manual_seed(0)) + 1
    middle = [float(column.median()) for column in norms.T]
    return of_moment(
        scale * keys.T @ keys / len(keys),
        source="test",
        provenance=Provenance("m", "f", 0, False, "c", "d", len(keys), 64, 1 / 64, "float32"),
        background=Background(
            sampled[:40].float(), sampled.float(), middle[1], middle[0],
            later_norms=norms,
        ),
        fourth=scale**2 * float(keys.square().sum(1).square().mean()),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["plain", "rare units", "massive token", "lengths"])
def test_a_right_one_passes_and_wrong_scales_do_not(kind: str) -> None:
    keys = population(kind, 60_000, 0)
    for scale in (1.0, 0.05, 20.0):
        found = moment(keys, keys[:768], scale=scale)
        for seed in range(20):
            generator = torch.Generator().manual_seed(seed)
            drawn = keys[torch.randint(len(keys), (768,), generator=generator)].float()
            background = replace(found.background, first_keys=drawn[:40], later_keys=drawn)
            complaints = list(plausible.complaints(replace(found, background=background)))
            assert bool(complaints) == (scale != 1.0), (scale, seed)


def test_other_keys_are_told_apart() -> None:
    keys, others = population("plain", 20_000, 0), population("plain", 20_000, 1).flip(1)
    assert not list(plausible.complaints(moment(keys, keys[:768])))
    wrong = moment(keys, others[:768])
    assert any("metric" in complaint for complaint in plausible.complaints(wrong))
    assert any("metric" in complaint for complaint in plausible.complaints(wrong, foreign=True))
    assert plausible.fit(wrong) > 1e4
    assert plausible.fit(moment(keys, keys[:768])) == pytest.approx(1, abs=0.1)


def test_the_expectation_is_the_number_of_dimensions() -> None:
    # E[kᵀC⁻¹k] = tr(C⁻¹C): over all keys the mean is D, which nothing about their law can change.
    keys = population("lengths", 5000, 3)
    found = moment(keys, keys)
    assert float(found.whiten(keys).square().sum(1).mean()) == pytest.approx(D)


def test_the_shipped_one_passes_and_does_at_every_scale_of_its_units() -> None:
    (path,) = (bundled.DATA / "second_moments").glob("*.safetensors")
    shipped = stored.load_moment(path)
    assert list(plausible.complaints(shipped)) == []
    for scale in (0.1, 10.0):
        scaled = of_moment(
            scale * shipped.moment, source="test", provenance=shipped.provenance,
            background=shipped.background,
        )  # fmt: skip
        assert list(plausible.complaints(scaled))


def test_norms_lie_between_the_ranks_a_median_may_have() -> None:
    keys = population("plain", 5000, 0)
    right = moment(keys, keys[:768])
    background = right.background
    assert background is not None and background.later_norms is not None
    norms = background.later_norms[:, 1].double()
    for quantile, wrong in ((0.45, False), (0.55, False), (0.3, True), (0.7, True)):
        value = float(norms.quantile(quantile))
        moved = replace(right, background=replace(background, residual_norm=value))
        assert bool(list(plausible.complaints(moved))) == wrong, quantile


def test_few_tokens_leave_directions_that_first_tokens_may_have() -> None:
    keys = population("plain", 5000, 0)
    few = keys.clone()
    few[:, D // 2 :] = 0.0
    singular = moment(few, few[:768])
    assert singular.ridge > 0 and singular.background is not None
    other = replace(singular.background, first_keys=keys[:40].float())
    assert list(plausible.complaints(replace(singular, background=other))) == []
    # A full C has all directions, and half of its first tokens cannot be that long.
    full = moment(keys, keys[:768])
    longer = replace(full.background, first_keys=1e3 * keys[:40].float())
    assert list(plausible.complaints(replace(full, background=longer)))
