"""The result: records in a file, and the card that says what they are."""

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
class HardCases(envelope.Saved):
    """Hard edits of one model with their controls.

    Attributes:
        path: The records.
        document: The card as it is saved (schema ``diag.hardcases/1``): plain JSON values.
    """

    path: str
    document: Mapping[str, Any]

    def to_pandas(self) -> pandas.DataFrame:
        """The records, one row for each edit."""
        import pandas as pd

        return pd.read_json(self.path, orient="records", dtype=False)

    def to_markdown(self) -> str:
        """The card as Markdown."""
        from reports.markdown import render

        return render(self.document)

    def plot_broken(self, *, ax: Axes | None = None) -> Picture:
        """The share of performed edits that broke the model, by arm, hard and easy."""
        from reports.figures.picture import of_document

        return of_document("broken", self.document, ax=ax)

    def __repr__(self) -> str:
        groups = self.document["groups"]
        counts = ", ".join(f"{of['n']:,} {name}" for name, of in groups.items())
        return f"HardCases({self.path!r}, {self.document['made']}: {counts})"
