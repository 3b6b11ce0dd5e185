"""A list of edits: closed forms against sums that are carried out."""

from __future__ import annotations

import pytest
import torch

from diag.mathematics import sequence

M, D, OUT = 37, 16, 400


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


CORPUS = random(300, D, seed=9) * torch.linspace(0.1, 3.0, D, dtype=torch.float64)
MOMENT = CORPUS.T @ CORPUS / len(CORPUS)


def measured(change: torch.Tensor) -> float:
    return float((CORPUS @ change).square().sum(1).mean().sqrt())


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "CHUNK", 8)


def test_damage_after_each_edit_is_the_measured_change() -> None:
    steps, residuals = random(M, D), random(M, OUT, seed=1)
    found = sequence.damage(steps, residuals, MOMENT)
    change = torch.zeros(D, OUT, dtype=torch.float64)
    for t in range(M):
        change += torch.outer(steps[t], residuals[t])
        assert float(found[t]) == pytest.approx(measured(change), rel=1e-10)


@pytest.mark.parametrize("alignment", [0.0, 0.3, 1.0])
def test_the_forecast_is_the_mean_over_residuals_of_that_alignment(alignment: float) -> None:
    steps, sizes = random(M, D), random(M, seed=2).abs() + 0.1
    found = sequence.growth(steps, sizes, MOMENT, alignment=alignment)
    squares = torch.zeros(M, dtype=torch.float64)
    draws = 60
    for seed in range(draws):
        shared, own = random(1, OUT, seed=1000 + seed), random(M, OUT, seed=seed)
        residuals = alignment**0.5 * shared + (1 - alignment) ** 0.5 * own
        residuals = residuals / residuals.norm(dim=1, keepdim=True) * sizes[:, None]
        squares += sequence.damage(steps, residuals, MOMENT) ** 2 / draws
    torch.testing.assert_close(found.expected, squares.sqrt(), rtol=0.05, atol=0)


def test_no_residuals_exceed_the_most_and_one_direction_attains_it() -> None:
    steps, sizes = random(M, D), torch.ones(M, dtype=torch.float64)
    found = sequence.growth(steps, sizes, MOMENT)
    residuals = random(M, OUT, seed=5)
    residuals /= residuals.norm(dim=1, keepdim=True)
    assert bool((sequence.damage(steps, residuals, MOMENT) <= found.most + 1e-12).all())
    same = sequence.growth(steps[:1].expand(M, D), sizes, MOMENT, alignment=1.0)
    torch.testing.assert_close(same.expected, same.most)
    with pytest.raises(ValueError, match="cosine"):
        sequence.growth(steps, sizes, MOMENT, alignment=1.5)


def test_the_edit_that_reaches_the_limit_is_named() -> None:
    steps, sizes = 0.01 * random(M, D), torch.ones(M, dtype=torch.float64)
    assert sequence.growth(steps, sizes, MOMENT).first_at_or_above(1.0) is None
    steps[20] *= 1e4
    assert sequence.growth(steps, sizes, MOMENT).first_at_or_above(1.0) == 21


def test_forgetting_is_what_later_edits_add_at_the_key() -> None:
    keys, steps = random(M, D, seed=3), random(M, D) / D
    sizes = random(M, seed=2).abs() + 0.1
    found = sequence.forgetting(keys, steps, sizes)
    draws, squares = 40, torch.zeros(M, dtype=torch.float64)
    for seed in range(draws):
        residuals = random(M, OUT, seed=seed)
        residuals = residuals / residuals.norm(dim=1, keepdim=True) * sizes[:, None]
        for i in range(M):
            later = steps[i + 1 :].T @ residuals[i + 1 :]
            squares[i] += (keys[i] @ later).square().sum() / draws
    torch.testing.assert_close(found, squares.sqrt() / sizes, rtol=0.1, atol=1e-9)
    assert float(found[-1]) == 0.0


def test_entangled_pairs_are_found_across_chunks() -> None:
    keys, steps = random(M, D, seed=3), 0.01 * random(M, D)
    steps[30] = keys[2] / float(keys[2] @ keys[2])  # edit 30 writes on edit 2's key
    (i, j, share), *rest = sequence.entangled(steps, keys, most=5)
    assert (i, j) == (2, 30)
    assert share == pytest.approx(1.0)
    assert len(rest) == 4
    every = [(i, j, float(keys[i] @ steps[j])) for j in range(M) for i in range(j)]
    best = sorted(every, key=lambda pair: -abs(pair[2]))[:5]
    assert [pair[:2] for pair in best] == [(i, j), *[pair[:2] for pair in rest]]
