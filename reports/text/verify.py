"""A ``diag.verify/1`` document as text: one edit performed several ways, or a list of them."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from reports.numbers import counted, number, times
from reports.pages.many import grouped, performed_sentence, refused
from reports.tables import arms, editors, groups, setup, verdicts
from reports.text import console as parts
from reports.text.console import Document, quoted, shortened


def render(document: Document) -> RenderableType:
    """Lays a ``diag.verify/1`` document out for ``rich``."""
    return _of_list(document) if "edits" in document else _of_edit(document)


show = parts.showing(render)


def _of_edit(document: Document) -> RenderableType:
    return parts.page(
        _title(document),
        "",
        parts.indented(arms.sentence(document)),
        parts.indented((document.get("prediction") or {}).get("sentence")),
        parts.indented(parts.dim(_site(document))),
        parts.section("The model before and after", _arms(document), *arms.reasons(document)),
        parts.section("What it says", _generated(document)),
        parts.section("Measured with", parts.dim(_measured_with(document))),
    )


def _title(document: Document) -> Text:
    request = document["request"]
    name = editors.judged(document["arms"])
    title = Text.assemble(
        parts.badge(verdicts.label(verdicts.outcome(document, name))), "  ",
        parts.edited(request, style="bold underline"),
        f" … → {request['target_new'].strip()}",
    )  # fmt: skip
    if request["target_true"]:
        title.append(f" (was: {request['target_true'].strip()})", style="dim")
    return title


def _site(document: Document) -> str:
    site, target = document["site"], document["optimisation"]
    first = ", the first token" if site["is_first_token"] else ""
    norm = target["delta_norm"]
    clamp = ", at the clamp" if target["clamp_saturated"] else ""
    return (
        f"looked up at {quoted(site['token'])}, index {site['index']}{first}; v* after "
        f"{counted(target['steps'], 'step')}: loss {number(target['loss'])}, ‖δ‖ = "
        f"{number(norm)} = {times(norm / target['initial_norm'])} ‖v_u‖{clamp}"
    )


def _arms(document: Document) -> RenderableType:
    rows = [(name, *cells) for name, _, cells in arms.rows(document, all_figures=True)]
    rows.append(("Model", *(outcome.text.lower() for outcome in arms.outcomes(document))))
    return parts.table(("", *(arm.short for arm in editors.arms(document["arms"]))), rows)


def _generated(document: Document) -> RenderableType:
    return parts.table(
        None, [(name, shortened(f"{prefix} … {text}" if prefix else text))
               for _, name, prefix, text in arms.generated(document)],
    )  # fmt: skip


def _of_list(document: Document) -> RenderableType:
    lines = [performed_sentence(document), groups.predictive(document["summary"])]
    sections = []
    for grouping in grouped(document, between=", "):
        for i, group in enumerate(grouping["groups"]):
            title = f"{grouping['title']}: {group['name']} ({counted(group['n'], 'edit')})"
            sections.append(parts.section(title, _group(grouping, i)))
    notes = refused(document)
    return parts.page(
        *(Text(each) for each in lines if each),
        *sections,
        parts.section("Not performed", Text(parts.first_of(notes), style="yellow"))
        if notes
        else None,
        parts.section("Measured with", parts.dim(_measured_with(document))),
    )


def _group(grouping: Document, i: int) -> RenderableType:
    n = len(grouping["arms"])
    return parts.table(
        ("", *(arm.short for arm in grouping["arms"])),
        [
            (name, *(f"{mean} [{interval}]" if interval else mean
                     for mean, interval in cells[i * n : (i + 1) * n]))
            for name, cells in grouping["rows"]
        ],
        gap=1,
    )  # fmt: skip


def _measured_with(document: Document) -> str:
    command = [document["command"]] if document["command"] else []
    return "\n".join([*setup.notes(document), *setup.measured_with(document), *command])
