"""How far apart two sets of keys are, and how much the keys of one set differ among themselves.

Pure functions on float64 matrices with one key per row. Few keys in many dimensions are the rule
here, so nothing is inverted that a hundred keys cannot determine: the Mahalanobis distance uses a
shrunk covariance, the Fréchet distance needs no inverse, and the logistic probe is judged on
subjects that it has not seen, and compared with the same probe on shuffled labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probes.statistics import auc

FOLDS = 5


def spread(keys: Float[Tensor, "m d"]) -> float:
    """How much the keys of a set differ: their variance over their mean square.

    Args:
        keys: At least two keys.

    Returns:
        0 if all are the same vector, about 1 if they share no direction. It is 1 minus the
        concentration that ``diag.keys`` shows.

    Raises:
        ValueError: If there are fewer than two keys.
    """
    m = len(keys)
    if m < 2:
        raise ValueError(f"a set of {m} keys has no spread")
    squares = float(keys.square().sum()) / m
    if squares == 0.0:
        return 0.0
    return float((keys - keys.mean(0)).square().sum()) / (m - 1) / squares


def effective_rank(keys: Float[Tensor, "m d"]) -> float:
    """Effective number of directions that keys span: the exponential of their spectrum's entropy.

    Args:
        keys: The keys, not centred: if all are nearly one vector, it is nearly 1.

    Returns:
        exp(−Σ pᵢ log pᵢ), pᵢ the singular values over their sum (Roy and Vetterli, 2007); 0 for
        keys that are all zero.
    """
    singular = torch.linalg.svdvals(keys)
    total = float(singular.sum())
    if total == 0.0:
        return 0.0
    shares = singular[singular > 0] / total
    return float(torch.exp(-(shares * shares.log()).sum()))


def mahalanobis(one: Float[Tensor, "m d"], other: Float[Tensor, "n d"]) -> float:
    """Distance of two sets' means, in units of the spread within the sets.

    Args:
        one: A set of at least two keys.
        other: Another such set.

    Returns:
        √(δᵀΣ⁻¹δ), δ the difference of the means and Σ the pooled covariance within the sets,
        shrunk towards a multiple of the identity as Ledoit and Wolf (2004) advise. 0 where the
        sets do not differ at all.

    Raises:
        ValueError: If a set has fewer than two keys.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage

    _check(one, other)
    difference = one.mean(0) - other.mean(0)
    within = torch.cat([one - one.mean(0), other - other.mean(0)])
    if not bool(difference.any()):
        return 0.0
    m, d = within.shape
    shrinkage = float(ledoit_wolf_shrinkage(within.numpy(), assume_centered=True))
    floor = shrinkage * float(within.square().sum()) / (m * d)
    if floor == 0.0:
        return float("inf")
    # Σ = floor·I + (1 − shrinkage)·AᵀA/m has rank m above its floor: solved in m dimensions.
    a = within * ((1.0 - shrinkage) / m) ** 0.5
    projected = a @ difference
    inner = floor * torch.eye(m, dtype=a.dtype) + a @ a.T
    square = (difference @ difference - projected @ torch.linalg.solve(inner, projected)) / floor
    return float(square.clamp(min=0.0).sqrt())


def frechet(one: Float[Tensor, "m d"], other: Float[Tensor, "n d"]) -> float:
    """Fréchet distance of the normal distributions that fit two sets.

    Args:
        one: A set of at least two keys.
        other: Another such set.

    Returns:
        √(‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½)), in the keys' own units.

    Raises:
        ValueError: If a set has fewer than two keys.
    """
    _check(one, other)
    a, b = (
        (keys - keys.mean(0)) / (len(keys) - 1) ** 0.5 for keys in (one, other)
    )  # Σ₁ = aᵀa, Σ₂ = bᵀb
    # The square roots of Σ₁Σ₂'s eigenvalues are the singular values of abᵀ: no d × d matrix.
    cross = torch.linalg.svdvals(a @ b.T).sum()
    means = (one.mean(0) - other.mean(0)).square().sum()
    square = means + a.square().sum() + b.square().sum() - 2 * cross
    return float(square.clamp(min=0.0).sqrt())


