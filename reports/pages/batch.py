"""The page of a batch: the family's one equation with numbers, M as a picture, what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.figures import batch as figures_of
from reports.numbers import chance, counted, number, percent, share, times
from reports.pages.many import MADE
from reports.tables import methods, setup, verdicts
from rome_diagnosis.methods import POST

Document = Mapping[str, Any]
LISTED = 200  # edits of the table: those that receive least
KINDS = {
    "contradiction": "one prompt, two objects",
    "same_subject": "the same subject twice",
    "parallel_keys": "nearly parallel keys",
}


def view(document: Document, *, figures: bool = True) -> dict[str, Any]:
    """Everything the page of a batch shows.

    Args:
        document: A ``diag.batch/1`` document.
        figures: Whether to draw figures.

    Returns:
        The template's values.
    """
    results = document.get("performed")
    return {
        "kind": "batch", "d": document, "title": title(document),
        "verdict": verdicts.label(str(document["verdict"])),
        "headline": document["summary"], "notes": setup.notes(document),
        "family": methods.rows(document), "places": list(methods.PLACES.values()),
        "layers": layers(document), "findings": verdicts.findings(document),
        "pairs": pairs(document), "n_pairs": document["n_pairs"],
        "edits": edits(document), "n": len(document["edits"]),
        "performed": performed(document) if results else None,
        "outcome": verdicts.label(str(results["outcome"])) if results else None,
        "made": results, "written": written(document), "wordings": wordings(document),
        "unmeasured": [] if results else [
            (MADE, f"{document['command'] or 'python -m diag.batch FILE'} --perform")
        ],
        "refused": [f"{each.get('place', each['index'])}: {each['reason']}"
                    for each in document["refused"]],
        "figures": {
            "matrix": figures_of.matrix(document),
            "response": figures_of.response(document),
            "family": figures_of.family(document),
        } if figures else {},
        "measured_with": measured_with(document),
    }  # fmt: skip


def title(document: Document) -> str:
    """What the batch is: how many edits, by which method, in which blocks."""
    n, method = len(document["edits"]), methods.short(str(document["method"]["name"]))
    blocks = ", ".join(str(layer["layer"]) for layer in document["layers"])
    noun = "block" if len(document["layers"]) == 1 else "blocks"
    return f"{counted(n, 'edit')} by {method} in {noun} {blocks}"


def layers(document: Document) -> list[tuple[str, ...]]:
    """A row for each layer: block, M's condition, expected and bounded damage, method's bound."""
    rows = []
    for layer in document["layers"]:
        damage = layer["damage"]
        condition = layer["condition_number"]
        relative = damage["relative_expected"], damage["relative_bound"]
        first = percent(damage["relative_first_tokens"])
        rows.append(
            (
                str(layer["layer"]),
                "singular" if condition is None else number(condition),
                number(damage["expected"]),
                number(damage["bound"]),
                number(damage["whatever_keys"]),
                *(
                    ["not checked"] * 3
                    if damage["not_checked"]
                    else [*map(percent, relative), first]
                ),
            )
        )
    return rows


def pairs(document: Document) -> list[tuple[str, str, str]]:
    """The pairs that disturb one another: both subjects, why, the keys' cosine."""
    edits = document["edits"]
    return [
        (
            f"{_name(edits, pair['first'])} and {_name(edits, pair['second'])}",
            KINDS[pair["kind"]],
            number(pair["cosine"]),
        )
        for pair in document["pairs"]
    ]


def edits(document: Document) -> list[dict[str, Any]]:
    """The edits that receive least of their change, and what was measured of them."""
    results = (document.get("performed") or {"edits": ()})["edits"]
    by_index = {edit["index"]: edit for edit in results}
    listed = document["edits"]
    order = sorted(
        range(len(listed)),
        key=lambda i: -1.0 if listed[i]["received_bare"] is None else listed[i]["received_bare"],
    )
    rows = []
    for i in order[:LISTED]:
        edit, request = listed[i], listed[i]["request"]
        before, after = request["prompt"].split("{}", 1)
        nearest, disturbing = edit["nearest"], edit["disturbed_by"]
        figures = by_index.get(i)
        rows.append(
            {
                "index": i, "before": before, "subject": request["subject"], "after": after,
                "target": request["target_new"], "token": edit["token"],
                "first": "yes" if edit["is_first_token"] else "no",
                "bare": percent(edit["received_bare"]),
                "prefixed": percent(edit["received_prefixed"]),
                "nearest": "" if nearest is None else _other(listed, nearest, number),
                "disturbed": "" if disturbing is None else _other(listed, disturbing, percent),
                "received": percent(figures["received"]) if figures else "–",
                "p_bare": chance(figures["bare"]["p_after"]) if figures else "–",
                "p_prefixed": chance(figures["editing_prefix"]["p_after"]) if figures else "–",
            }
        )  # fmt: skip
    return rows


