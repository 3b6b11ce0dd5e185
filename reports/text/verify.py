"""A saved ``diag.verify/1`` document as text: one edit performed four ways, or a list of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reports.numbers import number, times
from reports.tables.arms import ARMS, share
from reports.tables.groups import FIGURES, GROUPINGS


def show(document: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints a ``diag.verify/1`` document.

    Args:
        document: The saved result.
        console: Where to; standard output by default.
    """
    (console or Console(highlight=False)).print(render(document))


def render(document: Mapping[str, Any]) -> RenderableType:
    """Lays a ``diag.verify/1`` document out.

    Args:
        document: The saved result, of one edit or of a list.

    Returns:
        Something ``rich`` prints.
    """
    if "edits" in document:
        return _of_list(document)
    return _of_edit(document)


def _of_edit(document: Mapping[str, Any]) -> RenderableType:
    request, site, found = document["request"], document["site"], document["optimisation"]
    before, after = request["prompt"].split("{}", 1)
    broken = [arm for arm, collapsed in document["collapsed"].items() if collapsed]
    label = (
        ("COLLAPSED", "bold white on red") if broken else ("NOT COLLAPSED", "bold black on yellow")
    )
    title = Text.assemble(
        (f" {label[0]} ", f"bold {label[1]}"), "  ",
        before, (request["subject"], "bold underline"), after,
        f" … → {request['target_new'].strip()}",
    )  # fmt: skip
    if request["target_true"]:
        title.append(f" (was: {request['target_true'].strip()})", style="dim")
    lookup = f"looked up at {site['token']!r}, index {site['index']}"
    if site["is_first_token"]:
        lookup += ", the first token"
    value = (
        f"v* after {found['steps']} steps: loss {number(found['loss'])}, "
        f"‖δ‖ {number(found['delta_norm'])} = "
        f"{times(found['delta_norm'] / found['initial_norm'])} ‖v_u‖"
        + (", at the clamp" if found["clamp_saturated"] else "")
    )
    return Group(
        title,
        Text(""),
        Padding(Text(_verdict(document, broken)), (0, 2)),
        Padding(Text(f"{lookup}; {value}", style="dim"), (0, 2)),
        _section("The model before and after", _arms(document)),
        _section("What it says", _sayings(document)),
        _section("Measured with", _measured_with(document)),
    )


def _verdict(document: Mapping[str, Any], broken: Sequence[str]) -> str:
    arms, limit = document["arms"], document["settings"]["collapse_ratio"]
    parts = [
        f"{ARMS[arm]} {_times_or_overflow(arms[arm]['perplexity']['ratio'])}"
        for arm in ("rome", "c_rome", "p_rome")
    ]
    end = f"from {times(float(limit))} on a model counts as collapsed"
    names = [ARMS[arm] for arm in broken if arm != "c_rome_prefixed"]
    if names:
        end += f", so {' and '.join(names)} broke it"
    return f"Perplexity rose by the factor: {', '.join(parts)}; {end}."


def _arms(document: Mapping[str, Any]) -> Table:
    table = _table("", *ARMS.values())
    rows: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
        ("D, unit direction", lambda a: number(a["denominator_normalised"])),
        ("‖v* − v‖", lambda a: number(a["numerator_norm"])),
        ("‖ΔW‖/‖W‖", lambda a: number(a["relative_update_norm"])),
        ("damage predicted", lambda a: number(a["damage"]["relative"])),
        ("damage measured", lambda a: number(a["damage"]["measured_relative"])),
        ("perplexity", lambda a: _change(a["perplexity"], number)),
        (
            "mean of the texts' perplexities",
            lambda a: _change(a["perplexity"]["text_mean"], number),
        ),
        ("P(new)", lambda a: _pair(a["efficacy"], "p_before", "p_after")),
        ("P(true)", lambda a: _pair(a["efficacy"], "p_true_before", "p_true_after")),
        ("rank of new", lambda a: _pair(a["efficacy"], "rank_before", "rank_after")),
        ("success", lambda a: "yes" if a["efficacy"]["success"] else "no"),
        ("generalisation", lambda a: _change(a["generalisation"], share)),
        ("locality", lambda a: _change(a["locality"], share)),
        ("text entropy, bits", lambda a: _change(a["entropy"], number)),
        ("recall, other facts", lambda a: _change(a["recall"], share)),
    )
    for name, read in rows:
        table.add_row(name, *(read(document["arms"][arm]) for arm in ARMS))
    return table


