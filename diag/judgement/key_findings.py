"""What was checked of an edit's keys, and of the second moment they are measured with."""

from __future__ import annotations

from collections.abc import Sequence

from diag.judgement.findings import Finding
from diag.judgement.verdict import Grounds, Interval, range_of, verdict_of
from diag.judgement.words import capital, number, percent, times
from probes.request.commonness import Commonness
from rome_diagnosis.limits import (
    ASKED_WITH,
    COMMON_TOKEN,
    DAMAGE_HARM,
    FIRST_TOKEN_LIKENESS,
    FOREIGN_TEXT,
    OTHER_TEXT,
    RATIO_COLLAPSE,
    RATIO_SAFE,
    SINK_NORM,
    TOKENS_PER_DIMENSION,
)

IN_WORDS = {
    "safe": "safe", "unclear": "unclear",
    "damage_risk": "a risk of damage", "collapse_risk": "a risk of collapse",
}  # fmt: skip


def ratio(rho: float, length_ratio: float, cosine: float, relative: float | None) -> Finding:
    """Judges ρ and says which of its two factors is to blame.

    Args:
        rho: ρ.
        length_ratio: ‖k_u‖/‖k̄‖ in the C⁻¹ metric.
        cosine: Their cosine in the C⁻¹ metric.
        relative: ROME's damage bound, which decides where it is known: a small ρ that leaves the
            damage small is an explanation, not an alarm.

    Returns:
        The finding ``ratio``.
    """
    size = abs(rho)
    split = f"ρ = {number(rho)} = length {number(length_ratio)} × cosine {number(cosine)}"
    if size >= RATIO_SAFE.value:
        return Finding(
            "ratio", "pass", rho, RATIO_SAFE.value,
            f"{split}: the two keys agree well enough (|ρ| ≥ {RATIO_SAFE.value:g})",
        )  # fmt: skip
    blame = (
        "the unprefixed key points elsewhere"
        if abs(cosine) <= length_ratio
        else "the unprefixed key is short"
    )
    if size > RATIO_COLLAPSE.value:
        return Finding(
            "ratio", "warn", rho, RATIO_COLLAPSE.value,
            f"{split}: mostly because {blame}; |ρ| is below {RATIO_SAFE.value:g}",
        )  # fmt: skip
    if size == 0.0:
        message = f"{split}: the published update divides by zero"
        return Finding("ratio", "fail", rho, RATIO_COLLAPSE.value, message)
    message = f"{split}: {blame}, and dividing by it multiplies the update by {times(1 / size)}"
    if relative is not None and relative < DAMAGE_HARM.value:
        message += f", which still leaves the damage at {percent(relative)}"
        return Finding("ratio", "warn", rho, RATIO_COLLAPSE.value, message)
    return Finding("ratio", "fail", rho, RATIO_COLLAPSE.value, message)


def contexts(grounds: Grounds, interval: Interval | None) -> Finding:
    """Judges whether another draw of the prefixes would change the verdict.

    Args:
        grounds: What the verdict rests on.
        interval: The 95% interval of ρ over draws of the contexts.

    Returns:
        The finding ``contexts``.
    """
    if interval is None:
        return Finding(
            "contexts", "not_checked", None, None,
            "how far ρ moves with the draw of the contexts needs two prefixed contexts or more, "
            "and without it nothing is called safe",
        )  # fmt: skip
    low, high = interval
    text = f"over draws of the contexts ρ lies between {number(low)} and {number(high)} (95 %)"
    if low <= 0.0 <= high:
        return Finding(
            "contexts", "fail", 0.0, 0.0,
            f"{text}: its sign is undetermined, so another draw can divide by zero",
        )  # fmt: skip
    smallest = min(abs(low), abs(high))
    plain = verdict_of(grounds)
    best, worst = range_of(grounds, interval)
    ends = [
        f"at the {which} end the verdict is {IN_WORDS[verdict]}"
        for which, verdict in (("worse", worst), ("better", best))
        if verdict != plain
    ]
    if ends:
        message = f"{text}: {', '.join(ends)}"
        return Finding("contexts", "warn", smallest, None, message)
    return Finding("contexts", "pass", smallest, None, f"{text}: no draw changes the verdict")


