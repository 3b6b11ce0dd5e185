"""What a list of edits will do, before the first is made.

v* is not known yet. Each edit by itself is judged as ``diag.keys`` judges it. Along the list the
present value's length grows, and the clamp with it, until Adam's steps are the shorter bound
(:mod:`diag.mathematics.expected`). The low end of an interval is every δ half as long; the high end
is every δ as long as it can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diag.judgement.limits import RESIDUAL_SHORT, STEP_REACH
from diag.judgement.verdict import Grounds, Interval, Verdict, margin, verdict_with
from diag.mathematics.damage import Optimiser, lengths
from diag.mathematics.expected import Prior, expected
from diag.mathematics.stream import Stream
from diag.sequence.plan import Plan
from rome_diagnosis.methods import Method

GONE = 10.0  # a change of hidden states, over their norm, after which nothing is left to forecast


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
        steps: w of each edit, ``[m, d_mlp]``; for an editor of one fact u/D.
        residuals: Expected ‖v* − v‖ of each, or ‖z − h‖, ``[m]``.
        alone: Damage bound of each by itself.
        grounds: What the verdict on each by itself rests on.
        verdicts: On each by itself.
        curve: Expected damage along the list.
        low: With every δ shorter; ``None`` where no interval was asked for.
        high: With every δ as long as it can be.
    """

    plan: Plan
    steps: Float[Tensor, "m d_mlp"]
    residuals: Float[Tensor, " m"]
    alone: Curve
    grounds: tuple[Grounds, ...]
    verdicts: tuple[Verdict, ...]
    curve: Curve
    low: Curve | None = None
    high: Curve | None = None


def forecast(
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
    alone = _alone(plan.alone, bounds, stream)
    residuals, curve = _followed(prior, stream, typical, plan.batch)
    low = high = None
    if interval:
        part = RESIDUAL_SHORT.value
        short = Optimiser(part * typical.clamp, part * typical.reach)
        _, low = _followed(prior, stream, short, plan.batch)
        _, high = _followed(prior, stream, optimiser, plan.batch)
    grounds = _grounds(plan, alone, shares, margin(stream.moment.is_foreign))
    return Forecast(
        plan, prior.steps, residuals, alone, grounds, _verdicts(plan, grounds), curve, low, high
    )


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
    return Prior(
        steps=plan.steps,
        keys=keys,
        apart_keys=keys - plan.rows(listed.keys, "subtract"),
        values=values.norm(dim=1),
        apart=(values - plan.rows(listed.values, "subtract")).norm(dim=1),
    )


def _alone(steps: Tensor, bounds: Tensor, stream: Stream) -> Curve:
    """The bound of each edit by itself, as ``diag.screen`` has it."""
    changes = stream.alone(steps, bounds)
    return Curve(None, None) if changes is None else _checked(changes)


def _followed(
    prior: Prior, stream: Stream, optimiser: Optimiser, batch: int
) -> tuple[Tensor, Curve]:
    """Expected residuals, and the damage they do."""
    first, moment, scale = stream.first_moment, stream.moment.moment, stream.contribution.scale
    asked = [of for of in (moment, first) if of is not None and scale is not None]
    enough = float("inf")
    if scale and stream.unit is not None:
        enough = GONE * stream.unit / abs(scale)
    expectation = expected(
        prior, asked, clamp=optimiser.clamp, reach=optimiser.reach, enough=enough, batch=batch
    )
    if stream.why_not or stream.unit is None:
        return expectation.residuals, Curve(None, None)
    if scale is not None:
        corpus, *others = expectation.damage * (abs(scale) / stream.unit)
        return expectation.residuals, Curve(corpus, others[0] if others else None)
    # A norm stands behind the MLP: squares of the sampled changes add up.
    ones = torch.ones_like(expectation.residuals)
    changes = stream.changes(prior.steps, ones, expectation.residuals, ones)
    assert changes is not None
    return expectation.residuals, _checked(changes.square().cumsum(1).sqrt())


def _checked(changes: Float[Tensor, "2 m"]) -> Curve:
    corpus, first = changes
    return Curve(corpus, None if bool(first.isnan().any()) else first)


def _grounds(plan: Plan, alone: Curve, shares: Tensor, short_by: float) -> tuple[Grounds, ...]:
    none, rho = [None] * len(plan.chosen), plan.listed.rho.tolist()
    each = zip(
        [rho[i] for i in plan.chosen],
        none if alone.corpus is None else alone.corpus.tolist(),
        none if alone.first_tokens is None else alone.first_tokens.tolist(),
        shares.tolist(),
        strict=True,
    )
    return tuple(
        Grounds(rho, relative, first, short_by, share) for rho, relative, first, share in each
    )


def _verdicts(plan: Plan, grounds: Sequence[Grounds]) -> tuple[Verdict, ...]:
    drawn, verdicts = plan.listed.intervals, []
    for i, own in zip(plan.chosen, grounds, strict=True):
        method = plan.instead.get(i, plan.geometry).method
        verdicts.append(verdict_with(method, own, _interval(drawn, i, method)))
    return tuple(verdicts)


def _interval(drawn: Tensor | None, i: int, method: Method) -> Interval | None:
    if method.in_stream:  # no published method of these is judged by ρ, or by its draws
        return 1.0, 1.0
    if drawn is None:
        return None
    low, high = drawn[i].tolist()
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
    return next((i for i, value in enumerate(damage, 1) if float(value) >= limit), None)
