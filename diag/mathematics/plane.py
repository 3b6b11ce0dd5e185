"""The plane in which ρ can be seen: spanned by k̄ and k_u, in the C⁻¹ metric.

A projection onto principal components shows where keys vary; this one shows the denominators.
Along the first axis, C⁻¹k̄ scaled to length 1, a key's coordinate times ‖k̄‖ is its inner product
with C⁻¹k̄, so that k_u's is ROME's denominator and k̄'s is C-ROME's; their quotient is ρ. The second
axis is what k_u has beside that. Both keys lie in the plane at full length and with the angle
between them; every other key is projected onto it at right angles.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probes.second_moment.moment import SecondMoment

POINTS = 200  # of each population: enough to see where it lies, few enough to save with a result


def plane(keys: Float[Tensor, "n_ctx d_mlp"], moment: SecondMoment) -> dict[str, Any]:
    """Places an edit's keys and ordinary ones in the plane of k̄ and k_u.

    Args:
        keys: Keys under contexts 0…n, row 0 the bare prompt's, float64.
        moment: The second moment of the layer's keys.

    Returns:
        Coordinates, plain numbers of four digits: ``unprefixed`` and ``mean`` as one pair each,
        ``prefixed``, ``first`` and ``later`` (ordinary tokens) as lists of pairs.
    """
    white = moment.whiten(keys)
    bare, mean = white[0], white.mean(0)
    along = mean / mean.norm()
    rest = bare - (bare @ along) * along
    length = rest.norm()
    # Where the two keys are one (no prefixes), any direction is as good; none is invented.
    across = rest / length if length > 1e-9 * bare.norm() else torch.zeros_like(rest)
    axes = torch.stack([along, across])

    def at(vectors: Tensor) -> list[list[float]]:
        # Beside the keys' own length, what is left of rounding is nothing.
        coordinates = vectors @ axes.T
        coordinates[coordinates.abs() < 1e-9 * mean.norm()] = 0.0
        return [[float(f"{x:.4g}") for x in row] for row in coordinates.tolist()]

    def ordinary(population: Tensor | None) -> list[list[float]]:
        if population is None or not len(population):
            return []
        step = -(-len(population) // POINTS)
        return at(population[::step])

    samples = moment.white_samples
    return {
        "unprefixed": at(bare[None])[0],
        "mean": at(mean[None])[0],
        "prefixed": at(white[1:]),
        "first": ordinary(samples.get("first_keys")),
        "later": ordinary(samples.get("later_keys")),
    }
