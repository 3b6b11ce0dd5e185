"""Verdicts, outcomes and findings: how each is called, and in which colour it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rome_diagnosis.editors import PUBLISHED


@dataclass(frozen=True)
class Label:
    """How a verdict or an outcome is shown.

    Attributes:
        name: Its name in documents.
        text: What it is called.
        style: ``fail``, ``warn``, ``pass`` or ``none``.
    """

    name: str
    text: str
    style: str


# The worst first. Verdicts are given before an edit, outcomes after it.
_LABELS = {
    label.name: label
    for label in (
        Label("collapse_risk", "Collapse risk", "fail"),
        Label("damage_risk", "Damage risk", "warn"),
        Label("unclear", "Unclear", "warn"),
        Label("safe", "Safe", "pass"),
        Label("collapsed", "Collapsed", "fail"),
        Label("damaged", "Damaged", "warn"),
        Label("not_collapsed", "Not collapsed", "warn"),
        Label("intact", "Intact", "pass"),
    )
}
_ORDER = list(_LABELS)


def label(name: str) -> Label:
    """How a verdict or an outcome is shown.

    Args:
        name: Its name in a document.

    Returns:
        Its label; one that this version does not know is called what it is called there.
    """
    return _LABELS.get(name) or Label(name, name.replace("_", " "), "none")


def severity(name: str) -> int:
    """Where a verdict or an outcome comes in a list: the worst first, unknown ones last."""
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)


def outcome(edit: Mapping[str, Any], arm: str = PUBLISHED) -> str:
    """What became of the model.

    Args:
        edit: One edit of a ``diag.verify/1`` document.
        arm: The arm.

    Returns:
        ``collapsed``, ``damaged`` or ``intact``; ``not_collapsed`` where an earlier version
        judged by perplexity alone.
    """
    known = edit.get("outcome", {}).get(arm)
    if known is not None:
        return str(known)
    return "collapsed" if edit["collapsed"].get(arm) else "not_collapsed"


@dataclass(frozen=True)
class ShownFinding:
    """One thing that was checked, as it is shown.

    Attributes:
        id: Its name.
        status: What it is called: ``pass``, ``warn``, ``fail`` or ``not checked``.
        style: As of :class:`Label`.
        message: A sentence.
    """

    id: str
    status: str
    style: str
    message: str


STATUSES = {"pass": "pass", "warn": "warn", "fail": "fail"}


def findings(document: Mapping[str, Any]) -> list[ShownFinding]:
    """What was checked.

    Args:
        document: A ``diag.keys/1`` document.

    Returns:
        Its findings; under a verdict of ``safe`` none is called failed, for the verdict decides
        and findings explain it.
    """
    shown = []
    for finding in document["findings"]:
        status = str(finding["status"])
        if status == "fail" and document["verdict"] == "safe":
            status = "warn"
        shown.append(
            ShownFinding(
                str(finding["id"]), status.replace("_", " "), STATUSES.get(status, "none"),
                str(finding["message"]),
            )
        )  # fmt: skip
    return shown


def reasoning(document: Mapping[str, Any]) -> str | None:
    """Why a verdict of ``safe`` stands beside a finding that failed.

    Args:
        document: A ``diag.keys/1`` document.

    Returns:
        One line; ``None`` where nothing seems to contradict the verdict.
    """
    failed = [str(each["id"]) for each in document["findings"] if each["status"] == "fail"]
    if document["verdict"] != "safe" or not failed:
        return None
    return (
        "The verdict rests on the damage, which is within its limit; "
        f"{' and '.join(failed)} {'explains' if len(failed) == 1 else 'explain'} how the update "
        "grows, not whether it breaks the model."
    )
