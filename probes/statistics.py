"""The statistics that several modules share: means with intervals, cosines, ranks."""

from __future__ import annotations

from collections.abc import Sequence
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


def estimate(values: Sequence[float], *, seed: int = 0) -> Estimate | None:
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
    low, high = np.quantile(sample[drawn].mean(1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(sample.mean()), float(low), float(high), len(sample))


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
