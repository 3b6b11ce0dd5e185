"""Distances between sets of keys, against numpy, scipy and what they must be by definition."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.covariance import LedoitWolf

from probes import bundled
from probes.first_token import cells, separation
from probes.first_token.subjects import bundled_cases, measure_subjects
from probes.model.loaded import LoadedModel
from probes.request import prefixes as contexts
from probes.second_moment.choose import for_model

N_SUBJECTS = 40


@pytest.fixture(scope="module")
def sets() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    draw = {"dtype": torch.float64, "generator": random}
    mix = torch.randn(12, 12, **draw)
    shift = 1.5 * torch.ones(12, dtype=torch.float64)
    return torch.randn(30, 12, **draw) @ mix + shift, torch.randn(25, 12, **draw)


def test_frechet_equals_the_formula_with_matrix_roots(sets) -> None:
    one, other = (keys.numpy() for keys in sets)
    first, second = np.cov(one.T), np.cov(other.T)
    root = scipy.linalg.sqrtm(first @ second).real
    square = ((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root)
    assert separation.frechet(*sets) == pytest.approx(square**0.5, rel=1e-6)
    assert separation.frechet(sets[0], sets[0]) == pytest.approx(0.0, abs=1e-5)
    assert separation.frechet(sets[0], sets[0] + 3) == pytest.approx(3 * 12**0.5)


def test_mahalanobis_equals_the_shrunk_covariance_inverted(sets) -> None:
    one, other = (keys.numpy() for keys in sets)
    within = np.concatenate([one - one.mean(0), other - other.mean(0)])
    covariance = LedoitWolf(assume_centered=True).fit(within).covariance_
    difference = one.mean(0) - other.mean(0)
    expected = (difference @ np.linalg.inv(covariance) @ difference) ** 0.5
    assert separation.mahalanobis(*sets) == pytest.approx(expected, rel=1e-6)
    assert separation.mahalanobis(sets[0], sets[0]) == 0.0
    # A distance in units of the spread does not care about the units of the keys.
    scaled = separation.mahalanobis(7 * sets[0], 7 * sets[1])
    assert scaled == pytest.approx(expected, rel=1e-6)


def test_spread_is_one_minus_concentration_and_knows_its_ends(sets) -> None:
    from diag.mathematics.population import concentration

    keys = sets[0]
    expected = 1 - concentration(keys)
    assert separation.spread(keys) == pytest.approx(expected)
    x = keys.numpy()
    assert separation.spread(keys) == pytest.approx(
        x.var(0, ddof=1).sum() / (x**2).sum(1).mean(), rel=1e-12
    )
    assert separation.spread(keys[:1].repeat(5, 1)) == pytest.approx(0.0, abs=1e-12)
    assert separation.spread(torch.eye(12, dtype=torch.float64)) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="no spread"):
        separation.spread(keys[:1])


def test_effective_rank_counts_directions(sets) -> None:
    identity = torch.eye(12, dtype=torch.float64)
    assert separation.effective_rank(identity[:7]) == pytest.approx(7.0)
    assert separation.effective_rank(identity[:1].repeat(9, 1)) == pytest.approx(1.0)
    singular = np.linalg.svd(sets[0].numpy(), compute_uv=False)
    shares = singular / singular.sum()
    expected = np.exp(-(shares * np.log(shares)).sum())
    assert separation.effective_rank(sets[0]) == pytest.approx(expected, rel=1e-10)


def test_the_probe_separates_what_differs_and_nothing_else() -> None:
    random = torch.Generator().manual_seed(1)
    draw = {"dtype": torch.float64, "generator": random}
    names = [f"subject {i}" for i in range(40)]
    one, same = torch.randn(40, 60, **draw), torch.randn(40, 60, **draw)
    probe = separation.logistic_probe(one, same + 2, [names, names], n_shuffles=8)
    assert probe is not None
    assert probe.auc > 0.99
    assert abs(probe.null_mean - 0.5) < 0.12
    none = separation.logistic_probe(one, same, [names, names])
    assert none is not None
    assert none.auc < 0.75
    assert separation.logistic_probe(one[:4], same[:4], [names[:4], names[:4]]) is None
    with pytest.raises(ValueError, match="one subject"):
        separation.logistic_probe(one, same, [names, names[1:]])


def test_a_probe_that_only_knows_subjects_fails_on_new_ones() -> None:
    """What folds by subject are for: keys that say who, but not first or later."""
    random = torch.Generator().manual_seed(2)
    who = torch.randn(30, 50, dtype=torch.float64, generator=random)
    names = [f"subject {i}" for i in range(30)]
    # Every subject's keys come from one cell only, so knowing the subject would be enough.
    one, other = who[:15].repeat(4, 1), who[15:].repeat(4, 1)
    probe = separation.logistic_probe(one, other, [names[:15] * 4, names[15:] * 4])
    assert probe is not None
    assert probe.auc < 0.8


def logistic_regression(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Weights and intercept that minimise ½‖w‖² + Σ log(1 + exp(−yᵢ(w·xᵢ + b))), by Newton."""
    design = np.hstack([x, np.ones((len(x), 1))])
    penalty = np.diag([*np.ones(x.shape[1]), 0.0])
    weights = np.zeros(design.shape[1])
    for _ in range(100):
        chance = 1 / (1 + np.exp(-design @ weights))
        gradient = design.T @ (chance - y) + penalty @ weights
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design + penalty
        step = np.linalg.solve(curvature + 1e-9 * np.eye(len(weights)), gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-10:
            return weights
    raise AssertionError("Newton's method did not converge")


def area(scores: np.ndarray, y: np.ndarray) -> float:
    """Chance that a one outscores a zero, pair by pair."""
    pairs = [(a > b) + (a == b) / 2 for a in scores[y == 1] for b in scores[y == 0]]
    return float(np.mean(pairs))


def test_the_probe_at_the_edited_layer_is_a_logistic_regression(bundled_model: LoadedModel) -> None:
    layer = bundled.edit_layer()
    prefixes = contexts.sample(bundled_model, n=6)
    subjects, _ = measure_subjects(
        bundled_model, bundled_cases(), layer, prefixes, for_model(bundled_model, layer),
        count=N_SUBJECTS, pairs=1, first_only=True,
    )  # fmt: skip
    made = {c.name: c for c in cells.make(bundled_model, subjects, bundled.texts()[:40], prefixes)}
    keys = dict(cells.capture(bundled_model, list(made.values()), [layer]))[layer]
    seen = {}
    for one, other in (
        ("first_bare", "later_bare"),  # what the probe is for
        ("later_bare", "later_prefixed"),  # a pair that is hard to tell apart
    ):
        names = [made[one].members, made[other].members]
        found = separation.logistic_probe(keys[one], keys[other], names)
        assert found is not None
        x = np.concatenate([keys[one].numpy(), keys[other].numpy()])
        x = x - x.mean(0)
        x = x / np.sqrt((x**2).mean())
        y = np.repeat([0, 1], [len(keys[one]), len(keys[other])])
        distinct = sorted({*names[0], *names[1]})
        dealt = np.random.default_rng(0).permutation(len(distinct)) % found.n_folds
        fold = np.array([dealt[distinct.index(name)] for name in [*names[0], *names[1]]])
        areas = []
        for i in range(found.n_folds):
            weights = logistic_regression(x[fold != i], y[fold != i])
            areas.append(area(x[fold == i] @ weights[:-1] + weights[-1], y[fold == i]))
        assert found.auc == pytest.approx(np.mean(areas), abs=5e-3)
        assert found.null_mean == pytest.approx(0.5, abs=0.15)
        seen[one, other] = found.auc
    assert seen["first_bare", "later_bare"] > 0.99
    assert seen["later_bare", "later_prefixed"] < 0.95  # the control: not everything is told apart
