"""The terms of the update equation, as far as a saved result knows them.

ΔW = u (v* − v)ᵀ / D changes the MLP's output over ordinary tokens by ‖v* − v‖ · √(uᵀCu) / |D| on
average. Each variant's three terms stand beside one another, so that one sees which is small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VARIANTS = ("rome", "c_rome", "p_rome")
NAMES = {"rome": "ROME", "c_rome": "C-ROME", "p_rome": "P-ROME"}
EXPLAINED = {
    "rome": "as published: mean key above, bare key below",
    "c_rome": "the mean key in both places",
    "p_rome": "the bare key in both places",
}


@dataclass(frozen=True)
class Terms:
    """One variant's update in numbers.

    Attributes:
        variant: Its name in results.
        denominator: D, signed.
        residual: ‖v* − v‖, or the most it can be.
        spread: √(uᵀCu): how far the direction reaches into ordinary tokens; ``None`` without a
            corpus moment.
        damage: Root mean square change of the MLP's output.
        relative: The same over the residual stream's typical length.
        is_bound: Whether residual and damage are upper bounds.
    """

    variant: str
    denominator: float
    residual: float
    spread: float | None
    damage: float | None
    relative: float | None
    is_bound: bool


def of_keys(document: Mapping[str, Any]) -> list[Terms]:
    """The terms before any edit is made, from a ``diag.keys/1`` document."""
    found = []
    for variant in VARIANTS:
        bound, d = document["damage"][variant], document["denominators"][variant]
        found.append(
            _terms(variant, d, bound["residual"], bound["bound"], bound["relative_bound"], True)
        )
    return found


def of_edit(edit: Mapping[str, Any]) -> list[Terms]:
    """The terms of the updates as they were made, from one edit of a ``diag.verify/1`` document."""
    found = []
    for variant in VARIANTS:
        arm = edit["arms"][variant]
        damage = arm["damage"]
        found.append(
            _terms(
                variant, arm["denominator"], arm["numerator_norm"],
                damage["predicted"], damage["relative"], False,
            )
        )  # fmt: skip
    return found


def _terms(
    variant: str, d: float, residual: float, damage: float | None, relative: float | None,
    is_bound: bool,
) -> Terms:  # fmt: skip
    spread = None if damage is None or not residual else damage * abs(d) / residual
    return Terms(variant, d, residual, spread, damage, relative, is_bound)


@dataclass(frozen=True)
class Split:
    """ρ and the two factors it is the product of.

    Attributes:
        rho: D_rome / D_c_rome.
        length: ‖k_u‖ / ‖k̄‖ in the C⁻¹ metric.
        cosine: Of k_u and k̄ in the C⁻¹ metric.
    """

    rho: float
    length: float
    cosine: float


def split(terms: list[Terms]) -> Split | None:
    """ρ and its factors, from the three denominators alone.

    Args:
        terms: Of ``rome``, ``c_rome`` and ``p_rome``.

    Returns:
        The split; ``None`` where a squared length is not positive.
    """
    rome, c_rome, p_rome = (term.denominator for term in terms)
    if c_rome <= 0 or p_rome <= 0:
        return None
    length = (p_rome / c_rome) ** 0.5
    return Split(rome / c_rome, length, rome / c_rome / length)
