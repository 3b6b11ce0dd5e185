"""What a list of edits will do, before the first is made.

v* is not known yet. Each edit by itself is judged as ``diag.keys`` judges it. Along the list the
present value's length grows, and the clamp with it, until Adam's steps are the shorter bound
(:mod:`diag.mathematics.expected`). The low end of an interval is every δ half as long; the high end
is every δ as long as it can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from diag.judgement.verdict import Grounds, Interval, Verdict, margin, verdict_with
from diag.mathematics.damage import Optimiser, lengths
from diag.mathematics.expected import Prior, expected
from diag.mathematics.stream import Stream
from diag.sequence.plan import Plan
from rome_diagnosis.limits import RESIDUAL_SHORT, SEQUENCE_GONE, STEP_REACH
from rome_diagnosis.methods import Method


@dataclass(frozen=True)
class Curve:
    """Expected damage after each edit, in units of hidden states' norm; ``None``: not checked.

    Attributes:
        corpus: Over corpus tokens, ``[m]``.
        first_tokens: Over first tokens, ``[m]``.
    """

    corpus: Float[Tensor, " m"] | None
    first_tokens: Float[Tensor, " m"] | None


@dataclass(frozen=True)
class Forecast:
    """What a list will do.

    Attributes:
        plan: The edits and what makes them.
        stream: The residual stream of the edited layer.
        steps: w of each edit, ``[m, d_mlp]``; for an editor of one fact u/D.
        residuals: Expected ‖v* − v‖ of each, or ‖z − h‖, ``[m]``.
        bounds: The longest it can be where the edit is made by itself, ``[m]``.
        shares: The share of that which is expected, ``[m]``.
        curve: Expected damage along the list.
        low: With every δ shorter; ``None`` where no interval was asked for.
        high: With every δ as long as it can be.
    """

    plan: Plan
    stream: Stream
    steps: Float[Tensor, "m d_mlp"]
    residuals: Float[Tensor, " m"]
    bounds: Float[Tensor, " m"]
    shares: Float[Tensor, " m"]
    curve: Curve
    low: Curve | None = None
    high: Curve | None = None

    @cached_property
    def alone(self) -> Curve:
        """Damage bound of each edit by itself, as ``diag.screen`` has it."""
        changes = self.stream.alone(self.plan.alone, self.bounds)
        return Curve(None, None) if changes is None else _checked(changes)

    @cached_property
    def grounds(self) -> tuple[Grounds, ...]:
        """What the verdict on each edit by itself rests on."""
        none, rho = [None] * len(self.plan.chosen), self.plan.listed.rho.tolist()
        corpus, first = self.alone.corpus, self.alone.first_tokens
        common, moment = self.plan.listed.common, self.stream.moment
        each = zip(
            [rho[i] for i in self.plan.chosen],
            none if corpus is None else corpus.tolist(),
            none if first is None else first.tolist(),
            [margin(moment, common[i]) for i in self.plan.chosen],
            self.shares.tolist(),
            strict=True,
        )
        return tuple(Grounds(*own) for own in each)

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdict on each edit by itself."""
        plan, verdicts = self.plan, []
        drawn = None if plan.listed.intervals is None else plan.listed.intervals.tolist()
        for i, own in zip(plan.chosen, self.grounds, strict=True):
            method = plan.instead.get(i, plan.geometry).method
            verdicts.append(verdict_with(method, own, _interval(drawn and drawn[i], method)))
        return tuple(verdicts)


