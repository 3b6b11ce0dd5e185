"""A model asked downstream tasks: load both, let the harness score, write it down."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from diag.tasks.result import TaskScores
from probes.setup import Setup
from probes.tasks.harness import Harness, Tasks, TaskScore
from rome_diagnosis import envelope

SCHEMA = "diag.tasks/1"


def run_tasks(
    names: str | Sequence[str], setup: Setup, *, limit: int | None, command_line: str | None = None
) -> TaskScores:
    """Runs tasks on a model.

    Args:
        names: As :meth:`probes.tasks.harness.Tasks.read`.
        setup: The model.
        limit: Ask only the first N documents of each task.
        command_line: What repeats it.

    Returns:
        The scores.

    Raises:
        UserError: If the limit is below 1, or a task or the model cannot be used.
    """
    tasks = Tasks.read(names, limit=limit)  # a mistyped name should not wait for the model
    model = setup.load()
    from probes.model.loaded import describe_model

    scores = Harness(model, tasks).scores(quiet=setup.quiet)
    document = {
        **envelope.head(SCHEMA, command_line, "lm-eval"),
        "model": describe_model(model),
        "limit": limit,
        "tasks": {name: score.describe() for name, score in scores.items()},
        "mean": mean(scores),
    }
    return TaskScores(envelope.plain(envelope.finite(document)))


def mean(scores: Mapping[str, TaskScore]) -> dict[str, float | None]:
    """The mean score over tasks; its standard error takes the tasks as given."""
    n, errors = len(scores), [score.stderr for score in scores.values()]
    known = [error for error in errors if error is not None]
    return {
        "score": sum(score.value for score in scores.values()) / n,
        "stderr": math.hypot(*known) / n if len(known) == n else None,
    }
