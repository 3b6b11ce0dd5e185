"""Verdicts: what they rest on, and that no draw of the contexts is forgotten."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise, product
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from diag.judgement import batch, findings, key_findings
from diag.judgement.verdict import (
    VERDICTS,
    Grounds,
    margin,
    range_of,
    verdict,
    verdict_of,
    verdict_with,
)
from probes.request.commonness import Commonness
from probes.second_moment.moment import SecondMoment
from rome_diagnosis import limits
from rome_diagnosis.editors import EDITORS
from rome_diagnosis.methods import METHODS

HARM, SAFE = limits.DAMAGE_HARM.value, limits.DAMAGE_SAFE.value
RARE = Commonness("␣Vienna", 0.0, "Vienna", 0, is_a_word=True)
FIRST_HARM, FIRST_SAFE = limits.FIRST_TOKENS_HARM.value, limits.FIRST_TOKENS_SAFE.value


@pytest.mark.parametrize(
    ("rho", "relative", "first", "expected"),
    [
        (1.0, 5.0, 0.01, "collapse_risk"),
        (0.01, 0.05, 0.01, "safe"),  # a small ratio alone breaks nothing: damage decides
        (1.0, limits.DAMAGE_COLLAPSE.value, 0.01, "collapse_risk"),
        (1.0, HARM, 0.01, "damage_risk"),
        (1.0, 0.9 * HARM, 0.01, "unclear"),
        (1.0, SAFE, 0.01, "unclear"),
        (1.0, 0.05, FIRST_HARM, "damage_risk"),  # P-ROME on a first token
        (1.0, 0.05, FIRST_SAFE, "unclear"),
        (1.0, 0.05, None, "unclear"),  # safe needs both
        (-0.01, None, None, "collapse_risk"),
        (0.3, None, None, "unclear"),
        (-0.9, None, None, "unclear"),  # keys that agree are no proof: the update may be large
    ],
)
def test_damage_decides_and_without_it_the_ratio_can_only_warn(
    rho: float, relative: float | None, first: float | None, expected: str
) -> None:
    assert verdict_of(Grounds(rho, relative, first)) == expected


def test_more_damage_is_never_a_better_verdict() -> None:
    sizes = [0.0, 0.05, 0.099, 0.1, 0.19, 0.2, 0.24, 0.25, 0.8, 0.85, 9.0]
    for fixed, (less, more) in product(sizes, pairwise(sizes)):
        for a, b in (((less, fixed), (more, fixed)), ((fixed, less), (fixed, more))):
            worse = VERDICTS.index(verdict_of(Grounds(0.5, *b)))
            assert VERDICTS.index(verdict_of(Grounds(0.5, *a))) <= worse


@pytest.mark.parametrize("rho", [0.6, -0.6])
@pytest.mark.parametrize("relative", [0.08, 0.18, 0.3, 0.86])
def test_both_ends_are_held_against_every_limit(rho: float, relative: float) -> None:
    grounds = Grounds(rho, relative, relative / 2)
    near, far = sorted((rho * 0.6, rho * 1.5))
    best, worst = range_of(grounds, (near, far))
    by_hand = {
        verdict_of(Grounds(end, relative * abs(rho / end), relative / 2 * abs(rho / end)))
        for end in (rho, near, far)
    }
    assert best == min(by_hand, key=VERDICTS.index)
    assert worst == max(by_hand, key=VERDICTS.index)
    assert len(by_hand) > 1  # these intervals do cross a limit
    message = key_findings.contexts(grounds, (near, far)).message
    plain = verdict_of(grounds)
    assert ("at the worse end" in message) == (worst != plain)
    assert ("at the better end" in message) == (best != plain)


def test_a_safe_edit_whose_contexts_are_not_is_unclear() -> None:
    safe = Grounds(0.6, 0.05, 0.01)
    assert verdict(safe, (0.5, 0.7)) == "safe"
    assert key_findings.contexts(safe, (0.5, 0.7)).status == "pass"
    # Over the draws the damage may double, past the limit; or divide by zero.
    for interval, status in (((0.2, 0.9), "warn"), ((-0.1, 0.9), "fail")):
        assert verdict(safe, interval) == "unclear"
        assert key_findings.contexts(safe, interval).status == status
    # First tokens have a limit of their own.
    assert verdict(Grounds(0.6, 0.01, 0.09), (0.5, 0.7)) == "unclear"


def test_with_too_few_contexts_to_redraw_nothing_is_safe() -> None:
    safe = Grounds(0.6, 0.05, 0.01)
    assert verdict(safe, None) == "unclear"
    finding = key_findings.contexts(safe, None)
    assert finding.status == "not_checked"
    assert "nothing is called safe" in finding.message
    # What is dangerous stays so.
    assert verdict(Grounds(0.6, 2.0, 0.01), None) == "collapse_risk"


def test_every_limit_has_a_reason_and_says_where_it_was_validated() -> None:
    every = {name: value for name, value in vars(limits).items() if isinstance(value, limits.Limit)}
    assert len(every) >= 15
    assert len({limit.reason for limit in every.values()}) == len(every)
    assert all(len(limit.reason) > 20 for limit in every.values())
    for limit in every.values():
        assert set(limit.validated) <= set(limits.MODELS)
    assert limits.DAMAGE_COLLAPSE.validated
    assert "on the architecture of this model" in limits.validity("GPT2LMHeadModel")
    some = limits.validity("LlamaForCausalLM")
    known = "of this one damage_collapse, damage_harm, damage_safe, first_tokens_safe only"
    assert known in some and "with care" in some
    other = limits.validity("GraniteForCausalLM")
    assert "not on a GraniteForCausalLM" in other and "GPT2LMHeadModel" in other


def test_a_second_moment_of_foreign_text_lets_less_be_called_safe() -> None:
    """The promise of ``safe`` holds even if damage is as many times larger as it was on SmolLM2."""
    short_by = margin(over(5000, is_foreign=True), RARE)
    assert short_by > 4.2  # the largest that was measured; see the limit's reason
    for share in (0.7, 0.85 / short_by):
        relative, first = share * SAFE, 0.5 * share * FIRST_SAFE
        assert verdict_of(Grounds(1.0, relative, first)) == "safe"
        expected = "safe" if math.hypot(share, 0.5 * share) * short_by < 1 else "unclear"
        assert verdict_of(Grounds(1.0, relative, first, short_by)) == expected
        assert verdict_of(Grounds(1.0, relative, first, short_by).redrawn(1.0)) == expected
    # An alarm is none the less one for it, and none the more.
    assert verdict_of(Grounds(1.0, 0.9, 0.0, short_by)) == "collapse_risk"
    assert verdict_of(Grounds(1.0, 0.24, 0.0, short_by)) == "unclear"
    assert margin(over(5000), RARE) == 1.0


def over(n_tokens: int, *, is_foreign: bool = False) -> SecondMoment:
    """A second moment of a hundred dimensions, as far as a verdict asks it."""
    known = SimpleNamespace(n_tokens=n_tokens)
    return Mock(
        spec=SecondMoment, d_mlp=100, provenance=known, is_foreign=is_foreign, other_text=None
    )


def test_both_kinds_of_damage_count_together() -> None:
    """A fact's prompt is moved at its first token and at later ones."""
    for relative, first, expected in (
        (0.99, 0.0, "safe"), (0.0, 0.99, "safe"), (0.7, 0.7, "safe"), (0.75, 0.75, "unclear"),
        (0.83, 0.82, "unclear"),
    ):  # fmt: skip
        grounds = Grounds(1.0, relative * SAFE, first * FIRST_SAFE)
        assert verdict_of(grounds) == expected
        found = findings.first_tokens(EDITORS["rome"], grounds, 0.5, None)
        # What keeps it from being safe is said.
        assert (found.status == "pass") == (expected == "safe")
        assert ("both together" in found.message) == (expected == "unclear")
        bound = batch.first_tokens(0.0, first * FIRST_SAFE, None, others=relative * SAFE)
        assert bound.status == found.status
    # Where one of them is too much by itself, the other is not to blame.
    alone = findings.first_tokens(EDITORS["rome"], Grounds(1.0, 3.0 * SAFE, 0.4 * FIRST_SAFE), 0.1,
                                  None)  # fmt: skip
    assert alone.status == "pass" and "together" not in alone.message


