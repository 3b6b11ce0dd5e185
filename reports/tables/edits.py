"""Many edits in one form, whether they were screened or performed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reports.tables import editors, terms, verdicts
from reports.tables.editors import Shown
from rome_diagnosis.editors import PUBLISHED

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Edit:
    """One of many edits, as far as it was measured.

    Attributes:
        number: Its place in the list or data set.
        subject: Its subject.
        prompt: Its prompt, ``{}`` for the subject.
        token: The token at which the bare prompt looks the fact up.
        index: That token's index.
        is_first: Whether no token precedes it.
        split: ρ and its factors; ``None`` where they cannot be had.
        predicted: Relative damage of the published editor in closed form; a bound where the edit
            was not made.
        predicted_first: The same at the first tokens of other texts; ``None`` if not measured.
        ratio: Perplexity after it over before; ``None`` if not measured or beyond all numbers.
        performed: Whether the edit was made.
        label: The outcome where the edit was made, else the verdict.
        source: The row or object all this is from.
    """

    number: int
    subject: str
    prompt: str
    token: str
    index: int
    is_first: bool
    split: terms.RatioTerms | None
    predicted: float | None
    predicted_first: float | None
    ratio: float | None
    performed: bool
    label: verdicts.Label
    source: Document

    @property
    def expected(self) -> float | None:
        """The damage that is expected; ``None`` where it is the bound, or the edit was made."""
        share = self.source.get(f"expected_share_{PUBLISHED}")
        if self.predicted is None or share is None or share >= 1.0:
            return None
        return float(self.predicted * share)

    @property
    def group(self) -> str:
        """What figures set apart: collapsed or not where that is known, else the place."""
        if self.performed:
            return "collapsed" if self.label.name == "collapsed" else "not collapsed"
        return "first token" if self.is_first else "later token"


def edits(document: Document) -> list[Edit]:
    """The edits of a list or a screened data set, those that could not be measured left out.

    Args:
        document: ``diag.verify/1`` of a list, or ``diag.screen/1`` with its table as ``rows``.

    Returns:
        The riskiest first: by what the edit did, else by what it may do.
    """
    if document["schema"] == "diag.screen/1":
        screened = [_screened(row) for row in document["rows"] if row["error"] is None]
        limits = document.get("limits", {})
        return sorted(screened, key=lambda edit: _risk(edit, limits), reverse=True)
    numbered = enumerate(document["edits"])
    performed = [_performed(i, edit) for i, edit in numbered if "error" not in edit]
    return sorted(performed, key=_harm, reverse=True)


def denominators(row: Document) -> list[tuple[Shown, float | None, float | None]]:
    """The denominators of one row of a screened data set, with the damage each allows.

    Args:
        row: A row of the table that ``diag.screen`` writes.

    Returns:
        For each editor D and the bound of the MLP output's change, as far as the row holds them.
    """
    names = [column.removeprefix("d_") for column in row if column.startswith("d_")]
    return [
        (shown, row[f"d_{shown.name}"], row.get(f"bound_{shown.name}"))
        for shown in editors.editors(names)
    ]


def _risk(edit: Edit, limits: Mapping[str, float]) -> tuple[float, float, int]:
    """By how much the damage, here or at first tokens, goes beyond what is safe."""
    bound = -1.0 if edit.predicted is None else edit.predicted / limits.get("damage_safe", 1.0)
    if edit.predicted_first is not None and "first_tokens_safe" in limits:
        bound = max(bound, edit.predicted_first / limits["first_tokens_safe"])
    if edit.source.get(f"d_{PUBLISHED}") == 0.0:
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
        split=terms.RatioTerms(rho, length, cosine) if known else None,
        predicted=row.get(f"relative_bound_{PUBLISHED}"),
        predicted_first=row.get(f"relative_bound_first_tokens_{PUBLISHED}"),
        ratio=None, performed=False,
        label=verdicts.label(str(row["verdict"])), source=row,
    )  # fmt: skip


def _performed(number: int, edit: Document) -> Edit:
    name = editors.judged(edit["arms"])
    arm, site, request = edit["arms"][name], edit["site"], edit["request"]
    return Edit(
        number=number, subject=request["subject"], prompt=request["prompt"], token=site["token"],
        index=site["index"], is_first=site["is_first_token"],
        split=terms.split(terms.of_edit(edit)), predicted=arm["damage"]["relative"],
        predicted_first=arm["damage"].get("relative_first_tokens"),
        ratio=arm["perplexity"]["ratio"], performed=True,
        label=verdicts.label(verdicts.outcome(edit, name)), source=edit,
    )  # fmt: skip
