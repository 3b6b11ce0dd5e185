"""Which verdicts no other draw of the contexts would change, for many edits at once.

A draw gives context i the weight wᵢ, the bare prompt its own; they sum to 1. With k̄ the mean over
the contexts as they are, aᵢ = kᵢᵀC⁻¹k_u, bᵢ = kᵢᵀC⁻¹k̄ and d = Σ wᵢ(kᵢ − k̄), its ratio is

    ρ(w) = Σ wᵢaᵢ / (2·Σ wᵢbᵢ − k̄ᵀC⁻¹k̄ + ‖d‖²).

All but the last term follow from two solves an edit; ‖d‖², the smallest, would take C⁻¹ on every
key of every context, which on a small model is a third of a screening. It need only be
bounded from above, and a few random projections of L⁻¹k do that. So ρ(w) has a floor for each
draw, and where nearly all floors leave the verdict as it is, nothing more need be computed. The
other edits get their interval in full (:func:`diag.mathematics.intervals.ratio_intervals`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from diag.mathematics.intervals import DRAWS, quadratic
from probes.second_moment.moment import SecondMoment

# χ² with 32 degrees of freedom falls below an eighth of its mean with probability under 5e-9
# (Chernoff: (e^(1 − 1/x)/x)^(n/2)): so seldom is a squared length, seen through so many random
# projections, more than SLACK times what is seen.
PROJECTIONS, SLACK = 32, 8.0


@dataclass(frozen=True)
class Redraws:
    """Other draws of the contexts of many edits.

    Attributes:
        moment: The second moment C; not the identity.
        n_contexts: The bare prompt and prefixes, three or more.
        seed: Seed of the draws, as :func:`diag.mathematics.intervals.ratio_intervals` makes
            them, and the projections.
    """

    moment: SecondMoment
    n_contexts: int
    seed: int = 0

    @cached_property
    def _projections(self) -> Float[Tensor, "projection d_mlp"]:
        """Random directions among the whitened keys, as covectors of the keys themselves."""
        generator = torch.Generator().manual_seed(self.seed)
        shape = (PROJECTIONS, self.moment.d_mlp)
        directions = torch.randn(shape, generator=generator, dtype=torch.float64)
        factor = self.moment.factor
        return torch.linalg.solve_triangular(factor, directions, upper=False, left=False)

    def stay_above(
        self,
        keys: Float[Tensor, "m n_ctx d_mlp"],
        directions: Float[Tensor, "m 2 d_mlp"],
        least: Float[Tensor, " m"],
        *,
        level: float = 0.95,
    ) -> list[bool]:
        """Whether the interval of ρ is known to lie above a value.

        Args:
            keys: Each edit's keys, float64, the bare prompt's first.
            directions: C⁻¹k_u and C⁻¹k̄ of each.
            least: The value, for each edit; not negative.
            level: Coverage of the percentile interval.

        Returns:
            For each edit whether it is known, but for a chance of under 5e-9 a draw that the
            projections hide ‖d‖²; ``False`` says nothing.
        """
        a, b = (keys @ directions.mT).unbind(-1)
        length = b.mean(1)
        # Few projections on the left: a product with a narrow matrix on the right is slow.
        seen = (self._projections @ keys.flatten(0, 1).T).unflatten(1, keys.shape[:2])
        seen = (seen - seen.mean(2, keepdim=True)).permute(1, 2, 0)
        apart = seen @ seen.mT * (SLACK / PROJECTIONS)
        # ρ(w) > least: a quadratic form in w, since its weights sum to 1, is positive.
        linear = a - 2 * least[:, None] * b
        form = (linear[:, :, None] + linear[:, None]) / 2
        form += least[:, None, None] * (length[:, None, None] - apart)
        below = (quadratic(form, seed=self.seed) <= 0).sum(1)
        # The interval's end lies at or above the draw of this rank.
        return (below <= int((1 - level) / 2 * (DRAWS - 1))).tolist()
