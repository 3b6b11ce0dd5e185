"""The verdict on an edit: what it may do to hidden states, held against the limits.

It rests on the closed-form damage in units of hidden states' norm, because that has a natural
scale: near 1 an ordinary token changes by its own norm. ``safe`` is promised of the bound, whatever
v* the optimisation finds; an alarm is raised of what is expected, where Adam's steps end before the
clamp that the bound rests on (:data:`~rome_diagnosis.limits.STEP_REACH`).

First tokens are judged apart: they are too few to show in an average over a corpus, yet every
prompt has one. The ratio ρ says how much of the damage is due to inconsistent keys; where no damage
can be computed it can still give the alarm, but not call an edit safe: keys that agree say nothing
about how large the update is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from diag.mathematics.damage import Optimiser
from probes.request.commonness import Commonness
from probes.second_moment.moment import SecondMoment
from probes.target_value.hyperparameters import Hyperparameters
from rome_diagnosis.editors import Editor
from rome_diagnosis.limits import (
    ASKED_WITH,
    COMMON_TOKEN,
    DAMAGE_COLLAPSE,
    DAMAGE_HARM,
    DAMAGE_SAFE,
    FIRST_TOKENS_HARM,
    FIRST_TOKENS_SAFE,
    FOREIGN_TEXT,
    OTHER_TEXT,
    RATIO_COLLAPSE,
    STEP_REACH,
    TOKENS_PER_DIMENSION,
)
from rome_diagnosis.methods import Method

Verdict = Literal["safe", "unclear", "damage_risk", "collapse_risk"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)  # from good to bad
Interval = tuple[float, float]


@dataclass(frozen=True)
class Grounds:
    """What a verdict rests on.

    Attributes:
        rho: ρ.
        relative: Damage bound over the corpus, in units of hidden states' norm; ``None`` where it
            was not checked.
        first_tokens: The same at first tokens of other texts.
        margin: How many times larger the damage may be than it says; see :func:`margin`.
        expected_share: The share of the bounds that is expected.
    """

    rho: float
    relative: float | None
    first_tokens: float | None
    margin: float = 1.0
    expected_share: float = 1.0

    def redrawn(self, rho: float) -> Grounds:
        """The grounds after another draw of the contexts: ROME's damage goes with 1/|ρ|.

        Args:
            rho: ρ of that draw, not 0.

        Returns:
            Its grounds.
        """
        factor = abs(self.rho / rho)
        return replace(
            self,
            rho=rho,
            relative=None if self.relative is None else self.relative * factor,
            first_tokens=None if self.first_tokens is None else self.first_tokens * factor,
        )

    @property
    def expected(self) -> float | None:
        """The damage over the corpus that is expected."""
        return self._expected(self.relative)

    @property
    def expected_first_tokens(self) -> float | None:
        """The damage at first tokens that is expected."""
        return self._expected(self.first_tokens)

    def _expected(self, bound: float | None) -> float | None:
        # No share of what is infinite is less than that.
        return bound if bound is None or math.isinf(bound) else bound * self.expected_share

    @property
    def together(self) -> float | None:
        """Both kinds of damage over their limits of safety; 1 where they reach what is safe.

        A fact's prompt has a first token and later ones, and is moved at both: independent changes
        add up by squares. ``None`` where one of them was not checked.
        """
        if self.relative is None or self.first_tokens is None:
            return None
        return math.hypot(
            self.relative / DAMAGE_SAFE.value, self.first_tokens / FIRST_TOKENS_SAFE.value
        )

    @property
    def only_together(self) -> bool:
        """Whether each kind of damage is below its limit of safety, but not both together."""
        together, relative, first = self.together, self.relative, self.first_tokens
        if together is None or relative is None or first is None:
            return False
        return together >= 1.0 and relative < DAMAGE_SAFE.value and first < FIRST_TOKENS_SAFE.value

    @property
    def is_safe(self) -> bool:
        """Whether both kinds of damage were checked and lie below their limits together."""
        return self.together is not None and self.together * self.margin < 1.0


def margin(moment: SecondMoment, common: Commonness) -> float:
    """How many times larger damage may be than it is computed.

    Args:
        moment: The second moment that it is computed with.
        common: How common the words are that the edit is written at.

    Returns:
        The factor, which only ``safe`` asks for; infinite where C rests on too few tokens to say
        or on text unlike any other, or a mean over text does not say what is done to other facts'
        prompts.
    """
    is_common = common.token_share >= COMMON_TOKEN.value or not common.is_a_word
    if is_common or common.asked_with >= ASKED_WITH.value:
        return math.inf
    known = moment.provenance
    if known is not None and known.n_tokens < TOKENS_PER_DIMENSION.value * moment.d_mlp:
        return math.inf
    if moment.other_text is not None and not moment.other_text < OTHER_TEXT.value:
        return math.inf
    return FOREIGN_TEXT.value if moment.is_foreign else 1.0


def steps(hyperparameters: Hyperparameters, d_model: int) -> Optimiser:
    """How long verdicts expect a δ to get.

    Args:
        hyperparameters: How v* is optimised.
        d_model: Length of δ.

    Returns:
        Its clamp, and how far Adam usually comes in its number of steps.
    """
    reach = STEP_REACH.value * hyperparameters.reach(d_model)
    return Optimiser(hyperparameters.clamp_norm_factor, reach)


def verdict_of(grounds: Grounds) -> Verdict:
    """The verdict that one draw of the contexts gives.

    Args:
        grounds: What it rests on.

    Returns:
        ``safe`` needs both kinds of damage below their limits. Without a damage bound a small ρ
        is a risk of collapse, but no ρ is a proof of safety.
    """
    relative, first = grounds.expected, grounds.expected_first_tokens
    if relative is None:
        return "collapse_risk" if abs(grounds.rho) <= RATIO_COLLAPSE.value else "unclear"
    if relative >= DAMAGE_COLLAPSE.value:
        return "collapse_risk"
    if relative >= DAMAGE_HARM.value or (first is not None and first >= FIRST_TOKENS_HARM.value):
        return "damage_risk"
    return "safe" if grounds.is_safe else "unclear"


def range_of(grounds: Grounds, interval: Interval) -> tuple[Verdict, Verdict]:
    """The best and the worst verdict over draws of the contexts.

    Args:
        grounds: What the verdict rests on, for the contexts as they are.
        interval: Interval of ρ over draws.

    Returns:
        Both, from the two ends of the interval and the contexts as they are. Where ρ may be zero
        the worst is ``collapse_risk``: a draw can divide by zero.
    """
    others = [grounds.redrawn(end) for end in interval if end != 0.0]
    best = min(map(verdict_of, [grounds, *others]), key=VERDICTS.index)
    return best, _worst(grounds, interval)


def verdict(grounds: Grounds, interval: Interval | None) -> Verdict:
    """The verdict, ``safe`` only where no other draw of the contexts would say otherwise.

    Args:
        grounds: What it rests on.
        interval: Interval of ρ over draws of the contexts; ``None`` with too few to draw from,
            where nothing is called safe.

    Returns:
        The verdict.
    """
    plain = verdict_of(grounds)
    if plain == "safe" and (interval is None or _worst(grounds, interval) != "safe"):
        return "unclear"
    return plain


def _worst(grounds: Grounds, interval: Interval) -> Verdict:
    """The worst verdict over draws: damage is largest where ρ comes nearest to zero."""
    if interval[0] <= 0.0 <= interval[1]:
        return "collapse_risk"
    return max(
        verdict_of(grounds),
        verdict_of(grounds.redrawn(min(interval, key=abs))),
        key=VERDICTS.index,
    )


def verdict_with(method: Editor | Method, grounds: Grounds, interval: Interval | None) -> Verdict:
    """The verdict on an edit with one editor or method.

    ρ is about an editor whose two keys differ. Where they are one, the denominator is a squared
    length, which neither vanishes with ρ nor moves with it over draws of the contexts.

    Args:
        method: What makes the edit.
        grounds: What the verdict rests on.
        interval: As for :func:`verdict`.

    Returns:
        The verdict.
    """
    if method.along == method.divide_by:
        grounds = replace(grounds, rho=1.0)
        interval = None if interval is None else (1.0, 1.0)
    return verdict(grounds, interval)
