"""Numbers in the sentences of findings and summaries."""

from __future__ import annotations

import math


def percent(share: float, limit: float | None = None) -> str:
    """A share in per cent, with as many digits as tell it from its limit.

    Args:
        share: The share, 1 for all.
        limit: What it is held against.

    Returns:
        Two digits, e.g. ``"5.6 %"``, whole per cents from 10 %, e.g. ``"86 %"``; more digits beside
        a limit that it would otherwise be rounded to or across.
    """
    value = 100 * share
    if 0 < abs(value) < 0.01:
        return "less than 0.01 %"
    for digits in range(2, 7):
        size = abs(value)
        rounded = float(f"{value:.{digits}g}")  # 99.6 to two digits is 1e+02
        text = f"{rounded:g}" if size < 10**digits else f"{value:,.0f}"
        rounded = float(text.replace(",", ""))
        if limit is None or _side(rounded, 100 * limit) == _side(value, 100 * limit):
            break
    return f"{text} %".replace("-", "−")


def _side(value: float, limit: float) -> int:
    """Whether a number is below, at or above a limit: −1, 0 or 1."""
    return (value > limit) - (value < limit)


def of_norm(size: float, limit: float | None = None, whose: str = "their") -> str:
    """A change of hidden states, e.g. ``"86 % of their norm"`` or ``"12 times their norm"``.

    Args:
        size: The change over the norm.
        limit: What it is held against.
        whose: Whose norm.

    Returns:
        The phrase.
    """
    part = f"{size:,.0f} times" if size >= 10 else f"{percent(size, limit)} of"
    return f"{part} {whose} norm"


def sizes(bound: float, expected: float, limit: float | None = None, whose: str = "their") -> str:
    """How much is expected and possible, e.g. ``"about 40 % and up to 86 % of their norm"``.

    Args:
        bound: The most.
        expected: What is expected; not said where it is the same.
        limit: What one of them is held against.
        whose: Whose norm.

    Returns:
        The phrase.
    """
    most = f"up to {of_norm(bound, limit, whose)}"
    if math.isclose(expected, bound):
        return most
    likely = f"{expected:,.0f} times" if expected >= 10 else percent(expected, limit)
    return f"about {likely} and {most}"


def number(value: float) -> str:
    """A number with three digits, e.g. ``−0.0046``; thousands are written out."""
    text = f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"
    return text.replace("-", "−")


def times(factor: float) -> str:
    """A factor, e.g. ``1.6×``."""
    return (f"{factor:.3g}×" if abs(factor) < 1000 else f"{factor:,.0f}×").replace("-", "−")


def capital(sentence: str) -> str:
    """A sentence with a full stop and a capital, unless it begins with a Greek letter."""
    first = sentence[0]
    return (first.upper() if first.isascii() else first) + sentence[1:] + "."
