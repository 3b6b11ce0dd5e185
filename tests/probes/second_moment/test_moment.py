"""A second moment as a metric."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from probes.second_moment.moment import SecondMoment, of_moment


def test_impossible_moments_are_refused() -> None:
    for bad in (torch.zeros(3, 3), torch.full((3, 3), float("nan")), torch.zeros(3, 2)):
        with pytest.raises(ValueError, match="second moment"):
            of_moment(bad.double(), source="test")


def test_identity_is_the_plain_inner_product() -> None:
    x, y = torch.randn(2, 6, dtype=torch.float64)
    identity = SecondMoment.identity(6)
    assert identity.inner(x, y) == pytest.approx(float(x @ y))
    assert torch.equal(identity.solve(x), x)
    assert identity.ridge == 0
    scaled = replace(identity, moment=4 * torch.eye(6, dtype=torch.float64), eigenvalues=(4, 4))
    assert scaled.inner(x, y) == pytest.approx(float(x @ y) / 4)
