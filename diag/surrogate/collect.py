"""Edited models from saved results: what was foretold of each, its perplexity, its tasks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rome_diagnosis.editors import ARMS
from rome_diagnosis.errors import UserError

Document = Mapping[str, Any]


def points(document: Document) -> Iterator[dict[str, Any]]:
    """The edited models of a result that were asked tasks.

    Args:
        document: A ``diag.verify/1`` or ``diag.sequence/1`` document.

    Yields:
        Each one's ``model``, ``label``, ``method``, how many ``edits`` it had, ``group`` (those of
        one group are no independent draws), perplexity ``ratio``, ``damage``,
        ``damage_first_tokens``, the change of each of its ``tasks``, and their mean ``change``
        with ``change_stderr``.

    Raises:
        UserError: If it is of another kind.
    """
    model = {"model": document["model"]["name"]} if "model" in document else {"model": None}
    if document["schema"] == "diag.verify/1":
        for i, edit in enumerate(document.get("edits", [document])):
            if "error" not in edit:
                yield from (model | arm for arm in _arms(edit, group=str(i)))
    elif document["schema"] == "diag.sequence/1":
        for checkpoint in document.get("checkpoints") or ():
            yield from (model | step for step in _checkpoint(document, checkpoint))
    else:
        raise UserError(f"{document['schema']} holds no performed edits: give results of "
                        "diag.verify or diag.sequence")  # fmt: skip


def _arms(edit: Document, group: str) -> Iterator[dict[str, Any]]:
    request = edit["request"]
    prompt = request["prompt"].replace("{}", request["subject"])
    for name, arm in edit["arms"].items():
        # Arms with a prefix at test time have the weights of those without.
        if arm.get("tasks") and not (name in ARMS and ARMS[name].prefixed):
            yield {
                "label": f"{prompt} → {request['target_new']}",
                "method": name,
                "edits": 1,
                "group": group,
                "ratio": arm["perplexity"]["ratio"],
                "damage": arm["damage"]["relative"],
                "damage_first_tokens": arm["damage"].get("relative_first_tokens"),
                **_changes(arm["tasks"]),
            }


def _checkpoint(document: Document, checkpoint: Document) -> Iterator[dict[str, Any]]:
    if checkpoint.get("tasks"):
        yield {
            "label": f"{checkpoint['edits']} edits, one after another",
            "method": document["method"],
            "edits": checkpoint["edits"],
            "group": "sequence",
            "ratio": checkpoint["ratio"],
            "damage": checkpoint["damage_predicted"],
            "damage_first_tokens": checkpoint.get("damage_first_tokens"),
            **_changes(checkpoint["tasks"]),
        }


def _changes(tasks: Mapping[str, Document]) -> dict[str, Any]:
    """Each task's change and their mean, whose standard error takes the tasks as given."""
    changes = {name: task["after"] - task["before"] for name, task in tasks.items()}
    errors = [task["change_stderr"] for task in tasks.values()]
    known = [error for error in errors if error is not None]
    return {
        "tasks": changes,
        "change": sum(changes.values()) / len(changes),
        "change_stderr": math.hypot(*known) / len(tasks) if len(known) == len(tasks) else None,
    }


def task_names(found: Sequence[Document]) -> list[str]:
    """The tasks of all points.

    Raises:
        UserError: If there are no points, or not all were asked the same tasks.
    """
    if not found:
        raise UserError("no edit in these results was asked downstream tasks: measure with --tasks")
    names = list(found[0]["tasks"])
    for point in found:
        if list(point["tasks"]) != names:
            raise UserError(
                "the results were asked different tasks, whose mean means different things: "
                f"{', '.join(names)}; and {', '.join(point['tasks'])}"
            )
    return names
