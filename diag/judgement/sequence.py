"""What to say of a list of edits: why an edit is dangerous, and what to do about the list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from diag.judgement.verdict import Grounds
from diag.judgement.words import capital, number, percent, sizes
from rome_diagnosis.editors import EDITORS, REMEDY
from rome_diagnosis.limits import (
    DAMAGE_COLLAPSE,
    DAMAGE_HARM,
    FIRST_TOKENS_HARM,
    RATIO_COLLAPSE,
    SEQUENCE_COLLAPSE,
)
from rome_diagnosis.methods import METHODS

NAMED = 5  # edits that a sentence names
MOST_PAIRS = 20  # of which more are not listed
NOTHING = "Nothing speaks against making the list as it is."


def danger(grounds: Grounds, *, has_two_keys: bool) -> str:
    """Why an edit is dangerous alone.

    Args:
        grounds: What its verdict rests on.
        has_two_keys: Whether the method's two keys differ, which ρ is about.

    Returns:
        A phrase with what was measured and its limit.
    """
    inconsistent = f"; ρ is {number(grounds.rho)}" if has_two_keys else ""
    bound, expected = grounds.relative, grounds.expected
    if bound is None or expected is None:
        limit = RATIO_COLLAPSE.value
        return f"its keys are inconsistent{inconsistent} (limit {limit:g})"
    for limit in (DAMAGE_COLLAPSE.value, DAMAGE_HARM.value):
        if expected >= limit:
            return (
                f"it alone may change hidden states by {sizes(bound, expected, limit)} "
                f"(limit {percent(limit)}){inconsistent}"
            )
    limit = FIRST_TOKENS_HARM.value
    first, expected_first = grounds.first_tokens or 0.0, grounds.expected_first_tokens or 0.0
    return (
        f"it alone may change first tokens by {sizes(first, expected_first, limit)} "
        f"(limit {percent(limit)})"
    )


def entangled(earlier: str, later: str, share: float) -> str:
    """Why a pair of edits is dangerous.

    Args:
        earlier: Subject of the edit that is made first.
        later: Subject of the other.
        share: Share of the later one's change that arrives at the earlier one's key.

    Returns:
        A sentence.
    """
    about = f"both edit {later!r}"
    if earlier != later:
        about = f"{later!r} is read much like {earlier!r}"
    return f"{about}: the later edit puts {percent(share)} of its change on the earlier one's key"


@dataclass(frozen=True)
class ListFigures:
    """The numbers that advice on a list rests on; indices count from 0, what is written from 1.

    Attributes:
        method: The chosen method.
        n: How many edits there are.
        checked: Whether damage could be checked.
        dangerous: Indices of edits that are dangerous alone, as the list was given.
        repaired: How many of them are not dangerous with the remedy; ``None`` where it cannot take
            the method's place.
        unclear: How many of these cannot be called safe with it either.
        harm_at: Number of edits after which the list harms the model without these.
        collapse_at: The same of collapse.
        farthest: The method with which the list gets farthest.
        lost: How many edits are expected to be forgotten.
        pairs: How many pairs disturb each other.
        contradictions: Pairs of edits that give one prompt two objects.
        begin_with_subject: Whether a prompt begins with its subject.
        weak: A sentence on a parameter that leaves little of the change, if one does.
        doubtful: How many edits can be called neither dangerous nor safe alone.
    """

    method: str
    n: int
    checked: bool
    dangerous: Sequence[int]
    repaired: int | None
    unclear: int
    harm_at: int | None
    collapse_at: int | None
    farthest: str
    lost: int
    pairs: int
    contradictions: Sequence[tuple[int, int]] = ()
    begin_with_subject: bool = True
    weak: str | None = None
    doubtful: int = 0


def once_made(advised: Sequence[str], outcome: str, n: int) -> list[str]:
    """What to do with a list that has been made: what became of the model comes first.

    Args:
        advised: What was advised before.
        outcome: Outcome at the last checkpoint: ``intact``, ``damaged`` or ``collapsed``.
        n: How many edits had been made by then.

    Returns:
        Sentences, the most urgent first.
    """
    if outcome == "intact":
        return [*advised]
    edits = "one edit" if n == 1 else f"{n:,} edits"
    rest = [sentence for sentence in advised if sentence != NOTHING]
    became = "had collapsed" if outcome == "collapsed" else f"was {outcome}"
    return [f"Do not keep the list as it was made: after {edits} the model {became}.", *rest]


def advice(case: ListFigures) -> list[str]:
    """What to do with a list.

    Args:
        case: Its numbers.

    Returns:
        Sentences, the most urgent first.
    """
    contradicting = _contradictions(case)
    if not case.checked:
        return [
            *([] if contradicting is None else [contradicting]),
            "Estimate a second moment for this block (python -m diag.covariance): without one "
            "the damage of a list cannot be forecast.",
        ]
    sentences = [
        sentence
        for part in (_contradictions, _weak, _dangerous, _length, _editor, _pairs)
        if (sentence := part(case)) is not None
    ] or [_nothing(case)]
    remedy = EDITORS[REMEDY].short
    farthest = case.farthest == REMEDY and _editor(case)
    if case.begin_with_subject and (case.method == REMEDY or case.repaired or farthest):
        sentences.append(
            f"Prompts that begin with their subject answer {remedy} after a prefix only."
        )
    return sentences


def _contradictions(case: ListFigures) -> str | None:
    if not case.contradictions:
        return None
    named = ", ".join(f"{i + 1:,} and {j + 1:,}" for i, j in case.contradictions[:NAMED])
    more = len(case.contradictions) - NAMED
    rest = f" (and {more:,} more pairs)" if more > 0 else ""
    return f"Leave out one of edits {named}{rest}: they give one prompt two objects."


def _nothing(case: ListFigures) -> str:
    """What to say of a list of which nothing else is to be said; ``unclear`` is not ``safe``."""
    if not case.doubtful:
        return NOTHING
    which = "one" if case.doubtful == 1 else f"{case.doubtful:,}"
    return f"No edit of the list is called dangerous, but {which} cannot be called safe alone."


def _weak(case: ListFigures) -> str | None:
    return case.weak and capital(case.weak)


def _dangerous(case: ListFigures) -> str | None:
    if not case.dangerous:
        return None
    remedy = EDITORS[REMEDY].short
    if len(case.dangerous) == case.n:
        each, them = ("The one edit of the list is", "it") if case.n == 1 else (
            f"All {case.n:,} edits are", "them")  # fmt: skip
        if case.method == REMEDY or case.repaired is None:
            other = "another layer, another method or a smaller clamp factor"
            return f"{each} dangerous alone: try {other}."
        if not case.repaired:
            other = "another layer or a smaller clamp factor"
            return f"{each} dangerous alone, with {remedy} too: try {other}."
        return f"{each} dangerous alone: make {them} with {remedy}, {_remedied(case)}."
    named = ", ".join(f"{i + 1:,}" for i in case.dangerous[:NAMED])
    more = len(case.dangerous) - NAMED
    which = f"edit{'s' * (len(case.dangerous) > 1)} {named}" + (
        f" and {more:,} more" if more > 0 else ""
    )
    if case.method == REMEDY or case.repaired is None:
        return f"Leave out {which}: each is dangerous alone."
    if not case.repaired:
        return f"Leave out {which}: each is dangerous alone, with {remedy} too."
    them = "it" if len(case.dangerous) == 1 else "them"
    return f"Leave out {which}, or make {them} with {remedy}, {_remedied(case)}."


def _remedied(case: ListFigures) -> str:
    """What the remedy does to the dangerous edits; ``unclear`` is not ``safe``."""
    rest = len(case.dangerous) - (case.repaired or 0)
    if rest:
        return f"which still leaves {rest:,} dangerous"
    one = len(case.dangerous) == 1
    if case.unclear:
        which = "it" if one else f"{case.unclear:,} of them"
        none = "it is not dangerous" if one else "none of them is dangerous"
        return f"with which {none} alone, though {which} cannot be called safe"
    return f"which makes {'it' if one else 'each of them'} safe by itself"


def _length(case: ListFigures) -> str | None:
    if case.harm_at is None:
        return None
    most = f"at most {case.harm_at - 1:,}" if case.harm_at > 1 else "none"
    text = f"Make {most} of the edits on one copy of the model"
    if case.dangerous:
        text += ", the dangerous ones aside"
    more = "with more of them" if case.harm_at > 1 else "from the first on"
    if case.collapse_at is None:
        return f"{text}: {more} ordinary growth costs other facts."
    return (
        f"{text}: {more} ordinary growth costs other facts, and with "
        f"{case.collapse_at:,} it reaches {percent(SEQUENCE_COLLAPSE.value)} of hidden states' "
        "norm, where models collapse."
    )


def _editor(case: ListFigures) -> str | None:
    if case.farthest == case.method or case.collapse_at is None:
        return None
    return f"{METHODS[case.farthest].short} takes the list farthest of its kin."


def _pairs(case: ListFigures) -> str | None:
    if not case.pairs and not case.lost:
        return None
    parts = []
    if case.lost:
        share = f"{case.lost:,} of {case.n:,} edits"
        parts.append(f"Later edits are expected to overwrite {share}")
    if case.pairs:
        count = f"{case.pairs:,}" if case.pairs < MOST_PAIRS else f"{case.pairs:,} or more"
        pairs = "pair of edits writes" if case.pairs == 1 else "pairs of edits write"
        # An edit that is dangerous alone is left out before anything is said of pairs.
        aside = ", the dangerous ones aside" if case.dangerous else ""
        parts.append(f"{count} {pairs} on each other's keys{aside}")
    return f"{'; '.join(parts)}: make the edits that matter most last."
