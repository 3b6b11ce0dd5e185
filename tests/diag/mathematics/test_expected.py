"""A list in expectation: closed sums against lists that are drawn and made."""

from __future__ import annotations

import pytest
import torch

from diag.mathematics import expected as module
from diag.mathematics.expected import Prior, expected

M, D, OUT, DRAWS = 30, 12, 300, 60


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


CORPUS = random(200, D, seed=9) * torch.linspace(0.1, 2.0, D, dtype=torch.float64)
MOMENT = CORPUS.T @ CORPUS / len(CORPUS)
FIRST = torch.outer(CORPUS[0], CORPUS[0])
STEPS, KEYS, APART_KEYS = random(M, D) / 8, random(M, D, seed=1) / 3, random(M, D, seed=2) / 3
VALUES = random(M, OUT, seed=3)
VALUES /= VALUES.norm(dim=1, keepdim=True)
APART = random(M, OUT, seed=4) / OUT**0.5 / 2


def times(moment: torch.Tensor) -> module.Product:
    return lambda keys: keys @ moment


def prior(*, subtracts: bool = True) -> Prior:
    apart = APART if subtracts else torch.zeros_like(APART)
    return Prior(
        STEPS,
        KEYS,
        APART_KEYS if subtracts else torch.zeros_like(APART_KEYS),
        VALUES.norm(dim=1),
        apart.norm(dim=1),
    )


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 7)


def made(clamp: float, reach: float, *, subtracts: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared residuals and damage, means over lists with drawn δ, edit by edit."""
    residuals, damage = torch.zeros(M, dtype=torch.float64), torch.zeros(M, dtype=torch.float64)
    for draw in range(DRAWS):
        change = torch.zeros(D, OUT, dtype=torch.float64)
        for t in range(M):
            value = VALUES[t] + KEYS[t] @ change
            delta = random(OUT, seed=1000 * draw + t + 10)
            delta *= min(clamp * float(value.norm()), reach) / float(delta.norm())
            residual = delta
            if subtracts:
                residual = delta + APART[t] + APART_KEYS[t] @ change
            change = change + torch.outer(STEPS[t], residual)
            residuals[t] += residual.square().sum() / DRAWS
            damage[t] += (change * (MOMENT @ change)).sum() / DRAWS
    return residuals, damage


@pytest.mark.parametrize(("clamp", "reach"), [(1.5, float("inf")), (50.0, 1.2)])
@pytest.mark.parametrize("subtracts", [True, False])
def test_the_mean_over_lists_that_are_made(clamp: float, reach: float, subtracts: bool) -> None:
    found = expected(prior(subtracts=subtracts), [times(MOMENT)], clamp=clamp, reach=reach)
    residuals, damage = made(clamp, reach, subtracts=subtracts)
    assert found.residuals.square() == pytest.approx(residuals, rel=0.08)
    assert found.damage[0].square() == pytest.approx(damage, rel=0.08)
    # The control: what the editor subtracts is no small matter here.
    other = expected(prior(subtracts=not subtracts), [times(MOMENT)], clamp=clamp, reach=reach)
    assert float(other.damage[0, -1]) != pytest.approx(float(damage[-1]) ** 0.5, rel=0.08)


def test_without_interplay_squares_add_up() -> None:
    found = expected(prior(subtracts=False), [times(MOMENT), times(FIRST)], clamp=100.0, reach=0.7)
    lengths = torch.full((M,), 0.7, dtype=torch.float64)
    assert found.residuals == pytest.approx(lengths)
    for damage, moment in zip(found.damage, (MOMENT, FIRST), strict=True):
        squares = ((STEPS @ moment) * STEPS).sum(1) * lengths.square()
        assert damage.square() == pytest.approx(squares.cumsum(0))


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    small = expected(prior(), [times(MOMENT)], clamp=1.5)
    monkeypatch.setattr(module, "CHUNK", 1000)
    whole_list = expected(prior(), [times(MOMENT)], clamp=1.5)
    assert small.residuals == pytest.approx(whole_list.residuals, rel=1e-9)
    assert small.damage == pytest.approx(whole_list.damage, rel=1e-9)


def test_a_list_that_explodes_stays_finite_and_ends_when_it_is_enough() -> None:
    exploding = Prior(STEPS * 1e6, KEYS, APART_KEYS, VALUES.norm(dim=1), APART.norm(dim=1))
    found = expected(exploding, [times(MOMENT)], clamp=10.0)
    assert bool(found.residuals.isfinite().all() and found.damage.isfinite().all())
    assert float(found.damage.max()) > 1e30
    stopped = expected(exploding, [times(MOMENT)], clamp=10.0, enough=1.0)
    assert stopped.damage[0, :7] == pytest.approx(found.damage[0, :7])
    # Later edits are taken as unrelated: squares add up from there.
    assert bool((stopped.damage[0, 7:].diff() >= 0).all())
    assert float(stopped.damage[0, -1]) < 1e3 * float(found.damage[0, 6])


def test_a_batch_is_optimised_on_the_model_before_it() -> None:
    """Edits of one batch do not lengthen one another's residuals; those of earlier batches do."""
    size = 10
    found = expected(prior(), [times(MOMENT)], clamp=1.5, batch=size)
    for start in range(0, M, size):  # each batch's own edits, after all before it
        rest = slice(0, start), slice(start, start + size)
        for t in range(start, start + size):
            at = [*range(*rest[0].indices(M)), t]
            alone = Prior(
                STEPS[at], KEYS[at], APART_KEYS[at], VALUES.norm(dim=1)[at], APART.norm(dim=1)[at]
            )
            other = expected(alone, [times(MOMENT)], clamp=1.5, batch=size)
            assert float(found.residuals[t]) == pytest.approx(float(other.residuals[-1]), rel=1e-9)
    one_by_one = expected(prior(), [times(MOMENT)], clamp=1.5)
    assert float(one_by_one.residuals[size - 1]) > 1.01 * float(found.residuals[size - 1])
    assert one_by_one.residuals[0] == pytest.approx(found.residuals[0])
