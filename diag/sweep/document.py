"""What a sweep writes down: a row for each block, taken from its diagnosis, and the sink."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from probes.keys.profile import LayerStatistics
from probes.keys.sink import FirstPosition, writers
from rome_diagnosis import envelope
from rome_diagnosis.editors import EDITORS, PUBLISHED, REMEDY
from rome_diagnosis.limits import SINK_NORM

SCHEMA = "diag.sweep/1"
LAYER = re.compile(r"--layer \d+")


def sink(first: Sequence[FirstPosition], profile: Sequence[LayerStatistics]) -> dict[str, Any]:
    """The attention sink over depth.

    Args:
        first: The first position at every block.
        profile: Statistics of every block.

    Returns:
        ``written_by``, the blocks that write it, and a row for each block.
    """
    ratios: list[float | None] = []
    rows = []
    for at, statistics in zip(first, profile, strict=True):
        later = statistics.residual_norm_later
        ratios.append(at.norm / later if later else None)
        rows.append(
            {
                "layer": at.block,
                "norm_first": at.norm,
                "norm_later": later,
                "norm_ratio": ratios[-1],
                "written": at.written,
                "coordinates": at.coordinates,
                "coordinates_share": at.share,
                "attention_to_first": statistics.attention_to_first,
            }
        )
    return {
        "written_by": writers(ratios, SINK_NORM.value),
        "limit": SINK_NORM.value,
        "blocks": rows,
    }


def document(
    diagnosis: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], sink: Mapping[str, Any]
) -> dict[str, Any]:
    """The document.

    Args:
        diagnosis: One of the blocks' documents, for what all share.
        rows: A row for each block.
        sink: The attention sink over depth, as :func:`sink` describes it.

    Returns:
        Plain JSON values.
    """
    layers = ",".join(str(each["layer"]) for each in rows)
    command = diagnosis["command"]
    bare = diagnosis["lookup"]["unprefixed"]
    shared = (
        "version",
        "created",
        "versions",
        "model",
        "request",
        "contexts",
        "limits",
        "validity",
    )
    written = {
        "schema": SCHEMA,
        "command": command and LAYER.sub(f"--layer {layers}", command, count=1),
        **{name: diagnosis[name] for name in shared},
        "lookup": {name: bare[name] for name in ("token", "index", "is_first_token")},
        "clamp_norm_factor": diagnosis["damage"]["clamp_norm_factor"],
        "layers": list(rows),
        "sink": sink,
        "summary": summary(rows, sink),
    }
    return envelope.plain(envelope.finite(written))


def summary(rows: Sequence[Mapping[str, Any]], sink: Mapping[str, Any]) -> str:
    """Which blocks are safe to edit, with which editor, and where the sink is born.

    Args:
        rows: A row for each block.
        sink: The attention sink over depth, as :func:`sink` describes it.

    Returns:
        Plain text.
    """
    sentences = []
    for editor in (PUBLISHED, REMEDY):
        verdicts = {each["layer"]: each["editors"][editor]["verdict"] for each in rows}
        groups = {
            verdict: [layer for layer, own in verdicts.items() if own == verdict]
            for verdict in dict.fromkeys(verdicts.values())
        }
        places = "; ".join(
            f"{verdict.replace('_', ' ')} at {blocks(layers)}" for verdict, layers in groups.items()
        )
        sentences.append(f"{EDITORS[editor].label}: {places}.")
    for block in sink["written_by"]:
        after = next(each for each in sink["blocks"] if each["layer"] == block + 1)
        sentences.append(
            f"Block {block} writes an attention sink: after it the first position's stream is "
            f"{after['norm_ratio']:.3g} times as long as a later one's, "
            f"{100 * after['coordinates_share']:.0f} % of its square in "
            f"coordinates {', '.join(map(str, after['coordinates']))}."
        )
    return " ".join(sentences)


def blocks(layers: Sequence[int]) -> str:
    """Block numbers in words, e.g. ``blocks 0, 3–5``."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    named = (str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)
    return f"{'block' if len(layers) == 1 else 'blocks'} {', '.join(named)}"
