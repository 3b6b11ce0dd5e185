"""Everything that can be said of a list beforehand, and the places at which it is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diag.judgement.sequence import MOST_PAIRS
from diag.mathematics.damage import Optimiser
from diag.mathematics.forgetting import entangled, forgetting
from diag.mathematics.metrics import Geometry
from diag.mathematics.stream import Stream
from diag.sequence.forecast import Curve, Forecast, forecast_list, reached
from diag.sequence.listed import Listed
from diag.sequence.plan import Plan
from rome_diagnosis.editors import REMEDY
from rome_diagnosis.errors import UserError
from rome_diagnosis.limits import (
    FIRST_TOKENS_HARM,
    RESPONSE_EVERYWHERE,
    SEQUENCE_COLLAPSE,
    SEQUENCE_HARM,
)

DANGEROUS = ("collapse_risk", "damage_risk")
PLACES = 120  # along a list at which its curve is given with an interval


@dataclass(frozen=True)
class Overlap:
    """Two edits, of which the later one reaches the earlier one's key.

    Attributes:
        earlier: The place of one in the list, from 0.
        later: The place of the other.
        share: Share of the later one's change that arrives there, signed.
    """

    earlier: int
    later: int
    share: float


@dataclass(frozen=True)
class Outlook:
    """What is known of a list before it is made.

    Attributes:
        listed: The list.
        chosen: Its forecast with the chosen method.
        editors: The same with every method that could take its place, by name.
        dangerous: Places of edits that are dangerous alone.
        without: The forecast without these; ``None`` where nothing is left.
        remedied: The forecast with :data:`rome_diagnosis.editors.REMEDY` for these; ``None``
            without any, and where the method is none whose edits are solved by themselves.
        pairs: Pairs of the others that disturb each other, the worst first.
        response: The share of its change that each edit's bare prompt receives, ``[m]``.
        forgetting: What later edits add at each edit's key, over what it wrote there.
        not_checked: Why damage could not be checked; ``None`` where it was.
    """

    listed: Listed
    chosen: Forecast
    editors: dict[str, Forecast]
    dangerous: tuple[int, ...]
    without: Forecast | None
    remedied: Forecast | None
    pairs: tuple[Overlap, ...]
    response: Float[Tensor, " m"]
    forgetting: Float[Tensor, " m"]
    not_checked: str | None


def look(
    listed: Listed,
    kin: Mapping[str, Geometry],
    method: str,
    stream: Stream,
    optimiser: Optimiser,
    *,
    batch: int = 1,
    consistent: bool = False,
) -> Outlook:
    """Forecasts a list with a method and its kin, and takes the chosen one apart.

    Args:
        listed: The list.
        kin: The edited layer under each method, by name.
        method: The chosen one.
        stream: The residual stream of the edited layer, with its second moment.
        optimiser: How long a δ can be.
        batch: How many edits are made together.
        consistent: Whether δ is added to the value that a method subtracts.

    Returns:
        The outlook.

    Raises:
        UserError: If the method cannot make a batch of the list.
    """
    plans = {
        name: Plan.all_by(listed, geometry, batch, consistent=consistent)
        for name, geometry in kin.items()
    }
    editors = _forecasts(plans, method, stream, optimiser)
    chosen = editors[method]
    plan = chosen.plan
    dangerous = tuple(i for i, of in enumerate(chosen.verdicts) if of in DANGEROUS)
    without: Forecast | None = chosen
    remedied: Forecast | None = None
    if dangerous:
        rest = plan.without(set(dangerous))
        without = _forecast(rest, stream, optimiser) if rest.chosen else None
        if REMEDY in kin:
            repaired = plan.with_method(kin[REMEDY], set(dangerous))
            remedied = _forecast(repaired, stream, optimiser)
    response = (chosen.steps * listed.keys["bare"]).sum(1)
    forgotten = forgetting(listed.keys["bare"], chosen.steps, chosen.residuals)
    if plan.geometry.method.over_layers:  # which writes a share only
        forgotten = forgotten / response.abs()
    return Outlook(
        listed=listed,
        chosen=chosen,
        editors=editors,
        dangerous=dangerous,
        without=without,
        remedied=remedied,
        pairs=() if without is None else _pairs(without),
        response=response,
        forgetting=forgotten,
        not_checked=stream.why_not,
    )


def _forecasts(
    plans: Mapping[str, Plan], method: str, stream: Stream, optimiser: Optimiser
) -> dict[str, Forecast]:
    """The forecast of every method that can make the list, with an interval for the chosen one."""
    forecasts = {}
    for name, plan in plans.items():
        try:
            forecasts[name] = _forecast(plan, stream, optimiser, interval=name == method)
        except UserError:
            if name == method:
                raise
    return forecasts


def _forecast(
    plan: Plan, stream: Stream, optimiser: Optimiser, *, interval: bool = False
) -> Forecast:
    try:
        return forecast_list(plan, stream, optimiser, interval=interval)
    except ZeroDivisionError as error:
        short = plan.geometry.method.short
        raise UserError(f"{short} cannot make this list {plan.batch} at a time: {error}") from error


def _pairs(of: Forecast) -> tuple[Overlap, ...]:
    places = of.plan.chosen
    worst = entangled(of.steps, of.plan.bare(of.plan.listed.keys), most=MOST_PAIRS)
    return tuple(
        Overlap(places[earlier], places[later], share)
        for earlier, later, share in worst
        if abs(share) >= RESPONSE_EVERYWHERE.value
    )


def collapse_at(of: Forecast) -> int | None:
    """Number of edits after which a forecast reaches the limit of collapse."""
    return reached(of.curve.corpus, SEQUENCE_COLLAPSE.value)


def harm_at(of: Forecast) -> int | None:
    """Number of edits after which it harms what else the model knows."""
    return reached(harm(of.curve), 1.0)


def harm(curve: Curve) -> Float[Tensor, " m"] | None:
    """How near a list comes to costing other facts: damage over its limit, 1 where it does.

    A fact's prompt has a first token and later ones, and is moved at both: independent changes add
    up by squares.

    Args:
        curve: Expected damage along the list.

    Returns:
        √((corpus / its limit)² + (first tokens / theirs)²); ``None`` where damage was not checked.
    """
    if curve.corpus is None:
        return None
    corpus = curve.corpus / SEQUENCE_HARM.value
    if curve.first_tokens is None:
        return corpus
    return torch.hypot(corpus, curve.first_tokens / FIRST_TOKENS_HARM.value)


def places(outlook: Outlook, most: int = PLACES) -> list[int]:
    """Numbers of edits at which a curve is given or a model measured: dense where it changes.

    Args:
        outlook: The outlook.
        most: About how many.

    Returns:
        Numbers from 1 to that of the list's edits, in order, the last among them.
    """
    m = len(outlook.listed)
    if m <= most:
        return list(range(1, m + 1))
    spread = torch.linspace(1, m, max(2, most // 2))
    grown = torch.logspace(0, torch.log10(torch.tensor(float(m))).item(), max(2, most // 4))
    chosen = {min(m, max(1, round(at))) for at in [*spread.tolist(), *grown.tolist()]}
    events = [i + 1 for i in outlook.dangerous[: most // 8]]
    events += [at for at in (collapse_at(outlook.chosen), harm_at(outlook.chosen)) if at]
    for at in events:
        chosen |= {max(1, at - 1), at}
    return sorted(chosen | {m})