def test_nothing_is_safe_by_a_second_moment_of_text_unlike_any_other() -> None:
    for other_text, expected in ((None, "safe"), (1.2, "safe"), (2.0, "unclear"), (18, "unclear")):
        moment = over(5000)
        moment.other_text = other_text  # type: ignore[misc]
        assert verdict_of(Grounds(1.0, 0.5 * SAFE, 0.0, margin(moment, RARE))) == expected


def test_nothing_is_safe_by_a_second_moment_of_hardly_any_text() -> None:
    for n_tokens, expected in ((399, "unclear"), (400, "safe")):
        short_by = margin(over(n_tokens), RARE)
        for relative in (0.0, 0.5 * SAFE):
            assert verdict_of(Grounds(1.0, relative, 0.0, short_by)) == expected
        assert verdict_of(Grounds(1.0, 0.9, 0.0, short_by)) == "collapse_risk"


def test_nothing_written_at_a_common_word_is_safe() -> None:
    for share, expected in ((0.0049, "safe"), (0.005, "unclear")):
        common = replace(RARE, token="␣of", token_share=share)
        short_by = margin(over(5000), common)
        assert verdict_of(Grounds(1.0, 0.5 * SAFE, 0.0, short_by)) == expected
        assert verdict_of(Grounds(1.0, 0.9, 0.0, short_by)) == "collapse_risk"
        checked = key_findings.common_token(common)
        assert (checked.status == "warn") == (expected == "unclear")
        assert "'␣of' makes up" in checked.message


