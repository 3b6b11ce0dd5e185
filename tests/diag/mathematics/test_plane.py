"""The plane of an edit's two keys: places in it are the denominators."""

from __future__ import annotations

import pytest
import torch

from diag.mathematics.plane import plane
from probes.second_moment.moment import SecondMoment


def test_places_are_inner_products_and_lengths() -> None:
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(6, 8, generator=generator, dtype=torch.float64)
    moment = SecondMoment.identity(8)
    bare, mean = keys[0], keys.mean(0)
    placed = plane(keys, moment)
    x, y = placed["unprefixed"]
    assert x * mean.norm() == pytest.approx(float(bare @ mean), rel=1e-3)
    assert (x * x + y * y) ** 0.5 == pytest.approx(float(bare.norm()), rel=1e-3)
    assert placed["mean"] == [pytest.approx(float(mean.norm()), rel=1e-3), 0.0]
    assert len(placed["prefixed"]) == 5
    assert plane(keys[:1], moment)["unprefixed"][1] == 0.0  # one context: the keys are one
