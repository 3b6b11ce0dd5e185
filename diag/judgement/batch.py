"""What was checked of a batch of edits: each measurement held against its limit, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from diag.judgement import key_findings
from diag.judgement.findings import TOGETHER, Finding, Status
from diag.judgement.verdict import Grounds, Verdict, verdict_of
from diag.judgement.words import number, percent, sizes
from diag.mathematics.pairs import Pair
from diag.mathematics.update import Split
from rome_diagnosis.limits import (
    CONDITION,
    DAMAGE_COLLAPSE,
    DAMAGE_HARM,
    DAMAGE_SAFE,
    DISTURBS,
    FIRST_TOKENS_HARM,
    FIRST_TOKENS_SAFE,
    KEYS_ALIKE,
    RESPONSE_FAINT,
    SHARE_LEFT,
)
from rome_diagnosis.methods import PARAMETERS


def weight(value: float, d_mlp: int, *, ordinary: float, median: float | None) -> Finding | None:
    """Judges what λ leaves of the change, by reading it against the width of the model.

    Args:
        value: λ, what stands beside kᵀC⁻¹k in M; 0 for a method without it.
        d_mlp: E[kᵀC⁻¹k] over C's own corpus, exactly.
        ordinary: The share of the change that an ordinary key receives over all layers.
        median: The share that the median edit's own bare prompt receives; ``None`` where it was
            not computed.

    Returns:
        The finding ``weight``; ``None`` without λ.
    """
    if value == 0:
        return None
    read = (
        f"{PARAMETERS['weight']} = {number(value)} against E[kᵀC⁻¹k] = d_mlp = {d_mlp:,} leaves "
        f"an ordinary key {percent(ordinary, SHARE_LEFT.value)} of the change over all layers"
    )
    if median is not None:
        read += f", and these edits' bare prompts {percent(median)} (median)"
    if ordinary >= SHARE_LEFT.value:
        return Finding("weight", "pass", ordinary, SHARE_LEFT.value, read)
    like = f"15,000 was chosen for a d_mlp of 16,384; {number(float(d_mlp))} would be its like here"
    return Finding("weight", "warn", ordinary, SHARE_LEFT.value, f"{read}: {like}")


def directions(rank: int | None, d_mlp: int, threshold: float) -> Finding | None:
    """Judges how many directions a projecting metric leaves to write in.

    Args:
        rank: How many; ``None`` where the metric does not project.
        d_mlp: Number of all directions, the length of a key.
        threshold: τ, below which a second moment counts as none.

    Returns:
        The finding ``directions``; ``None`` for a method that does not project.
    """
    if rank is None:
        return None
    tau, option = f"τ = {number(threshold)}", "--threshold"
    status: Status = "warn"
    if rank == 0:
        status = "fail"
        text = f"no direction has a second moment below {tau}: nothing is edited; raise {option}"
    elif rank == d_mlp:
        text = f"every direction has a second moment below {tau}: none is kept from it"
    else:
        status = "pass"
        text = f"{rank:,} of {d_mlp:,} directions have second moments below {tau}"
    return Finding("directions", status, float(rank), 1.0, text)


def ratio(split: Split, subject: str, expected: float | None) -> Finding:
    """Judges ρ of the edit whose two keys agree least.

    Args:
        split: ρ and its factors.
        subject: The edit's subject.
        expected: As for :func:`damage`.

    Returns:
        The finding ``ratio``, as a diagnosis of this edit has it.
    """
    finding = key_findings.ratio(split.ratio, split.length_ratio, split.cosine, expected)
    return replace(finding, message=f"smallest for {subject!r}: {finding.message}")


def condition(value: float | None, layer: int) -> Finding:
    """Judges the condition number of M.

    Args:
        value: The largest over the layers; ``None`` where M is singular.
        layer: The layer it is of.

    Returns:
        The finding ``condition``.
    """
    if value is None:
        return Finding(
            "condition", "fail", None, CONDITION.value,
            f"M is singular in block {layer}: two keys are parallel, and the method has nothing on "
            "M's diagonal; it cannot make this batch",
        )  # fmt: skip
    text = (
        f"the condition number of M is {number(value)} (block {layer}, limit {CONDITION.value:g})"
    )
    if value < CONDITION.value:
        return Finding("condition", "pass", value, CONDITION.value, text)
    return Finding(
        "condition", "warn", value, CONDITION.value,
        f"{text}: a small disagreement of two targets is magnified as much at worst",
    )  # fmt: skip


def conflicts(pairs: Sequence[Pair], subjects: Sequence[str]) -> Finding:
    """Judges the pairs that disturb one another.

    Args:
        pairs: The pairs, the worst first.
        subjects: The subject of each edit.

    Returns:
        The finding ``pairs``.
    """
    if not pairs:
        return Finding(
            "pairs", "pass", 0.0, KEYS_ALIKE.value,
            f"no two edits share a subject, and no two keys have a cosine of {KEYS_ALIKE.value:g} "
            "or more in the metric",
        )  # fmt: skip
    worst = pairs[0]
    contradictions = [pair for pair in pairs if pair.kind == "contradiction"]
    if contradictions:
        text = f"{subjects[worst.first]!r} is given two objects for one prompt"
    else:
        one, other = subjects[worst.first], subjects[worst.second]
        names = f"{one!r} twice" if one == other else f"{one!r} and {other!r}"
        alike = "nearly one key" if abs(worst.cosine) >= KEYS_ALIKE.value else "one subject"
        text = f"the keys of {names} have cosine {number(worst.cosine)}: {alike}, two changes"
    more = f", and {len(pairs) - 1} more" if len(pairs) > 1 else ""
    value = abs(worst.cosine)
    status = "fail" if contradictions else "warn"
    return Finding("pairs", status, value, KEYS_ALIKE.value, f"{text}{more}")  # type: ignore[arg-type]


def takes(bare: Sequence[float] | None, prefixed: Sequence[float] | None) -> Finding:
    """Judges which edits may not take at their own bare prompt.

    A faint share is no proof of it: on the bundled model the bare prompts of first-token subjects
    answered MEMIT's edits more often than others', at a third of their share (docs/batch.md).

    Args:
        bare: The share that each edit's bare prompt receives; ``None`` where M is singular.
        prefixed: The share that its prefixed prompts receive; ``None`` without any.

    Returns:
        The finding ``takes``; its value is the share of edits whose bare prompt receives enough.
    """
    if bare is None:
        return Finding("takes", "not_checked", None, RESPONSE_FAINT.value, "M is singular")
    faint = [i for i, share in enumerate(bare) if share < RESPONSE_FAINT.value]
    value = 1 - len(faint) / len(bare)
    limit = f"(limit {percent(RESPONSE_FAINT.value)})"
    if not faint:
        text = f"every bare prompt receives {percent(min(bare))} of its change or more {limit}"
        return Finding("takes", "pass", value, RESPONSE_FAINT.value, text)
    text = (
        f"{len(faint)} of {len(bare)} edits may not take at the bare prompt: it receives less "
        f"than {percent(RESPONSE_FAINT.value)} of the change"
    )
    if prefixed is not None:
        answered = sum(prefixed[i] >= RESPONSE_FAINT.value for i in faint)
        text += f"; after a prefix {answered} of them receive that much"
    return Finding("takes", "warn", value, RESPONSE_FAINT.value, text)


def disturbance(largest: float | None, names: tuple[str, str] | None, *, alone: bool) -> Finding:
    """Judges what edits do to one another.

    Args:
        largest: The largest share of one edit's change that another's bare prompt receives.
        names: Subjects of the disturbed edit and of the other; ``None`` where there are none.
        alone: Whether there is a single edit.

    Returns:
        The finding ``cross_response``.
    """
    if largest is None or names is None:
        reason = "there is one edit alone" if alone else "M is singular"
        return Finding("cross_response", "not_checked", None, DISTURBS.value, reason)
    text = f"{names[0]!r} receives {percent(largest)} of the change meant for {names[1]!r}"
    status = "pass" if abs(largest) < DISTURBS.value else "warn"
    return Finding("cross_response", status, largest, DISTURBS.value, f"at most, {text}")  # type: ignore[arg-type]


def damage(expected: float | None, bound: float | None, why_not: str | None) -> Finding:
    """Judges the damage to ordinary tokens.

    Args:
        expected: With residuals as long as they usually get and no direction in common, in units of
            hidden states' norm, summed over layers.
        bound: At most.
        why_not: Why it is not known.

    Returns:
        The finding ``damage``.
    """
    if expected is None or bound is None:
        return Finding("damage", "not_checked", None, DAMAGE_COLLAPSE.value, f"{why_not}")
    status: Status = "pass"
    limit = DAMAGE_SAFE.value
    if expected >= DAMAGE_COLLAPSE.value:
        limit, status = DAMAGE_COLLAPSE.value, "fail"
    elif expected >= DAMAGE_HARM.value:
        limit, status = DAMAGE_HARM.value, "warn"
    elif bound >= DAMAGE_SAFE.value:
        status = "warn"
    text = f"hidden states change by {sizes(bound, expected, limit)} (limit {percent(limit)})"
    return Finding("damage", status, expected, limit, text)


def first_tokens(
    expected: float | None, bound: float | None, why_not: str | None, *, others: float | None = None
) -> Finding:
    """Judges the damage to first tokens of other texts.

    Args:
        expected: In units of a hidden state's norm, summed over layers.
        bound: At most.
        why_not: Why it is not known.
        others: The damage to ordinary tokens at most, which counts together with it.

    Returns:
        The finding ``first_tokens``.
    """
    if expected is None or bound is None:
        text = why_not or "no sample of first tokens comes with this second moment"
        return Finding("first_tokens", "not_checked", None, FIRST_TOKENS_HARM.value, text)
    harm, safe = FIRST_TOKENS_HARM.value, FIRST_TOKENS_SAFE.value
    limit = harm if expected >= harm else safe
    size = sizes(bound, expected, limit, "a hidden state’s")
    text = f"first tokens of other texts change by {size} (limit {percent(limit)})"
    status: Status = "pass" if bound < safe else "warn"
    if status == "pass" and Grounds(1.0, others, bound).only_together:
        status, text = "warn", f"{text}{TOGETHER}"
    return Finding("first_tokens", status, expected, limit, text)


def verdict(
    expected: tuple[float | None, float | None],
    bound: tuple[float | None, float | None],
    *,
    rho: float = 1.0,
    margin: float = 1.0,
) -> Verdict:
    """The verdict on a batch.

    Args:
        expected: As for :func:`damage`, and as for :func:`first_tokens`.
        bound: As for :func:`damage`, and as for :func:`first_tokens`.
        rho: The smallest ρ of its edits by size; 1 where the method's two keys are one.
        margin: See :func:`diag.judgement.verdict.margin`.

    Returns:
        ``safe`` only where both bounds were computed and lie below their limits; what was not
        measured is never called safe, and then ρ alone can give the alarm, as for one edit.
    """
    corpus, first = expected
    if corpus is None:
        return verdict_of(Grounds(rho, None, None))
    if corpus >= DAMAGE_COLLAPSE.value:
        return "collapse_risk"
    if corpus >= DAMAGE_HARM.value or (first is not None and first >= FIRST_TOKENS_HARM.value):
        return "damage_risk"
    return "safe" if Grounds(1.0, *bound, margin).is_safe else "unclear"
