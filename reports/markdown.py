"""Saved results as Markdown: the page's argument and numbers, without its figures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reports.numbers import number, times
from reports.pages.page import view
from reports.tables.arms import ARMS
from reports.tables.terms import EXPLAINED, NAMES

LISTED = 50
# A backslash makes each of them an ordinary character, in CommonMark and on code hosting sites;
# some mean something only at the start of a line, or in what would be made a link.
SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&@])|(?<=^)([-+=])|(:)(?=//)|(?<=www)(\.)")


def render(*documents: Mapping[str, Any]) -> str:
    """Renders results as Markdown.

    Args:
        documents: A saved result, or a diagnosis and a verification of the same edit.

    Returns:
        Markdown; texts from outside stay texts.

    Raises:
        ReportError: If there is no page for them.
    """
    shown = view(*documents, figures=False)
    kinds = {"edit": _edit, "many": _many, "first_token": _first_token, "moments": _moments}
    lines = kinds[shown["kind"]](shown)
    return "\n".join(lines).rstrip() + "\n"


def text(value: object) -> str:
    """A text from outside on one line, every mark of Markdown or HTML in it made harmless."""
    line = SPECIAL.sub(lambda mark: "\\" + mark[0], " ".join(str(value).split()))
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", line)


def _edited(before: str, subject: str, after: str) -> str:
    """A prompt with its subject set apart, blanks as they were."""
    gap = " " if before[-1:].isspace() else "", " " if after[:1].isspace() else ""
    return f"{text(before)}{gap[0]}**{text(subject)}**{gap[1]}{text(after)}"


def code(value: str) -> str:
    """A block of code, in a fence longer than any in it."""
    longest = max((len(run) for run in re.findall(r"`+", value)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{value}\n{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table whose first column is text and whose others are figures."""
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def _edit(shown: dict[str, Any]) -> list[str]:
    d, keys, verify, found = shown["d"], shown["k"], shown["v"], shown["terms"]
    most = " at most" if found[0].is_bound else ""
    where = keys["lookup"]["unprefixed"] if keys else verify["site"]
    lines = [
        f"# {shown['verdict_label']}: "
        + _edited(shown["before"], d["request"]["subject"], shown["after"]),
        "",
        f"**{shown['figure_value']}** {text(shown['figure_label'])}",
        "",
        text(shown["summary"]),
        "",
        "## Where the fact is looked up",
        "",
        f"At {text(where['token'])}, index {where['index']}"
        + (", the first token." if where["is_first_token"] else "."),
        "",
        "## The update equation, with its numbers",
        "",
        "ΔW = C⁻¹k (v\\* − v)ᵀ / D; the MLP's output changes by ‖v\\* − v‖ · √(uᵀCu) / abs(D).",
        "",
        *table(
            ("Variant", "D", f"‖v\\* − v‖{most}", "√(uᵀCu)", f"damage{most}"),
            [
                (
                    f"{NAMES[t.variant]}, {EXPLAINED[t.variant]}", number(t.denominator),
                    number(t.residual), number(t.spread),
                    "not checked" if t.relative is None else times(t.relative),
                )
                for t in found
            ],
        ),
    ]  # fmt: skip
    if shown["split"]:
        split = shown["split"]
        lines += [
            f"ρ = {number(split.rho)} = {number(split.length)} (length) × "
            f"{number(split.cosine)} (cosine), in the C⁻¹ metric.", "",
        ]  # fmt: skip
    lines += ["## The first token, block by block", ""]
    if keys:
        columns = ("layer", "key_norm_unprefixed", "key_norm_prefixed", "cosine",
                   "residual_norm_first", "residual_norm_later", "attention_to_first")  # fmt: skip
        lines += table(
            ("Block", "‖k\\_u‖", "‖k‖ prefixed", "cosine", "stream at first", "later",
             "attention to first"),
            [[number(row[name]) for name in columns] for row in keys["first_token"]["layers"]],
        )  # fmt: skip
    else:
        lines += _missing(shown["commands"]["keys"])
    lines += ["## Why the first token's key is different", ""]
    lines += _why(shown) if shown["w"] else _missing(shown["commands"]["why"])
    lines += ["## What the four edits did", ""]
    if verify:
        lines += table(
            ("Before → after", *ARMS.values()),
            [(text(name), *map(text, cells)) for name, _, cells in shown["arm_rows"]],
        )
        lines += [
            f"- {name}: {text(prefix)}{' ' if prefix else ''}… {text(said)}"
            for _, name, prefix, said in shown["sayings"]
        ] + [""]
    else:
        lines += _missing(shown["commands"]["verify"])
    lines += ["## What to do instead" if shown["verdict"] != "safe" else "## What to do", ""]
    lines += [f"- {text(sentence)}" for sentence in shown["advice"]] + [""]
    lines += ["## What was checked", ""]
    if keys:
        lines += [
            f"- **{finding['status'].replace('_', ' ')}** {text(finding['id'])}: "
            f"{text(finding['message'])}"
            for finding in keys["findings"]
        ] + [""]
    else:
        lines += _missing(shown["commands"]["keys"])
    return lines + _repeat([keys, verify])


