"""Why first-token keys are different, from a ``probes.first_token/1`` document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.figures import first_token, projections
from reports.numbers import number

Document = Mapping[str, Any]


def view(document: Document, *, figures: bool = True) -> dict[str, Any]:
    """What the section, and the page, on first tokens shows.

    Args:
        document: The saved result.
        figures: Whether to draw figures.

    Returns:
        Values for a template.
    """
    model, layer = document["model"]["name"], document["site"]["layer"]
    attribution = document["attribution"]
    return {
        "kind": "first_token", "title": f"First tokens of {model}, block {layer}",
        "w": document, "d": document,
        "headline": _headline(document),
        "shares": [
            (name, _estimate(share), _estimate(attribution["alone"][name]),
             _estimate(attribution["last"][name]))
            for name, share in attribution["shapley"].items()
        ] + [("Δρ", _estimate(attribution["delta"]), "", "")],
        "effects": [_effect(effect) for effect in document["interventions"]["effects"]],
        "why_figures": _figures(document) if figures else {},
    }  # fmt: skip


def _figures(document: Document) -> dict[str, Any]:
    return {
        "shares": first_token.shares(document["attribution"]),
        "recovery": first_token.recovery(document["patching"]["patches"]),
        "profiles": first_token.profiles(document),
        "projections": projections.figures(
            document["projections"], projections.of_subjects(document["rho"]["collapse_limit"])
        ),
    }


def _headline(document: Document) -> str:
    rho, subjects = document["rho"], document["subjects"]
    return (
        f"Over {subjects['n']:,} subjects ({subjects['source']}) at block "
        f"{document['site']['layer']}, ρ is {_estimate(rho['unprefixed'])} with the bare key and "
        f"{_estimate(rho['prefixed'])} with a prefixed one; {100 * rho['below_limit']:.0f}% are "
        f"below {number(rho['collapse_limit'])}."
    )


def _effect(effect: Document) -> tuple[str, str, str, str, str]:
    """Hypothesis, intervention, what it was done to, ρ before and after, and how far it comes."""
    name = (effect["hypothesis"], effect["name"], effect["starts_from"])
    if effect["reason"] is not None:
        return (*name, f"does not apply: {effect['reason']}", "–")
    way = effect["recovered"]
    return (
        *name,
        f"{number(effect['rho_before']['mean'])} → {_estimate(effect['rho_after'])}",
        "–" if way is None else f"{round(100 * way)}%",
    )


def _estimate(found: Document) -> str:
    return f"{number(found['mean'])} ({number(found['low'])} to {number(found['high'])})"
