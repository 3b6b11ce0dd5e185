"""What became of an edited model, in three steps: intact, damaged, collapsed.

Perplexity alone is a blunt criterion: edits that hardly move it can take half of what the model
knew. So an outcome rests on perplexity, on the recall of other facts, on the neighbours of the
edited one and on the entropy of generated text, each against a stated limit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from diag.judgement.words import percent
from rome_diagnosis.limits import (
    ENTROPY_KEPT,
    LOCALITY_KEPT,
    PERPLEXITY_DAMAGED,
    RECALL_KEPT,
)
from rome_diagnosis.shares import wilson

Outcome = Literal["intact", "damaged", "collapsed"]
OUTCOMES: tuple[Outcome, ...] = ("intact", "damaged", "collapsed")


@dataclass(frozen=True)
class Judged:
    """An outcome and the measurements that decided it.

    Attributes:
        outcome: The worst that any measurement shows.
        reasons: A phrase for each measurement beyond its limit, with both numbers.
    """

    outcome: Outcome
    reasons: tuple[str, ...]


def judge(arm: Mapping[str, Any], *, collapse_ratio: float) -> Judged:
    """Judges one arm of a verification.

    Args:
        arm: Its measurements, as ``diag.verify/1`` documents hold them.
        collapse_ratio: The perplexity ratio from which on a model counts as collapsed.

    Returns:
        The outcome. A perplexity that overflowed or is not a number is a collapse: no sound
        model has it.
    """
    ratio = arm["perplexity"]["ratio"]
    if ratio is None or not math.isfinite(ratio):
        return Judged("collapsed", ("perplexity is no longer a finite number",))
    if ratio >= collapse_ratio:
        limit = f"limit {collapse_ratio:g}×"
        return Judged("collapsed", (f"perplexity rose {ratio:.3g}-fold ({limit})",))
    reasons = []
    if ratio >= PERPLEXITY_DAMAGED.value:
        reasons.append(f"perplexity rose {ratio:.3g}-fold (limit {PERPLEXITY_DAMAGED.value:g}×)")
    reasons += filter(None, (_recall(arm), _locality(arm), _entropy(arm)))
    return Judged("damaged" if reasons else "intact", tuple(reasons))


def _recall(arm: Mapping[str, Any]) -> str | None:
    recall = arm.get("recall")
    if not recall or not recall["before"]:
        return None
    share = recall["after"] / recall["before"]
    if share >= RECALL_KEPT.value:
        return None
    return (
        f"{percent(share)} of other facts are still recalled (limit {percent(RECALL_KEPT.value)})"
    )


def _locality(arm: Mapping[str, Any]) -> str | None:
    locality = arm.get("locality")
    if not locality or not locality.get("before") or locality.get("after") is None:
        return None
    # Of the neighbours the model answered before the edit.
    share = min(1.0, locality["after"] / locality["before"])
    if wilson(share, locality["n"])[1] >= LOCALITY_KEPT.value:
        return None
    return (
        f"{percent(share)} of {locality['n']} neighbouring facts are left "
        f"(limit {percent(LOCALITY_KEPT.value)}, sampling allowed for)"
    )


def _entropy(arm: Mapping[str, Any]) -> str | None:
    entropy = arm.get("entropy")
    if not entropy or not entropy["before"]:
        return None
    share = entropy["after"] / entropy["before"]
    if share >= ENTROPY_KEPT.value:
        return None
    return (
        f"generated text has {percent(share)} of its entropy (limit {percent(ENTROPY_KEPT.value)})"
    )


def settled(
    interval: tuple[float, float] | None, *, collapse_ratio: float, precision: float
) -> bool:
    """Whether more texts could still change what perplexity says of an edit.

    Args:
        interval: 95% interval of the perplexity ratio; ``None`` where it is not known.
        collapse_ratio: The perplexity ratio from which on a model counts as collapsed.
        precision: Wanted half width of the interval, relative; not asked of a collapse.

    Returns:
        Whether no limit lies inside the interval and it is narrow enough.
    """
    if interval is None:
        return False
    low, high = interval
    if any(low < limit <= high for limit in (PERPLEXITY_DAMAGED.value, collapse_ratio)):
        return False
    return low >= collapse_ratio or math.sqrt(high / low) - 1 <= precision
