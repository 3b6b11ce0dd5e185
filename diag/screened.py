"""What a screening found: a table in a file, and a document that sums it up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diag import command

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False)
class Screening:
    """A screened data set.

    Attributes:
        path: The Parquet table.
        document: The summary as it is saved (schema ``diag.screen/1``): plain JSON values.
    """

    path: str
    document: Mapping[str, Any]

    def to_pandas(self) -> pandas.DataFrame:
        """The table, one row for each row of the data set."""
        import pandas as pd

        return pd.read_parquet(self.path)

    def to_json(self) -> str:
        """The summary as text."""
        return command.dumps(self.document)

    def __repr__(self) -> str:
        found = self.document["summary"]
        counts = ", ".join(f"{name} {n:,}" for name, n in found["verdicts"].items())
        return (
            f"Screening({self.path!r}, {found['n']:,} rows: {counts}, errors {found['errors']:,})"
        )

    def _repr_html_(self) -> str:
        from reports.screen_text import fragment

        return fragment(self.document)
