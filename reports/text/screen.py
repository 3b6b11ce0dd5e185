"""A screened data set as text in a terminal."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from reports.numbers import counted, number, percent
from reports.pages.many import at_risk, beside
from reports.tables import editors, methods, setup, verdicts
from reports.text import console as parts
from reports.text.console import Document, quoted
from rome_diagnosis.editors import PUBLISHED

LISTED = 10
POSITIONS = {"first": "looked up first", "later": "later"}


def render(document: Document) -> RenderableType:
    """Lays a ``diag.screen/1`` document out for ``rich``."""
    summary = document["summary"]
    riskiest = document["riskiest_file"]
    return parts.page(
        at_risk(summary["verdicts"].get("collapse_risk", 0), summary["screened"],
                document["dataset"]["name"]) + methods.sentence(document),
        parts.section("Verdicts", _verdicts(summary)),
        parts.section(
            "Riskiest edits", _riskiest(document),
            parts.dim(f"python -m diag.verify --edits {riskiest}") if riskiest else None,
        ),
        *(
            parts.section(
                table["title"],
                parts.table(("", *(f">{title.lower()}" for title in table["head"][1:])),
                            table["rows"]),
                *map(Text, table["told"]),
            )
            for table in beside(document)
        ),
        parts.section("Rows that are no edits", _errors(document)) if document["errors"] else None,
        parts.section("Measured with", _measured_with(document)),
    )  # fmt: skip


show = parts.showing(render)


def _verdicts(summary: Document) -> RenderableType:
    rows: list[tuple[RenderableType, ...]] = []
    for name, count in summary["verdicts"].items():
        counts = (summary["by_position"][where].get(name, 0) for where in POSITIONS)
        rows.append((parts.badge(verdicts.label(name)), number(count), *map(number, counts)))
    if summary["errors"]:
        rows.append((" not an edit", number(summary["errors"]), "", ""))
    return parts.table(("", ">all", *(f">{title}" for title in POSITIONS.values())), rows)


def _riskiest(document: Document) -> RenderableType:
    rows = [
        (
            number(row["row"]), str(row["case_id"] or ""), parts.edited(row), quoted(row["token"]),
            number(row["rho"]), percent(row.get(f"relative_bound_{PUBLISHED}")),
            verdicts.label(str(row["verdict"])).text.lower(),
        )
        for row in document["riskiest"][:LISTED]
    ]  # fmt: skip
    damage = f">damage by {editors.editor(PUBLISHED).short}"
    return parts.table((">row", "case", "prompt", "token", ">ρ", damage, "verdict"), rows)


def _errors(document: Document) -> RenderableType:
    errors = document["errors"]
    more = document["summary"]["errors"] - min(LISTED, len(errors))
    lines = [f"row {entry['row']}: {entry['error']}" for entry in errors]
    return Text(parts.first_of(lines, LISTED, more=more))


def _measured_with(document: Document) -> RenderableType:
    run = document["run"]
    peak = max(run["peak_memory"]) / 2**30
    rows = [
        f"{number(run['seconds'])} s, {number(run['requests_per_second'])} requests a second, "
        f"{counted(run['processes'], 'process', 'processes')}, peak memory {peak:.2g} GiB"
    ]
    if run["resumed"]:
        rows.append(f"{counted(run['resumed'], 'row')} came from an earlier run")
    rows.append(f"table: {document['table']}")
    return parts.dim("\n".join([*setup.notes(document), *setup.measured_with(document), *rows]))
