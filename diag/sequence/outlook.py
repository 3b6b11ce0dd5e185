"""Everything that can be said of a list beforehand, and the places at which it is said."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diag.judgement.limits import (
    DAMAGE_HARM,
    FIRST_TOKENS_HARM,
    RESPONSE_EVERYWHERE,
    SEQUENCE_COLLAPSE,
)
from diag.judgement.sequence import MOST_PAIRS
from diag.mathematics import sequence
from diag.mathematics.damage import Optimiser
from diag.mathematics.stream import Stream
from diag.sequence.forecast import Forecast, forecast, reached
from diag.sequence.listed import Listed
from diag.sequence.plan import Plan
from rome_diagnosis.editors import EDITORS, REMEDY

DANGEROUS = ("collapse_risk", "damage_risk")
PLACES = 120  # along a list at which its curve is given with an interval


@dataclass(frozen=True)
class Pair:
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
        chosen: Its forecast with the chosen editor.
        editors: The same with every editor, by name.
        dangerous: Places of edits that are dangerous alone.
        without: The forecast without these; ``None`` where nothing is left.
        remedied: The forecast with :data:`rome_diagnosis.editors.REMEDY` for these; ``None``
            without any.
        pairs: Pairs of the others that disturb each other, the worst first.
        forgetting: What later edits add at each edit's key, over what it wrote there.
        not_checked: Why damage could not be checked; ``None`` where it was.
    """

    listed: Listed
    chosen: Forecast
    editors: dict[str, Forecast]
    dangerous: tuple[int, ...]
    without: Forecast | None
    remedied: Forecast | None
    pairs: tuple[Pair, ...]
    forgetting: Float[Tensor, " m"]
    not_checked: str | None


def look(listed: Listed, method: str, stream: Stream, optimiser: Optimiser) -> Outlook:
    """Forecasts a list with every editor, and takes the chosen one apart.

    Args:
        listed: The list.
        method: The chosen editor's name.
        stream: The residual stream of the edited layer, with its second moment.
        optimiser: How long a δ can be.

    Returns:
        The outlook.
    """
    plan = Plan.all_by(listed, method)
    chosen = forecast(plan, stream, optimiser, interval=True)
    editors = {
        name: chosen if name == method else forecast(Plan.all_by(listed, name), stream, optimiser)
        for name in EDITORS
    }
    dangerous = tuple(i for i, of in enumerate(chosen.verdicts) if of in DANGEROUS)
    rest, repaired = plan.without(set(dangerous)), plan.with_editor(REMEDY, set(dangerous))
    without: Forecast | None = chosen
    if dangerous:
        without = forecast(rest, stream, optimiser) if rest.chosen else None
    return Outlook(
        listed=listed,
        chosen=chosen,
        editors=editors,
        dangerous=dangerous,
        without=without,
        remedied=forecast(repaired, stream, optimiser) if dangerous else None,
        pairs=() if without is None else _pairs(without),
        forgetting=sequence.forgetting(listed.keys["bare"], chosen.steps, chosen.residuals),
        not_checked=stream.why_not,
    )


def _pairs(of: Forecast) -> tuple[Pair, ...]:
    places = of.plan.chosen
    worst = sequence.entangled(of.steps, of.plan.bare(of.plan.listed.keys), most=MOST_PAIRS)
    return tuple(
        Pair(places[earlier], places[later], share)
        for earlier, later, share in worst
        if abs(share) >= RESPONSE_EVERYWHERE.value
    )


def collapse_at(of: Forecast) -> int | None:
    """Number of edits after which a forecast reaches the limit of collapse."""
    return reached(of.curve.corpus, SEQUENCE_COLLAPSE.value)


def harm_at(of: Forecast) -> int | None:
    """Number of edits after which it reaches one of the limits of harm."""
    corpus = reached(of.curve.corpus, DAMAGE_HARM.value)
    first = reached(of.curve.first_tokens, FIRST_TOKENS_HARM.value)
    return min((at for at in (corpus, first) if at is not None), default=None)


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
