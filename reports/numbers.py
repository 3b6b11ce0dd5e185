"""How numbers are written everywhere: three significant digits, a true minus sign."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rome_diagnosis.shares import wilson

COUNTED_OUT = 20  # fewer things are counted: an interval of their share says next to nothing
FEWEST = 5  # observations from which on an interval of their mean is shown
PERCENT = "\u00a0%"  # never alone on the next line


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
    """A factor for people, always with three significant digits: ``1.00×``, not ``1×``."""
    if value is None:
        return "–"
    if 1e-3 <= abs(value) < 100:
        return f"{value:#.3g}".rstrip(".").replace("-", "−") + "×"
    return f"{number(value)}×"


def at_most(most: float | None, expected: float | None) -> str:
    """What is expected, with its bound where that is more: ``73 % (≤ 287 %)``."""
    if most is None or expected is None:
        return percent(most)
    return f"{percent(expected)} (≤ {percent(most)})"


def share(value: float | None) -> str:
    """A share of things that were counted, in whole per cents."""
    return "–" if value is None else f"{round(100 * value)}{PERCENT}".replace("-", "−")


def share_of(value: float | None, n: int) -> str:
    """A share of ``n`` things: with Wilson's 95 % interval, or as a count where they are few."""
    if value is None or n < 1:
        return "–"
    if n < COUNTED_OUT:
        return f"{round(value * n)} of {n}"
    return f"{share(value)} ({' to '.join(_wilson(value, n))})"


def _wilson(value: float, n: int) -> list[str]:
    return [str(round(100 * end)) for end in wilson(value, n)]


def percent(value: float | None) -> str:
    """A quotient, e.g. a change over a norm, in per cent with three significant digits."""
    return "–" if value is None else f"{number(100.0 * value)}{PERCENT}"


def fixed(value: float | None) -> str:
    """A number whose natural scale is 1, to three decimals."""
    return "–" if value is None else f"{round(value, 3) + 0.0:.3f}".replace("-", "−")


def chance(value: float | None) -> str:
    """A probability: small ones would all be 0 %."""
    return "–" if value is None else f"{value:.2f}" if value >= 0.005 else "< 0.005"


def rank(value: float) -> str:
    """A share of a population in words, its ends included: no rounding says "all" of most.

    Args:
        value: From 0 to 1.

    Returns:
        ``"all"``, ``"none of the"``, or ``"42 % of"``.
    """
    if value in (0.0, 1.0):
        return "all" if value else "none of the"
    return f"{min(99, max(1, round(100 * value)))}{PERCENT} of"


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """How many of something: ``1 edit``, ``2 edits``.

    Args:
        n: How many.
        noun: What one is called.
        plural: What several are called; the noun with an s by default.

    Returns:
        The phrase.
    """
    return f"{number(n)} {noun if n == 1 else plural or noun + 's'}"


def estimated(
    figure: Mapping[str, Any],
    write: Callable[[float | None], str] = number,
    *,
    between: str = " to ",
) -> tuple[str, str]:
    """A mean and its interval, as two texts.

    Args:
        figure: ``mean``, ``low``, ``high``, and ``n`` where known.
        write: How to write the numbers.
        between: What separates the ends of the interval.

    Returns:
        The mean, and ``low to high`` without units, which is empty for few observations. Of shares
        it is Wilson's: a bootstrap of edits that all succeeded knows no failure.
    """
    mean, n = figure["mean"], figure.get("n")
    if n is not None and n < FEWEST:
        return write(mean), ""
    if write is share and n and 0 <= mean <= 1:
        return write(mean), between.join(_wilson(mean, n))
    low, high = (write(figure[end]).removesuffix(PERCENT) for end in ("low", "high"))
    return write(figure["mean"]), f"{low}{between}{high}"
