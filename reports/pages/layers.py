"""The page of a data set at several blocks: at which is it safe to edit, and with which editor?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.figures import layers as drawn
from reports.numbers import counted, number, percent, share
from reports.pages.parts.sections import Section
from reports.pages.parts.sections import view as of_sections
from reports.tables import editors, verdicts
from rome_diagnosis.editors import REMEDY

Document = Mapping[str, Any]
LISTED = 20  # rows that are no edits
VERDICTS = tuple(drawn.LOOKS)
QUANTILES = {"median": "damage", "low": "5 %", "high": "95 %"}
GROUPS = {"first": "first token", "later": "later token"}
MEANING = (
    "Shares of the edits, then damage at most, in units of hidden states' norm: its median over "
    "the edits, 5 % and 95 % quantile, and the median of what first tokens take."
)
RESPONSE = (
    "Medians, where the subject's last token is the first of the prompt and where it is not. φ is "
    "the share of its change that a prompt receives: too little, and the edit does not take there; "
    "more than 1, and it overshoots. At the bare prompt it is ρ for {remedy} and 1 for the others."
)


def view(document: Document, *, figures: bool = True) -> dict[str, Any]:
    """What the page shows.

    Args:
        document: A ``diag.screen_layers/1`` document.
        figures: Whether to draw figures.

    Returns:
        The template's values.
    """
    rows = document["layers"]
    shown = editors.editors({name for row in rows for name in row["groups"]["all"]["editors"]})
    listed = [_of_editor(document, editor, figures=figures) for editor in shown]
    edits = counted(max(row["screened"] for row in rows), "edit")
    return of_sections(
        document,
        title=f"{edits} of {document['dataset']['name']} at {counted(len(rows), 'block')}",
        headline=document["summary"],
        sections=[*listed, _response(document, shown, figures=figures), *_refused(document)],
    ) | {"measured_with": _measured_with(document)}


def _of_editor(document: Document, editor: editors.Shown, *, figures: bool) -> Section:
    lines = []
    for row in document["layers"]:
        own, n = row["groups"]["all"]["editors"].get(editor.name), row["screened"]
        if own is not None:
            lines.append((
                str(row["layer"]),
                *(share(own["verdicts"].get(name, 0) / n) if n else "–" for name in VERDICTS),
                *(percent((own["relative_bound"] or {}).get(at)) for at in QUANTILES),
                percent((own["relative_bound_first_tokens"] or {}).get("median")),
            ))  # fmt: skip
    head = ("Block", *(verdicts.label(name).text.lower() for name in VERDICTS),
            *QUANTILES.values(), "first tokens")  # fmt: skip
    picture = drawn.shares(document, editor.name) if figures else None
    return Section(
        f"verdicts-{editor.style}", f"{editor.short}, block by block", (MEANING,), head, lines,
        [(picture, f"Verdicts on {editor.short}.")] if picture else (),
    )  # fmt: skip


def _response(document: Document, shown: list[editors.Shown], *, figures: bool) -> Section:
    """ρ, and what each editor sends to prefixed prompts, at first tokens and at later ones."""
    lines = []
    for row in document["layers"]:
        groups = [row["groups"][name] for name in GROUPS]
        figures_of = [[(of["rho"] or {}).get("median") for of in groups]]
        figures_of += [
            [((of["editors"].get(editor.name) or {}).get("prefixed") or {}).get("median")
             for of in groups]
            for editor in shown if editor.name != REMEDY
        ]  # fmt: skip
        lines.append((str(row["layer"]), *(number(v) for pair in figures_of for v in pair)))
    titles = ["ρ", *(f"φ {editor.short}" for editor in shown if editor.name != REMEDY)]
    head = ("Block", *(f"{title}, {name}" for title in titles for name in GROUPS))
    sizes = [document["layers"][0]["groups"][name]["n"] for name in GROUPS]
    counts = " and ".join(
        f"{counted(n, 'edit')} at the {name}"
        if name == "first token"
        else f"{number(n)} at a {name}"
        for n, name in zip(sizes, GROUPS.values(), strict=True)
    )
    picture = drawn.damage(document) if figures else None
    return Section(
        "response", "ρ, and φ after a prefix",
        (RESPONSE.format(remedy=editors.editor(REMEDY).short), f"{counts}."), head, lines,
        [(picture, "Damage at most, the median over edits.")] if picture else (),
    )  # fmt: skip


def _refused(document: Document) -> list[Section]:
    errors = document["errors"]
    if not errors:
        return []
    n, every = document["n_errors"], len(document["layers"])
    lines = [
        f"row {each['row']}"
        + (f" at {counted(len(each['layers']), 'block')}" if len(each["layers"]) < every else "")
        + f": {each['error']}"
        for each in errors[:LISTED]
    ]
    more = [f"and {number(n - len(lines))} more"] if n > len(lines) else []
    return [Section("refused", "Rows that are no edits", [*lines, *more])]


def _measured_with(document: Document) -> list[str]:
    from reports.tables import setup

    first = document["layers"][0]
    model, *others = setup.measured_with({**document, "second_moment": first["second_moment"]})
    run = document["run"]
    work = (
        f"{number(run['seconds'])} s for all blocks together, "
        f"{counted(run['processes'], 'process', 'processes')}; table: {document['table']}."
    )
    return [
        model,
        f"At block {first['layer']}: {others[0]}",
        *others[1:],
        document["validity"],
        work,
    ]
