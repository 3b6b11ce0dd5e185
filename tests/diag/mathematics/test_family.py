"""Identities of the family: one equation, and what each method makes of it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diag.mathematics import family

D, OUT = 24, 9


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def moment(seed: int = 0, *, spread: float = 3.0) -> torch.Tensor:
    """A second moment with eigenvalues over several orders of magnitude."""
    left, _ = torch.linalg.qr(random(D, D, seed=seed + 100))
    values = torch.logspace(-spread, spread, D, dtype=torch.float64)
    return (left * values) @ left.T


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@given(m=st.integers(1, 6), weight=st.floats(1e-3, 1e4), seed=st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_dual_and_primal_forms_agree(m: int, weight: float, seed: int) -> None:
    """MEMIT's paper solves with λC + KKᵀ, a d × d matrix; here M is m × m."""
    c, keys, wanted = (
        moment(seed, spread=1.0),
        random(m, D, seed=seed),
        random(m, OUT, seed=seed + 1),
    )
    found = family.update(keys, wanted, family.inverse(c), regulariser=weight).change()
    primal = torch.linalg.solve(weight * c + keys.T @ keys, keys.T @ wanted)
    assert relative(found, primal) < 1e-8


def test_a_factor_takes_the_matrix_s_place_only_where_it_may() -> None:
    c, keys = moment(), random(3, D, seed=1)
    kept = c.clone()
    expected = family.inverse(c)(keys)
    assert torch.equal(c, kept)
    assert torch.equal(family.inverse(c, in_place=True)(keys), expected)
    assert torch.equal(c.mT, family.factored(kept))
    with pytest.raises(ZeroDivisionError):
        family.inverse(-kept, in_place=True)


def test_one_consistent_edit_is_the_rank_one_update() -> None:
    c, key, bare = moment(spread=1.0), random(1, D), random(1, D, seed=5)
    wanted = random(1, OUT, seed=6)
    u = torch.linalg.solve(c, key[0])
    consistent = family.update(key, wanted, family.inverse(c)).change()
    assert relative(consistent, torch.outer(u, wanted[0]) / (u @ key[0])) < 1e-12
    published = family.update(key, wanted, family.inverse(c), divide_by=bare).change()
    assert relative(published, torch.outer(u, wanted[0]) / (u @ bare[0])) < 1e-12
    assert relative(published, consistent) > 0.1


def test_emmet_with_damping_is_memit() -> None:
    """EMMET adds μλ₀ to its equality constraint's matrix: MEMIT with λ = μλ₀."""
    c, keys, wanted = moment(), random(4, D), random(4, OUT, seed=1)
    mu, weight = 0.1, 2000.0
    emmet = family.update(keys, wanted, family.inverse(weight * c), regulariser=mu).change()
    memit = family.update(keys, wanted, family.inverse(c), regulariser=mu * weight).change()
    assert relative(emmet, memit) < 1e-9


def test_memit_lies_between_emmet_and_nothing() -> None:
    c, keys, wanted = moment(), random(4, D), random(4, OUT, seed=1)
    exact = family.update(keys, wanted, family.inverse(c))
    assert relative(exact.change().T @ keys.T, wanted.T) < 1e-8  # each edit's key gets all of it
    changes = [
        family.update(keys, wanted, family.inverse(c), regulariser=weight).change()
        for weight in (1e-8, 1.0, 1e12)
    ]
    assert relative(changes[0], exact.change()) < 1e-6
    assert relative(changes[1], exact.change()) > 1e-3
    assert float(changes[2].norm() / exact.change().norm()) < 1e-4