def first_token(token: str, index: int) -> Finding:
    """Says whether the fact is looked up at the first token.

    Args:
        token: The lookup token of the bare prompt.
        index: The token's index.

    Returns:
        The finding ``first_token``.
    """
    if index == 0:
        return Finding(
            "first_token", "warn", 0.0, 0.0,
            f"the subject's last token {token!r} is the first token of the bare prompt",
        )  # fmt: skip
    return Finding(
        "first_token", "pass", float(index), 0.0,
        f"the subject's last token {token!r} stands at index {index}, not first",
    )  # fmt: skip


def common_token(common: Commonness) -> Finding:
    """Judges whether the edit is written at a word that any text is full of.

    Args:
        common: How common the words are that the edit is written at.

    Returns:
        The finding ``common_token``.
    """
    limit, share = COMMON_TOKEN.value, common.token_share
    text = f"the subject's last token {common.token!r} makes up {percent(share)} of ordinary text"
    if not common.is_a_word:
        return Finding(
            "common_token", "warn", share, limit,
            "the subject is a number or a sign, which stands in texts about anything. A mean over "
            "text does not say what the edit does to other facts",
        )  # fmt: skip
    if share < limit:
        return Finding("common_token", "pass", share, limit, text)
    return Finding(
        "common_token", "warn", share, limit,
        f"{text} (limit {percent(limit)}). Other facts are asked with it, and a mean over text "
        "does not say what the edit does to them",
    )  # fmt: skip


def asked_with(common: Commonness) -> Finding:
    """Judges whether other facts are asked with the word that is edited.

    Args:
        common: How common the words are that the edit is written at.

    Returns:
        The finding ``asked_with``.
    """
    n, word, limit = common.asked_with, common.word, ASKED_WITH.value
    if n < limit:
        text = f"no packaged fact is asked with the subject's last word {word!r}"
        return Finding("asked_with", "pass", n, limit, text)
    facts = "1 packaged fact is" if n == 1 else f"{n:,} packaged facts are"
    return Finding(
        "asked_with", "warn", n, limit,
        f"{facts} asked with {word!r}: they receive the change, too. It is the subject's last "
        "word, and a mean over text does not say what the edit does to them",
    )  # fmt: skip


def token_form(unprefixed: str, prefixed: Sequence[str]) -> Finding:
    """Says whether the bare and the prefixed prompts look up one and the same token.

    Args:
        unprefixed: The bare prompt's lookup token.
        prefixed: The lookup tokens of the prefixed prompts.

    Returns:
        The finding ``token_form``.
    """
    if not prefixed:
        return Finding("token_form", "not_checked", None, None, "there are no prefixed contexts")
    others = sorted({token for token in prefixed if token != unprefixed})
    differing = sum(token != unprefixed for token in prefixed)
    if not others:
        return Finding(
            "token_form", "pass", 0.0, 0.0,
            f"bare and prefixed prompts look up the same token {unprefixed!r}",
        )  # fmt: skip
    shown = " or ".join(repr(token) for token in others[:3])
    return Finding(
        "token_form", "warn", float(differing), 0.0,
        f"two different tokens are compared: bare {unprefixed!r}, prefixed {shown} "
        f"({differing} of {len(prefixed)} contexts)",
    )  # fmt: skip


