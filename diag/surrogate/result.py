"""How perplexity goes with tasks: a document that knows how to show itself."""

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
class Surrogate(envelope.Saved):
    """Perplexity and damage held against downstream tasks.

    Attributes:
        document: The result as it is saved (schema ``diag.surrogate/1``): plain JSON values.
    """

    document: Mapping[str, Any]

    @property
    def silent(self) -> list[Mapping[str, Any]]:
        """The edited models of which perplexity says nothing, and whose tasks suffered."""
        return [self.document["points"][i] for i in self.document["silent"]]

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each edited model, its tasks' changes in columns of their names."""
        import pandas as pd

        rows = [
            {name: value for name, value in point.items() if name != "tasks"} | point["tasks"]
            for point in self.document["points"]
        ]
        return pd.DataFrame(rows)

    def plot_tasks(self, *, ax: Axes | None = None) -> Picture:
        """Perplexity ratio against the change of the mean score, with the monotone curve."""
        from reports.figures.picture import of_document

        return of_document("tasks", self.document, ax=ax)

    def plot_damage(self, *, ax: Axes | None = None) -> Picture:
        """Closed-form damage against the change of the mean score."""
        from reports.figures.picture import of_document

        return of_document("damage", self.document, ax=ax)

    def __repr__(self) -> str:
        related = self.document["relations"]["ratio"]["together"]["spearman"]
        shown = "–" if related is None else f"{related:.2f}"
        return (
            f"Surrogate({len(self.document['points'])} edited models; Spearman of perplexity and "
            f"tasks {shown}; silent {len(self.document['silent'])})"
        )
