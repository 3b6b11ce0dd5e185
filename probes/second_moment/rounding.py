"""How much of a key's length in the C⁻¹ metric is rounding: the noise floor.

Floating point keeps a coordinate's relative accuracy, so that a key's rounding error is
proportional to each unit's own size, however small that is: N = u²·diag(C), with u a few units in
the last place. Its mean square length in the C⁻¹ metric is tr(C⁻¹N), that of a key is d_mlp, and
their ratio's root

    ν = u · √(mean of C_jj (C⁻¹)_jj over units j)

is what rounding adds to an ordinary key, relative to its length. It depends on how correlated the
units are and not on how different their sizes are: the condition number of C, which units that
hardly ever fire make as large as one likes, plays no part. Nor does it in the solve, whose error is
governed by the matrix with each unit in its own scale (van der Sluis 1969).

This holds where the activation is evaluated without cancellation, as in
:mod:`probes.model.exact_gelu`. ½x(1 + tanh …) as it is usually written loses all relative
accuracy in the tail, and rounding adds a thousand times as much.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from probes.second_moment.moment import SecondMoment

# Rounding error of a key's coordinate in units of its type's ε, root mean square over tokens:
# median over units 4.2 in float32, 1.2 in bfloat16, 1.3 in float16 (bundled model).
UNITS_IN_THE_LAST_PLACE = 4.0
# Random directions that the mean over units is estimated from, to about a tenth.
PROBES = 64


def noise_floor(moment: SecondMoment, dtype: torch.dtype) -> float:
    """Length of rounding errors in the C⁻¹ metric, relative to that of an ordinary key.

    Args:
        moment: The second moment; of the identity, each unit counts alike.
        dtype: Type in which the model computes keys.

    Returns:
        ν. An edit's ρ is known to about ν/√d_mlp over the length of its mean key in units of
        √d_mlp, for an error has no direction of its own.
    """
    return UNITS_IN_THE_LAST_PLACE * torch.finfo(dtype).eps * moment.rounding_gain


def gain(moment: SecondMoment) -> float:
    """√(mean of C_jj (C⁻¹)_jj): 1 where units are uncorrelated, more the more they are.

    Args:
        moment: The second moment.

    Returns:
        The factor by which relative rounding errors grow in the C⁻¹ metric.
    """
    if moment.moment is None:
        return 1.0
    scale = moment.moment.diagonal().sqrt()
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (PROBES, moment.d_mlp), generator=generator) * 2 - 1
    # E‖L⁻¹Sz‖² over random signs z is the trace of S C⁻¹S, S the units' sizes.
    squares = moment.whiten(signs.to(scale) * scale).square().sum(1)
    return math.sqrt(float(squares.mean()) / moment.d_mlp)
