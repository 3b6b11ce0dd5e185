"""Numbers, shares and counts as they are written."""

from __future__ import annotations

from reports.numbers import (
    chance,
    counted,
    estimated,
    fixed,
    number,
    percent,
    rank,
    share,
    share_of,
    times,
)


def plain(text: str) -> str:
    """A text with ordinary blanks alone."""
    return text.replace("\u00a0", " ")


def test_numbers_are_written_one_way() -> None:
    assert [number(x) for x in (None, 0, 0.0, 3, -0.5, 1234.5, 1e-5, 2.5e7, 12345)] == [
        "–", "0", "0", "3", "−0.5", "1,234", "1.00e−05", "2.50e+07", "12,345",
    ]  # fmt: skip
    assert [times(x) for x in (None, 1.0, 1.9, 24.0, 99.99, 123.4, -2.0, 6107.3, 1e-5)] == [
        "–", "1.00×", "1.90×", "24.0×", "100×", "123×", "−2.00×", "6,107×", "1.00e−05×",
    ]  # fmt: skip
    assert [plain(percent(x)) for x in (None, 0.857, 1.0, 32.08, 0.0404, -0.5)] == [
        "–", "85.7 %", "100 %", "3,208 %", "4.04 %", "−50 %",
    ]  # fmt: skip
    assert [plain(share(x)) for x in (None, 0.0, -0.001, 0.454, 1.0, -0.04)] == [
        "–", "0 %", "0 %", "45 %", "100 %", "−4 %",
    ]  # fmt: skip
    assert [fixed(x) for x in (None, 0.0, -0.0001, 0.25, -1.5)] == [
        "–", "0.000", "0.000", "0.250", "−1.500",
    ]  # fmt: skip
    assert [chance(x) for x in (None, 0.004, 0.25)] == ["–", "< 0.005", "0.25"]
    assert [plain(rank(x)) for x in (0.0, 0.001, 0.5, 0.999, 1.0)] == [
        "none of the", "1 % of", "50 % of", "99 % of", "all",
    ]  # fmt: skip


def test_one_is_no_plural_and_has_no_interval() -> None:
    assert [counted(n, "edit") for n in (0, 1, 2, 2000)] == [
        "0 edits", "1 edit", "2 edits", "2,000 edits",
    ]  # fmt: skip
    assert counted(1, "process", "processes") == "1 process"
    found = {"mean": 25.1, "low": 25.1, "high": 25.1}
    assert estimated(found | {"n": 1}) == ("25.1", "")
    assert estimated(found | {"n": 4}) == ("25.1", "")
    assert estimated(found | {"n": 5}) == ("25.1", "25.1 to 25.1")
    kept = {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 44}
    assert estimated(kept, share) == ("100\u00a0%", "92 to 100")
    assert (share_of(0.8, 5), share_of(0.99, 100)) == ("4 of 5", "99\u00a0% (95 to 100)")
    assert estimated(found, share, between=", ") == ("2510\u00a0%", "2510, 2510")
