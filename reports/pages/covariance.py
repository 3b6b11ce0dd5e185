"""The page of estimated second moments: what they rest on, and how well they are known."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from reports.figures.canvas import C_ROME, DIM, draw
from reports.numbers import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
        "headline": f"C = E[k kᵀ] over {document['corpus']}: what denominators, ρ and damage are "
                    "measured by.",
        "layers": [
            {"layer": row["layer"], "file": row["file"], "lines": lines(row),
             "figure": convergence(row) if figures else None,
             "use": use(document, row)}
            for row in layers
        ],
        "speed": speed(document),
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
    found = [
        ("tokens", f"{layer['n_tokens']:,}, {each} for each of {layer['d_mlp']:,} dimensions"),
        (
            "solved with",
            f"condition number {number(layer['condition_number'])}, ridge {number(layer['ridge'])}",
        ),
    ]
    if layer.get("row_length") is not None:
        share = layer["position0_share"]
        first = "" if share is None else f", {100 * share:.2g}% of the tokens first"
        bos = "a" if layer["bos"] else "no"
        found.append(
            ("rows", f"{layer['row_length']:,} tokens{first}, {bos} begin-of-sequence token")
        )
    moved = layer.get("convergence")
    if moved:
        found.append(
            (
                "convergence",
                f"ρ of {moved['n']} control edits (median {number(moved['typical'])}) is known to "
                f"± {number(moved['median'])}, the worst to ± {number(moved['largest'])}",
            )
        )
    elif "convergence" in layer:
        found.append(("convergence", "not checked: too little text to halve"))
    if "fit" in layer:
        found.append(
            ("fit", f"ordinary keys are {number(layer['fit'])}× as long as in their own C")
        )
    return found


def speed(document: Document) -> str | None:
    """How long it took, or ``None`` where nothing was run."""
    run = document.get("run")
    if not run:
        return None
    return (
        f"{number(run['seconds'])} s in {run['processes']} process(es), "
        f"{number(run['n_tokens'] / run['seconds'])} tokens a second"
    )


def convergence(layer: Document) -> str | None:
    """ρ of control edits by C of one half of the text against ρ by C of the other.

    Args:
        layer: One of the document's ``layers``.

    Returns:
        A figure; ``None`` if that was not measured.
    """
    points = (layer.get("convergence") or {}).get("halves")
    if not points:
        return None

    def paint(axes: Axes) -> None:
        every = [value for point in points for value in point]
        ends = [min(every), max(every)]
        axes.plot(ends, ends, color=DIM, linewidth=1, linestyle=(0, (4, 2)), zorder=1)
        axes.scatter(
            [x for x, _ in points], [y for _, y in points], color=C_ROME, s=26, alpha=0.7,
            linewidths=0,
        )  # fmt: skip
        axes.set_xlabel("ρ by one half of the text")
        axes.set_ylabel("ρ by the other half")

    furthest = max(abs(x - y) for x, y in points)
    alt = (
        f"ρ of {len(points)} control edits in block {layer['layer']} by two halves of the text; "
        f"the two differ by at most {number(furthest)}"
    )
    return draw(f"convergence-{layer['layer']}", alt, paint, top=0.15)
