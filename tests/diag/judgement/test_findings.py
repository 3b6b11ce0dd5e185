"""Findings say what was measured, what it was held against, and whose fault it is."""

from __future__ import annotations

import pytest

from diag.judgement import findings, key_findings
from diag.judgement.summary import paragraph
from diag.judgement.verdict import Grounds
from diag.judgement.words import of_norm, percent
from rome_diagnosis import limits
from rome_diagnosis.editors import EDITORS

ROME, C_ROME, P_ROME = EDITORS.values()


@pytest.mark.parametrize(
    ("share", "limit", "text"),
    [
        (0.857, 0.85, "86 %"),
        (0.0404, 0.1, "4 %"),
        (0.0562, None, "5.6 %"),
        (1.0, None, "100 %"),
        (3.2, None, "320 %"),
        (-0.021, None, "−2.1 %"),
        (0.0, None, "0 %"),
        (1e-6, None, "less than 0.01 %"),
        (0.8496, 0.85, "84.96 %"),  # 85 % would not be below the limit
        (0.85, 0.85, "85 %"),
    ],
)
def test_shares_are_written_with_as_many_digits_as_tell_them_from_their_limit(
    share: float, limit: float | None, text: str
) -> None:
    assert percent(share, limit) == text


def test_large_changes_are_factors() -> None:
    assert of_norm(60.2) == "60 times their norm"
    assert of_norm(0.86) == "86 % of their norm"


@pytest.mark.parametrize(
    ("relative", "status", "limit"),
    [
        (3.2, "fail", limits.DAMAGE_COLLAPSE),
        (0.4, "fail", limits.DAMAGE_HARM),
        (0.2, "warn", limits.DAMAGE_HARM),
        (0.04, "pass", limits.DAMAGE_SAFE),
    ],
)
def test_damage_is_held_against_the_limit_that_decides(
    relative: float, status: str, limit: limits.Limit
) -> None:
    for editor in EDITORS.values():
        finding = findings.damage(editor, Grounds(0.5, relative, None), None)
        assert (finding.id, finding.status) == (f"damage_{editor.name}", status)
        assert (finding.value, finding.limit) == (relative, limit.value)
        assert percent(relative) in finding.message
        assert f"(limit {percent(limit.value)}" in finding.message
        assert ("safe below 10 %" in finding.message) == (status == "warn")
    unchecked = findings.damage(ROME, Grounds(0.5, None, None), "no corpus")
    assert (unchecked.status, unchecked.message) == ("not_checked", "no corpus")


def test_an_alarm_rests_on_what_is_expected_and_safe_on_what_is_possible() -> None:
    def checked(bound: float, share: float) -> findings.Finding:
        return findings.damage(ROME, Grounds(0.5, bound, None, 1.0, share), None)

    alarm = checked(1.2, 0.4)
    assert (alarm.status, alarm.limit) == ("fail", limits.DAMAGE_HARM.value)
    assert alarm.value == pytest.approx(0.48)
    assert "about 48 % and up to 120 % of their norm (limit 25 %)" in alarm.message
    assert checked(1.2, 0.1).status == "warn"  # little is expected, and more is possible
    assert checked(0.09, 0.1).status == "pass"
    first = findings.first_tokens(P_ROME, Grounds(0.5, None, 0.6, 1.0, 0.5), 0.9, None)
    assert "about 30 % and up to 60 % of a hidden state's norm" in first.message


def test_first_tokens_are_a_finding_of_their_own() -> None:
    reached = findings.first_tokens(P_ROME, Grounds(0.5, None, 0.62), 0.93, None)
    assert reached.status == "fail"
    assert reached.message.startswith("P-ROME reaches every prompt that begins with any word")
    assert "93 % of the change" in reached.message and "62 %" in reached.message
    spared = findings.first_tokens(C_ROME, Grounds(0.5, None, 0.013), 0.02, None)
    assert spared.status == "pass"
    assert "every prompt" not in spared.message
    # A change so small that it does no harm wherever it arrives is no alarm.
    small, unknown = Grounds(0.5, None, 0.01), Grounds(0.5, None, None)
    assert findings.first_tokens(P_ROME, small, 0.93, None).status == "pass"
    assert findings.first_tokens(ROME, unknown, None, "no sample").status == "not_checked"


def test_response_says_which_prompt_will_not_answer() -> None:
    c_rome = findings.response(C_ROME, 0.042, 1.05)
    assert (c_rome.status, c_rome.value) == ("warn", 0.042)
    assert c_rome.message.startswith(
        "C-ROME will not answer the bare prompt: it receives 4.2 % of the change"
    )
    p_rome = findings.response(P_ROME, 1.0, 0.05)
    assert p_rome.status == "warn" and "not a prefixed one" in p_rome.message
    rome = findings.response(ROME, 1.0, 24.0)
    assert rome.status == "warn" and "24×" in rome.message
    assert findings.response(ROME, 1.0, 0.97).status == "pass"
    assert findings.response(ROME, 1.0, None).status == "pass"
    assert findings.response(ROME, None, None).status == "not_checked"