@given(
    m=st.integers(1, 8), weight=st.floats(1e-4, 1e6), scale=st.floats(1e-6, 1e6),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_memit_damage_stays_below_its_bound(m: int, weight: float, scale: float, seed: int) -> None:
    c, keys, wanted = moment(seed), scale * random(m, D, seed=seed), random(m, OUT, seed=seed + 1)
    made = family.update(keys, wanted, family.inverse(c), regulariser=weight)
    assert made.damage(c) <= family.memit_damage_bound(wanted, weight) * (1 + 1e-9)


def test_memit_bound_is_tight_and_rome_has_none() -> None:
    c, key, wanted = moment(), random(1, D), random(1, OUT, seed=1)
    weight = float(key[0] @ torch.linalg.solve(c, key[0]))  # σ² = λ attains σ/(λ + σ²) = 1/(2√λ)
    made = family.update(key, wanted, family.inverse(c), regulariser=weight)
    assert made.damage(c) == pytest.approx(family.memit_damage_bound(wanted, weight), rel=1e-9)
    nearly_orthogonal = random(1, D, seed=2)
    u = torch.linalg.solve(c, key[0])
    nearly_orthogonal -= (1 - 1e-6) * (u @ nearly_orthogonal[0]) / (u @ key[0]) * key
    exploded = family.update(key, wanted, family.inverse(c), divide_by=nearly_orthogonal)
    assert exploded.damage(c) > 1e3 * made.damage(c)


@given(m=st.integers(1, 5), ridge=st.floats(0.1, 100.0), seed=st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_alphaedit_damage_stays_below_its_bound(m: int, ridge: float, seed: int) -> None:
    c, keys, wanted = moment(seed), random(m, D, seed=seed), random(m, OUT, seed=seed + 1)
    basis = family.projector(c, 0.02)
    assert 0 < basis.shape[1] < D
    made = family.update(keys, wanted, family.projected(basis), regulariser=ridge)
    assert made.damage(c) <= family.alphaedit_damage_bound(wanted, ridge, 0.02) * (1 + 1e-9)


def test_alphaedit_in_its_published_form() -> None:
    """The published code solves (P(K₁K₁ᵀ + S) + L₂I) ΔW = P K₁ R."""
    c, keys, past, wanted = moment(), random(3, D), random(5, D, seed=7), random(3, OUT, seed=1)
    basis, ridge, history = family.projector(c, 0.02), 10.0, past.T @ past
    p = basis @ basis.T
    metric = family.projected(basis, ridge=ridge, history=history)
    found = family.update(keys, wanted, metric, regulariser=1.0).change()
    left = p @ (keys.T @ keys + history) + ridge * torch.eye(D, dtype=torch.float64)
    assert relative(found, torch.linalg.solve(left, p @ keys.T @ wanted)) < 1e-9
    alone = family.update(keys, wanted, family.projected(basis), regulariser=ridge).change()
    assert relative(alone, found) > 1e-3  # history matters


def test_sequential_memit_with_history_is_one_batch() -> None:
    c, keys, weight = moment(spread=1.0), random(6, D), 50.0
    values = random(6, OUT, seed=1)  # what W should give at each key
    start = random(D, OUT, seed=2)
    batch = family.update(
        keys, values - keys @ start, family.inverse(weight * c), regulariser=1.0
    ).change()

    def in_turn(*, remember: bool) -> torch.Tensor:
        weights, history = start.clone(), torch.zeros(D, D, dtype=torch.float64)
        for i in range(0, 6, 2):
            own = keys[i : i + 2]
            metric = family.inverse(weight * c + (history if remember else 0.0))
            wanted = values[i : i + 2] - own @ weights
            weights = weights + family.update(own, wanted, metric, regulariser=1.0).change()
            history = history + own.T @ own
        return weights - start

    assert relative(in_turn(remember=True), batch) < 1e-8
    assert relative(in_turn(remember=False), batch) > 1e-3


def test_encore_is_its_primal_form() -> None:
    c, keys, past, wanted = moment(), random(3, D), random(4, D, seed=8), random(3, OUT, seed=1)
    ground = 20.0 * c + 10.0 * torch.eye(D, dtype=torch.float64) + past.T @ past
    found = family.update(keys, wanted, family.inverse(ground), regulariser=1.0).change()
    assert relative(found, torch.linalg.solve(ground + keys.T @ keys, keys.T @ wanted)) < 1e-9


@pytest.mark.parametrize("regulariser", [0.0, 1.0, 300.0])
def test_response_is_the_share_of_the_change_that_arrives(regulariser: float) -> None:
    c, keys, wanted, queries = moment(), random(3, D), random(3, OUT, seed=1), random(5, D, seed=2)
    made = family.update(keys, wanted, family.inverse(c), regulariser=regulariser)
    shares = made.response(queries)
    assert relative(shares @ wanted, queries @ made.change()) < 1e-9
    at_own = made.response(keys)
    if regulariser == 0.0:
        torch.testing.assert_close(at_own, torch.eye(3, dtype=torch.float64), atol=1e-8, rtol=0)
    else:
        assert float(at_own.diagonal().max()) < 1.0


def test_damage_is_the_measured_change_over_the_corpus() -> None:
    corpus = random(400, D)
    c, keys, wanted = corpus.T @ corpus / 400, random(3, D, seed=3), random(3, OUT, seed=1)
    made = family.update(keys, wanted, family.inverse(c), regulariser=2.0)
    measured = float((corpus @ made.change()).square().sum(1).mean().sqrt())
    assert made.damage(c) == pytest.approx(measured, rel=1e-12)
    # E[kᵀC⁻¹k] = d exactly: what λ has to be read against.
    squares = (family.inverse(c)(corpus) * corpus).sum(1)
    assert float(squares.mean()) == pytest.approx(D, rel=1e-10)


def test_parallel_keys_make_the_matrix_singular_and_are_named_by_their_cosine() -> None:
    c, keys, wanted = moment(), random(4, D), random(4, OUT, seed=1)
    keys[3] = 2.5 * keys[1]
    metric = family.inverse(c)
    with pytest.raises(ZeroDivisionError, match="parallel"):
        family.update(keys, wanted, metric)
    cosines = family.alike(keys, metric)
    off = (cosines - torch.eye(4, dtype=torch.float64)).abs()
    assert float(off[1, 3]) == pytest.approx(1.0)
    assert int(off.argmax()) in (1 * 4 + 3, 3 * 4 + 1)
    assert family.update(keys, wanted, metric, regulariser=1.0).condition_number > 1
