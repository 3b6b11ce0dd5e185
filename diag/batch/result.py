"""What is known of a batch: a document that knows how to show itself."""

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
class Batch(envelope.Saved):
    """A batch of edits that was checked and, if asked for, made.

    Attributes:
        document: The result as it is saved (schema ``diag.batch/1``): plain JSON values.
    """

    document: Mapping[str, Any]

    @property
    def verdict(self) -> str:
        """``safe``, ``unclear``, ``damage_risk`` or ``collapse_risk``."""
        return str(self.document["verdict"])

    @property
    def findings(self) -> Sequence[Mapping[str, Any]]:
        """What was checked, each measurement with its limit."""
        return self.document["findings"]

    @property
    def outcome(self) -> str | None:
        """``collapsed``, ``damaged`` or ``intact``; ``None`` where the batch was not made."""
        performed = self.document.get("performed")
        return None if performed is None else str(performed["outcome"])

    def to_pandas(self) -> pandas.DataFrame:
        """One row for each edit: what was predicted of it and, where it was made, what came."""
        import pandas as pd

        figures = {
            edit["index"]: edit for edit in (self.document.get("performed") or _NONE)["edits"]
        }
        rows = []
        for i, edit in enumerate(self.document["edits"]):
            request, response = edit["request"], edit["response"] or {}
            row = {name: request[name] for name in ("subject", "prompt", "target_new")}
            row |= {name: edit[name] for name in ("token", "is_first_token", "key_length")}
            row |= {f"response_{name}": value for name, value in response.items()}
            row |= {name: edit[name] for name in ("received_bare", "received_prefixed")}
            if i in figures:
                row |= {"received": figures[i]["received"], "loss": figures[i]["loss"]}
                for word in ("bare", "editing_prefix"):
                    row |= {f"{word}_{name}": value for name, value in figures[i][word].items()}
            rows.append(row)
        return pd.DataFrame(rows)

    def plot_matrix(self, *, ax: Axes | None = None) -> Picture:
        """M as a picture: cosines between the edits' keys in the metric."""
        from reports.figures.picture import of_document

        return of_document("matrix", self.document, ax=ax)

    def plot_response(self, *, ax: Axes | None = None) -> Picture:
        """φ of every edit at its bare and prefixed prompts, and at ordinary tokens."""
        from reports.figures.picture import of_document

        return of_document("response", self.document, ax=ax)

    def plot_family(self, *, ax: Axes | None = None) -> Picture:
        """φ of every method of the family at four kinds of keys."""
        from reports.figures.picture import of_document

        return of_document("family", self.document, ax=ax)

    def __repr__(self) -> str:
        n, method = len(self.document["edits"]), self.document["method"]["name"]
        outcome = "" if self.outcome is None else f", made: {self.outcome}"
        return f"Batch({n} edits by {method}: {self.verdict}{outcome})"


_NONE: Mapping[str, Any] = {"edits": ()}
