"""What a table of several blocks sums up to: a row for each block, and a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from diag.judgement.verdict import VERDICTS
from diag.screen import document
from diag.screen.table import column
from diag.sweep.document import blocks
from probes.model.loaded import describe_model
from rome_diagnosis import envelope, limits
from rome_diagnosis.editors import EDITORS, PUBLISHED, REMEDY

if TYPE_CHECKING:
    import pandas

    from diag.screen.run import ScreenPlan

SCHEMA = "diag.screen_layers/1"
FIGURES = ("relative_bound", "relative_bound_first_tokens", "bare", "prefixed")
QUANTILES = {"low": 0.05, "median": 0.5, "high": 0.95}


def document_of(plan: ScreenPlan) -> dict[str, Any]:
    """What the document of a screening at several blocks has beside every screening's."""
    import pandas as pd

    table = pd.read_parquet(plan.output)
    rows = [
        row(about, table[table["layer"] == about["layer"]]) for about in plan.screeners.described
    ]
    architecture = describe_model(plan.screeners.shared.model)["architecture"]
    written = {
        "validity": limits.validity(architecture),
        "layers": rows,
        **document.refused(table),
        "summary": summary(rows),
    }
    return dict(envelope.finite(written))


def row(about: Mapping[str, Any], table: pandas.DataFrame) -> dict[str, Any]:
    """One block's row.

    Args:
        about: Its number, second moment and norm.
        table: The table's rows of this block.

    Returns:
        The row: verdicts and distributions over all edits, and where the subject is looked up at
        the first token and later.
    """
    screened = table[table["error"].isna()]
    return {
        **about,
        "screened": len(screened),
        "errors": len(table) - len(screened),
        "groups": groups(screened, EDITORS),
    }


def groups(screened: pandas.DataFrame, methods: Iterable[str]) -> dict[str, Any]:
    """What some methods would do with all edits, with those of first tokens, and with the others.

    Args:
        screened: Rows of a table.
        methods: Names of methods that have columns in it.

    Returns:
        Verdicts and distributions of each group.
    """
    first, named = screened["is_first_token"].astype(bool), list(methods)
    return {
        "all": _group(screened, named),
        "first": _group(screened[first], named),
        "later": _group(screened[~first], named),
    }


def _group(rows: pandas.DataFrame, methods: Sequence[str]) -> dict[str, Any]:
    editors = {}
    for name in methods:
        given = rows[column("verdict", name)].value_counts()
        editors[name] = {
            "verdicts": {verdict: int(given.get(verdict, 0)) for verdict in reversed(VERDICTS)},
            **{figure: _quantiles(rows[column(figure, name)]) for figure in FIGURES},
        }
    return {"n": len(rows), "rho": _quantiles(rows["rho"]), "editors": editors}


def _quantiles(values: pandas.Series[float]) -> dict[str, float] | None:
    known = values.dropna().astype(float)
    if not len(known):
        return None
    return {name: float(known.quantile(at)) for name, at in QUANTILES.items()}


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """At which blocks the list is safe to edit, and at which it is not.

    Args:
        rows: A row for each block.

    Returns:
        A sentence or two for the published editor, and for the one that repairs it.
    """
    n = max(each["screened"] for each in rows)
    if not n:
        return "No edit could be measured at any block."
    # What could not be measured is no edit that a block spares.
    measured = [each for each in rows if each["screened"] == n]
    sentences = [_sentences(editor, measured, n) for editor in (PUBLISHED, REMEDY)]
    if others := [each["layer"] for each in rows if each["screened"] < n]:
        sentences.append(f"Left out: {blocks(others)}, where not all edits could be measured.")
    return " ".join(sentences)


def _sentences(editor: str, rows: Sequence[Mapping[str, Any]], n: int) -> str:
    counts = {each["layer"]: each["groups"]["all"]["editors"][editor]["verdicts"] for each in rows}
    risks = {layer: own["collapse_risk"] for layer, own in counts.items()}
    safe = {layer: own["safe"] for layer, own in counts.items()}
    spared = _at(risks, 0)
    label, edits = EDITORS[editor].label, f"{n:,} edits" if n != 1 else "1 edit"
    if spared:
        where = f"no edit of {n:,} is a collapse risk at {blocks(spared)}"
    else:
        least = min(risks.values())
        where = (
            f"of {edits} some are a collapse risk at every block, fewest at "
            f"{blocks(_at(risks, least))} ({least:,})"
        )
    if most := max(risks.values()):
        worst = _at(risks, most)
        where += f"; {blocks(worst)} {'has' if len(worst) == 1 else 'have'} most, {most:,}"
    best = max(safe.values())
    if not best:
        return f"{label}: {where}. None is safe at any block."
    at = blocks(_at(safe, best))
    if best == n:
        return f"{label}: {where}. All are safe at {at}."
    return f"{label}: {where}. At most {best:,} of {n:,} are safe, at {at}."


def _at(counts: Mapping[int, int], count: int) -> list[int]:
    return [layer for layer, own in counts.items() if own == count]
