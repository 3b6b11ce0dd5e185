"""The noise floor is what rounding really adds, and no matter how different units' sizes are."""

from __future__ import annotations

import pytest
import torch

from probes.second_moment import rounding
from probes.second_moment.moment import SecondMoment, of_moment

D = 60


def moment(scale: torch.Tensor) -> SecondMoment:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(D, D, dtype=torch.float64, generator=generator) / 8 + torch.eye(D)
    keys = torch.randn(6000, D, dtype=torch.float64, generator=generator) @ mixing * scale
    return of_moment(keys.T @ keys / len(keys), source="test")


def test_it_is_the_trace_whatever_the_sizes_of_units_are() -> None:
    plain = moment(torch.ones(D, dtype=torch.float64))
    units = moment(torch.logspace(0, -6, D, dtype=torch.float64))
    assert units.condition_number > 1e9 > 1e5 > plain.condition_number
    inverse = torch.linalg.inv(plain.moment)
    exact = float((plain.moment.diagonal() * inverse.diagonal()).mean().sqrt())
    floors = [rounding.noise_floor(some, torch.float32) for some in (plain, units)]
    assert floors[0] == pytest.approx(floors[1], rel=1e-6)
    expected = rounding.UNITS_IN_THE_LAST_PLACE * torch.finfo(torch.float32).eps * exact
    assert floors[0] == pytest.approx(expected, rel=0.2)
    assert rounding.noise_floor(plain, torch.bfloat16) == pytest.approx(2**16 * floors[0])


def test_rounding_adds_that_much() -> None:
    units = moment(torch.logspace(0, -6, D, dtype=torch.float64))
    generator = torch.Generator().manual_seed(1)
    normal = torch.randn(4000, D, dtype=torch.float64, generator=generator)
    keys = normal @ torch.linalg.cholesky(units.moment).T
    error = rounding.UNITS_IN_THE_LAST_PLACE * torch.finfo(torch.float32).eps
    errors = error * units.moment.diagonal().sqrt() * torch.randn(4000, D, generator=generator)
    lengths = [units.whiten(some).square().sum(1).mean().sqrt() for some in (errors, keys)]
    measured = float(lengths[0] / lengths[1])
    assert measured == pytest.approx(rounding.noise_floor(units, torch.float32), rel=0.2)
