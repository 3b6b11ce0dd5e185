"""How unusual a key is among keys of ordinary first tokens and of ordinary later tokens.

Distances are taken in the C⁻¹ metric, where the typical later key has length √d_mlp whatever the
model, so that numbers of different layers and models can be read side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probes.second_moment.moment import SecondMoment
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


def place(
    key: Float[Tensor, " d_mlp"], population: Float[Tensor, "m d_mlp"], moment: SecondMoment
) -> Place:
    """Places a key in a population of keys.

    Args:
        key: The key, float64.
        population: At least two keys, none of them the key itself.
        moment: The second moment C.

    Returns:
        Distance, percentile and direction.

    Raises:
        ValueError: If the population has fewer than two keys.
    """
    m = len(population)
    if m < 2:
        raise ValueError(f"a population of {m} keys has no spread")
    white = moment.whiten(population.to(torch.float64))
    mean = white.mean(0)
    # Each member is as far from the mean of the others as m/(m−1) times its distance from the
    # mean of all: the key under test is not in the mean either.
    members = (white - mean).norm(dim=-1) * m / (m - 1)
    white_key = moment.whiten(key)
    distance = float((white_key - mean).norm())
    return Place(
        distance=distance,
        typical_distance=float(members.median()),
        percentile=float((members < distance).double().mean()),
        cosine=cosine(white_key, mean),
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
    moment: SecondMoment,
) -> Likeness:
    """Compares a key with first-token keys by direction.

    Distance cannot tell them: C counts first tokens too, so it shrinks the direction they share
    until their keys are as long as any others.

    Args:
        key: The key, float64.
        first: Keys of ordinary first tokens.
        later: Keys of ordinary later tokens.
        moment: The second moment C.

    Returns:
        The cosine with the mean first-token key, and its rank in both populations.
    """
    mean = moment.whiten(first.to(torch.float64)).mean(0)
    own = cosine(moment.whiten(key), mean)

    def share_below(keys: Tensor) -> float:
        white = moment.whiten(keys.to(torch.float64))
        lengths = white.norm(dim=-1) * mean.norm()
        cosines = torch.where(lengths > 0, white @ mean / lengths, 0.0)
        return float((cosines < own).double().mean())

    return Likeness(own, share_below(first), share_below(later))


def concentration(population: Float[Tensor, "m d_mlp"], moment: SecondMoment) -> float:
    """How much the keys of a population are one and the same vector (their mean similarity).

    Args:
        population: At least two keys.
        moment: The second moment C.

    Returns:
        The mean C⁻¹ inner product of two different members over the mean square of one: 1 if
        all are equal, about 0 if they share no direction.
    """
    white = moment.whiten(population.to(torch.float64))
    m = len(white)
    squares = float(white.square().sum())
    if squares == 0.0:  # a padding or begin-of-sequence embedding of zeros
        return 1.0
    return (float(white.sum(0).square().sum()) - squares) / ((m - 1) * squares)