def _first_token(shown: dict[str, Any]) -> list[str]:
    lines = [f"# {text(shown['title'])}", "", *_why(shown), "## Keys, block by block", ""]
    lines += table(
        ("Cell", "Block", "Keys", "‖k‖", "Spread", "Effective rank"),
        [
            [text(name.replace("_", " ")), str(block["layer"]), number(cell["n"]),
             number(cell["norm"]), number(cell["spread"]), number(cell["effective_rank"])]
            for block in shown["w"]["layers"]
            for name, cell in block["cells"].items()
        ],
    )  # fmt: skip
    return lines + _repeat([shown["d"]])


def _moments(shown: dict[str, Any]) -> list[str]:
    lines = [f"# {text(shown['title'])}", "", text(shown["headline"]), ""]
    for layer in shown["layers"]:
        lines += [f"## Block {layer['layer']}", "", code(layer["file"]), ""]
        lines += table(("What", "Value"), [[text(a), text(b)] for a, b in layer["lines"]])
    return lines + _repeat([shown["d"]])


def _why(shown: dict[str, Any]) -> list[str]:
    """The inquiry into first tokens: findings, shares of Δρ, interventions."""
    lines = [text(shown["headline"]), ""]
    lines += [f"- {text(finding['message'])}" for finding in shown["w"]["findings"]] + [""]
    lines += table(
        ("Factor", "Shapley value (95%)", "alone", "last"),
        [list(map(text, row)) for row in shown["shares"]],
    )
    return lines + table(
        ("Hypothesis", "Intervention", "on", "ρ before → after", "of the way"),
        [list(map(text, effect)) for effect in shown["effects"]],
    )


def _many(shown: dict[str, Any]) -> list[str]:
    made = shown["made"]
    lines = [f"# {shown['title']}", "", text(shown["headline"]), ""]
    lines += [f"- {label}: {number(count)}" for label, _, count in shown["counts"]] + [""]
    for grouping in shown["groups"]:
        lines += [f"## {grouping['title']}", ""]
        for i, group in enumerate(grouping["groups"]):
            cells = slice(i * len(ARMS), (i + 1) * len(ARMS))
            lines += [f"### {text(group['name'])} ({group['n']} edits)", ""]
            lines += table(
                ("Mean, 95% interval", *ARMS.values()),
                [
                    (text(name), *(f"{m} ({i})" if i else m for m, i in found[cells]))
                    for name, found in grouping["lines"]
                ],
            )
    lines += ["## The riskiest edits", ""]
    head = ["Edit", "Token", "Index", "ρ", "Damage", *(["Perplexity"] if made else []), "Result"]
    rows = []
    for row in shown["listed"][:LISTED]:
        edit = row["edit"]
        rows.append(
            [
                _edited(row["before"], row["subject"], row["after"]),
                text(edit.token), str(edit.index), number(edit.split.rho if edit.split else None),
                "–" if edit.predicted is None else times(edit.predicted),
                *([row["ratio"]] if made else []), row["label"],
            ]
        )  # fmt: skip
    lines += table(head, rows)
    if shown["n"] > LISTED:
        lines += [f"The {LISTED} riskiest of {number(shown['n'])}.", ""]
    return lines + _repeat([shown["d"]])


def _missing(command: str) -> list[str]:
    return ["Not measured. This command does it:", "", code(command), ""]


def _repeat(documents: Sequence[Mapping[str, Any] | None]) -> list[str]:
    lines = ["## How to repeat it", ""]
    for document in documents:
        if document and document.get("command"):
            lines += [code(document["command"]), ""]
    return lines
