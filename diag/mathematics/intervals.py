"""How far ρ moves with the draw of the contexts: a bootstrap over the prefixed ones.

The bare prompt is no draw, so it keeps its weight. ρ depends on the keys only through their Gram
matrix in the C⁻¹ metric, and on that linearly above and below the fraction bar: all draws of many
edits are two products of matrices, as long as there are not too many contexts to weigh in pairs.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probes.second_moment.moment import SecondMoment
from probes.statistics import DRAWS, LEVEL

FEWEST_PREFIXED = 2  # one context drawn again and again is always itself
PAIRED = 64  # most contexts whose pairs are weighed at once: three hundred would take 2 GB


def ratio_interval(
    keys: Float[Tensor, "n_ctx d_mlp"],
    moment: SecondMoment,
    *,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[float, float] | None:
    """The interval of ρ over draws of the contexts.

    Args:
        keys: Keys under contexts 0…n, float64; row 0 is the bare prompt's.
        moment: The second moment C.
        draws: Resamples.
        level: Coverage of the percentile interval.
        seed: Seed of the resampling.

    Returns:
        The interval, or ``None`` with fewer than two prefixed contexts.
    """
    if len(keys) <= FEWEST_PREFIXED:
        return None
    white = moment.whiten(keys)
    low, high = ratio_intervals((white @ white.T)[None], draws=draws, level=level, seed=seed)[0]
    return float(low), float(high)


def ratio_intervals(
    gram: Float[Tensor, "m n_ctx n_ctx"],
    *,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> Float[Tensor, "m 2"]:
    """:func:`ratio_interval` of many edits at once, with the same draws for all.

    Args:
        gram: Inner products of each edit's keys in the C⁻¹ metric, float64; three contexts or
            more.
        draws: Resamples.
        level: Coverage of the percentile interval.
        seed: Seed of the resampling.

    Returns:
        Low and high end.
    """
    weights = draws_of_contexts(gram.shape[-1], draws=draws, seed=seed)
    mean_with_bare = gram[:, 0] @ weights.T
    mean_with_mean = quadratic(gram, draws=draws, seed=seed)
    tail = (1 - level) / 2
    # NumPy selects the two ends, where PyTorch sorts all draws.
    ends = np.quantile((mean_with_bare / mean_with_mean).numpy(), (tail, 1 - tail), axis=-1)
    return torch.from_numpy(ends).T


def growth(keys: Float[Tensor, "m n_ctx d_mlp"], moment: SecondMoment, *, seed: int = 0) -> float:
    """How many times larger another draw of the contexts may make the damage of one of the edits.

    Args:
        keys: Each edit's keys under contexts 0…n, three or more.
        moment: The second moment C.
        seed: Seed of the resampling.

    Returns:
        The largest |ρ| over the end of its interval that lies nearest to 0; infinite where 0 lies
        within.
    """
    white = moment.whiten(keys)
    gram = white @ white.mT
    rho = gram.mean(2)[:, 0] / gram.mean((1, 2))
    low, high = ratio_intervals(gram, seed=seed).unbind(1)
    nearest = torch.where((low <= 0) & (high >= 0), 0.0, torch.minimum(low.abs(), high.abs()))
    return float((rho.abs() / nearest).clamp(min=1.0).max())


def draws_of_contexts(
    n_ctx: int, *, draws: int = DRAWS, seed: int = 0
) -> Float[Tensor, "draw n_ctx"]:
    """What each context weighs in the mean key when the prefixes are drawn anew.

    Args:
        n_ctx: Contexts, the bare prompt among them, which keeps its weight.
        draws: Resamples.
        seed: Seed of the resampling.

    Returns:
        Weights, float64; each draw's sum to 1.
    """
    n = n_ctx - 1
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(n, (draws, n), generator=generator)
    weights = torch.zeros(draws, n_ctx, dtype=torch.float64)
    weights[:, 0] = 1.0
    weights[:, 1:].scatter_add_(1, drawn, torch.ones(draws, n, dtype=torch.float64))
    return weights / n_ctx


def quadratic(
    forms: Float[Tensor, "m n_ctx n_ctx"], *, draws: int = DRAWS, seed: int = 0
) -> Float[Tensor, "m draw"]:
    """wᵀFw of each symmetric F, w being what the contexts weigh in a draw.

    Args:
        forms: One for each edit, float64.
        draws: Resamples.
        seed: Seed of the resampling.

    Returns:
        The values, of the draws that :func:`draws_of_contexts` gives.
    """
    n_ctx = forms.shape[-1]
    if n_ctx > PAIRED:
        weights = draws_of_contexts(n_ctx, draws=draws, seed=seed)
        return torch.stack([((weights @ form) * weights).sum(1) for form in forms])
    i, j = torch.triu_indices(n_ctx, n_ctx)
    return forms[:, i, j] @ _draws_of_pairs(n_ctx, draws=draws, seed=seed).T


@lru_cache(maxsize=4)
def _draws_of_pairs(n_ctx: int, *, draws: int, seed: int) -> Float[Tensor, "draw pair"]:
    """What each pair of contexts i ≤ j weighs in a quadratic form: 2wᵢwⱼ, and wᵢ² for i = j.

    Args:
        n_ctx: As of :func:`draws_of_contexts`.
        draws: Resamples.
        seed: Seed of the resampling.

    Returns:
        Weights in the order of :func:`torch.triu_indices`; one tensor for all who ask.
    """
    weights = draws_of_contexts(n_ctx, draws=draws, seed=seed)
    i, j = torch.triu_indices(n_ctx, n_ctx)
    return weights[:, i] * weights[:, j] * torch.where(i == j, 1.0, 2.0).to(weights)
