"""As many edits performed as make the share that breaks or damages the model known.

Edits are performed in an order drawn by the seed, so that those performed are a sample of all. It
ends when Wilson's interval of the share is as narrow as was asked for.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diag.judgement.outcome import OUTCOMES, wilson
from diag.verify.run import Verifier
from probes.request.cases import EditCase
from rome_diagnosis import envelope
from rome_diagnosis.disk.journal import Journal
from rome_diagnosis.editors import ARMS, PUBLISHED
from rome_diagnosis.errors import UserError

AT_ONCE = 8  # edits whose v* are optimised together; an interruption costs these


@dataclass(frozen=True)
class Wanted:
    """How many edits are performed.

    Attributes:
        precision: Half width of the share's 95% interval at which it is known; 0 performs all.
        at_most: No more than this many of either group; 0 performs none.
        seed: Draws the order.
    """

    precision: float
    at_most: int
    seed: int


def perform_set(
    run: Verifier,
    cases: Sequence[EditCase],
    wanted: Wanted,
    kept: Journal,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[int, dict[str, Any]]:
    """Performs edits until enough is known.

    Args:
        run: A prepared verification.
        cases: The edits of one group.
        wanted: How many are performed.
        kept: Results go here as they come.
        progress: Called with the edits performed.

    Returns:
        What became of the model, by the edit's place among ``cases``; an edit that cannot be
        performed has an ``error`` alone.
    """
    order = random.Random(wanted.seed).sample(range(len(cases)), len(cases))[: wanted.at_most]
    results: dict[int, dict[str, Any]] = {}
    for start in range(0, len(order), AT_ONCE):
        if known(results.values(), wanted.precision):
            break
        chunk = order[start : start + AT_ONCE]
        key = " ".join(cases[i].digest for i in chunk)
        if key not in kept.done:
            kept.add(key, _performed(run, [cases[i] for i in chunk]))
        results |= zip(chunk, kept.done[key], strict=True)
        progress(len(results))
    return results


def known(performed: Iterable[Mapping[str, Any]], precision: float) -> bool:
    """Whether the share that breaks is known to a precision."""
    estimate = share(performed)
    return estimate is not None and (estimate["high"] - estimate["low"]) / 2 <= precision


def share(performed: Iterable[Mapping[str, Any]], arm: str = PUBLISHED) -> dict[str, Any] | None:
    """The share of edits that collapse or damage the model.

    Args:
        performed: Results of :func:`perform_set`.
        arm: The editor, and the wording of the tests.

    Returns:
        ``n``, ``outcomes``, ``mean`` and Wilson's 95% interval; ``None`` without any result.
    """
    outcomes = Counter(each["outcome"][arm] for each in performed if "error" not in each)
    n = outcomes.total()
    if not n:
        return None
    mean = 1 - outcomes["intact"] / n
    low, high = wilson(mean, n)
    return {
        "n": n,
        "outcomes": {name: outcomes[name] for name in OUTCOMES},
        "mean": mean,
        "low": low,
        "high": high,
    }


def _performed(run: Verifier, cases: Sequence[EditCase]) -> list[dict[str, Any]]:
    try:
        targets = run.bench.target_values(cases)
        return [
            summary(envelope.plain(run.bench.measure(case, target)))
            for case, target in zip(cases, targets, strict=True)
        ]
    except UserError as error:
        if len(cases) == 1:
            return [{"error": str(error)}]
        return [result for case in cases for result in _performed(run, [case])]


def summary(measured: Mapping[str, Any]) -> dict[str, Any]:
    """What a record keeps of a performed edit, by arm.

    Args:
        measured: A ``diag.verify/1`` object of one edit.

    Returns:
        The probability v* was optimised to; outcomes, perplexity ratios, damage, success.
    """
    arms = {arm: measured["arms"][arm] for arm in ARMS}
    return {
        "optimised": measured["optimisation"]["probability"],
        "outcome": measured["outcome"],
        "perplexity_ratio": {arm: of["perplexity"]["ratio"] for arm, of in arms.items()},
        "relative_damage": {arm: of["damage"]["relative"] for arm, of in arms.items()},
        "success": {arm: of["efficacy"]["success"] for arm, of in arms.items()},
    }
