"""What was checked of each editor: measurements held against limits, in sentences with both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diag.judgement.verdict import Grounds
from diag.judgement.words import number, percent, sizes, times
from rome_diagnosis.editors import Editor
from rome_diagnosis.limits import (
    DAMAGE_COLLAPSE,
    DAMAGE_HARM,
    DAMAGE_SAFE,
    FIRST_TOKENS_HARM,
    FIRST_TOKENS_SAFE,
    RESPONSE_EVERYWHERE,
    RESPONSE_EXCESS,
    RESPONSE_FAINT,
    TARGET_APART,
    Limit,
)

Status = Literal["pass", "warn", "fail", "not_checked"]


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


TOGETHER = "; other hidden states change besides, and both together are more than is safe"


def called(editor: Editor) -> str:
    """What sentences call an editor: its label without the explanation."""
    return editor.label.split(",")[0]


def damage(editor: Editor, grounds: Grounds, why_not: str | None) -> Finding:
    """Judges the damage that one editor would do.

    Args:
        editor: The editor.
        grounds: What a verdict on it would rest on.
        why_not: Why there is no damage among them.

    Returns:
        The finding ``damage_<editor>``.
    """
    name = f"damage_{editor.name}"
    bound, expected = grounds.relative, grounds.expected
    if bound is None or expected is None:
        return Finding(name, "not_checked", None, DAMAGE_COLLAPSE.value, f"{why_not}")
    limit, value, status = _held_against(bound, expected, DAMAGE_COLLAPSE, DAMAGE_HARM, DAMAGE_SAFE)
    held = DAMAGE_SAFE.value if status == "warn" else limit
    return Finding(
        name, status, value, limit,
        f"{called(editor)} changes hidden states by {sizes(bound, expected, held)} "
        f"({_limits(limit, status, DAMAGE_SAFE)})",
    )  # fmt: skip


def first_tokens(
    editor: Editor, grounds: Grounds, share: float | None, why_not: str | None
) -> Finding:
    """Judges the damage that one editor would do at first tokens of other texts.

    Args:
        editor: The editor.
        grounds: What a verdict on it would rest on.
        share: The share of the change that first tokens receive, root mean square.
        why_not: Why it was not checked.

    Returns:
        The finding ``first_tokens_<editor>``.
    """
    name = f"first_tokens_{editor.name}"
    bound, expected = grounds.first_tokens, grounds.expected_first_tokens
    if bound is None or expected is None or share is None:
        return Finding(name, "not_checked", None, FIRST_TOKENS_HARM.value, f"{why_not}")
    limits = None, FIRST_TOKENS_HARM, FIRST_TOKENS_SAFE
    limit, value, status = _held_against(bound, expected, *limits)
    held = FIRST_TOKENS_SAFE.value if status == "warn" else limit
    size = sizes(bound, expected, held, "a hidden state's")
    reach = (
        "reaches every prompt that begins with any word: first tokens receive "
        if share >= RESPONSE_EVERYWHERE.value and status != "pass"
        else "gives the first tokens of other texts "
    )
    text = (
        f"{called(editor)} {reach}{percent(share)} of the change, {size} "
        f"({_limits(limit, status, FIRST_TOKENS_SAFE)})"
    )
    if status == "pass" and grounds.only_together:
        status, text = "warn", f"{text}{TOGETHER}"
    return Finding(name, status, value, limit, text)


def response(editor: Editor, bare: float | None, prefixed: float | None) -> Finding:
    """Judges whether the prompts that should answer an edit receive its change.

    Args:
        editor: The editor.
        bare: The share of the change that the bare prompt receives; ``None`` for a denominator of
            zero.
        prefixed: The share that prefixed prompts receive, on average; ``None`` without any.

    Returns:
        The finding ``response_<editor>``; its value is the smaller share where one is faint, else
        the larger.
    """
    name, who = f"response_{editor.name}", called(editor)
    if bare is None:
        return Finding(
            name, "not_checked", None, RESPONSE_FAINT.value,
            "the denominator is exactly zero, so no share of the change can be given",
        )  # fmt: skip
    got = f"it receives {percent(bare)} of the change"
    if prefixed is not None:
        got += f", a prefixed prompt {percent(prefixed)}"
    shares = [bare] if prefixed is None else [bare, prefixed]
    if bare < RESPONSE_FAINT.value:
        return Finding(
            name,
            "warn",
            bare,
            RESPONSE_FAINT.value,
            f"{who} will not answer the bare prompt: {got}",
        )
    if min(shares) < RESPONSE_FAINT.value:
        return Finding(
            name, "warn", min(shares), RESPONSE_FAINT.value,
            f"{who} answers the bare prompt and not a prefixed one: {got}",
        )  # fmt: skip
    if max(shares) >= RESPONSE_EXCESS.value:
        return Finding(
            name, "warn", max(shares), RESPONSE_EXCESS.value,
            f"{who} overshoots: the bare prompt receives {percent(bare)} of the change, a prefixed "
            f"one {times(max(shares))} what is meant for it",
        )  # fmt: skip
    return Finding(
        name, "pass", min(shares), RESPONSE_FAINT.value, f"{who} answers the bare prompt: {got}"
    )


def target(editor: Editor, apart: float, expected: float) -> Finding:
    """Judges whether what an editor writes is what its target was optimised to be.

    v* = v_u + δ is optimised at the bare prompt. An editor that subtracts v̄ writes δ and the
    distance of the two values with it, as published; v̄ + δ would be consistent.

    Args:
        editor: The editor.
        apart: ‖v_u − v‖, v the value it subtracts.
        expected: ‖δ‖ as it is expected.

    Returns:
        The finding ``target_<editor>``; its value is the one over the other.
    """
    who, limit = called(editor), TARGET_APART.value
    share = 0.0 if apart == 0.0 else apart / expected if expected else float("inf")
    norms = f"‖v_u − v̄‖ = {number(apart)} beside ‖δ‖ of about {number(expected)}"
    if share < limit:
        text = f"{who} writes its target nearly as optimised: {norms} (limit {percent(limit)})"
        return Finding(f"target_{editor.name}", "pass", share, limit, text)
    return Finding(
        f"target_{editor.name}", "warn", share, limit,
        f"{who} as published writes v_u + δ where v̄ + δ is meant, {norms} (limit "
        f"{percent(limit)}): the fact may not be answered, after a prefix neither; "
        "--c-rome-target consistent of diag.verify and diag.sequence writes v̄ + δ",
    )  # fmt: skip


def _limits(limit: float, status: Status, safe: Limit) -> str:
    """The limit, and the one below which an edit is safe where it lies between the two."""
    between = f", safe below {percent(safe.value)}" if status == "warn" else ""
    return f"limit {percent(limit)}{between}"


def _held_against(
    bound: float, expected: float, collapse: Limit | None, harm: Limit, safe: Limit
) -> tuple[float, float, Status]:
    """The limit that decides, what is held against it, and what it says."""
    if collapse is not None and expected >= collapse.value:
        return collapse.value, expected, "fail"
    if expected >= harm.value:
        return harm.value, expected, "fail"
    if bound >= safe.value:
        return harm.value, expected, "warn"
    return safe.value, bound, "pass"