def performed(document: Document) -> list[tuple[str, str]]:
    """What became of the model, in words.

    Args:
        document: A ``diag.batch/1`` document of a batch that was made.

    Returns:
        What, and its value.
    """
    results = document["performed"]
    perplexity, recall, targets = results["perplexity"], results["recall"], results["targets"]
    rows = [
        (
            "perplexity",
            f"{number(perplexity['before'])} → {number(perplexity['after'])} "
            f"({times(perplexity['ratio'])})",
        ),
        (
            "other facts still given",
            "not measured" if recall is None else f"{share(recall['after'])} of {recall['n']}",
        ),
        (
            "targets",
            f"median loss {number(targets['loss'])}, {number(targets['clamped'])} of "
            f"{number(targets['n'])} at the clamp",
        ),
    ]
    for name, words in (
        ("predicted_received", "predicted share against the measured one"),
        ("received_efficacy", "predicted share against the new object's probability"),
        ("neighbours_locality", "what neighbours receive against the locality lost"),
    ):
        rank = results.get(name)
        if rank and rank["rho"] is not None:
            rows.append((words, f"Spearman {number(rank['rho'])} over {number(rank['n'])}"))
    return rows


def wordings(document: Document) -> list[tuple[str, ...]]:
    """What the edited model says, at bare prompts and after a prefix."""
    results = document.get("performed")
    if not results:
        return []
    rows = []
    for name, words in (("bare", "bare prompt"), ("editing_prefix", "after a prefix")):
        figures = results[name]
        rows.append(
            (
                words,
                _change(figures["success_before"], figures["success"], share),
                _change(figures["p_before"], figures["p_after"], chance),
                *(
                    "–" if (f := figures[kind]) is None else _change(f["before"], f["after"], share)
                    for kind in ("generalisation", "locality")
                ),
            )
        )
    return rows


def written(document: Document) -> list[tuple[str, ...]]:
    """What was written into each layer."""
    results = document.get("performed")
    return [
        (
            str(layer["layer"]),
            number(layer["residual"]),
            percent(layer["received"]),
            number(layer["relative_update_norm"]),
            number(layer["damage"]),
            number(layer["damage_measured"]),
        )
        for layer in (results["layers"] if results else ())
    ]


def measured_with(document: Document) -> list[str]:
    """Model, method, second moments, contexts, versions."""
    method = document["method"]
    tuned = methods.parameters(method["parameters"])
    moments = {f"block {layer['layer']}": layer["second_moment"] for layer in document["layers"]}
    sentences = [
        f"{methods.short(str(method['name']))}{f': {tuned}' if tuned else ''}; targets clamped to "
        f"{number(method['clamp'])} times the length of what they start from.",
        *(
            [f"{POST[post]}: applied before writing, not foretold."]
            if (post := method.get("post"))
            else []
        ),
        *(
            f"C of {block} over {number(moment['n_tokens'])} tokens ({moment['source']})."
            for block, moment in moments.items()
        ),
    ]
    results = document.get("performed")
    if results:
        sentences.append(f"Perplexity over {results['texts']}; recall of {results['facts']}.")
    return [*sentences, *setup.measured_with(document)]


def _name(listed: Any, i: int) -> str:
    return f"{listed[i]['request']['subject']} ({i + 1})" if i < len(listed) else str(i + 1)


def _other(listed: Any, other: Document, write: Any) -> str:
    return f"{write(other['value'])}, {_name(listed, other['index'])}"


def _change(before: float | None, after: float | None, write: Any) -> str:
    return f"{write(before)} → {write(after)}"
