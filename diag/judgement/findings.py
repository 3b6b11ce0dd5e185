"""What was checked: each measurement held against its limit, in a sentence with both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from diag.judgement.limits import (
    DAMAGE_COLLAPSE,
    DAMAGE_SAFE,
    FIRST_TOKEN_LIKENESS,
    RATIO_COLLAPSE,
    RATIO_SAFE,
    SINK_NORM,
    TOKENS_PER_DIMENSION,
)
from diag.judgement.verdict import verdict_of

Status = Literal["pass", "warn", "fail", "not_checked"]

LABELS = {
    "rome": "ROME as published",
    "c_rome": "C-ROME (prefixed keys throughout)",
    "p_rome": "P-ROME (the unprefixed key throughout)",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    Attributes:
        id: Its name, stable across versions.
        status: ``pass``, ``warn``, ``fail``, or ``not_checked`` with the reason in the message.
        value: What was measured.
        limit: What it was held against.
        message: A sentence with both.
    """

    id: str
    status: Status
    value: float | None
    limit: float | None
    message: str


def damage(variant: str, relative: float | None, why_not: str | None) -> Finding:
    """Judges the bound of the damage one variant would do.

    Args:
        variant: ``rome``, ``c_rome`` or ``p_rome``.
        relative: The bound in units of the residual stream.
        why_not: Why there is none.

    Returns:
        The finding ``damage_<variant>``.
    """
    name = f"damage_{variant}"
    if relative is None:
        return Finding(name, "not_checked", None, DAMAGE_COLLAPSE.value, f"{why_not}")
    status: Status
    pushed = (
        f"{LABELS[variant]} would push an average token by up to {times(relative)} its own length"
    )
    if relative >= DAMAGE_COLLAPSE.value:
        limit, status = DAMAGE_COLLAPSE.value, "fail"
    elif relative >= DAMAGE_SAFE.value:
        limit, status = DAMAGE_COLLAPSE.value, "warn"
    else:
        limit, status = DAMAGE_SAFE.value, "pass"
    return Finding(name, status, relative, limit, f"{pushed} (limit {limit:g})")


def ratio(rho: float, length_ratio: float, cosine: float) -> Finding:
    """Judges ρ and says which of its two factors is to blame.

    Args:
        rho: ρ.
        length_ratio: ‖k_u‖/‖k̄‖ in the C⁻¹ metric.
        cosine: Their cosine in the C⁻¹ metric.

    Returns:
        The finding ``ratio``.
    """
    size = abs(rho)
    split = f"ρ = {rho:.3g} = length {length_ratio:.3g} × cosine {cosine:.3g}"
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
    return Finding(
        "ratio", "fail", rho, RATIO_COLLAPSE.value,
        f"{split}: {blame}, and dividing by it multiplies the update by {times(1 / size)}"
        if size > 0
        else f"{split}: the published update divides by zero",
    )  # fmt: skip


def contexts(rho: float, interval: tuple[float, float] | None, relative: float | None) -> Finding:
    """Judges whether another draw of the prefixes could change the verdict.

    Args:
        rho: ρ.
        interval: Its 95% interval over draws of the contexts.
        relative: ROME's relative damage bound; it scales with 1/|ρ|.

    Returns:
        The finding ``contexts``.
    """
    if interval is None:
        return Finding(
            "contexts", "not_checked", None, None,
            "how far ρ moves with the draw of the contexts needs two prefixed contexts or more",
        )  # fmt: skip
    low, high = interval
    text = f"over draws of the contexts ρ lies between {low:.3g} and {high:.3g} (95%)"
    if low <= 0.0 <= high:
        return Finding(
            "contexts", "fail", 0.0, 0.0,
            f"{text}: its sign is open, so another draw can divide by zero",
        )  # fmt: skip
    smallest = min(abs(low), abs(high))
    if verdict_of(abs(rho), relative) != verdict_of(
        smallest, None if relative is None else relative * abs(rho) / smallest
    ):
        return Finding(
            "contexts", "warn", smallest, None, f"{text}: another draw can change the verdict"
        )
    return Finding("contexts", "pass", smallest, None, f"{text}: no draw changes the verdict")


def first_token(token: str, index: int) -> Finding:
    """Says whether the fact is looked up at the first token.

    Args:
        token: The lookup token of the bare prompt.
        index: Its index.

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


def token_form(unprefixed: str, prefixed: Sequence[str]) -> Finding:
    """Says whether the bare and the prefixed prompts look up one and the same token.

    Args:
        unprefixed: The bare prompt's lookup token.
        prefixed: Those of the prefixed prompts.

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
        cosine: Of it and the mean key of ordinary first tokens, in the C⁻¹ metric.
        later_percentile: Share of ordinary later keys with a smaller one.

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
        f"the unprefixed key has cosine {cosine:.3g} with the mean key of ordinary first tokens, "
        f"more than {_share(later_percentile)}"
    )
    if later_percentile > limit and cosine > 0:
        return Finding(
            "first_token_key", "warn", later_percentile, limit,
            f"{text} (limit {limit:.0%}): it is a first token's key",
        )  # fmt: skip
    return Finding(
        "first_token_key", "pass", later_percentile, limit, f"{text} (limit {limit:.0%})"
    )


def other_sink(ratio: float | None, token: str | None, index: int | None) -> Finding:
    """Judges whether a position other than the first acts as a sink.

    Args:
        ratio: The largest residual norm at another position over the corpus median.
        token: The token there.
        index: Its index.

    Returns:
        The finding ``other_sink``.
    """
    limit = SINK_NORM.value
    if ratio is None:
        return Finding(
            "other_sink", "not_checked", None, limit,
            "no other position, or no corpus to compare its residual stream with",
        )  # fmt: skip
    text = f"the longest residual stream behind the first token is {times(ratio)} the median"
    where = f"at {token!r}, index {index}"
    if ratio >= limit:
        return Finding(
            "other_sink", "warn", ratio, limit, f"{text}, {where}: it may act as a sink too"
        )
    return Finding("other_sink", "pass", ratio, limit, f"{text}, {where}: no second sink")


def second_moment(
    source: str, n_tokens: int | None, d_mlp: int, ridge: float, condition: float
) -> Finding:
    """Judges whether C rests on enough text to be solved with.

    Args:
        source: Where C comes from.
        n_tokens: Tokens it was estimated on; ``None`` for the identity.
        d_mlp: Its size.
        ridge: What the solve adds to its diagonal.
        condition: Condition number.

    Returns:
        The finding ``second_moment``.
    """
    limit = TOKENS_PER_DIMENSION.value
    if n_tokens is None:
        return Finding(
            "second_moment", "not_checked", None, limit,
            "C is the identity, as in forks with mom2_adjustment off: no corpus stands behind it",
        )  # fmt: skip
    per_dimension = n_tokens / d_mlp
    text = (
        f"C ({source}) rests on {n_tokens:,} tokens, {per_dimension:.3g} for each of its "
        f"{d_mlp:,} dimensions; condition number {condition:.2g}, ridge {ridge:.2g}"
    )
    status: Status = "pass" if per_dimension >= limit else "warn"
    return Finding("second_moment", status, per_dimension, limit, text)


def _share(part: float) -> str:
    return "any ordinary later key" if part == 1.0 else f"{part:.1%} of ordinary later keys"


def times(factor: float) -> str:
    """A factor as findings write it, e.g. ``1.6×``."""
    return f"{factor:.3g}×" if factor < 1000 else f"{factor:,.0f}×"
