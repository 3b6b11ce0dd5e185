"""Verdicts and findings: what they rest on, and that they say value and limit."""

from __future__ import annotations

import pytest

from diag.judgement import findings, limits, verdict
from diag.judgement.summary import paragraph


@pytest.mark.parametrize(
    ("rho", "relative", "expected"),
    [
        (1.0, 5.0, "collapse_risk"),
        (0.01, 0.1, "safe"),  # a small ratio alone breaks nothing: damage decides where it is known
        (1.0, 0.5, "unclear"),
        (-0.01, None, "collapse_risk"),
        (0.3, None, "unclear"),
        (-0.9, None, "unclear"),  # keys that agree are no proof: the update may still be large
        (1.0, limits.DAMAGE_COLLAPSE.value, "collapse_risk"),
        (1.0, limits.DAMAGE_SAFE.value, "unclear"),
    ],
)
def test_damage_decides_and_without_it_the_ratio_can_only_warn(
    rho: float, relative: float | None, expected: str
):
    assert verdict.verdict_of(rho, relative) == expected


def test_every_limit_has_a_reason() -> None:
    every = [value for value in vars(limits).values() if isinstance(value, limits.Limit)]
    assert len(every) >= 6
    assert all(len(limit.reason) > 20 for limit in every)


def test_a_safe_edit_whose_contexts_are_not_is_unclear() -> None:
    crossing = findings.contexts(0.6, (-0.1, 0.9), 0.05)
    assert crossing.status == "fail"
    assert verdict.verdict(0.6, 0.05, fragile=True) == "unclear"
    # Over the draws the damage may grow by 0.6/0.1 to 0.3, past the safe limit.
    moving = findings.contexts(0.6, (0.1, 0.9), 0.05)
    assert moving.status == "warn"
    assert verdict.verdict(0.6, 0.05, fragile=True) == "unclear"
    steady = findings.contexts(0.6, (0.5, 0.7), 0.05)
    assert steady.status == "pass"
    assert verdict.verdict(0.6, 0.05, fragile=False) == "safe"
    assert findings.contexts(0.6, None, 0.05).status == "not_checked"


def test_findings_print_value_and_limit() -> None:
    for finding in (
        findings.damage("rome", 3.2, None),
        findings.damage("rome", 0.4, None),
        findings.damage("c_rome", 0.04, None),
        findings.ratio(0.03, 0.3, 0.1),
        findings.ratio(0.7, 1.0, 0.7),
        findings.other_sink(7.5, "\n", 4),
        findings.first_token_key(0.9, 1.0),
    ):
        assert finding.value is not None
        assert finding.limit is not None
        assert finding.message
    worst = findings.damage("rome", 3.2, None)
    assert worst.status == "fail"
    assert "3.2×" in worst.message
    assert f"limit {limits.DAMAGE_COLLAPSE.value:g}" in worst.message
    assert findings.damage("rome", None, "no corpus").status == "not_checked"
    assert "no corpus" in findings.damage("rome", None, "no corpus").message


def test_the_ratio_s_blame_is_the_smaller_factor() -> None:
    assert "points elsewhere" in findings.ratio(0.05, 0.9, 0.055).message
    assert "is short" in findings.ratio(0.05, 0.06, 0.83).message
    assert "by zero" in findings.ratio(0.0, 1.0, 0.0).message


def test_the_paragraph_names_the_way_out_only_where_there_is_one() -> None:
    checked = [
        findings.damage("rome", 9.0, None), findings.ratio(0.02, 0.2, 0.1),
        findings.contexts(0.02, (0.01, 0.03), 9.0), findings.first_token("Apple", 0),
        findings.token_form("Apple", ["␣Apple"] * 3), findings.first_token_key(0.97, 1.0),
    ]  # fmt: skip

    def text(c_rome: float | None, *, first: bool = True) -> str:
        return paragraph(
            "collapse_risk", checked, rho=0.02, is_first_token=first, rome=9.0, c_rome=c_rome
        )

    assert "Instead use C-ROME" in text(0.1)
    assert "put a prefix in front" in text(0.1)
    assert "no way out" in text(4.0)
    assert "0.02×" in text(None)
    assert "put a prefix" not in text(0.1, first=False)
    checked[0] = findings.damage("rome", None, "C is the identity")
    unchecked = paragraph("unclear", checked, rho=0.9, is_first_token=False, rome=None, c_rome=None)
    assert "not checked: C is the identity" in unchecked
    assert "Instead" not in unchecked
