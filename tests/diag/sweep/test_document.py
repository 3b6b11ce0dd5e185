"""Blocks of a sweep, in words."""

from __future__ import annotations

from diag.sweep.document import blocks


def test_blocks_in_words() -> None:
    assert blocks([3]) == "block 3"
    assert blocks([0, 3, 4, 5, 7]) == "blocks 0, 3–5, 7"
