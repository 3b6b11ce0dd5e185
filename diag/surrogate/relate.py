"""How perplexity and closed-form damage go with tasks: ranks, lines, a monotone curve.

Plain numbers in, plain numbers out. Intervals are drawn over groups of edited models: what
several editors make of one edit does not vary independently, nor do the steps of one list.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from probes.statistics import auc, correlation_interval, drawn, interval, pearson, spearman
from rome_diagnosis.limits import PERPLEXITY_DAMAGED, TASKS_LOSS

Point = Mapping[str, Any]
CURVES = 500  # draws of the onset: each is a fit
PREDICTORS = ("ratio", "damage", "damage_first_tokens")


def relations(points: Sequence[Point], tasks: Sequence[str], *, seed: int = 0) -> dict[str, Any]:
    """The correlation of each predictor's logarithm with what tasks lost.

    Args:
        points: As :func:`diag.surrogate.collect.points` gives them.
        tasks: Their tasks.
        seed: Seed of the bootstrap.

    Returns:
        For each of :data:`PREDICTORS` the relation with the mean over tasks (``together``), with
        each of the ``tasks``, and the ``auc`` with which it tells models whose tasks suffered.
    """
    return {name: _relation(points, name, tasks, seed) for name in PREDICTORS}


def _relation(
    points: Sequence[Point], predictor: str, tasks: Sequence[str], seed: int
) -> dict[str, Any]:
    known = [point for point in points if logarithm(point, predictor) is not None]
    sizes = [logarithm(point, predictor) or 0.0 for point in known]
    labels = [point["group"] for point in known]

    # A line knows no infinity: an overflowed perplexity counts by its rank alone.
    finite = [i for i, size in enumerate(sizes) if math.isfinite(size)]
    every = list(range(len(sizes)))

    def against(changes: list[float]) -> dict[str, Any]:
        related: dict[str, Any] = {"n": len(known)}
        for name, of, rows in (("spearman", spearman, every), ("pearson", pearson, finite)):
            x, y = ([values[i] for i in rows] for values in (sizes, changes))
            related[name] = value = of(x, y)
            ends = None
            if value is not None:
                groups = [labels[i] for i in rows]
                ends = correlation_interval(x, y, groups, ranks=of is spearman, seed=seed)
            related[f"{name}_interval"] = None if ends is None else list(ends)
        return related

    hurt = [suffers(point) for point in known]
    return {
        "together": against([point["change"] for point in known]),
        "tasks": {name: against([point["tasks"][name] for point in known]) for name in tasks},
        "auc": auc(
            [size for size, bad in zip(sizes, hurt, strict=True) if bad],
            [size for size, bad in zip(sizes, hurt, strict=True) if not bad],
        ),
    }


def logarithm(point: Point, predictor: str) -> float | None:
    """A predictor's decimal logarithm.

    Args:
        point: One edited model.
        predictor: One of :data:`PREDICTORS`.

    Returns:
        It; infinite for a perplexity that overflowed, ``None`` where damage is unknown or 0.
    """
    value = point[predictor]
    if value is None:
        return math.inf if predictor == "ratio" else None
    return math.log10(value) if value > 0 else None


def suffers(point: Point) -> bool:
    """Whether tasks suffered: their mean fell by the limit, and by more than chance moves it."""
    error = point["change_stderr"] or 0.0
    return bool(point["change"] <= -max(TASKS_LOSS.value, 1.96 * error))


def silent(points: Sequence[Point]) -> list[int]:
    """Where perplexity says nothing and tasks suffered, the worst first.

    Args:
        points: The edited models.

    Returns:
        Their indices.
    """
    quiet = [
        i
        for i, point in enumerate(points)
        if point["ratio"] is not None and point["ratio"] < PERPLEXITY_DAMAGED.value
    ]
    return sorted((i for i in quiet if suffers(points[i])), key=lambda i: points[i]["change"])


def curve(points: Sequence[Point], weights: Sequence[float] | None = None) -> list[list[float]]:
    """The falling curve of least squares through mean change over log perplexity ratio.

    Args:
        points: The edited models; those whose perplexity overflowed are left out.
        weights: How much each counts; alike by default.

    Returns:
        Corners, each a ratio and a change, between which the curve is straight.
    """
    from sklearn.isotonic import IsotonicRegression

    known = [
        (x, point["change"], weight)
        for point, weight in zip(points, weights or [1.0] * len(points), strict=True)
        if math.isfinite(x := logarithm(point, "ratio") or 0.0) and weight
    ]
    if len({x for x, *_ in known}) < 2:
        return []
    fitted = IsotonicRegression(increasing=False).fit(*zip(*known, strict=True))
    corners = zip(fitted.X_thresholds_, fitted.y_thresholds_, strict=True)
    return [[float(10**x), float(y)] for x, y in corners]


def onset(points: Sequence[Point], *, seed: int = 0) -> dict[str, Any] | None:
    """The smallest perplexity ratio from which on tasks suffer.

    That is where the monotone curve has fallen by ``TASKS_LOSS``.

    Args:
        points: The edited models.
        seed: Seed of the bootstrap.

    Returns:
        ``ratio`` and its ``interval``; ``None`` where the curve never falls so far.
    """
    ratio = _crossing(curve(points))
    if ratio is None:
        return None
    weights = drawn([point["group"] for point in points], draws=CURVES, seed=seed)
    ends = interval([_crossing(curve(points, list(own))) for own in weights])
    return {"ratio": ratio, "interval": None if ends is None else list(ends)}


def _crossing(corners: Sequence[Sequence[float]]) -> float | None:
    """Where a falling curve passes the limit, in the logarithm of the ratio."""
    limit = -TASKS_LOSS.value
    for (left, above), (right, below) in itertools.pairwise(corners):
        if below <= limit:
            if above <= limit:
                return left
            share = (above - limit) / (above - below)
            return float(np.exp(np.log(left) + share * (np.log(right) - np.log(left))))
    return None
