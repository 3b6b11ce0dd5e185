"""The result of a sweep: a frozen document that shows itself."""

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
class LayerSweep(envelope.Saved):
    """One edit at several blocks.

    Attributes:
        document: The result as it is saved (schema ``diag.sweep/1``): plain JSON values.
    """

    document: Mapping[str, Any]

    @property
    def verdicts(self) -> dict[int, str]:
        """The verdict on ROME as published, by block."""
        return {row["layer"]: row["verdict"] for row in self.document["layers"]}

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each block: ρ, each editor's figures, and the first position's stream."""
        import pandas as pd

        sink = {block["layer"]: block for block in self.document["sink"]["blocks"]}
        rows = []
        for row in self.document["layers"]:
            flat = {"layer": row["layer"], "rho": row["ratio"], "verdict": row["verdict"]}
            for name, figures in row["editors"].items():
                flat |= {f"{figure}_{name}": value for figure, value in figures.items()}
            at = sink[row["layer"]]
            flat |= {name: at[name] for name in ("norm_first", "norm_later", "attention_to_first")}
            rows.append(flat)
        return pd.DataFrame(rows).set_index("layer")

    def plot_damage(self, *, ax: Axes | None = None) -> Picture:
        """Damage of each editor over depth."""
        from reports.figures.picture import of_document

        return of_document("damage", self.document, ax=ax)

    def plot_stream(self, *, ax: Axes | None = None) -> Picture:
        """Norm of the residual stream over depth, at the first position and at later ones."""
        from reports.figures.picture import of_document

        return of_document("stream", self.document, ax=ax)

    def __repr__(self) -> str:
        return f"LayerSweep({self.document['request']['subject']!r}, {self.verdicts})"