def _sayings(document: Mapping[str, Any]) -> Table:
    table = Table.grid(padding=(0, 2))
    arms = document["arms"]
    table.add_row("before", Text(_one_line(arms["rome"]["efficacy"]["generated_before"])))
    for arm, name in ARMS.items():
        table.add_row(name, Text(_one_line(arms[arm]["efficacy"]["generated"])))
    return table


def _of_list(document: Mapping[str, Any]) -> RenderableType:
    summary = document["summary"]
    parts: list[RenderableType] = [_headline(summary)]
    for by, groups in document["groups"].items():
        for group in groups:
            name = f"{GROUPINGS[by]}: {group['name']} ({group['n']} edits)"
            parts.append(_section(name, _group(group)))
    notes = [
        f"record {refused['index']} is no edit: {refused['reason']}"
        for refused in document["refused"]
    ] + [
        f"{edit['request']['subject']}: {edit['error']}"
        for edit in document["edits"]
        if "error" in edit
    ]
    if notes:
        shown = notes[:10] + ([f"and {len(notes) - 10} more"] if len(notes) > 10 else [])
        parts.append(_section("Not performed", Text("\n".join(shown), style="yellow")))
    parts.append(_section("Measured with", _measured_with(document)))
    return Group(*parts)


def _headline(summary: Mapping[str, Any]) -> Text:
    rescue, told = summary["rescue"], summary["damage_against_perplexity"]
    broken = ", ".join(
        f"{ARMS[arm]} {summary['collapsed'][arm]}" for arm in ("rome", "c_rome", "p_rome")
    )
    lines = [
        f"{summary['n']} edits, collapsed (perplexity × {number(summary['collapse_ratio'])} "
        f"or more): {broken}"
    ]
    if rescue["n"]:
        lines.append(
            f"of the {rescue['n']} that ROME broke, C-ROME raised perplexity by at most "
            f"{_times_or_overflow(rescue['c_rome_ratio_max'])}"
        )
    if told["spearman"] is not None or told["auc"] is not None:
        lines.append(
            "the closed-form damage against the perplexity ratio under ROME: Spearman "
            f"{number(told['spearman'])} ({told['n_ranked']} edits of 0.1 or more), "
            f"AUC for collapse {number(told['auc'])}"
        )
    return Text("\n".join(lines))


def _group(group: Mapping[str, Any]) -> Table:
    table = _table("", *ARMS.values())
    for name, figure, is_share in FIGURES:
        cells = [_figure(group["arms"][arm].get(figure), is_share) for arm in ARMS]
        if any(cell != "–" for cell in cells):
            table.add_row(name, *cells)
    return table


def _figure(value: Any, is_share: bool) -> str:
    if not isinstance(value, Mapping):
        return number(value)
    write = share if is_share else number
    return f"{write(value['mean'])} [{write(value['low'])}, {write(value['high'])}]"


def _measured_with(document: Mapping[str, Any]) -> Text:
    model, moment, texts = document["model"], document["second_moment"], document["texts"]
    bos = "a begin-of-sequence token" if model["bos_prepended"] else "no begin-of-sequence token"
    lines = [
        f"{model['name']} ({model['architecture']}, {model['n_layers']} blocks, {model['dtype']}, "
        f"{bos} in front), block {document['site']['layer']}",
        "C = identity: no closed form for the damage"
        if moment["n_tokens"] is None
        else f"C over {moment['n_tokens']:,} tokens of {moment['corpus']} ({moment['source']})",
        f"perplexity, token-weighted, over {texts['n_tokens']:,} tokens of {texts['n_texts']} "
        f"texts ({texts['source']}); recall of {document['known_facts']['n']} facts the "
        "unedited model gives",
    ]
    if document["command"]:
        lines.append(document["command"])
    return Text("\n".join(lines), style="dim")


def _change(figure: Mapping[str, Any] | None, write: Callable[[Any], str]) -> str:
    if figure is None:
        return "not checked"
    return f"{write(figure['before'])} → {write(figure['after'])}"


def _pair(figure: Mapping[str, Any], before: str, after: str) -> str:
    return f"{number(figure[before])} → {number(figure[after])}"


def _times_or_overflow(ratio: float | None) -> str:
    return "beyond all numbers" if ratio is None else times(ratio)


def _one_line(text: str, limit: int = 90) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _section(title: str, *parts: RenderableType) -> RenderableType:
    return Group(Text(""), Text(title, style="bold"), *(Padding(p, (0, 2)) for p in parts))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for i, column in enumerate(columns):
        table.add_column(column, no_wrap=i == 0)
    return table
