"""The page of estimated second moments: what they rest on, and how well they are known."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from reports.figures.covariance import convergence
from reports.numbers import counted, number, percent
from reports.tables import setup

Document = Mapping[str, Any]


def view(document: Document, *, figures: bool = True) -> dict[str, Any]:
    """What the page shows.

    Args:
        document: A ``diag.covariance/1`` document.
        figures: Whether to draw figures.

    Returns:
        The template's values.
    """
    layers = document["layers"]
    blocks = ", ".join(str(row["layer"]) for row in layers)
    return {
        "kind": "moments", "d": document,
        "title": f"Second moments of {document['model']}, block {blocks}",
        "headline": f"C = E[k kᵀ] over {document['corpus']}: denominators, ρ and damage are "
                    "measured with it.",
        "layers": [
            {"layer": row["layer"], "file": row["file"], "lines": lines(row),
             "figure": convergence(row) if figures else None,
             "use": use(document, row)}
            for row in layers
        ],
        "measured_with": [f"{document['model']}, weights {document['fingerprint'][:8]}.",
                          *filter(None, [speed(document)]), *setup.measured_with(document)],
    }  # fmt: skip


def use(document: Document, layer: Document) -> str:
    """The command that diagnoses an edit with one layer's C.

    Args:
        document: A ``diag.covariance/1`` document.
        layer: One of its ``layers``.

    Returns:
        A line for a shell.
    """
    words = ["python", "-m", "diag.keys", "--subject", "Apple", "--model", document["model"]]
    words += ["--layer", str(layer["layer"]), "--second-moment", layer["file"]]
    if layer.get("bos") is not None:
        words.append("--bos" if layer["bos"] else "--no-bos")
    return shlex.join(words)


def lines(layer: Document) -> list[tuple[str, str]]:
    """What is known of one layer's C, in words.

    Args:
        layer: One of the document's ``layers``.

    Returns:
        What, and its value.
    """
    each = number(layer["tokens_per_dimension"])
    rows = [
        ("tokens", f"{layer['n_tokens']:,}, {each} for each of {layer['d_mlp']:,} dimensions"),
        (
            "solved with",
            f"condition number {number(layer['condition_number'])}, ridge {number(layer['ridge'])}",
        ),
    ]
    if layer.get("noise_floor") is not None:
        kind = f", in {layer['keys_in']}" if "keys_in" in layer else ""
        rows.append(("rounding of keys", f"{number(layer['noise_floor'])} of their length{kind}"))
    if layer.get("row_length") is not None:
        share = layer["position0_share"]
        first = "" if share is None else f", {percent(share)} of the tokens first"
        bos = "a" if layer["bos"] else "no"
        length = counted(layer["row_length"], "token")
        rows.append(("rows", f"{length}{first}, {bos} begin-of-sequence token"))
    moved = layer.get("convergence")
    if moved:
        rows.append(
            (
                "convergence",
                f"ρ of {counted(moved['n'], 'control edit')} (median {number(moved['typical'])}) "
                f"is known to ±\u00a0{number(moved['median'])}, the worst to "
                f"±\u00a0{number(moved['largest'])}",
            )
        )
    elif "convergence" in layer:
        rows.append(("convergence", "not checked: too little text to halve"))
    if "fit" in layer:
        size = number(layer["fit"])
        rows.append(("fit", f"mean squared length of ordinary keys in its metric {size} × d_mlp"))
    return rows


def speed(document: Document) -> str | None:
    """How long it took, or ``None`` where nothing was run."""
    run = document.get("run")
    if not run:
        return None
    return (
        f"{number(run['seconds'])} s in {counted(run['processes'], 'process', 'processes')}, "
        f"{number(run['n_tokens'] / run['seconds'])} tokens a second."
    )
