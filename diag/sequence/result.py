"""The result of a list of edits: a document that knows how to show itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rome_diagnosis import envelope

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from reports.figures.picture import Picture


@dataclass(frozen=True, repr=False)
class Trajectory(envelope.Saved):
    """A list of edits, forecast and, where that was asked for, performed.

    Attributes:
        document: The result as it is saved (schema ``diag.sequence/1``): plain JSON values.
    """

    document: Mapping[str, Any]

    @property
    def forecast(self) -> Mapping[str, Any]:
        """What the list will do with the chosen editor."""
        forecast: Mapping[str, Any] = self.document["forecast"]
        return forecast

    @property
    def checkpoints(self) -> Sequence[Mapping[str, Any]]:
        """What was measured; empty where nothing was edited."""
        checkpoints: Sequence[Mapping[str, Any]] = self.document["checkpoints"]
        return checkpoints

    @property
    def collapse_at(self) -> int | None:
        """How many edits had been made when the model collapsed; ``None`` if it did not."""
        at: int | None = self.document["collapse_at"]
        return at

    def to_pandas(self) -> pandas.DataFrame:
        """One row for each edit, in the order in which they are made."""
        import pandas as pd

        return pd.DataFrame(list(self.document["edits"]))

    def plot_damage(self, *, ax: Axes | None = None) -> Picture:
        """Damage over edits, forecast and measured."""
        from reports.figures.picture import of_document

        return of_document("damage", self.document, ax=ax)

    def plot_perplexity(self, *, ax: Axes | None = None) -> Picture:
        """Perplexity over edits, as it was measured."""
        from reports.figures.picture import of_document

        return of_document("perplexity", self.document, ax=ax)

    def plot_efficacy(self, *, ax: Axes | None = None) -> Picture:
        """What the model still says over edits: the edits themselves and other facts."""
        from reports.figures.picture import of_document

        return of_document("efficacy", self.document, ax=ax)

    def plot_tasks(self, *, ax: Axes | None = None) -> Picture:
        """Scores in downstream tasks over edits, where tasks were asked."""
        from reports.figures.picture import of_document

        return of_document("tasks", self.document, ax=ax)

    def __repr__(self) -> str:
        document, forecast = self.document, self.document["forecast"]
        performance = document["performance"]
        progress = "nothing edited" if performance is None else f"{performance['made']:,} made"
        return (
            f"Trajectory({len(document['edits']):,} edits by {document['method']}: forecast to "
            f"collapse at {forecast['collapse_at']}, {len(forecast['dangerous']):,} dangerous "
            f"alone; {progress}, collapse at {document['collapse_at']})"
        )
