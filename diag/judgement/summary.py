"""One paragraph that says why, and what to do instead, from the numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from diag.judgement.findings import Finding, called
from diag.judgement.verdict import Grounds, Interval, Verdict, verdict_with
from diag.judgement.words import capital, percent, sizes, times
from rome_diagnosis.editors import EDITORS, PUBLISHED, REMEDY, Editor
from rome_diagnosis.limits import RATIO_SAFE, RESPONSE_FAINT

OPENING: Mapping[Verdict, str] = {
    "collapse_risk": "can destroy the model",
    "damage_risk": "can cost the model much of what it knows, even where its text stays fluent",
    "unclear": "may damage the model",
    "safe": "should leave the model intact",
}


def paragraph(
    outcome: Verdict,
    findings: Sequence[Finding],
    grounds: Mapping[str, Grounds],
    *,
    interval: Interval | None,
    bare: Mapping[str, float | None],
    is_first_token: bool,
) -> str:
    """Says why the verdict is what it is, and what to do instead.

    Args:
        outcome: The verdict on ROME as published.
        findings: What it rests on.
        grounds: What a verdict on each editor would rest on, by name.
        interval: Interval of ρ over draws of the contexts; ``None`` with too few to draw from.
        bare: For each editor the share of the change that the bare prompt receives.
        is_first_token: Whether the fact is looked up at the first token.

    Returns:
        Plain text.
    """
    by_id = {finding.id: finding for finding in findings}
    published = grounds[PUBLISHED]
    sentences = _why(outcome, by_id, published, is_first_token=is_first_token)
    if outcome == "safe":
        return " ".join(sentences)
    if published.relative is None:
        if abs(published.rho) < RATIO_SAFE.value:
            sentences.append(_without_damage(abs(published.rho)))
        return " ".join(sentences)
    alternatives = [editor for name, editor in EDITORS.items() if name != PUBLISHED]
    outcomes = [verdict_with(editor, grounds[editor.name], interval) for editor in alternatives]
    for editor, other in zip(alternatives, outcomes, strict=True):
        sentences += _instead(editor, other, grounds[editor.name], by_id, bare[editor.name])
    if "safe" not in outcomes:
        words = [by_id.get(name) for name in ("common_token", "asked_with")]
        sentences.append(
            "Ask the fact with the name of what it is about as its subject."
            if any(doubt and doubt.status == "warn" for doubt in words)
            else "Another layer or a smaller clamp factor may help."
        )
    return " ".join(sentences)


def _why(
    outcome: Verdict, by_id: Mapping[str, Finding], published: Grounds, *, is_first_token: bool
) -> list[str]:
    name, editor = PUBLISHED, called(EDITORS[PUBLISHED])
    sentences = [f"Editing this fact with {editor} {OPENING[outcome]}."]
    if outcome == "unclear" and published.margin > 1:
        # Before the figures, which lie below their limits and are doubted.
        doubts = (by_id.get(name) for name in ("common_token", "asked_with", "second_moment"))
        sentences += [
            capital(doubt.message) for doubt in doubts if doubt and doubt.status == "warn"
        ]
    drawn = [capital(by_id["contexts"].message)] if by_id["contexts"].status != "pass" else []
    if published.relative is not None:
        if outcome == "unclear" and by_id[f"damage_{name}"].status == "pass":
            sentences += drawn  # then it is one of the reasons
            drawn = []
        sentences.append(capital(by_id[f"damage_{name}"].message))
        if by_id[f"first_tokens_{name}"].status != "pass":
            sentences.append(capital(by_id[f"first_tokens_{name}"].message))
    elif outcome == "unclear":
        sentences = [
            f"It is unclear whether editing this fact with {editor} damages the model.",
            f"Its damage was not checked: {by_id[f'damage_{name}'].message}.",
        ]
    sentences.append(capital(by_id["ratio"].message))
    if is_first_token and outcome != "safe":
        sentences.append(capital(by_id["first_token"].message))
        if by_id["first_token_key"].status == "warn":
            sentences.append("It has a first token's key there, unlike any other key.")
        if by_id["token_form"].status == "warn":
            sentences.append(capital(by_id["token_form"].message))
    return sentences + drawn


def _instead(
    editor: Editor,
    outcome: Verdict,
    grounds: Grounds,
    by_id: Mapping[str, Finding],
    bare: float | None,
) -> list[str]:
    """Whether another editor is a way out, from both kinds of damage."""
    who, relative, expected = called(editor), grounds.relative, grounds.expected
    if relative is None or expected is None or bare is None:
        return []
    first = by_id[f"first_tokens_{editor.name}"]
    changes = f"it changes hidden states by {sizes(relative, expected)}"
    if outcome == "safe":
        sentences = [f"Instead use {who} ({editor.note}): {changes}."]
        target = by_id.get(f"target_{editor.name}")
        if target and target.status == "warn":
            sentences.append(capital(target.message))
        elif bare < RESPONSE_FAINT.value:
            sentences.append(
                f"It answers only when some text precedes the prompt: the bare prompt receives "
                f"{percent(bare)} of the change."
            )
        return sentences
    if outcome == "unclear":
        sentences = [f"With {who} it is unclear too: {changes}."]
        if first.status != "pass":
            sentences.append(capital(first.message))
        if 1 < grounds.margin < math.inf:
            sentences.append(
                "Over ordinary text it can be several times that: C rests on the bundled world's."
            )
        return sentences
    if first.status in ("warn", "fail"):
        return [f"{who} does not help here, since it {first.message.removeprefix(who).lstrip()}."]
    return [f"{who} does not help here: {changes} too."]


def _without_damage(rho: float) -> str:
    """What ρ alone says: the editor with the same direction divides by a squared length."""
    consistent = EDITORS[REMEDY]
    return (
        f"Instead use {called(consistent)} ({consistent.note}): its damage is {times(rho)} "
        f"{EDITORS[PUBLISHED].short}'s at equal residual."
    )
