"""Several diagnoses side by side: subjects, layers, models, seeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from rome_diagnosis.errors import UserError

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from diag.keys.result import KeyDiagnosis
    from reports.figures.picture import Picture


@dataclass(frozen=True, repr=False)
class Diagnoses(Sequence["KeyDiagnosis"]):
    """Diagnoses of several edits, or of one under several settings.

    Attributes:
        results: The diagnoses.
    """

    results: tuple[KeyDiagnosis, ...]

    @overload
    def __getitem__(self, index: int) -> KeyDiagnosis: ...
    @overload
    def __getitem__(self, index: slice) -> Diagnoses: ...
    def __getitem__(self, index: int | slice) -> KeyDiagnosis | Diagnoses:
        if isinstance(index, slice):
            return Diagnoses(self.results[index])
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[KeyDiagnosis]:
        return iter(self.results)

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each diagnosis: what was measured with, then the numbers of ``diag.screen``."""
        import pandas as pd

        rows = [result.to_pandas() for result in self.results]
        settings = pd.DataFrame([_settings(result.document) for result in self.results])
        return pd.concat([settings, pd.concat(rows, ignore_index=True)], axis=1)

    def labels(self) -> list[str]:
        """What tells each diagnosis from the others: the fields in which they differ."""
        fields = [
            {"subject": result.document["request"]["subject"], **_settings(result.document)}
            for result in self.results
        ]
        differ = [name for name in fields[0] if len({row[name] for row in fields}) > 1]
        return [
            ", ".join(_named(name, row[name]) for name in differ or ["subject"]) for row in fields
        ]

    def plot_damage(self, *, ax: Axes | None = None) -> Picture:
        """Damage of each editor, a line for each diagnosis."""
        return self._plot("damage", ax)

    def plot_first_tokens(self, *, ax: Axes | None = None) -> Picture:
        """Damage at first tokens of each editor, a line for each diagnosis."""
        return self._plot("first_tokens", ax)

    def _plot(self, name: str, ax: Axes | None) -> Picture:
        from reports.figures.picture import of_several

        return of_several(name, [result.document for result in self.results], self.labels(), ax=ax)

    def __repr__(self) -> str:
        verdicts = (
            f"{label}: {result.verdict}"
            for label, result in zip(self.labels(), self.results, strict=True)
        )
        return f"Diagnoses({'; '.join(verdicts)})"

    def _repr_html_(self) -> str:
        return str(self.to_pandas().to_html())


def compare(results: Sequence[KeyDiagnosis]) -> Diagnoses:
    """Puts diagnoses side by side: of several layers, models, methods or seeds.

    Args:
        results: At least one diagnosis.

    Returns:
        The diagnoses, as one table and figures.

    Raises:
        UserError: If there is none, or something else among them.
    """
    from diag.keys.result import KeyDiagnosis

    if isinstance(results, KeyDiagnosis) or not isinstance(results, Iterable):
        raise UserError("compare takes a list of diagnoses")
    for result in results:
        if not isinstance(result, KeyDiagnosis):
            raise UserError(f"only diagnoses can be compared, not {type(result).__name__}")
    if not results:
        raise UserError("there is nothing to compare: give a list of diagnoses")
    return Diagnoses(tuple(results))


def _settings(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model": document["model"]["name"],
        "layer": document["site"]["layer"],
        "seed": document["contexts"]["seed"],
        "n_prefixes": document["contexts"]["n"],
        "second_moment": document["second_moment"]["source"],
    }


def _named(name: str, value: Any) -> str:
    return str(value) if name in ("subject", "model") else f"{name.replace('_', ' ')} {value}"
