"""One paragraph that says why, and what to do instead, made from the numbers."""

from __future__ import annotations

from collections.abc import Sequence

from diag.judgement.findings import Finding, times
from diag.judgement.limits import DAMAGE_COLLAPSE, RATIO_SAFE
from diag.judgement.verdict import Verdict


def paragraph(
    outcome: Verdict, findings: Sequence[Finding], *, rho: float, is_first_token: bool,
    rome: float | None, c_rome: float | None,
) -> str:  # fmt: skip
    """One paragraph that says why, and what to do instead, from the numbers.

    Args:
        outcome: The verdict.
        findings: What it rests on.
        rho: ρ.
        is_first_token: Whether the fact is looked up at the first token.
        rome: Relative damage bound of ``rome``.
        c_rome: Relative damage bound of ``c_rome``.

    Returns:
        Plain text.
    """
    by_id = {finding.id: finding for finding in findings}
    opening = {
        "collapse_risk": "Editing this fact with ROME as published can destroy the model.",
        "safe": "Editing this fact with ROME as published should leave the model intact.",
        "unclear": "Editing this fact with ROME as published may damage the model.",
    }
    sentences = [opening[outcome]]
    if rome is not None:
        sentences.append(_sentence(by_id["damage_rome"]))
    elif outcome == "unclear":
        sentences = ["Whether editing this fact with ROME as published damages the model is open."]
        sentences.append(f"Its damage was not checked: {by_id['damage_rome'].message}.")
    sentences.append(_sentence(by_id["ratio"]))
    if is_first_token and outcome != "safe":
        sentences.append(_sentence(by_id["first_token"]))
        if by_id["first_token_key"].status == "warn":
            sentences.append("It has a first token's key there, unlike any other key.")
        if by_id["token_form"].status == "warn":
            sentences.append(_sentence(by_id["token_form"]))
    if by_id["contexts"].status in ("warn", "fail"):
        sentences.append(_sentence(by_id["contexts"]))
    if outcome == "safe" or (c_rome is None and abs(rho) >= RATIO_SAFE.value):
        return " ".join(sentences)
    if c_rome is None:
        sentences.append(
            "Instead use C-ROME, which takes the mean prefixed key in both places: its damage is "
            f"{times(abs(rho))} ROME's at equal residual."
        )
    elif c_rome < DAMAGE_COLLAPSE.value:
        sentences.append(
            "Instead use C-ROME, which takes the mean prefixed key in both places: it pushes an "
            f"average token by up to {times(c_rome)} its own length."
        )
    else:
        sentences.append(
            f"C-ROME is no way out here: its bound is {times(c_rome)} too. Another layer or a "
            "smaller clamp factor may be."
        )
    if is_first_token:
        sentences.append(
            "At test time put a prefix in front of the prompt, so that the edited key is met."
        )
    return " ".join(sentences)


def _sentence(finding: Finding) -> str:
    # Only letters of words: a sentence that begins with ρ keeps its symbol.
    first = finding.message[0]
    return (first.upper() if first.isascii() else first) + finding.message[1:] + "."
