"""Downstream tasks before and after an edit, on the same documents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from probes.edited.weights import Change, edited
from probes.model.loaded import LoadedModel
from probes.tasks.harness import Harness, Tasks, TaskScore


class TaskMeter:
    """Tasks that the unedited model was asked, asked again after each edit."""

    def __init__(self, model: LoadedModel, layer: int, tasks: Tasks) -> None:
        """Asks the unedited model.

        Args:
            model: The loaded model.
            layer: The edited block.
            tasks: The tasks.

        Raises:
            UserError: If the harness cannot run a task.
        """
        self._model, self._layer = model, layer
        self._harness = Harness(model, tasks)
        self.before = self._harness.scores()

    def describe(self) -> dict[str, Any]:
        """The unedited model's scores, as documents hold them."""
        return {name: score.describe() for name, score in self.before.items()}

    def after(self, changes: Sequence[Change]) -> dict[str, dict[str, Any]]:
        """What became of each task.

        Args:
            changes: The edit.

        Returns:
            For each task its metric, the scores before and after, the standard error of their
            difference and the number of documents.
        """
        with edited(self._model, changes, self._layer):
            after = self._harness.scores()
        return {name: compared(self.before[name], after[name]) for name in after}


def compared(before: TaskScore, after: TaskScore) -> dict[str, Any]:
    """One task before and after.

    Args:
        before: Score of the unedited model.
        after: Score of the edited one, on the same documents.

    Returns:
        ``metric``, ``before``, ``after``, ``change_stderr`` and ``n``. The error is that of the
        mean difference over documents; ``None`` for a score that is no mean over them.
    """
    return {
        "metric": after.metric,
        "before": before.value,
        "after": after.value,
        "change_stderr": _paired(before.documents, after.documents),
        "n": after.n,
    }


def _paired(before: Sequence[float], after: Sequence[float]) -> float | None:
    """Standard error of the mean difference of pairs."""
    n = len(after)
    if n < 2 or len(before) != n:
        return None
    differences = [b - a for a, b in zip(before, after, strict=True)]
    mean = sum(differences) / n
    return math.sqrt(sum((each - mean) ** 2 for each in differences) / (n - 1) / n)
