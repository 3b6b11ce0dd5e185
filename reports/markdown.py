"""Saved results as Markdown: the page's argument and numbers, without its figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.marked import Marked, bold, bullets, code, heading, line, repeat, table
from reports.numbers import counted, number, percent
from reports.pages.page import view
from reports.pages.parts import sections

LISTED = 50
EQUATION = (
    "ΔW = C⁻¹k (v* − v)ᵀ / D; the MLP's output changes by ‖v* − v‖ · √(uᵀCu) / abs(D) over "
    "ordinary tokens."
)


def render(*documents: Mapping[str, Any]) -> str:
    """Renders results as Markdown.

    Args:
        documents: A saved result, or a diagnosis and a verification of the same edit.

    Returns:
        Markdown; texts from outside stay texts.

    Raises:
        UserError: If there is no page for them.
    """
    shown = view(*documents, figures=False)
    kinds = {
        "edit": _edit, "many": _many, "first_token": _first_token, "moments": _moments,
        "sequence": _sequence, "sweep": _sweep, "batch": _batch, "apply": _apply,
        "hardcases": _hardcases, "sections": sections.markdown,
    }  # fmt: skip
    return "\n".join(kinds[shown["kind"]](shown)).rstrip() + "\n"


def _edited(before: str, subject: str, after: str) -> Marked:
    """A prompt with its subject set apart, blanks as they were."""
    return Marked(line(before, bold(subject), after).strip())


def _edit(shown: dict[str, Any]) -> list[str]:
    d, keys, verify = shown["d"], shown["k"], shown["v"]
    where = keys["lookup"]["unprefixed"] if keys else verify["site"]
    first = ", the first token" if where["is_first_token"] else ""
    edited = _edited(shown["before"], d["request"]["subject"], shown["after"])
    lines = [
        *heading(1, shown["verdict"].text, ": ", edited),
        line(bold(shown["figure_value"]), " ", shown["figure_label"]), "",
        line(shown["summary"]), "",
        *([line(shown["prediction"]["sentence"]), ""] if shown["prediction"] else []),
        *(bullets(shown["notes"]) if shown["notes"] else []),
        *heading(2, "Where the fact is looked up"),
        line("At ", where["token"], ", index ", where["index"], f"{first}."), "",
        *heading(2, "The update equation, with its numbers"), line(EQUATION), "",
        *_terms(shown),
        *_profile(shown),
        *(heading(2, "Why the first token's key is different") + _why(shown) if shown["w"] else []),
        *_arms(shown),
        *heading(2, "What to do" if shown["is_safe"] else "What to do instead"),
        *bullets(shown["advice"]),
        *_findings(shown),
    ]  # fmt: skip
    return lines + repeat([keys, verify], shown)


def _terms(shown: dict[str, Any]) -> list[str]:
    per_editor, split = shown["terms"], shown["split"]
    most = " at most" if per_editor and per_editor[0].is_bound else ""
    lines = table(
        ("Editor", "D", f"‖v* − v‖{most}", "√(uᵀCu)", f"damage{most}"),
        [
            (
                t.editor.described, number(t.denominator), number(t.residual), number(t.spread),
                "not checked" if t.relative is None else percent(t.relative),
            )
            for t in per_editor
        ],
    )  # fmt: skip
    if split:
        lines += [
            line(f"ρ = {shown['ratio_name']} = {number(split.rho)} = {number(split.length)} "
                 f"(length) × {number(split.cosine)} (cosine), in the C⁻¹ metric."), "",
        ]  # fmt: skip
    if shown["responses"]:
        lines += table(
            ("Share φ of the change received by", "the bare prompt", "prefixed prompts",
             "other texts' first tokens", "later tokens"),
            [(editor.short, *map(number, shares)) for editor, shares in shown["responses"]],
        )  # fmt: skip
    return lines


def _profile(shown: dict[str, Any]) -> list[str]:
    if not shown["k"]:
        return []
    columns = ("layer", "key_norm_unprefixed", "key_norm_prefixed", "cosine",
               "residual_norm_first", "residual_norm_later", "attention_to_first")  # fmt: skip
    head = ("Block", "‖k_u‖", "‖k‖ prefixed", "cosine", "stream at first", "later",
            "attention to first")  # fmt: skip
    layers = shown["k"]["first_token"]["layers"]
    rows = [[number(row[name]) for name in columns] for row in layers]
    return heading(2, "The first token, block by block") + table(head, rows)


def _arms(shown: dict[str, Any]) -> list[str]:
    if not shown["v"]:
        return []
    lines = heading(2, "What the edits did")
    lines += table(
        ("Before → after", *(arm.short for arm in shown["arms"])),
        [
            *((name, *cells) for name, _, cells in shown["arm_rows"]),
            ("Model", *(outcome.text.lower() for outcome in shown["outcomes"])),
        ],
    )
    if shown["reasons"]:
        lines += bullets(shown["reasons"])
    return lines + bullets(
        line(f"{name}: ", f"{prefix} " if prefix else "", "… ", text)
        for _, name, prefix, text in shown["generated"]
    )


def _findings(shown: dict[str, Any]) -> list[str]:
    if not shown["k"]:
        return []
    reasoning = [line(shown["reasoning"]), ""] if shown["reasoning"] else []
    validity = [line(shown["k"]["validity"]), ""] if shown["k"].get("validity") else []
    lines = (line(bold(f.status), f" {f.id}: ", f.message) for f in shown["findings"])
    return [*heading(2, "What was checked"), *reasoning, *bullets(lines), *validity]


def _first_token(shown: dict[str, Any]) -> list[str]:
    rows = [
        (name.replace("_", " "), block["layer"], number(cell["n"]), number(cell["norm"]),
         number(cell["spread"]), number(cell["effective_rank"]))
        for block in shown["w"]["layers"]
        for name, cell in block["cells"].items()
    ]  # fmt: skip
    lines = [
        *heading(1, shown["title"]), *_why(shown), *heading(2, "Keys, block by block"),
        *table(("Cell", "Block", "Keys", "‖k‖", "Spread", "Effective rank"), rows),
    ]  # fmt: skip
    return lines + repeat([shown["d"]], shown)


def _moments(shown: dict[str, Any]) -> list[str]:
    lines = [*heading(1, shown["title"]), line(shown["headline"]), ""]
    for layer in shown["layers"]:
        lines += heading(2, "Block ", layer["layer"]) + code(str(layer["file"]))
        lines += table(("What", "Value"), layer["lines"])
    return lines + repeat([shown["d"]], shown)


def _sweep(shown: dict[str, Any]) -> list[str]:
    rows = [(label.text, *cells) for label, cells in shown["rows"]]
    columns = [f"{name}: {what.lower()}" for what in shown["measures"] for name in shown["names"]]
    lines = [
        *heading(1, shown["title"]), line(shown["headline"]), "",
        *table(("Verdict", "Block", "ρ", *columns), rows),
        *heading(2, "The first position over depth"),
        *table(shown["sink_head"], shown["sink_rows"]),
    ]  # fmt: skip
    return lines + repeat([shown["d"]], shown)


def _why(shown: dict[str, Any]) -> list[str]:
    """The inquiry into first tokens: findings, shares of Δρ, interventions."""
    return [
        line(shown["headline"]), "",
        *bullets(finding["message"] for finding in shown["w"]["findings"]),
        *table(("Factor", "Shapley value (95\u00a0%)", "alone", "last"), shown["shares"]),
        *table(
            ("Hypothesis", "Intervention", "on", "ρ before → after", "recovered"),
            shown["effects"],
        ),
    ]  # fmt: skip


def _many(shown: dict[str, Any]) -> list[str]:
    counts = [f"{label.text}: {number(count)}" for label, count in shown["counts"]]
    lines = [*heading(1, shown["title"]), line(shown["headline"]), "", *bullets(counts)]
    if shown["predictive"]:
        lines += [line(shown["predictive"]), ""]
    for grouping in shown["groups"]:
        lines += heading(2, grouping["title"])
        arms = grouping["arms"]
        for i, group in enumerate(grouping["groups"]):
            lines += heading(3, group["name"], f" ({counted(group['n'], 'edit')})")
            lines += table(
                ("Mean, 95\u00a0% interval", *(arm.short for arm in arms)),
                [
                    (name, *(f"{mean} ({interval})" if interval else mean
                             for mean, interval in cells[i * len(arms) : (i + 1) * len(arms)]))
                    for name, cells in grouping["rows"]
                ],
            )  # fmt: skip
    for beside in shown["beside"]:
        lines += heading(2, beside["title"])
        lines += table(beside["head"], beside["rows"]) + bullets(beside["told"])
    lines += heading(2, "The riskiest edits") + _listed(shown)
    if shown["n"] > LISTED:
        lines += [line(f"The {LISTED} riskiest of {number(shown['n'])}."), ""]
    if shown["refused"]:
        lines += heading(2, "Edits left out") + bullets(shown["refused"][:LISTED])
    return lines + repeat([shown["d"]], shown)


def _listed(shown: dict[str, Any]) -> list[str]:
    performed = shown["performed"]
    head = [
        "Edit",
        "Token",
        "Index",
        "ρ",
        "Damage",
        *(["Perplexity"] if performed else []),
        "Result",
    ]
    rows = []
    for row in shown["listed"][:LISTED]:
        edit = row["edit"]
        rows.append(
            [
                _edited(row["before"], row["subject"], row["after"]), edit.token, edit.index,
                number(edit.split.rho if edit.split else None), percent(edit.predicted),
                *([row["ratio"]] if performed else []), edit.label.text,
            ]
        )  # fmt: skip
    return table(head, rows)


def _sequence(shown: dict[str, Any]) -> list[str]:
    lines = [*heading(1, shown["title"]), line(shown["headline"]), ""]
    if shown["culprit"]:
        lines += [line(bold(shown["culprit"])), ""]
    lines += heading(2, "What to do") + bullets(shown["advice"])
    lines += heading(2, "How far the list gets") + table(shown["reach_head"], shown["reaches"])
    lines += [line(shown["f"]["not_checked"] or shown["forgetting"]), ""]
    if shown["dangerous"]:
        more = [f"and {number(shown['more_dangerous'])} more"] if shown["more_dangerous"] else []
        named = (
            line(f"Edit {one['index'] + 1}, ", bold(one["subject"]), ": ", one["reason"])
            for one in shown["dangerous"]
        )
        lines += heading(2, "Edits that are dangerous alone") + bullets([*named, *more])
        lines += [line(shown["two_limits"] or ""), ""]
    if shown["f"]["pairs"]:
        pairs = (
            f"Edits {pair['earlier'] + 1} and {pair['later'] + 1}: {pair['reason']}"
            for pair in shown["f"]["pairs"]
        )
        lines += heading(2, "Pairs that write on each other's keys") + bullets(pairs)
    if rows := shown["checkpoints"]:
        lines += heading(2, "What was measured") + table(shown["head"], rows)
    head = ("Prompt", "Edit", "Token", "ρ", "Damage alone", "φ, bare prompt", "Alone")
    edit_rows = [
        (
            _edited(row["before"], row["subject"], row["after"]), row["edit"]["index"] + 1,
            row["edit"]["token"], number(row["edit"]["rho"]), row["alone"][0],
            percent(row["edit"]["response"]), row["label"].text,
        )
        for row in shown["rows"][:LISTED]
    ]  # fmt: skip
    lines += heading(2, "Edit by edit") + table(head, edit_rows)
    if shown["refused"]:
        lines += heading(2, "Not in the list") + bullets(shown["refused"][:LISTED])
    return lines + repeat([shown["d"]], shown)


def _batch(shown: dict[str, Any]) -> list[str]:
    lines = [
        *heading(1, shown["verdict"].text, ": ", shown["title"]),
        line(shown["headline"]), "",
        *(bullets(shown["notes"]) if shown["notes"] else []),
        *heading(2, "One equation, and what each method puts into it"),
        line("ΔWᵀ = R M⁻¹ KᵀG; φ is the share of its change that a key receives, the median over "
             "the edits."), "",
        *table(
            ("Method", "G", "M", "with", "cond M", *(f"φ, {place}" for place in shown["places"])),
            [(row.short, row.metric, row.matrix, row.parameters, row.condition, *row.shares)
             for row in shown["family"]],
        ),
        *heading(2, "What was checked"),
        *bullets(line(bold(f.status), f" {f.id}: ", f.message) for f in shown["findings"]),
        *table(
            ("Block", "cond M", "damage expected", "at most", "whatever the keys",
             "of hidden states, expected", "at most", "first tokens"),
            shown["layers"],
        ),
    ]  # fmt: skip
    if shown["pairs"]:
        lines += heading(2, "Pairs that disturb one another")
        lines += table(("Edits", "Why", "cosine of their keys"), shown["pairs"][:LISTED])
    if shown["performed"] is not None:
        lines += heading(2, "What became of the model") + _batch_performed(shown)
    lines += heading(2, "The edits that receive least")
    lines += table(
        ("Edit", "First token", "bare prompt receives", "after a prefix", "P(new), bare"),
        [
            (_edited(row["before"], row["subject"], row["after"]), row["first"], row["bare"],
             row["prefixed"], row["p_bare"])
            for row in shown["edits"][:LISTED]
        ],
    )  # fmt: skip
    if shown["refused"]:
        lines += heading(2, "Not edits") + bullets(shown["refused"][:LISTED])
    return lines + repeat([shown["d"]], shown)


def _batch_performed(shown: dict[str, Any]) -> list[str]:
    return [
        line(bold(shown["outcome"].text)), "",
        *([line(shown["made"]["prediction"]), ""] if "prediction" in shown["made"] else []),
        *(bullets(reasons) if (reasons := shown["made"]["outcome_reasons"]) else []),
        *table(("What", "Value"), shown["performed"]),
        *table(
            ("Wording", "edits that succeed", "P(new object)", "paraphrases", "neighbours kept"),
            shown["wordings"],
        ),
        *table(
            ("Block", "residual", "φ, bare prompt", "‖ΔW‖ / ‖W‖", "damage, closed form",
             "measured"),
            shown["written"],
        ),
    ]  # fmt: skip


def _apply(shown: dict[str, Any]) -> list[str]:
    lines = [
        *heading(1, shown["title"]), line(shown["headline"]), "",
        *(bullets(shown["reasons"]) if shown["reasons"] else []),
        *table(shown["head"], shown["rows"]),
    ]  # fmt: skip
    if shown["prefixed"]:
        lines += [line(shown["prefixed"]), ""]
    if shown["says"]:
        lines += heading(2, "What the model says")
        lines += table(
            ("After", "before", "now"),
            [(f"{prefix}{prompt} …", old, new) for _, prefix, prompt, old, new in shown["says"]],
        )
    lines += heading(2, "What was written") + table(("What", "Value"), shown["written"])
    lines += heading(2, "How to take it back, bit for bit")
    lines += [line("DIR is the model's directory."), "", *code(shown["undo"])]
    return lines + repeat([shown["d"]], shown)


def _hardcases(shown: dict[str, Any]) -> list[str]:
    lines = [*heading(1, shown["title"]), line(shown["headline"]), "", *bullets(shown["notes"])]
    lines += heading(2, "How it was made") + bullets(map(": ".join, shown["facts"]))
    for title, head, rows in shown["tables"]:
        lines += heading(2, title) + table(head, rows)
    return lines + repeat([shown["d"]], shown)
