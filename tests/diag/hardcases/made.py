"""Screened edits written down for tests that need no model, and options that measure little."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from diag.hardcases.cases import Screened
from diag.screen.table import FLOATS
from probes.request.cases import EditCase
from probes.request.request import request

FEW: dict[str, Any] = {"n_prefixes": 3, "quiet": True}


def edit(
    subject: str = "Apple",
    relation: str = "founder",
    *,
    damage: float | None = 3.0,
    first: float | None = 0.0,
    verdict: str = "collapse_risk",
    rho: float = 0.01,
    objects: tuple[str, str] = ("Jobs", "Gates"),
) -> Screened:
    """An edit that was never screened, with the figures a test wants."""
    true, new = objects
    row: dict[str, Any] = dict.fromkeys(FLOATS, 1.0)
    row |= {"token": subject, "token_index": 0, "is_first_token": True, "rho": rho}
    row |= {"relative_bound_rome": damage, "relative_bound_first_tokens_rome": first}
    asked = request(subject, "{} was founded by", target_new=new, target_true=true)
    return Screened(EditCase(asked), relation, row | {"verdict": verdict})


def safe(subject: str, relation: str = "founder", true: str = "Jobs") -> Screened:
    """An edit that screening calls safe."""
    return edit(subject, relation, damage=0.01, verdict="safe", rho=1.0, objects=(true, "Somebody"))


EDITS = st.lists(
    st.builds(
        edit,
        st.sampled_from(["Apple", "apple", "Paris", "Rome", "Q", "The Hague"]),
        st.sampled_from(["founder", "capital", "{} is"]),
        damage=st.none() | st.floats(0, 1e6),
        first=st.none() | st.floats(0, 1e6),
        rho=st.floats(-2, 2),
        verdict=st.sampled_from(["collapse_risk", "damage_risk", "unclear", "safe"]),
    )
    | st.none(),
    max_size=30,
)
