"""The statistics that several modules share: a mean with its bootstrap interval, a cosine."""

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
        mean: Over the values.
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
        seed: Of the resampling.

    Returns:
        The estimate; ``None`` without values.
    """
    if not len(values):
        return None
    found = np.asarray(values, dtype=float)
    drawn = np.random.default_rng(seed).integers(len(found), size=(DRAWS, len(found)))
    low, high = np.quantile(found[drawn].mean(1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(found.mean()), float(low), float(high), len(found))


def cosine(x: Tensor, y: Tensor) -> float:
    """Cosine of the angle between two vectors; 0 where one is zero and has no direction."""
    lengths = float(x.norm() * y.norm())
    return float(x @ y) / lengths if lengths else 0.0
