"""How numbers are written everywhere: three significant digits, a true minus sign."""

from __future__ import annotations


def number(value: float | int | None) -> str:
    """A number for people.

    Args:
        value: The number; ``None`` stands for one that was not measured.

    Returns:
        Three significant digits, or ``"–"``.
    """
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    size = abs(value)
    if size == 0:
        return "0"
    text = f"{value:.2e}" if size < 1e-3 or size >= 1e6 else f"{value:,.3g}"
    if 1000 <= size < 1e6:
        text = f"{value:,.0f}"
    return text.replace("-", "−")


def times(value: float | None) -> str:
    """A factor for people, e.g. ``1.9×``."""
    return number(value) + ("" if value is None else "×")


def rank(share: float) -> str:
    """A share of a population in words, its ends included: no rounding says "all" of most.

    Args:
        share: From 0 to 1.

    Returns:
        ``"all"``, ``"none of the"``, or ``"42% of"``.
    """
    if share in (0.0, 1.0):
        return "all" if share else "none of the"
    return f"{min(99, max(1, round(100 * share)))}% of"