@dataclass(frozen=True)
class Probe:
    """A logistic regression that tells two sets of keys apart.

    Attributes:
        auc: Mean area under the ROC curve over folds, on subjects left out of the fit.
        null_mean: The same with shuffled labels, averaged over shuffles: about 0.5.
        null_largest: The largest of the shuffles.
        n_folds: Number of folds.
        n_shuffles: Number of shuffles.
    """

    auc: float
    null_mean: float
    null_largest: float
    n_folds: int
    n_shuffles: int


def logistic_probe(
    one: Float[Tensor, "m d"],
    other: Float[Tensor, "n d"],
    subjects: Sequence[Sequence[str]],
    *,
    seed: int = 0,
    n_shuffles: int = 5,
) -> Probe | None:
    """Fits a probe to keys of some subjects and tests it on those of others.

    Folds are divided by subject, so that a subject's keys are never on both sides.

    Args:
        one: Keys labelled 0.
        other: Keys labelled 1.
        subjects: The subject of each key, for each of the two sets.
        seed: Seed of the folds and the shuffles.
        n_shuffles: How many times the labels are shuffled for the null.

    Returns:
        The probe; ``None`` if there are fewer subjects than folds.

    Raises:
        ValueError: If the subjects do not match the keys.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    if [len(one), len(other)] != [len(names) for names in subjects]:
        raise ValueError("one subject is needed for each key")
    x = torch.cat([one, other]).numpy()
    y = np.repeat([0, 1], [len(one), len(other)])
    names = [*subjects[0], *subjects[1]]
    distinct = sorted(set(names))
    if len(distinct) < 2 * FOLDS:
        return None
    random = np.random.default_rng(seed)
    fold_of = dict(zip(distinct, random.permutation(len(distinct)) % FOLDS, strict=True))
    folds = np.array([fold_of[name] for name in names])
    # All folds' training rows span at most m + n directions: a rotation into these changes no fit.
    # With Xᵀ = QR it is XQ = Rᵀ, and Q is not needed.
    centred = x - x.mean(0)
    scale = float(np.sqrt((centred**2).mean())) or 1.0
    if x.shape[1] > len(x):
        triangle: Any = np.linalg.qr(centred.T, mode="r")
        centred = triangle.T
    # On matrices as small as these, several threads mostly wait for one another.
    with threadpool_limits(1):
        nulls = [_auc(centred / scale, random.permutation(y), folds) for _ in range(n_shuffles)]
        area = _auc(centred / scale, y, folds)
    defined = [null for null in nulls if null is not None]
    if area is None or not defined:
        return None
    return Probe(area, float(np.mean(defined)), max(defined), FOLDS, n_shuffles)


def _auc(x: np.ndarray, y: np.ndarray, folds: np.ndarray) -> float | None:
    """Mean area under the ROC curve over the folds that hold both labels."""
    from sklearn.linear_model import LogisticRegression

    areas = []
    for fold in range(FOLDS):
        train, test = folds != fold, folds == fold
        if len(set(y[train])) < 2 or len(set(y[test])) < 2:
            continue
        # Newton: exact to the last digits, on which ranks can depend; fast in so few dimensions.
        probe = LogisticRegression(solver="newton-cholesky", tol=1e-8).fit(x[train], y[train])
        scores = probe.decision_function(x[test])
        area = auc(scores[y[test] == 1], scores[y[test] == 0])
        assert area is not None
        areas.append(area)
    return float(np.mean(areas)) if areas else None


def _check(one: Tensor, other: Tensor) -> None:
    if min(len(one), len(other)) < 2:
        raise ValueError(f"sets of {len(one)} and {len(other)} keys: two at least are needed")
