"""A screened data set as text in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reports.numbers import number, times
from reports.text.keys import VERDICTS


def show(document: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints a ``diag.screen/1`` document.

    Args:
        document: The saved summary.
        console: Where to; standard output by default.
    """
    (console or Console(highlight=False)).print(render(document))


def render(document: Mapping[str, Any]) -> RenderableType:
    """Lays a ``diag.screen/1`` document out.

    Args:
        document: The saved summary.

    Returns:
        Something ``rich`` prints.
    """
    parts = [
        _section("Verdicts", _verdicts(document["summary"])),
        _section("Riskiest edits", _riskiest(document)),
    ]
    if document["errors"]:
        parts.append(_section("Rows that are no edits", _errors(document)))
    return Group(_headline(document), *parts, _section("Measured with", _measured_with(document)))


def _section(title: str, *parts: RenderableType) -> RenderableType:
    return Group(Text(""), Text(title, style="bold"), *(Padding(p, (0, 2)) for p in parts))


def _headline(document: Mapping[str, Any]) -> Text:
    found = document["summary"]
    at_risk = found["verdicts"]["collapse_risk"]
    share = at_risk / found["screened"] if found["screened"] else 0.0
    return Text.assemble(
        (f"{found['screened']:,}", "bold"),
        f" edits of {document['dataset']['name']} screened: "
        "ROME as published can destroy the model with ",
        (f"{at_risk:,}", "bold"),
        f" of them ({share:.1%})",
    )


def _verdicts(summary: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("", "all", "looked up first", "later"):
        table.add_column(title, justify="left" if not title else "right")
    for name, count in summary["verdicts"].items():
        label, style = VERDICTS[name]
        table.add_row(
            Text(f" {label} ", style=style), number(count),
            *(number(summary["by_position"][where][name]) for where in ("first", "later")),
        )  # fmt: skip
    if summary["errors"]:
        table.add_row(" not an edit ", number(summary["errors"]))
    return table


def _riskiest(document: Mapping[str, Any]) -> RenderableType:
    table = Table(box=None, pad_edge=False)
    for title in ("row", "case", "prompt", "token", "ρ", "average push", "verdict"):
        right = title in ("row", "ρ", "average push")
        table.add_column(title, justify="right" if right else "left", no_wrap=title != "prompt")
    for row in document["riskiest"][:10]:
        before, after = row["prompt"].split("{}", 1)
        prompt = Text.assemble(before, (row["subject"], "underline"), after)
        table.add_row(
            number(row["row"]), row["case_id"] or "", prompt, Text(repr(row["token"])),
            number(row["rho"]), times(row["relative_bound_rome"]), row["verdict"],
        )  # fmt: skip
    kept = document["riskiest_file"]
    return (
        Group(table, Text(f"python -m diag.verify --edits {kept}", style="dim")) if kept else table
    )


def _errors(document: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for entry in document["errors"][:10]:
        table.add_row(f"row {entry['row']}", Text(entry["error"]))
    more = document["summary"]["errors"] - min(10, len(document["errors"]))
    if more:
        table.add_row("", f"and {more:,} more, in the table's column error")
    return table


def _measured_with(document: Mapping[str, Any]) -> Table:
    model, moment, done = document["model"], document["second_moment"], document["run"]
    table = Table(box=None, pad_edge=False, show_header=False)
    tokens = f"{moment['n_tokens']:,} tokens" if moment["n_tokens"] else "no corpus"
    table.add_row("model", f"{model['name']}, layer {document['site']['layer']}, {model['dtype']}")
    table.add_row("C", f"{moment['source']}, {tokens}")
    table.add_row("contexts", f"the bare prompt and {document['contexts']['n']} prefixed ones")
    speed = f"{number(done['seconds'])} s, {number(done['requests_per_second'])} requests a second"
    peak = max(done["peak_memory"]) / 2**30
    table.add_row("time", f"{speed}, {done['processes']} process(es), peak memory {peak:.2g} GiB")
    if done["resumed"]:
        table.add_row("", f"{done['resumed']:,} rows were there from an earlier run")
    table.add_row("table", document["table"])
    return table
