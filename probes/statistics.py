"""The statistics that several modules share: means with intervals, cosines, ranks."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

DRAWS = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean and how far it moves with the draw of the subjects.

    Attributes:
        mean: Mean of the values.
        low: Lower end of the 95% percentile bootstrap interval.
        high: Upper end.
        n: How many values.
    """

    mean: float
    low: float
    high: float
    n: int


def estimate_mean(values: Sequence[float], *, seed: int = 0) -> Estimate | None:
    """Averages one value per subject.

    Args:
        values: One for each subject: what was measured several times on one subject is averaged
            before, since it does not vary independently.
        seed: Seed of the resampling.

    Returns:
        The estimate; ``None`` without values.
    """
    if not len(values):
        return None
    sample = np.asarray(values, dtype=float)
    drawn = np.random.default_rng(seed).integers(len(sample), size=(DRAWS, len(sample)))
    low, high = _ends(sample[drawn].mean(1))
    return Estimate(float(sample.mean()), low, high, len(sample))


def drawn(groups: Sequence[Hashable], *, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """How often each row occurs when groups are drawn anew: a bootstrap over groups.

    Args:
        groups: The group of each row; those of one group are drawn together.
        draws: Resamples.
        seed: Seed of the resampling.

    Returns:
        Weights, [draws, rows].
    """
    names = list(dict.fromkeys(groups))
    of = np.array([names.index(group) for group in groups])
    chosen = np.random.default_rng(seed).integers(len(names), size=(draws, len(names)))
    counts = np.zeros((draws, len(names)))
    np.add.at(counts, (np.arange(draws)[:, None], chosen), 1.0)
    return counts[:, of]


def interval(values: Sequence[float | None] | np.ndarray) -> tuple[float, float] | None:
    """The 95% percentile interval of resampled values.

    Args:
        values: One for each draw; ``None`` or NaN where the draw left it undefined.

    Returns:
        Low and high end; ``None`` if half of the draws or more left it undefined.
    """
    every = np.asarray(values, dtype=float)
    known = every[~np.isnan(every)]
    return _ends(known) if 2 * len(known) > len(every) else None


def correlation_interval(
    first: Sequence[float],
    second: Sequence[float],
    groups: Sequence[Hashable],
    *,
    ranks: bool,
    seed: int = 0,
) -> tuple[float, float] | None:
    """The interval of :func:`spearman` or :func:`pearson` over draws of groups.

    Args:
        first: Values, infinite ones allowed for ranks.
        second: Values of the same things.
        groups: The group of each.
        ranks: Whether ranks are correlated.
        seed: Seed of the resampling.

    Returns:
        Low and high end; ``None`` with fewer than two groups, or where most draws do not vary.
    """
    if len(set(groups)) < 2:
        return None
    weights = drawn(groups, seed=seed)
    x, y = (
        _ranks(values, weights) if ranks else np.asarray(values, dtype=float)
        for values in (first, second)
    )
    total = weights.sum(1, keepdims=True)
    x = x - (weights * x).sum(1, keepdims=True) / total
    y = y - (weights * y).sum(1, keepdims=True) / total
    products = [(weights * a * b).sum(1) for a, b in ((x, y), (x, x), (y, y))]
    with np.errstate(invalid="ignore", divide="ignore"):
        return interval(products[0] / np.sqrt(products[1] * products[2]))


def _ranks(values: Sequence[float], weights: np.ndarray) -> np.ndarray:
    """Mean ranks of rows that occur as often as their weights say, [draws, rows]."""
    distinct, at = np.unique(np.asarray(values, dtype=float), return_inverse=True)
    counts = weights @ np.eye(len(distinct))[at]
    return np.asarray((counts.cumsum(1) - (counts - 1) / 2)[:, at])


def _ends(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def cosine(x: Tensor, y: Tensor) -> float:
    """Cosine of the angle between two vectors; 0 where one is zero and has no direction."""
    lengths = float(x.norm() * y.norm())
    return float(x @ y) / lengths if lengths else 0.0


def auc(positive: Sequence[float], negative: Sequence[float]) -> float | None:
    """Chance that a positive exceeds a negative, ties counting half.

    Args:
        positive: Scores of one class.
        negative: Scores of the other.

    Returns:
        The area under the ROC curve; ``None`` without scores of either class.
    """
    from scipy.stats import mannwhitneyu

    if not len(positive) or not len(negative):
        return None
    u = mannwhitneyu(positive, negative, method="asymptotic").statistic
    return float(u) / (len(positive) * len(negative))


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation, ties sharing their mean rank.

    Args:
        first: Values, infinite ones allowed.
        second: Values of the same things.

    Returns:
        The correlation; ``None`` for fewer than three pairs or where nothing varies.
    """
    from scipy.stats import spearmanr

    if len(first) < 3 or len(set(first)) == 1 or len(set(second)) == 1:
        return None
    return float(spearmanr(first, second).statistic)


def pearson(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Pearson's correlation.

    Args:
        first: Values.
        second: Values of the same things.

    Returns:
        The correlation; ``None`` for fewer than three pairs or where nothing varies.
    """
    if len(first) < 3 or len(set(first)) == 1 or len(set(second)) == 1:
        return None
    return float(np.corrcoef(first, second)[0, 1])
