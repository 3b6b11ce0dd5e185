"""Why first-token keys are different, from a ``probes.first_token/1`` document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.figures import first_token, projections
from reports.numbers import counted, estimated, fixed, number, share
from reports.tables import setup

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
    return {
        "kind": "first_token", "title": f"First tokens of {model}, block {layer}",
        "w": document, "d": document,
        "headline": headline(document),
        "shares": shares(document["attribution"]),
        "effects": [effect(each) for each in document["interventions"]["effects"]],
        "why_figures": _figures(document) if figures else {},
        "measured_with": setup.measured_with(document),
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


def headline(document: Document) -> str:
    """What was measured on how many subjects, and what ρ is with either key."""
    rho, subjects = document["rho"], document["subjects"]
    skipped = subjects["skipped"]
    return (
        f"Over {counted(subjects['n'], 'subject')} ({subjects['source']}"
        f"{f', {len(skipped):,} skipped' if skipped else ''}) at block "
        f"{document['site']['layer']}, ρ is {written(rho['unprefixed'])} with the bare key and "
        f"{written(rho['prefixed'])} with a prefixed one; {share(rho['below_limit'])} are below "
        f"{number(rho['collapse_limit'])}."
    )


def shares(attribution: Document) -> list[tuple[str, str, str, str]]:
    """Each factor's Shapley share of Δρ, its effect alone, and its effect after all others."""
    rows = [
        (
            name,
            written(part),
            written(attribution["alone"][name]),
            written(attribution["last"][name]),
        )
        for name, part in attribution["shapley"].items()
    ]
    return [*rows, ("Δρ", written(attribution["delta"]), "", "")]


def effect(measured: Document) -> tuple[str, str, str, str, str]:
    """Hypothesis, intervention, the run it starts from, ρ before and after, share recovered."""
    name = (measured["hypothesis"], measured["name"], measured["starts_from"])
    if measured["reason"] is not None:
        return (*name, f"does not apply: {measured['reason']}", "–")
    change = f"{fixed(measured['rho_before']['mean'])} → {written(measured['rho_after'])}"
    return (*name, change, share(measured["recovered"]))


def written(figure: Document) -> str:
    """An estimate with its interval."""
    mean, interval = estimated(figure, fixed)
    return f"{mean} ({interval})" if interval else mean
