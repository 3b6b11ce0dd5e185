"""The verdict on editing a fact with ROME as published.

It rests on the closed-form damage in units of the residual stream, because that has a natural
scale: near 1 an average token is pushed by its own length. The ratio ρ says how much of it is due
to the inconsistent keys; where no damage can be computed it can still give the alarm, but not
call an edit safe: keys that agree say nothing about how large the update is.
"""

from __future__ import annotations

from typing import Literal

from diag.judgement.limits import DAMAGE_COLLAPSE, DAMAGE_SAFE, RATIO_COLLAPSE

Verdict = Literal["collapse_risk", "safe", "unclear"]


def verdict_of(rho: float, relative: float | None) -> Verdict:
    """The verdict on ROME as published, from its relative damage or, without it, from ρ.

    Args:
        rho: ρ.
        relative: Relative damage bound of ``rome``.

    Returns:
        ``collapse_risk``, ``safe``, or ``unclear`` between the two limits. Without a damage bound
        a small ρ is a risk, but no ρ is a proof of safety.
    """
    if relative is not None:
        if relative >= DAMAGE_COLLAPSE.value:
            return "collapse_risk"
        return "safe" if relative < DAMAGE_SAFE.value else "unclear"
    return "collapse_risk" if abs(rho) <= RATIO_COLLAPSE.value else "unclear"


def verdict(rho: float, relative: float | None, *, fragile: bool) -> Verdict:
    """The verdict, softened to ``unclear`` where another draw of the contexts would change it.

    Args:
        rho: ρ.
        relative: Relative damage bound of ``rome``.
        fragile: Whether a safe verdict hangs on the draw.

    Returns:
        The verdict.
    """
    plain = verdict_of(rho, relative)
    return "unclear" if plain == "safe" and fragile else plain
