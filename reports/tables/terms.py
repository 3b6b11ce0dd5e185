"""The terms of the update equation, as far as a saved result knows them.

ΔW = u (v* − v)ᵀ / D changes the MLP's output over ordinary tokens by ‖v* − v‖ · √(uᵀCu) / |D| on
average. Each editor's three terms are shown side by side, so that one sees which is small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.tables import editors
from reports.tables.editors import Shown
from rome_diagnosis.editors import PUBLISHED, REMEDY


@dataclass(frozen=True)
class Terms:
    """One editor's update in numbers.

    Attributes:
        editor: Whose, and how it is shown.
        denominator: D, signed.
        residual: ‖v* − v‖, or the most it can be.
        spread: √(uᵀCu): how far the direction reaches into ordinary tokens; ``None`` without a
            corpus moment.
        damage: Root mean square change of the MLP's output.
        relative: Change of the residual stream over its typical norm.
        relative_first: The same over the first tokens of texts; ``None`` if not measured.
        is_bound: Whether residual and damage are upper bounds.
        expected_share: The share of them that is expected.
    """

    editor: Shown
    denominator: float
    residual: float
    spread: float | None
    damage: float | None
    relative: float | None
    relative_first: float | None
    is_bound: bool
    expected_share: float = 1.0

    @property
    def expected(self) -> float | None:
        """The change of the residual stream that is expected; ``None`` where it is the bound."""
        if self.relative is None or self.expected_share >= 1.0:
            return None
        return self.relative * self.expected_share

    @property
    def expected_first(self) -> float | None:
        """The same over first tokens."""
        if self.relative_first is None or self.expected_share >= 1.0:
            return None
        return self.relative_first * self.expected_share


def of_keys(document: Mapping[str, Any]) -> list[Terms]:
    """The terms before any edit is made, from a ``diag.keys/1`` document."""
    terms = []
    for editor in editors.damaging(document):
        bound, d = document["damage"][editor.name], document["denominators"].get(editor.name)
        if d is not None:
            terms.append(
                Terms(
                    editor, d, bound["residual"],
                    _spread(bound["bound"], d, bound["residual"]), bound["bound"],
                    bound["relative_bound"], bound.get("relative_bound_first_tokens"), True,
                    bound.get("expected_share", 1.0),
                )
            )  # fmt: skip
    return terms


def of_edit(edit: Mapping[str, Any]) -> list[Terms]:
    """The terms of the updates as they were made, from one edit of a ``diag.verify/1`` document."""
    terms = []
    for editor in editors.unprefixed(edit["arms"]):
        arm = edit["arms"][editor.name]
        damage, d, residual = arm["damage"], arm["denominator"], arm["numerator_norm"]
        terms.append(
            Terms(
                editor, d, residual, _spread(damage["predicted"], d, residual),
                damage["predicted"], damage["relative"], damage.get("relative_first_tokens"), False,
            )
        )  # fmt: skip
    return terms


def _spread(damage: float | None, d: float, residual: float) -> float | None:
    return None if damage is None or not residual else damage * abs(d) / residual


def named(terms: Sequence[Terms], name: str) -> Terms | None:
    """The terms of one editor, or ``None``."""
    return next((term for term in terms if term.editor.name == name), None)


@dataclass(frozen=True)
class RatioTerms:
    """ρ and the two factors it is the product of.

    Attributes:
        rho: The published denominator over the consistent one.
        length: ‖k_u‖ / ‖k̄‖ in the C⁻¹ metric.
        cosine: Cosine of k_u and k̄ in the C⁻¹ metric.
    """

    rho: float
    length: float
    cosine: float


def split(terms: Sequence[Terms]) -> RatioTerms | None:
    """ρ and its factors, from the denominators alone: they are the keys' inner products.

    Args:
        terms: Terms of editors that divide by all three products of k̄ and k_u.

    Returns:
        The split; ``None`` where a product is missing, or a squared length is not positive.
    """
    products: dict[tuple[str, str], float] = {}
    for term in terms:
        if row := term.editor.editor:
            products.setdefault((row.along, row.divide_by), term.denominator)
    mixed = products.get(("mean", "bare"))
    mean, bare = products.get(("mean", "mean"), 0.0), products.get(("bare", "bare"), 0.0)
    if mixed is None or mean <= 0 or bare <= 0:
        return None
    rho, length = mixed / mean, (bare / mean) ** 0.5
    return RatioTerms(rho, length, rho / length)


def ratio_name() -> str:
    """ρ as a quotient of denominators, e.g. ``D_ROME / D_C-ROME``."""
    above, below = (editors.editor(name).short for name in (PUBLISHED, REMEDY))
    return f"D_{above} / D_{below}"
