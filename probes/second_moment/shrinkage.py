"""What to add to C's diagonal where few tokens were counted, by a stated rule.

A second moment of few tokens has eigenvalues that are too far apart: its small ones are too
small, and C⁻¹ amplifies just those directions. Ledoit and Wolf (2004) mix it with a multiple of
the identity, (1 − α)C + αμI, and say which α comes closest to the truth on average. ρ and damage
do not change with C's scale, so this is the same as adding a ridge of μα/(1 − α), which is how it
is kept: the corpus moment itself stays what was measured.
"""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from probes.second_moment.moment import SecondMoment
from rome_diagnosis.errors import UserError
from rome_diagnosis.limits import SHRINKAGE_MOST, TOKENS_PER_DIMENSION

# The largest share of the identity, as a multiple of C's mean eigenvalue.
LARGEST_FACTOR = SHRINKAGE_MOST.value / (1 - SHRINKAGE_MOST.value)


def shrinkage(moment: Float[Tensor, "d d"], fourth: float, n: int) -> float:
    """Ledoit and Wolf's share α of the identity.

    Args:
        moment: C, the average of k kᵀ.
        fourth: The sum of ‖k‖⁴.
        n: Number of keys. They count as independent; tokens of one text are not quite, so that
            α is too small rather than too large.

    Returns:
        α, at most :data:`rome_diagnosis.limits.SHRINKAGE_MOST`.
    """
    size = float(moment.norm()) ** 2
    scale = float(moment.diagonal().mean())
    from_identity = size - len(moment) * scale * scale
    error = max(fourth / n - size, 0.0) / n
    if from_identity <= 0.0:
        return SHRINKAGE_MOST.value
    return min(error / from_identity, SHRINKAGE_MOST.value)


def ridge(rule: str, moment: Float[Tensor, "d d"], fourth: float | None, n: int) -> float:
    """The ridge a rule asks for.

    Args:
        rule: ``auto`` shrinks below :data:`rome_diagnosis.limits.TOKENS_PER_DIMENSION` tokens
            per dimension and otherwise, as published, adds nothing; ``none`` adds nothing; a
            number is the ridge itself as a multiple of C's mean eigenvalue.
        moment: C.
        fourth: The sum of ‖k‖⁴; where it is not known, ``auto`` adds nothing.
        n: Number of keys.

    Returns:
        What to add to C's diagonal, absolute.

    Raises:
        UserError: If the rule is none of these.
    """
    scale = float(moment.diagonal().mean())
    if rule == "none":
        return 0.0
    if rule == "auto":
        if n >= TOKENS_PER_DIMENSION.value * len(moment) or fourth is None:
            return 0.0
        share = shrinkage(moment, fourth, n)
        return scale * share / (1 - share)
    try:
        factor = float(rule)
    except ValueError:
        factor = -1.0
    if not 0.0 <= factor <= LARGEST_FACTOR * (1 + 1e-9):
        raise UserError(
            f"--ridge must be auto, none or a number from 0 to {LARGEST_FACTOR:.0f}, not {rule!r}"
        )
    return scale * factor


def ridged(moment: SecondMoment, rule: str) -> SecondMoment:
    """A second moment with the ridge of a rule.

    Args:
        moment: The second moment, with provenance.
        rule: See :func:`ridge`.

    Returns:
        The same second moment with that rule and its ridge.

    Raises:
        UserError: If there is no such rule.
    """
    assert moment.moment is not None and moment.provenance is not None
    n = moment.provenance.n_tokens
    fourth = None if moment.fourth is None else moment.fourth * n
    least = ridge(rule, moment.moment, fourth, n)
    return replace(moment, ridge_rule=rule, least_ridge=least)
