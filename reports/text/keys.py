"""A saved result as text in a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reports.numbers import number, rank, times

MARKS = {"pass": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}
VERDICTS = {
    "collapse_risk": ("COLLAPSE RISK", "bold white on red"),
    "unclear": ("UNCLEAR", "bold black on yellow"),
    "safe": ("SAFE", "bold white on green"),
}
VARIANTS = {
    "rome": ("ROME as published", "k̄ᵀC⁻¹k_u"),
    "c_rome": ("C-ROME, mean key throughout", "k̄ᵀC⁻¹k̄"),
    "p_rome": ("P-ROME, bare key throughout", "k_uᵀC⁻¹k_u"),
}


def show(document: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints a ``diag.keys/1`` document.

    Args:
        document: The saved result.
        console: Where to; standard output by default.
    """
    (console or Console(highlight=False)).print(render(document))


def render(document: Mapping[str, Any]) -> RenderableType:
    """Lays a ``diag.keys/1`` document out.

    Args:
        document: The saved result.

    Returns:
        Something ``rich`` prints.
    """
    return Group(
        _headline(document),
        Text(""),
        Padding(Text(document["summary"]), (0, 2)),
        _section("Lookup", _lookup(document)),
        _section("Denominators", _denominators(document), _ratio(document)),
        _section("First token", _first_token(document)),
        _section("Checked", _findings(document)),
        _section("Measured with", _measured_with(document)),
    )


def _section(title: str, *parts: RenderableType) -> RenderableType:
    return Group(Text(""), Text(title, style="bold"), *(Padding(p, (0, 2)) for p in parts))


def _headline(document: Mapping[str, Any]) -> Text:
    label, style = VERDICTS[document["verdict"]]
    request = document["request"]
    before, after = request["prompt"].split("{}", 1)
    line = Text.assemble(
        (f" {label} ", style), "  ", before, (request["subject"], "bold underline"), after
    )
    if request["target_new"]:
        line.append(f" … → {request['target_new'].strip()}", style="dim")
    return line


def _lookup(document: Mapping[str, Any]) -> Table:
    table = _table("context", "token", "index", "")
    bare = document["lookup"]["unprefixed"]
    note = "the first token" if bare["is_first_token"] else ""
    table.add_row(
        "bare prompt", Text(repr(bare["token"])), str(bare["index"]), Text(note, style="yellow")
    )
    prefixed = document["lookup"]["prefixed"][1:]
    for token, count in Counter(row["token"] for row in prefixed).most_common():
        at = sorted({row["index"] for row in prefixed if row["token"] == token})
        note = "" if token == bare["token"] else "another token than the bare one"
        table.add_row(
            f"{count} prefixed", Text(repr(token)),
            str(at[0]) if len(at) == 1 else f"{at[0]}–{at[-1]}", Text(note, style="yellow"),
        )  # fmt: skip
    return table


def _denominators(document: Mapping[str, Any]) -> Table:
    table = _table("variant", "denominator D", "", "normalised", "damage at most")
    for variant, (label, formula) in VARIANTS.items():
        relative = document["damage"][variant]["relative_bound"]
        table.add_row(
            label,
            number(document["denominators"][variant]),
            Text(formula, style="dim"),
            number(document["denominators"].get(f"{variant}_normalised")),
            "not checked" if relative is None else f"{times(relative)} the residual stream",
        )
    return table


def _ratio(document: Mapping[str, Any]) -> Text:
    found, keys = document["denominators"], document["keys"]
    text = Text.assemble(
        "ρ = D_rome / D_c_rome = ", (number(found["ratio"]), "bold"),
        f" = {number(keys['whitened_length_ratio'])} (length ‖k_u‖/‖k̄‖) × "
        f"{number(keys['whitened_cosine'])} (cosine), both in the C⁻¹ metric",
    )  # fmt: skip
    if found["ratio_interval"]:
        low, high = found["ratio_interval"]
        text.append(
            f"\n    {number(low)} to {number(high)} over draws of the contexts (95%), "
            f"{number(found['ratio_without_bare'])} without the bare prompt in k̄"
        )
    return text


def _first_token(document: Mapping[str, Any]) -> RenderableType:
    first = document["first_token"]
    parts: list[RenderableType] = []
    alike = first["likeness"]
    if alike:
        parts.append(
            Text(
                f"cosine {number(alike['cosine'])} with the mean key of ordinary first tokens: "
                f"more than {rank(alike['later_percentile'])} later keys have"
            )
        )
    if first["concentration"]:
        parts.append(
            Text(
                "how much ordinary keys are one vector (0 to 1): first tokens "
                f"{number(first['concentration']['first'])}, later tokens "
                f"{number(first['concentration']['later'])}"
            )
        )
    table = _table(
        "block", "‖k_u‖", "‖k‖ prefixed", "cosine", "stream at first", "later",
        "massive", "attention to first",
    )  # fmt: skip
    for row in first["layers"]:
        table.add_row(
            str(row["layer"]),
            *(
                number(row[key])
                for key in (
                    "key_norm_unprefixed", "key_norm_prefixed", "cosine", "residual_norm_first",
                    "residual_norm_later", "massive_activation", "attention_to_first",
                )
            ),
        )  # fmt: skip
    return Group(*parts, table)


def _findings(document: Mapping[str, Any]) -> Table:
    table = Table.grid(padding=(0, 1))
    for finding in document["findings"]:
        mark, style = MARKS.get(finding["status"], ("·", "dim"))
        message = finding["message"]
        if finding["status"] == "not_checked":
            message = f"not checked: {message}"
        table.add_row(Text(mark, style=style), Text(finding["id"], style="dim"), Text(message))
    return table


def _measured_with(document: Mapping[str, Any]) -> Text:
    model, moment = document["model"], document["second_moment"]
    bos = "a begin-of-sequence token" if model["bos_prepended"] else "no begin-of-sequence token"
    lines = [
        f"{model['name']} ({model['architecture']}, {model['n_layers']} blocks, {model['dtype']}, "
        f"{bos} in front), block {document['site']['layer']}"
    ]
    if moment["n_tokens"] is None:
        lines.append("C = identity")
    else:
        lines.append(
            f"C over {moment['n_tokens']:,} tokens of {moment['corpus']} ({moment['source']}), "
            f"rows of {moment['row_length']}, {moment['position0_share']:.2%} of them first"
        )
    lines.append(document["command"])
    return Text("\n".join(lines), style="dim")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "default")
    return table
