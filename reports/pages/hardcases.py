"""The data card of hard edits, for page, Markdown and text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.figures import shares
from reports.numbers import counted, number, percent, share, times
from reports.tables import editors, setup, verdicts
from rome_diagnosis.editors import ARMS, PUBLISHED

Document = Mapping[str, Any]
Row = tuple[str, ...]
MADE = {
    "mined": "mined from data sets: of each subject its most dangerous edit, relations in turns",
    "composed": "composed: words that are one token of the model's vocabulary, in the wordings of "
    "a file of facts, with its objects; the true object is the one the model prefers",
}
HEAD = ("", "hard", "easy")
PERFORMED = ("Arm", "edits", "collapsed", "damaged", "either", "95\u00a0% interval")
EXAMPLES = ("Edit", "ρ", "damage at most", f"under {editors.editor(PUBLISHED).short}")


def view(document: Document, *, figures: bool = True) -> dict[str, Any]:
    """What the card shows.

    Args:
        document: A ``diag.hardcases/1`` document.
        figures: Whether to draw figures.

    Returns:
        The template's values.
    """
    groups = document["groups"]
    tables = [
        ("What is in it", HEAD, counts(document)),
        *((f"Performed: {name} edits", PERFORMED, performed(of)) for name, of in groups.items()),
        ("The first hard edits", EXAMPLES, examples(document)),
    ]
    return {
        "kind": "hardcases",
        "d": document,
        "title": f"Hard edits of {document['model']['name']}, block {document['site']['layer']}",
        "headline": headline(document),
        "facts": facts(document),
        "figure": shares.broken(document) if figures else None,
        "tables": [table for table in tables if table[2]],
        "notes": setup.notes(document),
        "measured_with": setup.measured_with(document),
    }


def headline(document: Document) -> str:
    """How many edits there are, and what performing some of them showed."""
    groups = document["groups"]
    sizes = (
        f"{counted(groups['hard']['n'], 'hard edit')} and {number(groups['easy']['n'])} easy ones"
    )
    shown = []
    for name, group in groups.items():
        rome = (group["performed"] or {}).get(PUBLISHED)
        if rome:
            ends = f"{share(rome['low'])} to {share(rome['high'])}"
            broken = rome["n"] - rome["outcomes"]["intact"]
            shown.append(
                f"of {rome['n']} {name} ones performed {broken} collapsed or damaged the model "
                f"under {editors.editor(PUBLISHED).short} ({share(rome['mean'])}, 95\u00a0% "
                f"interval {ends})"
            )
    return f"{sizes}; {'; '.join(shown) or 'none was performed'}."


def facts(document: Document) -> list[Row]:
    """How the set was made."""
    n_hard = document["found"]
    subjects = counted(document["found_subjects"], "subject")
    skipped = document["not_screened"]
    rows: list[Row] = [
        ("How", MADE[document["made"]]),
        ("Screened", f"{number(document['screened'])} edits, of which {number(n_hard)} "
                     f"({percent(n_hard / max(1, document['screened']))}) are hard, {subjects}"
                     + (f"; {number(skipped)} records could not be" if skipped else "")),
        ("Seed", str(document["seed"])),
    ]  # fmt: skip
    for source in document["sources"]:
        licence = source["licence"] or "not stated"
        rows.append(("Source", f"{source['name']} ({source['digest'][:12]}), licence: {licence}"))
    rows.append(("Records", f"{document['file']}: ROME's and EasyEdit's fields"))
    return rows


def counts(document: Document) -> list[Row]:
    """What is in either group."""
    groups = list(document["groups"].values())
    splits = [", ".join(f"{n:,} {name}" for name, n in of["splits"].items()) for of in groups]
    verdict_counts = [
        ", ".join(f"{n:,} {verdicts.label(name).text.lower()}"
                  for name, n in of["verdicts"].items() if n)
        for of in groups
    ]  # fmt: skip
    return [
        ("Edits", *(number(of["n"]) for of in groups)),
        ("Refuted by performing", *(number(of["chosen"] - of["n"]) for of in groups)),
        ("Subjects", *(number(of["subjects"]) for of in groups)),
        ("Relations", *(number(len(of["relations"])) for of in groups)),
        ("Splits", *splits),
        ("Verdicts", *verdict_counts),
        ("Both objects as in the pair", *(number(of["same_objects"]) for of in groups)),
        ("ρ, median (5 to 95 %)", *(_spread(of, "rho", number) for of in groups)),
        ("Damage at most", *(_spread(of, "relative_bound_rome", percent) for of in groups)),
        ("At first tokens",
         *(_spread(of, "relative_bound_first_tokens_rome", percent) for of in groups)),
    ]  # fmt: skip


def performed(group: Document) -> list[Row]:
    """What performing some edits of a group showed, by arm."""
    return [
        (ARMS[arm].label if arm in ARMS else arm, number(of["n"]),
         number(of["outcomes"].get("collapsed", 0)), number(of["outcomes"].get("damaged", 0)),
         share(of["mean"]), f"{share(of['low'])} to {share(of['high'])}")
        for arm, of in (group["performed"] or {}).items()
    ]  # fmt: skip


def examples(document: Document) -> list[Row]:
    """The first hard edits."""
    return [
        (f"{each['prompt'].replace('{}', each['subject'])} → {each['target_new']}",
         number(each["rho"]), percent(each["relative_bound_rome"]), _outcome(each))
        for each in document["examples"]
    ]  # fmt: skip


def _outcome(example: Document) -> str:
    if example["outcome"] is None:
        return "not performed"
    return f"{example['outcome']}, perplexity {times(example['perplexity_ratio'])}"


def _spread(group: Document, name: str, write: Any) -> str:
    values = group["quantiles"][name]
    if not values:
        return "–"
    at = dict(zip(group["quantiles"]["at"], values, strict=False))
    return f"{write(at.get(0.5))} ({write(at.get(0.05))} to {write(at.get(0.95))})"
