"""The result of a diagnosis: a frozen document that shows itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from diag.keys.document import SCHEMA
from probes.second_moment.moment import SecondMoment
from rome_diagnosis import envelope
from rome_diagnosis.disk import files
from rome_diagnosis.editors import EDITORS, PUBLISHED
from rome_diagnosis.schema.screen import COLUMNS

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from reports.figures.picture import Picture


# Of each editor's damage, in columns named ``bound_rome`` and so on.
FIGURES = ("bound", "relative_bound", "relative_bound_first_tokens", "expected_share")


@dataclass(frozen=True, repr=False)
class KeyDiagnosis(envelope.Saved):
    """What one edit would do, and why.

    Attributes:
        document: The result as it is saved (schema ``diag.keys/1``): plain JSON values.
        keys: Keys under contexts 0…n, row 0 the bare prompt's, ``[n_ctx, d_mlp]`` float64.
        moment: The second moment they were judged by.
    """

    document: Mapping[str, Any]
    keys: Float[Tensor, "n_ctx d_mlp"]
    moment: SecondMoment

    @property
    def verdict(self) -> str:
        """``collapse_risk``, ``damage_risk``, ``unclear`` or ``safe``."""
        return str(self.document["verdict"])

    @property
    def denominators(self) -> Mapping[str, Any]:
        """The denominator of each editor, raw and normalised, and ρ."""
        return self.document["denominators"]

    @property
    def response(self) -> Mapping[str, Any]:
        """Which share of the change other prompts receive, by editor."""
        return self.document["response"]

    @property
    def ratio(self) -> float:
        """ρ."""
        return float(self.denominators["ratio"])

    def to_pandas(self) -> pandas.DataFrame:
        """One row: the numbers a table of many edits would hold (``diag.screen``'s columns)."""
        import pandas as pd

        d = self.document
        bare, damage = d["lookup"]["unprefixed"], d["damage"]
        row = {
            "subject": d["request"]["subject"],
            "prompt": d["request"]["prompt"],
            "token": bare["token"],
            "token_index": bare["index"],
            "is_first_token": bare["is_first_token"],
            **{f"d_{name}": d["denominators"][name] for name in EDITORS},
            "rho": self.ratio,
            "length_ratio": d["keys"]["whitened_length_ratio"],
            "whitened_cosine": d["keys"]["whitened_cosine"],
            **{
                column: damage[name][figure]
                for figure in FIGURES
                for name in EDITORS
                if (column := f"{figure}_{name}") in COLUMNS
            },
            "verdict": self.verdict,
        }
        return pd.DataFrame([row])

    def plot_terms(self, *, ax: Axes | None = None) -> Picture:
        """Each editor's terms of the update equation over C-ROME's."""
        from reports.figures.picture import of_edit

        return of_edit("terms", self.document, ax=ax)

    def plot_split(self, *, ax: Axes | None = None) -> Picture:
        """ρ to scale: a length times a cosine."""
        from reports.figures.picture import of_edit

        return of_edit("split", self.document, ax=ax)

    def plot_plane(self, *, ax: Axes | None = None) -> Picture:
        """Where k_u, the prefixed keys and C⁻¹k̄ lie, ordinary keys beside them."""
        from reports.figures.picture import of_edit

        return of_edit("plane", self.document, ax=ax)

    def save_tensors(self, path: str) -> None:
        """Writes ``unprefixed``, ``prefixed`` and ``second_moment`` as safetensors.

        Args:
            path: The file; written completely or not at all.

        Raises:
            UserError: If it cannot be written.
        """
        moment = self.moment.moment
        if moment is None:
            moment = torch.eye(self.moment.d_mlp, dtype=torch.float64)
        tensors = {
            "unprefixed": self.keys[0].clone(),
            "prefixed": self.keys.contiguous(),
            "second_moment": moment.contiguous(),
        }
        with files.atomic(path) as part:
            save_file(tensors, part, metadata={"schema": SCHEMA})

    def __repr__(self) -> str:
        return (
            f"KeyDiagnosis({self.document['request']['subject']!r}, {self.verdict}, "
            f"ρ = {self.ratio:.3g}, damage {_short(self.document['damage'][PUBLISHED])})"
        )


def _short(bound: Mapping[str, Any]) -> str:
    relative = bound["relative_bound"]
    return "not checked" if relative is None else f"up to {relative:.2g}"
