"""How unusual a key is among keys of ordinary first tokens and of ordinary later tokens.

Distances are taken in the C⁻¹ metric, where the typical later key has length √d_mlp whatever the
model, so that numbers of different layers and models can be read side by side. All keys come
whitened (:meth:`probes.second_moment.moment.SecondMoment.whiten`): ordinary ones are for once and
all edits (:attr:`probes.second_moment.moment.SecondMoment.white_samples`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probes.statistics import cosine


@dataclass(frozen=True)
class Place:
    """Where one key lies in a population.

    Attributes:
        distance: To the population's mean, in the C⁻¹ metric.
        typical_distance: The median of the members' own distances, each to the mean of the others.
        percentile: Share of the members that lie nearer, from 0 to 1.
        cosine: Cosine of the key and the population's mean, in the C⁻¹ metric.
    """

    distance: float
    typical_distance: float
    percentile: float
    cosine: float


def place(key: Float[Tensor, " d_mlp"], population: Float[Tensor, "m d_mlp"]) -> Place:
    """Places a key in a population of keys.

    Args:
        key: The whitened key, float64.
        population: At least two whitened keys, none of them the key itself.

    Returns:
        Distance, percentile and direction.

    Raises:
        ValueError: If the population has fewer than two keys.
    """
    m = len(population)
    if m < 2:
        raise ValueError(f"a population of {m} keys has no spread")
    mean = population.mean(0)
    # Each member is as far from the mean of the others as m/(m−1) times its distance from the
    # mean of all: the key under test is not in the mean either.
    members = (population - mean).norm(dim=-1) * m / (m - 1)
    distance = float((key - mean).norm())
    return Place(
        distance=distance,
        typical_distance=float(members.median()),
        percentile=float((members < distance).double().mean()),
        cosine=cosine(key, mean),
    )


@dataclass(frozen=True)
class Likeness:
    """How much one key is like the keys of ordinary first tokens.

    Attributes:
        cosine: Cosine of the key and the mean first-token key, in the C⁻¹ metric.
        first_percentile: Share of ordinary first-token keys whose cosine is smaller, 0 to 1.
        later_percentile: Share of ordinary later keys whose cosine is smaller, 0 to 1.
    """

    cosine: float
    first_percentile: float
    later_percentile: float


def likeness(
    key: Float[Tensor, " d_mlp"],
    first: Float[Tensor, "m d_mlp"],
    later: Float[Tensor, "m2 d_mlp"],
) -> Likeness:
    """Compares a key with first-token keys by direction.

    Distance cannot tell them: C counts first tokens too, so it shrinks the direction they share
    until their keys are as long as any others.

    Args:
        key: The whitened key, float64.
        first: Whitened keys of ordinary first tokens.
        later: Whitened keys of ordinary later tokens.

    Returns:
        The cosine with the mean first-token key, and its rank in both populations.
    """
    mean = first.mean(0)
    own = cosine(key, mean)

    def share_below(keys: Tensor) -> float:
        lengths = keys.norm(dim=-1) * mean.norm()
        cosines = torch.where(lengths > 0, keys @ mean / lengths, 0.0)
        return float((cosines < own).double().mean())

    return Likeness(own, share_below(first), share_below(later))


def concentration(population: Float[Tensor, "m d_mlp"]) -> float:
    """How much the keys of a population are one and the same vector (their mean similarity).

    Args:
        population: At least two whitened keys.

    Returns:
        The mean C⁻¹ inner product of two different members over the mean square of one: 1 if
        all are equal, about 0 if they share no direction.
    """
    m = len(population)
    squares = float(population.square().sum())
    if squares == 0.0:  # a padding or begin-of-sequence embedding of zeros
        return 1.0
    return (float(population.sum(0).square().sum()) - squares) / ((m - 1) * squares)