def first_token_key(cosine: float | None, later_percentile: float | None) -> Finding:
    """Judges whether the unprefixed key is distributed like a first token's.

    Args:
        cosine: Its cosine with the mean key of ordinary first tokens, in the C⁻¹ metric.
        later_percentile: Share of ordinary later keys whose cosine is smaller.

    Returns:
        The finding ``first_token_key``.
    """
    limit = FIRST_TOKEN_LIKENESS.value
    if cosine is None or later_percentile is None:
        return Finding(
            "first_token_key", "not_checked", None, limit,
            "no sample of ordinary keys comes with this second moment",
        )  # fmt: skip
    text = (
        f"the unprefixed key has cosine {number(cosine)} with the mean key of ordinary first "
        f"tokens, more than {_share(later_percentile)}"
    )
    if later_percentile > limit and cosine > 0:
        return Finding(
            "first_token_key", "warn", later_percentile, limit,
            f"{text} (limit {percent(limit)}): it is a first token's key",
        )  # fmt: skip
    return Finding(
        "first_token_key", "pass", later_percentile, limit, f"{text} (limit {percent(limit)})"
    )


def other_sink(ratio: float | None, token: str | None, index: int | None) -> Finding:
    """Judges whether a position other than the first acts as a sink.

    Args:
        ratio: The largest residual norm at another position over the corpus median.
        token: The token there.
        index: The token's index.

    Returns:
        The finding ``other_sink``.
    """
    limit = SINK_NORM.value
    if ratio is None:
        return Finding(
            "other_sink", "not_checked", None, limit,
            "no other position, or no corpus to compare its residual stream with",
        )  # fmt: skip
    text = f"the longest residual stream after the first token is {times(ratio)} the median"
    where = f"at {token!r}, index {index}"
    if ratio >= limit:
        message = f"{text}, {where}: it may act as a sink too"
        return Finding("other_sink", "warn", ratio, limit, message)
    return Finding("other_sink", "pass", ratio, limit, f"{text}, {where}: no second sink")


def second_moment(
    source: str,
    n_tokens: int | None,
    d_mlp: int,
    ridge: float,
    condition: float,
    *,
    is_foreign: bool = False,
    other_text: float | None = None,
) -> Finding:
    """Judges whether C rests on enough text to be solved with, and on the model's.

    Args:
        source: Where C comes from.
        n_tokens: Tokens it was estimated on; ``None`` for the identity.
        d_mlp: Number of dimensions of a key.
        ridge: What the solve adds to its diagonal.
        condition: Condition number of C as it is solved with.
        is_foreign: Whether the text is the bundled world's and the model another.
        other_text: See :class:`probes.second_moment.moment.SecondMoment`.

    Returns:
        The finding ``second_moment``.
    """
    limit = TOKENS_PER_DIMENSION.value
    if n_tokens is None:
        return Finding(
            "second_moment", "not_checked", None, limit,
            "C is the identity, as in forks with mom2_adjustment off: it rests on no corpus",
        )  # fmt: skip
    per_dimension = n_tokens / d_mlp
    rests = (
        f"C ({source}) rests on {n_tokens:,} tokens, {number(per_dimension)} for each of its "
        f"{d_mlp:,} dimensions; condition number {number(condition)}, ridge {number(ridge)}"
    )
    doubts = []
    if per_dimension < limit:
        doubts.append(
            f"with fewer than {number(limit)} tokens for each dimension of C nothing is called safe"
        )
    if is_foreign:
        doubts.append(
            f"damage can be {number(FOREIGN_TEXT.value)} times what it says: C is of the bundled "
            "world's text. Only what stays below the limits even so is called safe. "
            "python -m diag.covariance --text FILE makes a better C"
        )
    if other_text is not None and not other_text < OTHER_TEXT.value:
        doubts.append(
            f"C's text is unlike others: damage over these is larger than it says. Their keys "
            f"have {number(other_text)} times the mean square in its metric that they should have "
            f"(limit {number(OTHER_TEXT.value)}), and nothing is called safe. "
            "python -m diag.covariance --text FILE on more varied text makes a better C"
        )
    # What is doubted stands first: short texts end early.
    text = " ".join([*map(capital, doubts), rests])
    return Finding("second_moment", "warn" if doubts else "pass", per_dimension, limit, text)


def _share(part: float) -> str:
    return "any ordinary later key" if part == 1.0 else f"{percent(part)} of ordinary later keys"