def forecast_list(
    plan: Plan, stream: Stream, optimiser: Optimiser, *, interval: bool = False
) -> Forecast:
    """Forecasts a list of edits.

    Args:
        plan: The edits and what makes them.
        stream: The residual stream of the edited layer, with its second moment.
        optimiser: How long a δ can be.
        interval: Whether to forecast the ends of the interval as well.

    Returns:
        The forecast.

    Raises:
        ZeroDivisionError: If a batch's M is singular.
    """
    prior = _prior(plan, stream)
    typical = Optimiser(optimiser.clamp, STEP_REACH.value * optimiser.reach)
    bounds, shares = lengths(Optimiser(optimiser.clamp, typical.reach), prior.values, prior.apart)
    residuals, curve = _followed(prior, stream, typical, plan.batch)
    low = high = None
    if interval:
        part = RESIDUAL_SHORT.value
        short = Optimiser(part * typical.clamp, part * typical.reach)
        _, low = _followed(prior, stream, short, plan.batch)
        _, high = _followed(prior, stream, optimiser, plan.batch)
    return Forecast(plan, stream, prior.steps, residuals, bounds, shares, curve, low, high)


def _prior(plan: Plan, stream: Stream) -> Prior:
    listed, keys = plan.listed, plan.bare(plan.listed.keys)
    if plan.geometry.method.in_stream:
        # z starts at the stream, which moves by the output's change times its scale.
        assert listed.streams is not None
        nothing = torch.zeros(len(keys), dtype=keys.dtype)
        return Prior(
            steps=plan.steps,
            keys=abs(stream.contribution.scale or 1.0) * keys,
            apart_keys=torch.zeros_like(keys),
            values=listed.streams[torch.tensor(plan.chosen)],
            apart=nothing,
        )
    values = plan.bare(listed.values)
    nothing_apart = plan.consistent or plan.geometry.method.subtract is None
    # δ is as long as ‖v_u‖ allows; from a consistent target it alone is left.
    apart_keys, apart = (
        torch.zeros_like(bare) if nothing_apart else bare - plan.rows(of, "subtract")
        for bare, of in ((keys, listed.keys), (values, listed.values))
    )
    return Prior(
        steps=plan.steps,
        keys=keys,
        apart_keys=apart_keys,
        values=values.norm(dim=1),
        apart=apart.norm(dim=1),
    )


def _followed(
    prior: Prior, stream: Stream, optimiser: Optimiser, batch: int
) -> tuple[Tensor, Curve]:
    """Expected residuals, and the damage they do."""
    moment, scale = stream.moment.moment, stream.contribution.scale
    of_corpus = None if moment is None else lambda keys: keys @ moment
    both = (of_corpus, stream.times_first_moment)
    asked = [times for times in both if times is not None and scale is not None]
    enough = float("inf")
    if scale and stream.unit is not None:
        enough = SEQUENCE_GONE.value * stream.unit / abs(scale)
    expectation = expected(
        prior, asked, clamp=optimiser.clamp, reach=optimiser.reach, enough=enough, batch=batch
    )
    if stream.why_not or stream.unit is None:
        return expectation.residuals, Curve(None, None)
    if scale is not None:
        corpus, *others = expectation.damage * (abs(scale) / stream.unit)
        return expectation.residuals, Curve(corpus, others[0] if others else None)
    # A norm stands after the MLP: squares of the sampled changes add up.
    ones = torch.ones_like(expectation.residuals)
    changes = stream.changes(prior.steps, ones, expectation.residuals, ones)
    assert changes is not None
    return expectation.residuals, _checked(changes.square().cumsum(1).sqrt())


def _checked(changes: Float[Tensor, "2 m"]) -> Curve:
    corpus, first = changes
    return Curve(corpus, None if bool(first.isnan().any()) else first)


def _interval(drawn: Sequence[float] | None, method: Method) -> Interval | None:
    if method.over_layers:  # no published method of these is judged by ρ, or by its draws
        return 1.0, 1.0
    if drawn is None:
        return None
    low, high = drawn
    return low, high


def reached(damage: Sequence[float] | Tensor | None, limit: float) -> int | None:
    """Number of edits after which a damage reaches a limit.

    Args:
        damage: After each edit; ``None`` where it was not checked.
        limit: The limit.

    Returns:
        The number; ``None`` if it never does.
    """
    if damage is None:
        return None
    (at,) = torch.as_tensor(damage, dtype=torch.float64).ge(limit).nonzero(as_tuple=True)
    return int(at[0]) + 1 if len(at) else None
