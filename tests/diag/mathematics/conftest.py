"""A generator for each of several seeds."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(params=range(5))
def generator(request: pytest.FixtureRequest) -> torch.Generator:
    return torch.Generator().manual_seed(request.param)
