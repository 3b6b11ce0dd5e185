"""Saved results in, one document out: nothing is measured here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diag.surrogate import collect, relate
from diag.surrogate.result import Surrogate
from rome_diagnosis import envelope
from rome_diagnosis.limits import PERPLEXITY_DAMAGED, TASKS_LOSS

SCHEMA = "diag.surrogate/1"


def hold(
    documents: Sequence[Mapping[str, Any]], *, seed: int = 0, command_line: str | None = None
) -> Surrogate:
    """Holds performed edits against their tasks.

    Args:
        documents: Results of ``diag.verify`` and ``diag.sequence``.
        seed: Seed of the bootstrap.
        command_line: What repeats it.

    Returns:
        The relation.

    Raises:
        UserError: If one is of another kind, or tasks are missing or differ.
    """
    points = [
        point | {"group": f"{i}/{point['group']}"}
        for i, document in enumerate(documents)
        for point in collect.points(document)
    ]
    return Surrogate(
        envelope.plain(
            envelope.finite({**envelope.head(SCHEMA, command_line), **related(points, seed=seed)})
        )
    )


def related(found: Sequence[Mapping[str, Any]], *, seed: int = 0) -> dict[str, Any]:
    """What the document says of edited models.

    Args:
        found: As :func:`diag.surrogate.collect.points` gives them.
        seed: Seed of the bootstrap.

    Returns:
        Its fields after the head.

    Raises:
        UserError: If tasks are missing or differ.
    """
    tasks = collect.task_names(found)
    return {
        "seed": seed,
        "limits": {
            "perplexity_damaged": PERPLEXITY_DAMAGED.value, "tasks_loss": TASKS_LOSS.value,
        },
        "tasks": tasks,
        "points": found,
        "relations": relate.relations(found, tasks, seed=seed),
        "curve": relate.curve(found),
        "onset": relate.onset(found, seed=seed),
        "silent": relate.silent(found),
        "suffering": sum(map(relate.suffers, found)),
    }  # fmt: skip
