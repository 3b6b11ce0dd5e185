"""The tests check shapes: an array of the wrong shape does not pass unnoticed."""

from __future__ import annotations

import jaxtyping
import pytest
import torch

from diag.mathematics.update import denominators
from probes.second_moment.moment import SecondMoment, of_moment


def test_functions_check_the_shapes_they_name() -> None:
    keys = torch.randn(3, 6, dtype=torch.float64)
    assert denominators(keys, SecondMoment.identity(6)).raw
    with pytest.raises(jaxtyping.TypeCheckError, match="n_ctx d_mlp"):
        denominators(keys[0], SecondMoment.identity(6))


def test_methods_and_dataclasses_do_too() -> None:
    moment = of_moment(torch.eye(6, dtype=torch.float64), source="test")
    assert moment.whiten(torch.ones(2, 6, dtype=torch.float64)).shape == (2, 6)
    with pytest.raises(jaxtyping.TypeCheckError, match="d_mlp"):
        moment.whiten(torch.ones(2, 6, dtype=torch.int64))
