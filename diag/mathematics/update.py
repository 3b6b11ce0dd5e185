"""ROME's update equation: three variants of one rank-one change, and the denominators in them.

The update is derived for one key k: ΔW = C⁻¹k (v* − v)ᵀ / (kᵀC⁻¹k) makes W map k to v*. The
published code takes its direction from the mean prefixed key k̄ but its denominator from k̄ and the
unprefixed key k_u, so the denominator is no squared length: it can be near zero, or negative.

Everything here is a pure function of keys in float64; row 0 of ``keys`` is the bare prompt's.
Source: Meng et al. 2022 (ROME), equation 2; Yang et al. 2024 (The Fall of ROME), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from probes.second_moment.moment import SecondMoment

Variant = Literal["rome", "c_rome", "p_rome"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)


@dataclass(frozen=True)
class Denominators:
    """The three denominators of one edit and the exact split of the ratio of two of them.

    Attributes:
        rome: k̄ᵀC⁻¹k_u, as published code runs: signed, may vanish.
        c_rome: k̄ᵀC⁻¹k̄ > 0, the mean key throughout.
        p_rome: k_uᵀC⁻¹k_u > 0, the unprefixed key throughout.
        rome_normalised: The first divided by ‖C⁻¹k̄‖, as the reference code prints it.
        c_rome_normalised: The second divided by ‖C⁻¹k̄‖.
        ratio: ρ = rome / c_rome, free of every scale.
        length_ratio: ‖k_u‖ / ‖k̄‖ in the C⁻¹ metric: how short the unprefixed key is.
        cosine: cos(k_u, k̄) in the C⁻¹ metric: how far it points elsewhere. ρ is the product.
        norm_unprefixed: ‖k_u‖ in the C⁻¹ metric.
        norm_mean: ‖k̄‖ in the C⁻¹ metric.
        ratio_without_bare: ρ with k̄ over the prefixed keys alone, which the bare prompt's own
            share of k̄ does not prop up; ``None`` without prefixed keys.
    """

    rome: float
    c_rome: float
    p_rome: float
    rome_normalised: float
    c_rome_normalised: float
    ratio: float
    length_ratio: float
    cosine: float
    norm_unprefixed: float
    norm_mean: float
    ratio_without_bare: float | None

    def of(self, variant: Variant) -> float:
        """The denominator of one variant."""
        return {"rome": self.rome, "c_rome": self.c_rome, "p_rome": self.p_rome}[variant]


@dataclass(frozen=True)
class RankOne:
    """A rank-one change of W, kept as its factors: ΔW = u ⊗ r.

    Attributes:
        u: Direction in key space, ``[d_mlp]``: C⁻¹k.
        r: Change of the output for a key with u·k = 1, ``[d_model]``: (v* − v) / D.
        denominator: D.
    """

    u: Float[Tensor, " d_mlp"]
    r: Float[Tensor, " d_model"]
    denominator: float

    @property
    def norm(self) -> float:
        """Frobenius norm of ΔW."""
        return float(self.u.norm() * self.r.norm())

    def matrix(self) -> Float[Tensor, "d_mlp d_model"]:
        """ΔW itself, materialised."""
        return torch.outer(self.u, self.r)


def denominators(keys: Float[Tensor, "n_ctx d_mlp"], moment: SecondMoment) -> Denominators:
    """Computes the denominators of all three variants and splits their ratio.

    Args:
        keys: Keys under contexts 0…n, float64; row 0 is the bare prompt's.
        moment: The second moment C.

    Returns:
        The denominators; ``ratio == length_ratio * cosine``.

    Raises:
        ValueError: If a key is zero, so that there is nothing to divide by.
    """
    unprefixed, mean = keys[0], keys.mean(0)
    white_unprefixed, white_mean = moment.whiten(torch.stack([unprefixed, mean]))
    rome = float(white_mean @ white_unprefixed)
    c_rome = float(white_mean @ white_mean)
    p_rome = float(white_unprefixed @ white_unprefixed)
    if c_rome == 0.0 or p_rome == 0.0:
        raise ValueError("a key is zero: the update equation has no direction")
    direction_norm = float(moment.solve(mean).norm())
    return Denominators(
        rome=rome,
        c_rome=c_rome,
        p_rome=p_rome,
        rome_normalised=rome / direction_norm,
        c_rome_normalised=c_rome / direction_norm,
        ratio=rome / c_rome,
        length_ratio=(p_rome / c_rome) ** 0.5,
        cosine=rome / (p_rome * c_rome) ** 0.5,
        norm_unprefixed=p_rome**0.5,
        norm_mean=c_rome**0.5,
        ratio_without_bare=(moment.ratio(unprefixed, keys[1:].mean(0)) if len(keys) > 1 else None),
    )


def ratio_interval(
    keys: Float[Tensor, "n_ctx d_mlp"],
    moment: SecondMoment,
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float] | None:
    """How far ρ moves with the draw of the contexts: a bootstrap over the prefixed ones.

    The bare prompt is no draw, so it keeps its weight. ρ depends on the keys only through their
    Gram matrix in the C⁻¹ metric, so a draw costs a product with a small matrix.

    Args:
        keys: As in :func:`denominators`.
        moment: The second moment C.
        draws: Resamples.
        level: Coverage of the percentile interval.
        seed: Of the resampling.

    Returns:
        The interval, or ``None`` with fewer than two prefixed contexts.
    """
    if len(keys) < 3:
        return None
    white = moment.whiten(keys)
    low, high = ratio_intervals((white @ white.T)[None], draws=draws, level=level, seed=seed)[0]
    return float(low), float(high)


def ratio_intervals(
    gram: Float[Tensor, "m n_ctx n_ctx"], *, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> Float[Tensor, "m 2"]:
    """:func:`ratio_interval` of many edits at once, with the same draws for all.

    Args:
        gram: Inner products of each edit's keys in the C⁻¹ metric, float64; three contexts or
            more.
        draws: Resamples.
        level: Coverage of the percentile interval.
        seed: Of the resampling.

    Returns:
        Low and high end.
    """
    weights = draws_of_contexts(gram.shape[-1], draws=draws, seed=seed)
    mean_with_bare = gram[:, 0] @ weights.T
    mean_with_mean = ((weights @ gram) * weights).sum(-1)
    tail = (1 - level) / 2
    ends = torch.tensor([tail, 1 - tail], dtype=torch.float64)
    return torch.quantile(mean_with_bare / mean_with_mean, ends, dim=-1).T


def draws_of_contexts(
    n_ctx: int, *, draws: int = 2000, seed: int = 0
) -> Float[Tensor, "draw n_ctx"]:
    """What each context weighs in the mean key when the prefixes are drawn anew.

    Args:
        n_ctx: Contexts, the bare prompt among them, which keeps its weight.
        draws: Resamples.
        seed: Of the resampling.

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


