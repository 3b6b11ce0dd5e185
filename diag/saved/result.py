"""What an applied edit came to: a document that knows how to show itself."""

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
class Applied(envelope.Saved):
    """A model that was edited and saved.

    Attributes:
        document: The record of its edits (schema ``diag.apply/1``), as it lies beside the model.
        directory: Where the model is.
    """

    document: Mapping[str, Any]
    directory: str

    @property
    def edits(self) -> Sequence[Mapping[str, Any]]:
        """Each edit with its editor, verdict and what it says now."""
        return self.document["edits"]

    @property
    def outcome(self) -> str:
        """What became of the model: ``collapsed``, ``damaged`` or ``intact``."""
        return str(self.document["outcome"])

    def to_pandas(self) -> pandas.DataFrame:
        """One row for each edit."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    **edit["request"],
                    "editor": edit["editor"],
                    "verdict": edit["verdict"],
                    "relative_bound": edit["relative_bound"],
                    "needs_prefix": edit["needs_prefix"],
                    "p_bare": edit["after"]["bare"]["p_after"] if "after" in edit else None,
                    "p_prefixed": edit["after"]["prefixed"]["p_after"] if "after" in edit else None,
                }
                for edit in self.edits
            ]
        )

    def plot_shares(self, *, ax: Axes | None = None) -> Picture:
        """What the model answers before its edits and after."""
        from reports.figures.picture import of_document

        return of_document("shares", self.document, ax=ax)

    def __repr__(self) -> str:
        return (
            f"Applied({len(self.edits)} edits in {self.directory!r}; the model is {self.outcome})"
        )
