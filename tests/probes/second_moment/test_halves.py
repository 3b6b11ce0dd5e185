"""How well C is known: shrinkage where tokens are few, and how much ρ still moves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from probes.model.loaded import LoadedModel
from probes.second_moment import halves, shrinkage
from probes.second_moment.moment import of_moment
from probes.second_moment.sums import Accumulator


def test_shrinkage_comes_closer_to_the_truth_where_tokens_are_few() -> None:
    generator = torch.Generator().manual_seed(0)
    d = 40
    root = torch.diag(torch.linspace(0.3, 2.0, d, dtype=torch.float64))
    truth = root @ root
    closer = []
    for n in (20, 60, 4000):
        keys = torch.randn(n, d, dtype=torch.float64, generator=generator) @ root
        moment = keys.T @ keys / n
        share = shrinkage.shrinkage(moment, float(keys.square().sum(1).square().sum()), n)
        mixed = (1 - share) * moment + share * moment.diagonal().mean() * torch.eye(d)
        closer.append(float((mixed - truth).norm() / (moment - truth).norm()))
        # The share is known in closed form to be about E‖C − Σ‖² / (E‖C − Σ‖² + ‖Σ − μI‖²).
        error = (truth.square().sum() + truth.trace() ** 2) / n
        spread = (truth - truth.trace() / d * torch.eye(d)).square().sum()
        assert share == pytest.approx(float(error / (error + spread)), rel=0.25)
    assert closer[0] < 0.6 and closer[1] < 0.8 and closer[2] == pytest.approx(1, abs=0.05)


def test_convergence_is_the_spread_of_estimates(
    tiny_model: Callable[[str], LoadedModel],
) -> None:
    # On keys whose truth is known the figure must be about the real error of ρ, and shrink with n.
    generator = torch.Generator().manual_seed(1)
    d = 24
    bare, mean = torch.randn(2, 300, d, dtype=torch.float64, generator=generator)
    figures = []
    for n in (400, 6400):
        sums = Accumulator.empty({"keys": (d,)}, 0, halves=True)
        for i in range(2):
            keys = torch.randn(n // 2, d, dtype=torch.float64, generator=generator)
            sums.total += keys.T @ keys
            sums.n_tokens += len(keys)
            if i == 0:
                sums.half, sums.n_half = sums.total.clone(), len(keys)
        moment = sums.total / sums.n_tokens
        found = halves.measure_convergence(sums, of_moment(moment, source="test"), bare, mean)
        truth = (bare * mean).sum(1) / mean.square().sum(1)
        white = torch.linalg.solve(moment, mean.T).T
        real = (white * bare).sum(1) / (white * mean).sum(1) - truth
        assert found.median == pytest.approx(float(real.abs().median()), rel=0.4)
        figures.append(found.median)
    assert figures[0] / figures[1] == pytest.approx(4, rel=0.4)
    sums.n_half = 0
    assert halves.measure_convergence(sums, of_moment(moment, source="test"), bare, mean) is None