@pytest.mark.parametrize(
    ("common", "finding"),
    [
        ({"word": "capital", "asked_with": 1}, "1 packaged fact is asked with 'capital'"),
        ({"word": "747", "is_a_word": False}, "a number or a sign"),
    ],
)
def test_nothing_written_at_a_word_that_facts_are_asked_with_is_safe(
    common: dict[str, Any], finding: str
) -> None:
    known = replace(RARE, **common)
    assert verdict_of(Grounds(1.0, 0.5 * SAFE, 0.0, margin(over(5000), known))) == "unclear"
    checked = [key_findings.common_token(known), key_findings.asked_with(known)]
    (warned,) = [each.message for each in checked if each.status == "warn"]
    assert finding in warned
    assert [key_findings.asked_with(RARE).status, key_findings.common_token(RARE).status] == [
        "pass", "pass",
    ]  # fmt: skip


def test_fewer_steps_soften_an_alarm_and_make_nothing_safe() -> None:
    sizes = [0.05, 0.15, 0.3, 0.9, 2.0]
    for relative in sizes:
        for first in sizes:
            full = verdict_of(Grounds(0.5, relative, first))
            for share in (0.0, 0.3, 0.9):
                softer = Grounds(0.5, relative, first, 1.0, share)
                assert VERDICTS.index(verdict_of(softer)) <= VERDICTS.index(full)
                assert (verdict_of(softer) == "safe") == (full == "safe")
    assert verdict_of(Grounds(0.5, 2.0, 0.05, 1.0, 0.4)) == "damage_risk"
    assert verdict_of(Grounds(0.5, 2.0, 0.05, 1.0, 0.1)) == "unclear"
    # The share stays what it is when the contexts are drawn again.
    assert verdict_of(Grounds(0.5, 2.0, 0.05, 1.0, 0.4).redrawn(0.2)) == "collapse_risk"


def test_a_small_ratio_accuses_only_editors_whose_two_keys_differ() -> None:
    unknown, sound = Grounds(0.01, None, None), Grounds(0.01, 0.05, 0.05)
    for name, method in METHODS.items():
        differ = name == "rome"
        assert verdict_with(method, unknown, None) == ("collapse_risk" if differ else "unclear")
        assert verdict_with(method, sound, (-0.1, 0.1)) == ("unclear" if differ else "safe")
        assert verdict_with(method, sound, None) == "unclear"


def test_what_is_infinite_is_expected_whatever_the_share() -> None:
    exploding = Grounds(0.0001, float("inf"), float("inf"), 1.0, 0.0)
    assert exploding.expected == exploding.expected_first_tokens == float("inf")
    assert verdict_of(exploding) == "collapse_risk"
