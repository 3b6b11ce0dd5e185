"""A diagnosis as one row among several: of a sweep over blocks, of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rome_diagnosis.editors import EDITORS


def row(diagnosis: Mapping[str, Any]) -> dict[str, Any]:
    """A diagnosis as a row among others, of sweeps and comparisons.

    Args:
        diagnosis: Its ``diag.keys/1`` document.

    Returns:
        The row.
    """
    damage, response = diagnosis["damage"], diagnosis["response"]
    ratio, interval = (diagnosis["denominators"][name] for name in ("ratio", "ratio_interval"))
    kept = ("relative_bound", "relative_bound_first_tokens", "expected_share", "verdict")
    editors = {}
    for name in EDITORS:
        answer = response[name] or {}
        editors[name] = {
            "denominator": diagnosis["denominators"][name],
            **{figure: damage[name][figure] for figure in kept},
            "bare": answer.get("bare"),
            "prefixed": answer.get("prefixed"),
        }
    return {
        "layer": diagnosis["site"]["layer"],
        "second_moment": diagnosis["second_moment"],
        "ratio": ratio,
        "ratio_interval": interval,
        "residual_norm": damage["residual_norm"],
        "editors": editors,
        "verdict": diagnosis["verdict"],
    }
