"""What a model scored: a document that knows how to show itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rome_diagnosis import envelope

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from reports.figures.picture import Picture


@dataclass(frozen=True, repr=False)
class TaskScores(envelope.Saved):
    """A model's scores in downstream tasks.

    Attributes:
        document: The result as it is saved (schema ``diag.tasks/1``): plain JSON values.
    """

    document: Mapping[str, Any]

    @property
    def tasks(self) -> Mapping[str, Mapping[str, Any]]:
        """For each task ``score``, ``stderr``, ``metric`` and ``n``."""
        return self.document["tasks"]

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each task."""
        import pandas as pd

        rows = [{"task": name} | dict(task) for name, task in self.tasks.items()]
        return pd.DataFrame(rows).drop(columns="others").set_index("task")

    def plot_scores(self, *, ax: Axes | None = None) -> Picture:
        """The score in each task, one standard error to either side."""
        from reports.figures.picture import of_document

        return of_document("scores", self.document, ax=ax)

    def __repr__(self) -> str:
        scores = ", ".join(f"{name} {task['score']:.3g}" for name, task in self.tasks.items())
        return f"TaskScores({self.document['model']['name']!r}: {scores})"
