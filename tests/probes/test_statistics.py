"""Statistics against their definitions and a second library, with ties and degenerate samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from probes.statistics import (
    auc,
    correlation_interval,
    cosine,
    drawn,
    estimate_mean,
    interval,
    pearson,
    spearman,
)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=30))
def test_spearman_is_the_correlation_of_ranks(pairs):
    first, second = zip(*pairs, strict=True)
    found = spearman(first, second)
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert found is None
    else:
        expected = np.corrcoef(rankdata(first), rankdata(second))[0, 1]
        assert found == pytest.approx(expected, abs=1e-12)
    assert spearman(first[:2], second[:2]) is None


def test_spearman_ranks_what_overflowed_highest():
    assert spearman([1.0, 2.0, 3.0], [5.0, 6.0, float("inf")]) == pytest.approx(1.0)


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=20),
    st.lists(st.integers(0, 5), min_size=1, max_size=20),
)
def test_auc_equals_scikit_learns_with_ties(positive, negative):
    truth = [1] * len(positive) + [0] * len(negative)
    expected = roc_auc_score(truth, positive + negative)
    assert auc(positive, negative) == pytest.approx(expected)
    assert auc(positive, []) is None and auc([], negative) is None


def test_interval_covers_the_mean_about_as_often_as_it_says():
    """Means of normal samples: the 95% interval holds the true mean in 9 of 10 draws or more."""
    generator = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        found = estimate_mean(generator.normal(3.0, 2.0, size=40), seed=seed)
        hits += found.low <= 3.0 <= found.high
    assert 180 <= hits < 200  # the control: an interval that is too wide would never miss
    alone = estimate_mean([2.0])
    assert (alone.mean, alone.low, alone.high, alone.n) == (2.0, 2.0, 2.0, 1)
    assert estimate_mean([]) is None


@pytest.mark.parametrize(("of", "ranks"), [(spearman, True), (pearson, False)])
def test_a_correlation_s_interval_is_that_of_rows_drawn_again(of, ranks):
    """Weights stand for rows that are repeated, group by group."""
    generator = np.random.default_rng(4)
    x, y = generator.integers(0, 6, size=(2, 15)).astype(float)
    groups = [i // 2 for i in range(15)]
    values = []
    for counts in drawn(groups, seed=1):
        rows = np.repeat(np.arange(15), counts.astype(int))
        values.append(of(x[rows].tolist(), y[rows].tolist()))
    expected = interval(values)
    assert correlation_interval(x, y, groups, ranks=ranks, seed=1) == pytest.approx(expected)
    assert correlation_interval(x, y, ["one"] * 15, ranks=ranks) is None


def test_what_is_drawn_together_is_not_counted_twice():
    generator = np.random.default_rng(2)
    x = generator.normal(size=20)
    y = x + generator.normal(size=20)
    once = correlation_interval(x, y, range(20), ranks=False)
    twice = np.repeat(x, 2), np.repeat(y, 2)
    together = correlation_interval(*twice, [i // 2 for i in range(40)], ranks=False)
    apart = correlation_interval(*twice, range(40), ranks=False)
    assert together == pytest.approx(once)
    assert apart[1] - apart[0] < 0.85 * (once[1] - once[0])


def test_most_draws_must_be_defined():
    assert interval([1.0, None, None]) is None
    assert interval([1.0, 1.0, None]) == (1.0, 1.0)


def test_cosine():
    x = torch.tensor([3.0, 4.0])
    assert cosine(x, torch.tensor([4.0, 3.0])) == pytest.approx(24 / 25)
    assert cosine(x, -x) == pytest.approx(-1)
    assert cosine(x, torch.zeros(2)) == 0.0
