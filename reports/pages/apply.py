"""The page of edits that were made to stay: what was changed, what it does, how to undo it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.figures import shares
from reports.numbers import chance, counted, number, percent, share_of
from reports.tables import arms, editors, setup, verdicts
from rome_diagnosis.text import line

Document = Mapping[str, Any]
LISTED = 500  # rows of the table
HEAD = (
    "Edit", "Made with", "P(new), bare", "after a prefix", "Needs a prefix", "Neighbours kept",
    "Judged", "Damage at most",
)  # fmt: skip
UNDO = "python -m diag.apply --undo DIR"
PREFIXED = (
    "Where a prefix is needed, the model gives the new object only when some text precedes the "
    "prompt."
)
TOGETHER = (
    "Each edit was judged by itself; python -m diag.sequence forecasts what a list of them does "
    "together."
)


def view(document: Document, *, figures: bool = True) -> dict[str, Any]:
    """What the page shows.

    Args:
        document: A ``diag.apply/1`` document.
        figures: Whether to draw figures.

    Returns:
        The template's values.
    """
    edits = document["edits"]
    return {
        "kind": "apply", "d": document, "title": title(document),
        "outcome": verdicts.label(document["outcome"]),
        "headline": headline(document), "reasons": document["outcome_reasons"],
        "head": HEAD, "rows": [row(edit) for edit in edits[:LISTED]], "n": len(edits),
        "figure": shares.applied(document) if figures else None,
        "prefixed": remarks(document),
        "says": says(document), "written": written(document), "undo": UNDO,
        "notes": setup.notes(document), "measured_with": setup.measured_with(document),
    }  # fmt: skip


def title(document: Document) -> str:
    """The edit, or how many there are."""
    edits = document["edits"]
    if len(edits) != 1:
        return f"{counted(len(edits), 'edit')} made in {document['model']['name']}"
    return edited(edits[0])


def edited(edit: Document) -> str:
    """A prompt and its new object."""
    request = edit["request"]
    return f"{request['prompt'].replace('{}', request['subject'])} → {request['target_new']}"


def remarks(document: Document) -> str | None:
    """Where the new object is not to be expected, and what verdicts on single edits do not say.

    Args:
        document: A ``diag.apply/1`` document.

    Returns:
        Sentences; ``None`` without any.
    """
    edits: Sequence[Document] = document["edits"]
    sentences = [PREFIXED] if any(edit["needs_prefix"] for edit in edits) else []
    warned = [edit for edit in edits if edit.get("target_warning")]
    if warned:
        more = f" The same of {counted(len(warned) - 1, 'other edit')}." if len(warned) > 1 else ""
        sentences.append(f"{edited(warned[0])}: {warned[0]['target_warning']}.{more}")
    if len(edits) > 1 and document["outcome"] != "intact":
        sentences.append(TOGETHER)
    return " ".join(sentences) or None


def headline(document: Document) -> str:
    """What became of the model, with intervals."""
    ratio, recall = arms.ratio(document["perplexity"]), document["recall"]
    text = f"The model is {document['outcome']}: perplexity {ratio} of before"
    if recall:
        kept = share_of(recall["after"], recall["n"])
        text += f", {kept} of {counted(recall['n'], 'other fact')} recalled"
    return f"{text}."


def row(edit: Document) -> tuple[str, ...]:
    """One edit's cells, under :data:`HEAD`."""
    after, locality = edit.get("after"), edit.get("locality")
    return (
        edited(edit), editors.editor(edit["editor"]).short,
        *("not asked" if after is None else _change(after[how]) for how in ("bare", "prefixed")),
        "yes" if edit["needs_prefix"] else "no",
        share_of(locality["after"], locality["n"]) if locality else "–",
        verdicts.label(edit["verdict"]).text.lower(), percent(edit["relative_bound"]),
    )  # fmt: skip


def _change(asked: Document) -> str:
    return f"{chance(asked['p_before'])} → {chance(asked['p_after'])}"


def says(document: Document) -> list[tuple[str, str, str, str, str]]:
    """What the model writes: where, after which text, before and after; rows of the first edits."""
    rows = []
    for edit in document["edits"]:
        request = edit["request"]
        prompt = request["prompt"].replace("{}", request["subject"])
        style = editors.editor(edit["editor"]).style
        for how, texts in (edit.get("says") or {}).items():
            prefix = document["prefix"] if how == "prefixed" else ""
            rows.append((style, prefix, prompt, line(texts["before"]), line(texts["after"])))
    return rows


def written(document: Document) -> list[tuple[str, str]]:
    """Which matrix was changed, and by how much."""
    return [
        ("Changed matrix", document["weight"]),
        ("‖ΔW‖ / ‖W‖", f"{number(document['relative_norm'])}; most of it where the keys of "
                       "ordinary text do not point, so that the damage above is small"
         if document["relative_norm"] > 1 and document["outcome"] == "intact"
         else number(document["relative_norm"])),
        ("SHA-256 before", document["original_digest"]),
        ("SHA-256 after", document["edited_digest"]),
    ]  # fmt: skip
