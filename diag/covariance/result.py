"""The result of estimating second moments: a document that can show itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rome_diagnosis import envelope

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from probes.second_moment.moment import SecondMoment
    from reports.figures.picture import Picture


@dataclass(frozen=True, repr=False)
class SecondMoments(envelope.Saved):
    """Second moments of one or more layers, each in a file of its own.

    Attributes:
        document: The summary as it is saved (schema ``diag.covariance/1``): plain JSON values.
    """

    document: Mapping[str, Any]

    def load(self, layer: int) -> SecondMoment:
        """Reads one layer's second moment from its file.

        Args:
            layer: The block.

        Returns:
            C with its factorisation and provenance.

        Raises:
            UserError: If there is none of that layer, or its file cannot be read.
        """
        from probes.second_moment.stored import load_moment
        from rome_diagnosis.errors import UserError

        files = {row["layer"]: row["file"] for row in self.document["layers"]}
        if layer not in files:
            known = ", ".join(str(name) for name in files)
            raise UserError(f"there is no second moment of layer {layer} here, only of {known}")
        return load_moment(files[layer])

    def to_pandas(self) -> pandas.DataFrame:
        """One row for each layer."""
        import pandas as pd

        return pd.json_normalize(
            [{k: v for k, v in row.items() if k != "convergence"} | _flat(row)
             for row in self.document["layers"]]
        )  # fmt: skip

    def plot_convergence(self, layer: int | None = None, *, ax: Axes | None = None) -> Picture:
        """ρ of control edits by one half of the text against ρ by the other.

        Args:
            layer: The block; the first by default.
            ax: Axes to draw on; new ones by default.
        """
        from reports.figures.picture import of_moments

        return of_moments(self.document, layer, ax=ax)

    def __repr__(self) -> str:
        layers = ", ".join(
            f"{row['layer']}: {row['n_tokens']:,} tokens" for row in self.document["layers"]
        )
        return f"SecondMoments({self.document['model']!r}, {layers})"


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    known = row.get("convergence") or {}
    return {f"convergence_{name}": known.get(name) for name in ("n", "median", "largest")}
