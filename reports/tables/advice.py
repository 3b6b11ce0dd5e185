"""What to do instead of the published edit, from an edit's terms and what was checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.numbers import percent
from reports.tables import arms, editors, terms, verdicts
from rome_diagnosis.editors import PUBLISHED

Document = Mapping[str, Any]
NOTHING = "None of these editors is known to be safe here: "
ELSEWHERE = "try another layer or a smaller clamp factor."
# What helps where the damage is below its limits, and doubted, by the finding that doubts it.
DOUBTED = {
    "common_token": "ask the fact with the name of what it is about as the subject.",
    "asked_with": "ask the fact with the name of what it is about as the subject.",
    "second_moment": "a C of more text may tell, python -m diag.covariance --text FILE.",
}
NOT_MEASURED = "No editor is called safe here, for damage was not measured."
# What an editor that uses one key in both places answers to, by that key, where it was not checked.
ANSWERS = {
    "mean": "It answers only when some text precedes the prompt: put a prefix there at test time.",
    "bare": "It answers the bare prompt.",
}


def advice(
    per_editor: Sequence[terms.Terms], keys: Document | None, verify: Document | None
) -> list[str]:
    """What to do instead, with the numbers that speak for it.

    Args:
        per_editor: The terms of each editor.
        keys: The diagnosis; editors that did not pass it are not recommended.
        verify: What the edits did, if they were performed.

    Returns:
        Sentences.
    """
    lines = [
        f"Edit with {term.editor.described}{_change(term, per_editor)}. {answers(term, keys)}"
        for term in recommended(per_editor, keys)
    ]
    if verify:
        lines.append(f"Measured on this edit: {'; '.join(_measured(verify))}.")
    return lines or [nothing(keys)]


def recommended(per_editor: Sequence[terms.Terms], keys: Document | None) -> list[terms.Terms]:
    """Editors that use one key in both places and passed every check of their damage.

    Args:
        per_editor: The terms of each editor.
        keys: The diagnosis, if there is one.

    Returns:
        Their terms.
    """
    return [
        term
        for term in per_editor
        if (row := term.editor.editor)
        and row.along == row.divide_by
        and (keys is None or _passed(row.name, keys))
    ]


def nothing(keys: Document | None) -> str:
    """What to say where no editor is recommended.

    Args:
        keys: The diagnosis, if there is one.

    Returns:
        A sentence.
    """
    statuses = _statuses(keys)
    damage = {status for check, status in statuses.items() if check.startswith("damage_")}
    if damage <= {"not_checked"}:
        return NOT_MEASURED
    doubts = [check for check in DOUBTED if statuses.get(check) == "warn"]
    return NOTHING + (DOUBTED[doubts[0]] if "pass" in damage and doubts else ELSEWHERE)


def answers(term: terms.Terms, keys: Document | None) -> str:
    """Which prompts an editor's edit answers to.

    Args:
        term: Its terms.
        keys: The diagnosis, if there is one.

    Returns:
        A sentence; empty where the diagnosis has nothing to remark.
    """
    name, findings = term.editor.name, (keys or {}).get("findings", ())
    about = [each for each in findings if each["id"] in (f"response_{name}", f"target_{name}")]
    if about:
        loud = [each["message"] for each in about if each["status"] in ("warn", "fail")]
        return " ".join(f"{message}." for message in loud)
    return ANSWERS[term.editor.editor.along] if term.editor.editor else ""


def _passed(editor: str, keys: Document) -> bool:
    """Whether an editor passed its checks; documents of earlier versions lack some of them."""
    statuses, bound = _statuses(keys), keys["damage"][editor]
    if "verdict" in bound:
        return bool(bound["verdict"] == "safe")
    if "relative_bound_first_tokens" in bound:
        names = (f"damage_{editor}", f"first_tokens_{editor}")
        return all(statuses.get(name) == "pass" for name in names)
    within, limit = bound["relative_bound"], keys.get("limits", {}).get("damage_safe")
    passed = within is not None and (limit is None or within < limit)
    return statuses.get(f"damage_{editor}", "pass" if passed else "fail") == "pass"


def _statuses(keys: Document | None) -> dict[str, str]:
    return {finding["id"]: finding["status"] for finding in (keys or {}).get("findings", ())}


def _change(term: terms.Terms, per_editor: Sequence[terms.Terms]) -> str:
    if term.relative is None:
        return ""
    most = " up to" if term.is_bound else ""
    text = f"; it changes hidden states by{most} {percent(term.relative)} of their norm"
    if term.relative_first is not None:
        text += f" (at other texts' first tokens by{most} {percent(term.relative_first)})"
    published = terms.named(per_editor, PUBLISHED)
    if published is None or published.relative is None:
        return text
    return f"{text}, {published.editor.label} by{most} {percent(published.relative)}"


def _measured(verify: Document) -> list[str]:
    lines = []
    for arm in editors.arms(verify["arms"]):
        arm_figures = verify["arms"][arm.name]
        reached = "reached" if arm_figures["efficacy"]["success"] else "not reached"
        outcome = verdicts.label(verdicts.outcome(verify, arm.name)).text.lower()
        ratio = arms.factor(arm_figures["perplexity"]["ratio"])
        lines.append(f"{arm.short} perplexity {ratio}, new object {reached}, {outcome}")
    return lines
