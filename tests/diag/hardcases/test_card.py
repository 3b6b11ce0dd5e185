"""The card of a set: what performing refutes is not in it."""

from __future__ import annotations

from typing import Any

import pytest

from diag.hardcases.card import is_refuted


@pytest.mark.parametrize(
    ("group", "outcome", "refuted"),
    [
        ("hard", "collapsed", False), ("hard", "damaged", False), ("hard", "intact", True),
        ("easy", "collapsed", True), ("easy", "damaged", True), ("easy", "intact", False),
    ],
)  # fmt: skip
def test_what_performing_refutes_leaves_the_set(group: Any, outcome: str, refuted: bool) -> None:
    assert is_refuted(group, {"outcome": {"rome": outcome}}) is refuted
    assert is_refuted(group, None) is False
    assert is_refuted(group, {"error": "no"}) is True
