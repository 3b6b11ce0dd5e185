"""The result of a screening: a table in a file, and a document that sums it up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rome_diagnosis import envelope
from rome_diagnosis.editors import PUBLISHED

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from reports.figures.picture import Picture


@dataclass(frozen=True, repr=False)
class Screening(envelope.Saved):
    """A screened data set.

    Attributes:
        path: The Parquet table.
        document: The summary as it is saved (schema ``diag.screen/1``): plain JSON values.
    """

    path: str
    document: Mapping[str, Any]

    @property
    def verdicts(self) -> Mapping[str, int]:
        """How often each verdict came: on the chosen method, or on ROME as published."""
        method, summary = self.document.get("method"), self.document["summary"]
        if method is None:
            counts: Mapping[str, int] = summary["verdicts"]
        else:
            counts = method["groups"]["all"]["editors"][method["name"]]["verdicts"]
        return counts

    def to_pandas(self) -> pandas.DataFrame:
        """The table, one row for each row of the data set."""
        import pandas as pd

        return pd.read_parquet(self.path)

    def plot_ratio(self, *, ax: Axes | None = None) -> Picture:
        """How ρ is distributed, with its limits."""
        from reports.figures.picture import of_many

        return of_many("ratio", self.shown(), ax=ax)

    def plot_damage(self, *, ax: Axes | None = None) -> Picture:
        """How ROME's damage is distributed, with its limits."""
        from reports.figures.picture import of_many

        return of_many("damage", self.shown(), ax=ax)

    def plot_plane(self, *, ax: Axes | None = None) -> Picture:
        """Each edit's unprefixed key in the plane of its own two keys."""
        from reports.figures.picture import of_many

        return of_many("plane", self.shown(), ax=ax)

    def __repr__(self) -> str:
        summary = self.document["summary"]
        counts = ", ".join(f"{name} {n:,}" for name, n in summary["verdicts"].items())
        return (
            f"Screening({self.path!r}, {summary['n']:,} rows: {counts}, "
            f"errors {summary['errors']:,})"
        )

    def shown(self) -> dict[str, Any]:
        """The summary with the table's rows."""
        from reports.document import with_rows

        return with_rows({**self.document, "table": self.path})


@dataclass(frozen=True, repr=False)
class LayerScreening(envelope.Saved):
    """A data set screened at several blocks.

    Attributes:
        path: The Parquet table, for each row of the data set a row for each block.
        document: The summary as it is saved (schema ``diag.screen_layers/1``): plain JSON values.
    """

    path: str
    document: Mapping[str, Any]

    @property
    def verdicts(self) -> dict[int, dict[str, int]]:
        """How often each verdict on ROME as published came, by block."""
        return {
            row["layer"]: row["groups"]["all"]["editors"][PUBLISHED]["verdicts"]
            for row in self.document["layers"]
        }

    def to_pandas(self) -> pandas.DataFrame:
        """The table."""
        import pandas as pd

        return pd.read_parquet(self.path)

    def plot_verdicts(self, editor: str = PUBLISHED, *, ax: Axes | None = None) -> Picture:
        """The share of each verdict on an editor, by block."""
        from reports.figures.picture import of_document

        return of_document(f"verdicts_{editor}", self.document, ax=ax)

    def plot_damage(self, *, ax: Axes | None = None) -> Picture:
        """Each editor's median damage bound, by block."""
        from reports.figures.picture import of_document

        return of_document("damage", self.document, ax=ax)

    def __repr__(self) -> str:
        layers = self.document["layers"]
        return f"LayerScreening({self.path!r}, {len(layers)} blocks: {self.document['summary']})"
