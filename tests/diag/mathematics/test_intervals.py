"""The interval of ρ over draws of the contexts, recomputed with mean keys formed in full."""

from __future__ import annotations

import pytest
import torch

from diag.mathematics.intervals import ratio_interval
from tests.diag.mathematics.drawn import N_CTX, close, corpus_moment, edit


def test_ratio_interval_is_a_bootstrap_over_prefixed_contexts(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, _, _ = edit(generator)
    found = ratio_interval(keys, moment, draws=500, seed=3)
    # The same resamples, with the mean keys formed in full.
    again = torch.Generator().manual_seed(3)
    drawn = torch.randint(N_CTX - 1, (500, N_CTX - 1), generator=again)
    ratios = [
        moment.ratio(keys[0], torch.cat([keys[:1], keys[1:][rows]]).mean(0)) for rows in drawn
    ]
    quantiles = torch.tensor(ratios, dtype=torch.float64).quantile(
        torch.tensor([0.025, 0.975], dtype=torch.float64)
    )
    assert found == pytest.approx(quantiles.tolist(), rel=1e-9)
    assert found[0] < found[1]
    same = torch.cat([keys[:1], keys[1:2].expand(N_CTX - 1, -1)])
    low, high = ratio_interval(same, moment)
    assert close(low, high)
    assert ratio_interval(keys[:2], moment) is None
