"""The library call: ``from diag.tasks import tasks``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from diag.tasks.result import TaskScores
    from probes.setup import SetupOptions


def tasks(
    names: str | Sequence[str] = "bundled",
    *,
    limit: int | None = None,
    **setup: Unpack[SetupOptions],
) -> TaskScores:
    """Runs downstream tasks on a model.

    Args:
        names: One or several of: ``bundled``, names that the harness knows, JSON Lines or YAML
            task files, directories of them.
        limit: Ask only the first N documents of each task.
        **setup: The model; see :class:`probes.setup.Setup`.

    Returns:
        The score of each task, with its standard error.

    Raises:
        UserError: If the harness is not installed, or a task or the model cannot be used.
    """
    from diag.tasks import run
    from probes.setup import Setup

    return run.run_tasks(names, Setup(**setup), limit=limit)
