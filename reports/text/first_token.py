"""First-token probes as text in a terminal, from the saved document alone."""

from __future__ import annotations

from rich.console import RenderableType

from reports.numbers import number, share
from reports.pages.first_token import effect, headline, shares, written
from reports.text import console as parts
from reports.text.console import Document, quoted

CELLS = ("first_bare", "first_prefixed", "later_bare", "ordinary_first")


def render(document: Document) -> RenderableType:
    """Lays a ``probes.first_token/1`` document out for ``rich``."""
    positions = document["interventions"]["positions"]
    return parts.page(
        headline(document),
        *_findings(document),
        parts.section("Keys, block by block", _cells(document), "", _pairs(document)),
        parts.section("Sinks", _sinks(document)),
        parts.section(f"Interventions (positions are {positions})", _interventions(document)),
        parts.section("Attribution of Δρ", _attribution(document)),
        parts.section("Patches", _patches(document)),
        "",
        parts.dim(document["command"]) if document["command"] else None,
    )  # fmt: skip


show = parts.showing(render)


def _findings(document: Document) -> list[RenderableType | None]:
    messages = [finding["message"] for finding in document["findings"]]
    return [part for message in messages for part in ("", parts.indented(message))]


def _cells(document: Document) -> RenderableType:
    figures = ("norm", "spread", "effective_rank", "whitened_norm", "whitened_spread")
    return parts.table(
        ("block", "cell", ">n", ">‖k‖", ">spread", ">rank", ">‖k‖ in C⁻¹", ">spread in C⁻¹"),
        [
            (str(block["layer"]), name.replace("_", " "), number(cell["n"]),
             *(number(cell[figure]) for figure in figures))
            for block in document["layers"]
            for name in CELLS
            if (cell := block["cells"].get(name))
        ],
    )  # fmt: skip


def _pairs(document: Document) -> RenderableType:
    edited = document["site"]["layer"]
    rows = []
    for block in document["layers"]:
        for pair in block["pairs"]:
            if block["layer"] != edited and list(pair["cells"]) != ["first_bare", "later_bare"]:
                continue
            probe = pair["probe"] or {}
            values = (
                pair["cosine"], pair["whitened_cosine"], pair["mahalanobis"], pair["frechet"],
                probe.get("auc"), probe.get("null_mean"),
            )  # fmt: skip
            cells = " / ".join(pair["cells"]).replace("_", " ")
            rows.append((str(block["layer"]), cells, *map(number, values)))
    head = ("block", "cells", ">cosine", ">in C⁻¹", ">Mahalanobis", ">Fréchet", ">AUC", ">shuffled")
    return parts.table(head, rows)


def _sinks(document: Document) -> RenderableType:
    figures = ("attention_to_first", "sink_rate", "length_first", "length_later", "massive_first",
               "massive_later")  # fmt: skip
    rows = []
    for block in document["sinks"]["layers"]:
        largest = [f"{c['index']} ({share(c['share'])})" for c in block["coordinates"][:1]]
        others = [f"{quoted(o['token'])} ×{o['count']}" for o in block["others"][:1]]
        values = (number(block[figure]) for figure in figures)
        rows.append((str(block["layer"]), *values, "".join(largest), "".join(others) or "none"))
    head = ("block", ">attention to 0", ">sink rate", ">stream at 0", ">later", ">massive at 0",
            ">later", "largest", "other sink")  # fmt: skip
    return parts.table(head, rows, gap=1)


def _interventions(document: Document) -> RenderableType:
    rows: list[tuple[RenderableType, ...]] = []
    for measured in document["interventions"]["effects"]:
        *names, rho, recovered = effect(measured)
        if measured["reason"] is None:
            n, key = str(measured["n"]), share(measured["key_change"])
            rows.append((*names, n, rho, recovered, key))
        else:
            rows.append((*names, "–", parts.dim(rho), recovered, "–"))
    head = ("hypothesis", "intervention", "on", ">n", "ρ before → after", ">recovered", ">key")
    return parts.table(head, rows, gap=1)


def _attribution(document: Document) -> RenderableType:
    attribution = document["attribution"]
    *factors, total = shares(attribution)
    interactions = [
        (name, "", written(part), "") for name, part in attribution["interactions"].items()
    ]
    head = ("factor", "Shapley value", "alone", "last")
    return parts.table(head, [*factors, *interactions, total], gap=1)


def _patches(document: Document) -> RenderableType:
    rows: dict[tuple[int, str], dict[str, float]] = {}
    for patch in document["patching"]["patches"]:
        way = rows.setdefault((patch["block"], patch["site"]), {})
        way[patch["direction"]] = patch["recovered"]
    return parts.table(
        ("block", "patched", ">into the bare run", ">into the prefixed run"),
        [
            (str(block), site.replace("_", " "), share(way.get("into_bare")),
             share(way.get("into_prefixed")))
            for (block, site), way in rows.items()
        ],
    )  # fmt: skip