def test_the_ratio_s_blame_is_the_smaller_factor() -> None:
    assert "points elsewhere" in key_findings.ratio(0.05, 0.9, 0.055, 3.0).message
    assert "is short" in key_findings.ratio(0.05, 0.06, 0.83, 3.0).message
    assert "by zero" in key_findings.ratio(0.0, 1.0, 0.0, None).message


def test_a_small_ratio_is_no_alarm_where_the_damage_stays_small() -> None:
    small = key_findings.ratio(0.018, 0.3, 0.06, 0.05)
    assert small.status == "warn"
    assert "still leaves the damage at 5 %" in small.message
    assert key_findings.ratio(0.018, 0.3, 0.06, 3.0).status == "fail"
    assert key_findings.ratio(0.018, 0.3, 0.06, None).status == "fail"


@pytest.mark.parametrize(
    ("apart", "expected", "status"),
    [(0.0, 0.0, "pass"), (0.49, 1.0, "pass"), (0.5, 1.0, "warn"), (1.0, 0.0, "warn")],
)
def test_what_is_written_is_held_against_what_was_optimised(
    apart: float, expected: float, status: str
) -> None:
    found = findings.target(C_ROME, apart, expected)
    assert (found.id, found.status) == ("target_c_rome", status)
    assert ("--c-rome-target consistent" in found.message) == (status == "warn")


class TestParagraph:
    """The sentences of the summary, from findings and grounds."""

    apart = 0.1  # of v_u and v̄, over ‖δ‖

    def text(
        self,
        c_rome: tuple[float, float] | None = (0.04, 0.01),
        p_rome: tuple[float, float] | None = (0.05, 0.62),
        *,
        first: bool = True,
        rome: tuple[float, float] | None = (9.0, 0.4),
        outcome: str = "collapse_risk",
        rho: float = 0.02,
        redraws: float | None = 0.02,
    ) -> str:
        sizes = {"rome": rome, "c_rome": c_rome, "p_rome": p_rome}
        grounds = {name: Grounds(rho, *(size or (None, None))) for name, size in sizes.items()}
        checked = [
            key_findings.ratio(rho, 0.2, 0.1, grounds["rome"].relative),
            key_findings.contexts(grounds["rome"], (0.9 * rho, 1.1 * rho)),
            key_findings.first_token("Apple", 0),
            key_findings.token_form("Apple", ["␣Apple"] * 3),
            key_findings.first_token_key(0.97, 1.0),
        ]
        for name, editor in EDITORS.items():
            found = grounds[name]
            checked.append(findings.damage(editor, found, "C is the identity"))
            checked.append(findings.first_tokens(editor, found, 0.93, "no sample"))
        checked.append(findings.target(C_ROME, self.apart, 1.0))
        bare = {"rome": 1.0, "c_rome": rho, "p_rome": 1.0}
        interval = None if redraws is None else (redraws, redraws)
        return paragraph(
            outcome, checked, grounds, interval=interval, bare=bare, is_first_token=first
        )

    def test_it_names_the_way_out_only_where_there_is_one(self) -> None:
        told = self.text()
        assert "Instead use C-ROME" in told
        assert "only when some text precedes the prompt: the bare prompt receives 2 %" in told
        assert "Instead use P-ROME" not in told
        assert "P-ROME does not help here, since it reaches every prompt" in told
        assert "Instead" not in self.text((4.0, 0.01))
        assert "Another layer or a smaller clamp factor" in self.text((4.0, 0.01))
        assert "Another layer" not in told

    def test_an_edit_that_may_not_be_answered_is_not_said_to_be_after_a_prefix(self) -> None:
        near = self.text()
        self.apart = 2.0
        far = self.text()
        assert "after a prefix neither" in far and "answers only when" not in far
        assert "answers only when" in near and "neither" not in near

    def test_nothing_is_advised_where_no_context_can_be_drawn_again(self) -> None:
        told = self.text(redraws=None)
        assert "Instead use" not in told and "With C-ROME it is unclear too" in told

    def test_what_lies_below_a_limit_is_not_said_to_be_no_help(self) -> None:
        told = self.text((0.05, 0.15))
        assert "With C-ROME it is unclear too: it changes hidden states by up to 5 %" in told
        assert "15 % of a hidden state's norm (limit 20 %, safe below 10 %)" in told
        assert "C-ROME does not help" not in told
        assert "C-ROME does not help" in self.text((0.05, 0.25))

    def test_p_rome_is_advised_where_first_tokens_are_spared(self) -> None:
        assert "Instead use P-ROME" in self.text(p_rome=(0.05, 0.01))

    def test_without_damage_the_ratio_speaks(self) -> None:
        none = None
        told = self.text(none, none, rome=none)
        assert "Instead use C-ROME" in told and "0.02×" in told
        agreeing = self.text(none, none, rome=none, rho=0.9, outcome="unclear", first=False)
        assert "not checked: C is the identity" in agreeing
        assert "Instead" not in agreeing

    def test_a_safe_edit_needs_no_advice(self) -> None:
        told = self.text(rome=(0.05, 0.01), outcome="safe", rho=0.9, first=False)
        assert "should leave the model intact" in told
        assert "Instead" not in told and "limit 10 %" in told
