"""Several diagnoses side by side: subjects, layers, models, editors, seeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from diag.keys.row import row
from rome_diagnosis import envelope
from rome_diagnosis.editors import EDITORS, PUBLISHED, REMEDY
from rome_diagnosis.errors import UserError

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from diag.keys.result import KeyDiagnosis
    from reports.figures.picture import Picture

SCHEMA = "diag.compare/1"


@dataclass(frozen=True, repr=False)
class Diagnoses(envelope.Saved, Sequence["KeyDiagnosis"]):
    """Diagnoses of several edits, or of one under several settings.

    Attributes:
        results: The diagnoses.
        document: What is compared, as it is saved (schema ``diag.compare/1``): plain JSON values.
    """

    results: tuple[KeyDiagnosis, ...]
    document: Mapping[str, Any]

    @overload
    def __getitem__(self, index: int) -> KeyDiagnosis: ...
    @overload
    def __getitem__(self, index: slice) -> Diagnoses: ...
    def __getitem__(self, index: int | slice) -> KeyDiagnosis | Diagnoses:
        return compare(self.results[index]) if isinstance(index, slice) else self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[KeyDiagnosis]:
        return iter(self.results)

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each diagnosis: its settings, ``diag.screen``'s columns, every editor's."""
        import pandas as pd

        rows = []
        for result, own in zip(self.results, self.document["rows"], strict=True):
            rows.append(_settings(result.document) | result.to_pandas().iloc[0].to_dict())
            for name, figures in own["editors"].items():
                # The denominator is there as d_…
                rows[-1] |= {
                    f"{figure}_{name}": value
                    for figure, value in figures.items()
                    if figure != "denominator"
                }
        return pd.DataFrame(rows)

    def labels(self) -> list[str]:
        """What tells each diagnosis from the others: the fields in which they differ."""
        return [own["label"] for own in self.document["rows"]]

    def plot_panels(self, *, ax: Axes | None = None) -> Picture:
        """Small multiples: ρ, damage, damage at first tokens and the bare prompt's share."""
        return self._plot("panels", ax)

    def plot_damage(self, *, ax: Axes | None = None) -> Picture:
        """Damage of each editor, a line for each diagnosis."""
        return self._plot("damage", ax)

    def plot_first_tokens(self, *, ax: Axes | None = None) -> Picture:
        """Damage at first tokens of each editor, a line for each diagnosis."""
        return self._plot("first_tokens", ax)

    def _plot(self, name: str, ax: Axes | None) -> Picture:
        from reports.figures.picture import of_document

        return of_document(name, self.document, ax=ax)

    def __repr__(self) -> str:
        verdicts = (
            f"{label}: {result.verdict}"
            for label, result in zip(self.labels(), self.results, strict=True)
        )
        return f"Diagnoses({'; '.join(verdicts)})"


def compare(results: Sequence[KeyDiagnosis]) -> Diagnoses:
    """Puts diagnoses side by side: of several layers, models, methods or seeds.

    Args:
        results: At least one diagnosis.

    Returns:
        The diagnoses, as one table, one figure and one page.

    Raises:
        UserError: If there is none, or something else among them.
    """
    from diag.keys.result import KeyDiagnosis

    if isinstance(results, KeyDiagnosis) or not isinstance(results, Iterable):
        raise UserError("compare takes a list of diagnoses")
    for result in results:
        if not isinstance(result, KeyDiagnosis):
            other = type(result).__name__
            raise UserError(
                f"only diagnoses can be compared, not {other}: give what diagnose() returns, e.g. "
                "compare([diagnose('Apple', layer=layer) for layer in (1, 2)])"
            )
    if not results:
        raise UserError("there is nothing to compare: give a list of diagnoses")
    return Diagnoses(tuple(results), document([result.document for result in results]))


def document(diagnoses: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is compared, in one document.

    Args:
        diagnoses: ``diag.keys/1`` documents.

    Returns:
        Plain JSON values.
    """
    settings = [_settings(each) for each in diagnoses]
    differ = _differing(settings)
    shared = ("model", "request", "contexts")
    rows = [
        {
            "label": ", ".join(_named(name, own[name]) for name in differ or ["subject"]),
            **{name: each[name] for name in shared},
            "clamp_norm_factor": each["damage"]["clamp_norm_factor"],
            **row(each),
        }
        for each, own in zip(diagnoses, settings, strict=True)
    ]
    written = {
        **envelope.head(SCHEMA, None),
        "differ": differ,
        "limits": diagnoses[0]["limits"],
        "rows": rows,
        "summary": _summary(rows, differ),
    }
    return envelope.plain(envelope.finite(written))


def _settings(diagnosis: Mapping[str, Any]) -> dict[str, Any]:
    """What diagnoses may differ in, the subject first."""
    return {
        "subject": diagnosis["request"]["subject"],
        "prompt": diagnosis["request"]["prompt"],
        "model": diagnosis["model"]["name"],
        "dtype": diagnosis["model"]["dtype"],
        "layer": diagnosis["site"]["layer"],
        "seed": diagnosis["contexts"]["seed"],
        "n_prefixes": diagnosis["contexts"]["n"],
        "second_moment": diagnosis["second_moment"]["source"],
        "clamp": diagnosis["damage"]["clamp_norm_factor"],
    }


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    differ = [name for name in settings[0] if len({own[name] for own in settings}) > 1]
    pairs = {(own["subject"], own["prompt"]) for own in settings}
    if len(pairs) == len({subject for subject, _ in pairs}):
        return [name for name in differ if name != "prompt"]  # which the subject's name says
    return differ


def _named(name: str, value: Any) -> str:
    return (
        str(value)
        if name in ("subject", "model", "prompt", "dtype")
        else f"{name.replace('_', ' ')} {value}"
    )


def _summary(rows: Sequence[Mapping[str, Any]], differ: Sequence[str]) -> str:
    """In what the diagnoses differ, the range of ρ, and two editors' verdicts, counted."""
    fields = ", ".join(name.replace("_", " ") for name in differ)
    rho = [own["ratio"] for own in rows]
    sentences = [
        f"{len(rows):,} diagnos{'i' if len(rows) == 1 else 'e'}s"
        + (f" that differ in {fields}" if differ else ""),
        f"ρ lies between {min(rho):.3g} and {max(rho):.3g}" if len(rows) > 1 else "",
    ]
    for name in (PUBLISHED, REMEDY):
        verdicts = [own["editors"][name]["verdict"] for own in rows]
        counted = (
            f"{verdict.replace('_', ' ')} in {verdicts.count(verdict):,} of {len(rows):,}"
            for verdict in dict.fromkeys(verdicts)
        )
        sentences.append(f"{EDITORS[name].label}: {', '.join(counted)}")
    return " ".join(f"{sentence}." for sentence in sentences if sentence)