def direction(
    variant: Variant, keys: Float[Tensor, "n_ctx d_mlp"], moment: SecondMoment
) -> Float[Tensor, " d_mlp"]:
    """The direction u = C⁻¹k that a variant writes along.

    Args:
        variant: Which.
        keys: As in :func:`denominators`.
        moment: The second moment C.

    Returns:
        u, not normalised: the update does not depend on its length.
    """
    return moment.solve(keys[0] if variant == "p_rome" else keys.mean(0))


def present_value(
    variant: Variant, values: Float[Tensor, "n_ctx d_model"]
) -> Float[Tensor, " d_model"]:
    """The MLP output v that a variant subtracts from v*.

    Args:
        variant: Which.
        values: MLP outputs at the lookup token under contexts 0…n.

    Returns:
        v_u for ``rome`` and ``p_rome``, the mean v̄ for ``c_rome``.
    """
    return values.mean(0) if variant == "c_rome" else values[0]


def rank_one(
    variant: Variant,
    keys: Float[Tensor, "n_ctx d_mlp"],
    values: Float[Tensor, "n_ctx d_model"],
    target: Float[Tensor, " d_model"],
    moment: SecondMoment,
) -> RankOne:
    """The update of one variant: ΔW = u ⊗ (v* − v) / D.

    Args:
        variant: Which.
        keys: As in :func:`denominators`.
        values: MLP outputs at the lookup token under the same contexts.
        target: v*.
        moment: The second moment C.

    Returns:
        The factors.

    Raises:
        ZeroDivisionError: If the published denominator is exactly zero.
    """
    u = direction(variant, keys, moment)
    key = keys.mean(0) if variant == "c_rome" else keys[0]
    denominator = float(u @ key)
    if denominator == 0.0:
        raise ZeroDivisionError(f"the denominator of {variant} is exactly zero")
    return RankOne(u, (target - present_value(variant, values)) / denominator, denominator)
