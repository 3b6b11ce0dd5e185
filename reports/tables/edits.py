"""Many edits in one form, whether they were screened or performed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reports.tables import terms

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Edit:
    """One of many edits, as far as it was measured.

    Attributes:
        number: Its place in the list or data set.
        subject: Its subject.
        prompt: Its prompt, ``{}`` for the subject.
        token: The token the bare prompt looks the fact up at.
        index: That token's index.
        is_first: Whether nothing stands in front of it.
        split: ρ and its factors; ``None`` where they cannot be had.
        predicted: Relative damage of ROME in closed form; a bound where the edit was not made.
        ratio: Perplexity after ROME over before; ``None`` if not measured or beyond all numbers.
        collapsed: Whether ROME broke the model; ``None`` where the edit was not made.
        verdict: Of screening, or ``None``.
        source: The row or object all this is from.
    """

    number: int
    subject: str
    prompt: str
    token: str
    index: int
    is_first: bool
    split: terms.Split | None
    predicted: float | None
    ratio: float | None
    collapsed: bool | None
    verdict: str | None
    source: Document

    @property
    def group(self) -> str:
        """What figures set apart: collapsed or not where that is known, else the place."""
        if self.collapsed is not None:
            return "collapsed" if self.collapsed else "not collapsed"
        return "first token" if self.is_first else "later token"


def edits(document: Document) -> list[Edit]:
    """The edits of a list or a screened data set, those that could not be measured left out.

    Args:
        document: ``diag.verify/1`` of a list, or ``diag.screen/1`` with its table as ``rows``.

    Returns:
        The riskiest first: by what the edit did, else by what it may do.
    """
    if document["schema"] == "diag.screen/1":
        found = [_screened(row) for row in document["rows"] if row["error"] is None]
        return sorted(found, key=_risk, reverse=True)
    made = enumerate(document["edits"])
    performed = [_performed(i, edit) for i, edit in made if "error" not in edit]
    return sorted(performed, key=_harm, reverse=True)


def _risk(edit: Edit) -> tuple[float, float, int]:
    bound = -1.0 if edit.predicted is None else edit.predicted
    if edit.source["d_rome"] == 0.0:
        bound = float("inf")
    return bound, -abs(edit.split.rho) if edit.split else 0.0, -edit.number


def _harm(edit: Edit) -> tuple[float, int]:
    return float("inf") if edit.ratio is None else edit.ratio, -edit.number


def _screened(row: Document) -> Edit:
    rho, length, cosine = row["rho"], row["length_ratio"], row["whitened_cosine"]
    known = None not in (rho, length, cosine)
    return Edit(
        number=row["row"], subject=row["subject"], prompt=row["prompt"], token=row["token"],
        index=row["token_index"], is_first=row["is_first_token"],
        split=terms.Split(rho, length, cosine) if known else None,
        predicted=row["relative_bound_rome"], ratio=None, collapsed=None,
        verdict=row["verdict"], source=row,
    )  # fmt: skip


def _performed(number: int, edit: Document) -> Edit:
    rome, site, request = edit["arms"]["rome"], edit["site"], edit["request"]
    return Edit(
        number=number, subject=request["subject"], prompt=request["prompt"], token=site["token"],
        index=site["index"], is_first=site["is_first_token"],
        split=terms.split(terms.of_edit(edit)), predicted=rome["damage"]["relative"],
        ratio=rome["perplexity"]["ratio"], collapsed=edit["collapsed"]["rome"],
        verdict=None, source=edit,
    )  # fmt: skip
