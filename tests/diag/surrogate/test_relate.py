"""What goes with what: known relations are found, none is found where there is none."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from diag.surrogate import relate
from rome_diagnosis.limits import PERPLEXITY_DAMAGED, TASKS_LOSS


def point(ratio: float | None, change: float, group: str = "0", **more: Any) -> dict[str, Any]:
    damage = None if ratio is None else ratio / 10
    return {
        "ratio": ratio, "damage": damage, "damage_first_tokens": damage, "group": group,
        "change": change, "change_stderr": 0.01, "tasks": {"a": change, "b": 2 * change},
    } | more  # fmt: skip


def falling(n: int = 30, noise: float = 0.0) -> list[dict[str, Any]]:
    """Edited models whose tasks fall in proportion to the logarithm of their perplexity ratio."""
    draw = np.random.default_rng(3)
    return [point(10 ** (i / n), -0.2 * i / n + noise * draw.normal(), str(i)) for i in range(n)]


def test_a_line_in_the_logarithm_is_found() -> None:
    found = relate.relations(falling(), ["a", "b"])
    for name in relate.PREDICTORS:
        together = found[name]["together"]
        assert together["spearman"] == pytest.approx(-1)
        assert together["pearson"] == pytest.approx(-1)
        assert together["spearman_interval"] == pytest.approx([-1, -1])
        assert found[name]["tasks"]["b"]["spearman"] == pytest.approx(-1)
        assert found[name]["auc"] == 1


def test_none_is_found_where_there_is_none() -> None:
    draw = np.random.default_rng(0)
    points = [point(10 ** draw.random(), -draw.random(), str(i)) for i in range(60)]
    low, high = relate.relations(points, ["a"])["ratio"]["together"]["spearman_interval"]
    assert low < 0 < high


def test_the_onset_is_where_the_line_passes_the_limit() -> None:
    # change = −0.2 log₁₀ ratio, so it falls by the limit at 10 ** (limit / 0.2).
    truth = 10 ** (TASKS_LOSS.value / 0.2)
    exact, noisy = relate.onset(falling()), relate.onset(falling(noise=0.02))
    assert exact is not None and exact["ratio"] == pytest.approx(truth)
    assert noisy is not None and noisy["interval"] is not None
    low, high = noisy["interval"]
    assert low < truth < high < 3 * low
    assert relate.onset([point(1 + i, -0.01, str(i)) for i in range(9)]) is None


def test_the_curve_never_rises() -> None:
    draw = np.random.default_rng(1)
    points = [point(float(1 + i), -i / 100 + draw.normal() / 10, str(i)) for i in range(40)]
    changes = [change for _, change in relate.curve(points)]
    assert changes == sorted(changes, reverse=True)
    assert changes[0] > changes[-1]


def test_an_overflow_counts_by_its_rank_alone() -> None:
    points = [*falling(), point(None, -0.9, "over")]
    together = relate.relations(points, ["a"])["ratio"]["together"]
    assert together["n"] == 31 and together["spearman"] == pytest.approx(-1)
    assert together["pearson"] == pytest.approx(-1)  # over the others
    assert relate.relations(points, ["a"])["damage"]["together"]["n"] == 30
    assert all(math.isfinite(x) for corner in relate.curve(points) for x in corner)


def test_silence_is_a_small_ratio_with_a_loss_beyond_chance() -> None:
    quiet = PERPLEXITY_DAMAGED.value - 0.01
    points = [
        point(quiet, -0.2),
        point(quiet, -0.9),
        point(quiet, -0.2, change_stderr=0.2),  # as chance has it
        point(quiet, -0.01),
        point(PERPLEXITY_DAMAGED.value, -0.9),
        point(None, -0.9),
    ]
    assert relate.silent(points) == [1, 0]
