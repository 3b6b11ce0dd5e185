"""What a verification found: frozen documents that know how to show themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rome_diagnosis import envelope

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from reports.figures.picture import Picture


@dataclass(frozen=True, repr=False)
class Verification(envelope.Saved):
    """One edit, performed four ways.

    Attributes:
        document: The result as it is saved (schema ``diag.verify/1``): plain JSON values.
    """

    document: Mapping[str, Any]

    @property
    def arms(self) -> Mapping[str, Any]:
        """The measurements of ``rome``, ``c_rome``, ``p_rome`` and ``c_rome_prefixed``."""
        stored: Mapping[str, Any] = self.document["arms"]
        return stored

    @property
    def collapsed(self) -> Mapping[str, bool]:
        """Whether each arm's perplexity met the criterion of collapse."""
        stored: Mapping[str, bool] = self.document["collapsed"]
        return stored

    @property
    def outcome(self) -> Mapping[str, str]:
        """What became of the model in each arm: ``collapsed``, ``damaged`` or ``intact``."""
        stored: Mapping[str, str] = self.document["outcome"]
        return stored

    def to_pandas(self) -> pandas.DataFrame:
        """One row for each arm."""
        import pandas as pd

        return pd.DataFrame(_rows(self.document))

    def plot_terms(self, *, ax: Axes | None = None) -> Picture:
        """Each editor's terms of the update equation over C-ROME's."""
        from reports.figures.picture import of_edit

        return of_edit("terms", verify=self.document, ax=ax)

    def plot_split(self, *, ax: Axes | None = None) -> Picture:
        """ρ to scale: a length times a cosine."""
        from reports.figures.picture import of_edit

        return of_edit("split", verify=self.document, ax=ax)

    def plot_perplexity(self, *, ax: Axes | None = None) -> Picture:
        """Perplexity before and after each edit, with the limit of collapse."""
        from reports.figures.picture import of_edit

        return of_edit("perplexity", verify=self.document, ax=ax)

    def plot_shares(self, *, ax: Axes | None = None) -> Picture:
        """The new fact, its paraphrases, neighbours and other facts after each edit."""
        from reports.figures.picture import of_edit

        return of_edit("shares", verify=self.document, ax=ax)

    def __repr__(self) -> str:
        request = self.document["request"]
        outcomes = ", ".join(
            f"{arm} {outcome} ({_ratio(self.arms[arm])})" for arm, outcome in self.outcome.items()
        )
        return (
            f"Verification({request['subject']!r} → {request['target_new']!r}; "
            f"perplexity ratio in brackets: {outcomes})"
        )


@dataclass(frozen=True, repr=False)
class Comparison(envelope.Saved):
    """A list of edits, each performed four ways, and groups of them beside one another.

    Attributes:
        document: The result as it is saved (schema ``diag.verify/1``): plain JSON values.
    """

    document: Mapping[str, Any]

    @property
    def edits(self) -> Sequence[Mapping[str, Any]]:
        """The result of each edit, in the order of the list."""
        stored: Sequence[Mapping[str, Any]] = self.document["edits"]
        return stored

    @property
    def groups(self) -> Mapping[str, Any]:
        """For each way of grouping, one row of figures for each group."""
        stored: Mapping[str, Any] = self.document["groups"]
        return stored

    @property
    def summary(self) -> Mapping[str, Any]:
        """Figures over all edits."""
        stored: Mapping[str, Any] = self.document["summary"]
        return stored

    def to_pandas(self) -> pandas.DataFrame:
        """One row for each edit and arm; edits that could not be performed are left out."""
        import pandas as pd

        return pd.DataFrame(
            [row for edit in self.edits if "error" not in edit for row in _rows(edit)]
        )

    def plot_ratio(self, *, ax: Axes | None = None) -> Picture:
        """How ρ is distributed, with its limits."""
        from reports.figures.picture import of_many

        return of_many("ratio", self.document, ax=ax)

    def plot_damage(self, *, ax: Axes | None = None) -> Picture:
        """How ROME's damage is distributed, with its limits."""
        from reports.figures.picture import of_many

        return of_many("damage", self.document, ax=ax)

    def plot_plane(self, *, ax: Axes | None = None) -> Picture:
        """Each edit's unprefixed key in the plane of its own two keys."""
        from reports.figures.picture import of_many

        return of_many("plane", self.document, ax=ax)

    def plot_perplexity(self, *, ax: Axes | None = None) -> Picture:
        """Predicted damage against what became of perplexity."""
        from reports.figures.picture import of_many

        return of_many("perplexity", self.document, ax=ax)

    def plot_closed_form(self, *, ax: Axes | None = None) -> Picture:
        """Damage in closed form against the same measured."""
        from reports.figures.picture import of_many

        return of_many("closed_form", self.document, ax=ax)

    def plot_keys(
        self, method: Literal["pca", "tsne"] = "tsne", *, ax: Axes | None = None
    ) -> Picture:
        """Keys of edits that collapse the model beside the others', in two dimensions."""
        from reports.figures.picture import of_many

        return of_many(f"keys_{method}", self.document, ax=ax)

    def plot_directions(
        self, method: Literal["pca", "tsne"] = "tsne", *, ax: Axes | None = None
    ) -> Picture:
        """The directions C⁻¹k̄ of either group, in two dimensions."""
        from reports.figures.picture import of_many

        return of_many(f"directions_{method}", self.document, ax=ax)

    def __repr__(self) -> str:
        broken = ", ".join(f"{arm} {n}" for arm, n in self.summary["collapsed"].items())
        return f"Comparison({self.summary['n']} edits; collapsed: {broken})"


def _rows(edit: Mapping[str, Any]) -> list[dict[str, Any]]:
    request, site = edit["request"], edit["site"]
    rows = []
    for arm, figures in edit["arms"].items():
        rows.append(
            {
                "subject": request["subject"],
                "prompt": request["prompt"],
                "target_new": request["target_new"],
                "is_first_token": site["is_first_token"],
                "arm": arm,
                "collapsed": edit["collapsed"][arm],
                "outcome": edit["outcome"][arm],
                "perplexity_before": figures["perplexity"]["before"],
                "perplexity_after": figures["perplexity"]["after"],
                "perplexity_ratio": figures["perplexity"]["ratio"],
                "relative_damage": figures["damage"]["relative"],
                "denominator": figures["denominator"],
                "relative_update_norm": figures["relative_update_norm"],
                "success": figures["efficacy"]["success"],
                "p_before": figures["efficacy"]["p_before"],
                "p_after": figures["efficacy"]["p_after"],
                "rank_after": figures["efficacy"]["rank_after"],
                "generated_success": figures["efficacy"]["generated_success"],
                "generalisation": _after(figures["generalisation"]),
                "locality": _after(figures["locality"]),
                "entropy": _after(figures["entropy"]),
                "recall": _after(figures["recall"]),
            }
        )
    return rows


def _after(figure: Mapping[str, Any] | None) -> Any:
    return None if figure is None else figure["after"]


def _ratio(arm: Mapping[str, Any]) -> str:
    ratio = arm["perplexity"]["ratio"]
    return "overflowed" if ratio is None else f"{ratio:.3g}×"
