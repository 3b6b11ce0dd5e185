"""Verdicts on many edits: each is what the diagnosis of that one edit says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from diag.keys.run import diagnose
from diag.mathematics.intervals import (
    PAIRED,
    draws_of_contexts,
    ratio_interval,
    ratio_intervals,
)
from diag.mathematics.redraws import PROJECTIONS, SLACK, Redraws
from diag.screen import shard
from diag.screen.shard import Screener
from probes.keys.many_edits import SharedPrefixes
from probes.model.loaded import LoadedModel
from probes.second_moment import estimate
from probes.second_moment import moment as second_moment
from probes.second_moment.moment import SecondMoment, of_moment
from probes.setup import Prepared
from probes.target_value.hyperparameters import Hyperparameters
from probes.text import corpus
from rome_diagnosis.limits import Limit
from tests import tiny
from tests.probes.keys.test_many_edits import EDITS, PREFIXES

# A small clamp factor makes every bound small, so that only the contexts can speak against.
SHORT = Hyperparameters(clamp_norm_factor=1e-3)


@pytest.fixture(scope="module")
def moment(tiny_model: Callable[[str], LoadedModel]) -> SecondMoment:
    """A second moment that float32 keys can be solved with: the tiny text has few directions."""
    return solvable(tiny_model("gpt2"), 2)


def solvable(model: LoadedModel, layer: int) -> SecondMoment:
    text = corpus.Corpus.of("test text", tiny.TRAINING_TEXT[:40])
    found = estimate.estimate(model, layer, text, row_length=32)
    assert found.moment is not None
    filled = found.moment + 1e-2 * torch.eye(found.d_mlp, dtype=torch.float64)
    return of_moment(
        filled, source="test", provenance=found.provenance, background=found.background
    )


def at(model: LoadedModel, moment: SecondMoment) -> Prepared:
    return Prepared(
        model=model, layer=2, prefixes=tuple(PREFIXES), sampled=False, seed=0, moment=moment
    )


@pytest.mark.parametrize("kind", ["corpus", "ridge", "identity"])
def test_a_row_is_what_the_diagnosis_of_that_one_edit_says(
    kind: str, tiny_model: Callable[[str], LoadedModel], moment: SecondMoment,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model = tiny_model("gpt2")
    monkeypatch.setattr(shard, "JUDGED_AT_ONCE", 3)  # of seven edits: the last one alone
    chosen = replace(moment) if kind != "identity" else SecondMoment.identity(moment.d_mlp)
    if kind == "ridge":
        monkeypatch.setattr(second_moment, "EPSILON", 1.0)
        monkeypatch.setattr(second_moment, "REGULAR_CONDITION", Limit(20.0, "of this test"))
    assert (chosen.ridge > 0) == (kind == "ridge")
    found = Screener(SharedPrefixes(model, 2, PREFIXES), chosen).screen(EDITS)
    for edit, row in zip(EDITS, found, strict=True):
        assert isinstance(row, dict)
        alone = diagnose(edit, at(model, chosen), hyperparameters=Hyperparameters())
        for name, value in alone.to_pandas().iloc[0].to_dict().items():
            if name in ("subject", "prompt"):
                continue
            assert row[name] == (
                pytest.approx(value, rel=1e-4) if isinstance(value, float) else value
            )
        assert (row["bound_rome"] is None) == (kind == "identity")


def test_the_verdict_is_softened_as_for_one_edit(
    tiny_model: Callable[[str], LoadedModel], moment: SecondMoment,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(shard, "JUDGED_AT_ONCE", 3)
    model = tiny_model("gpt2")
    screener = Screener(SharedPrefixes(model, 2, PREFIXES), moment, hyperparameters=SHORT)
    verdicts = set()
    for edit, row in zip(EDITS, screener.screen(EDITS), strict=True):
        alone = diagnose(edit, at(model, moment), hyperparameters=SHORT)
        assert isinstance(row, dict)
        assert row["verdict"] == alone.verdict
        verdicts.add(row["verdict"])
    assert "safe" in verdicts


def test_few_steps_soften_alarms_as_for_one_edit(
    tiny_model: Callable[[str], LoadedModel], moment: SecondMoment
) -> None:
    model, shared = tiny_model("gpt2"), SharedPrefixes(tiny_model("gpt2"), 2, PREFIXES)
    full = Screener(shared, moment).screen(EDITS)
    slow = Hyperparameters(learning_rate=1e-4)
    softened = 0
    rows = Screener(shared, moment, hyperparameters=slow).screen(EDITS)
    for edit, row, before in zip(EDITS, rows, full, strict=True):
        alone = diagnose(edit, at(model, moment), hyperparameters=slow)
        assert isinstance(row, dict) and isinstance(before, dict)
        share = alone.document["damage"]["rome"]["expected_share"]
        assert row["expected_share_rome"] == pytest.approx(share, rel=1e-4) and share < 1
        assert row["relative_bound_rome"] == before["relative_bound_rome"]
        assert row["verdict"] == alone.verdict
        softened += row["verdict"] != before["verdict"]
    assert softened


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_contexts_are_judged_as_for_one_edit(
    n: int, tiny_model: Callable[[str], LoadedModel], moment: SecondMoment
) -> None:
    model = tiny_model("gpt2")
    shared = SharedPrefixes(model, 2, PREFIXES[:n])
    few = Screener(shared, moment, hyperparameters=SHORT).screen(EDITS)
    for edit, row in zip(EDITS, few, strict=True):
        prepared = replace(at(model, moment), prefixes=tuple(PREFIXES[:n]))
        alone = diagnose(edit, prepared, hyperparameters=SHORT)
        assert isinstance(row, dict)
        assert row["verdict"] == alone.verdict
        assert row["verdict"] != "safe" or n == 2


def test_through_a_norm_a_row_is_what_the_diagnosis_says(
    tiny_model: Callable[[str], LoadedModel],
) -> None:
    model = tiny_model("gemma2")
    beside = solvable(model, 2)
    rows = Screener(SharedPrefixes(model, 2, PREFIXES), beside).screen(EDITS[:3])
    for edit, row in zip(EDITS, rows, strict=False):
        alone = diagnose(edit, at(model, beside), hyperparameters=Hyperparameters())
        assert isinstance(row, dict)
        assert alone.document["damage"]["checked"] == "sampled"
        bounds = alone.document["damage"]["rome"]
        for name in ("relative_bound", "relative_bound_first_tokens"):
            assert row[f"{name}_rome"] == pytest.approx(bounds[name], rel=1e-4)
        assert row["verdict"] == alone.verdict


@pytest.mark.parametrize("n_ctx", [7, PAIRED + 1])
def test_many_intervals_are_the_single_ones(moment: SecondMoment, n_ctx: int) -> None:

    shape = (5, n_ctx, moment.d_mlp)
    keys = torch.randn(shape, dtype=torch.float64, generator=torch.manual_seed(3)) + 1
    white = moment.whiten(keys)
    many = ratio_intervals(white @ white.mT, seed=4)
    for one, interval in zip(keys, many.tolist(), strict=True):
        assert ratio_interval(one, moment, seed=4) == pytest.approx(tuple(interval))
        drawn = moment.whiten(draws_of_contexts(n_ctx, seed=4) @ one)
        ratios = drawn @ moment.whiten(one[0]) / drawn.square().sum(1)
        low, high = np.quantile(ratios.numpy(), [0.025, 0.975])
        assert interval == pytest.approx([low, high])


def test_what_spares_an_edit_its_interval_is_true_of_it(moment: SecondMoment) -> None:

    generator = torch.Generator().manual_seed(5)
    shape = (200, 7, moment.d_mlp)
    keys = torch.randn(shape, dtype=torch.float64, generator=generator)
    keys += torch.randn(200, 1, moment.d_mlp, dtype=torch.float64, generator=generator) * 3
    white = moment.whiten(keys)
    low = ratio_intervals(white @ white.mT, seed=2)[:, 0]
    redraws = Redraws(moment, 7, seed=2)
    directions = moment.solve(torch.stack([keys[:, 0], keys.mean(1)], dim=1))
    # Something is spared far from the interval's end, or nothing would be won, and nothing beyond.
    for share, fewest, most in ((0.5, 150, 200), (0.8, 1, 199), (0.9, 1, 199), (1.01, 0, 0)):
        least = share * low.abs()
        certain = torch.tensor(redraws.stay_above(keys, directions, least))
        assert bool((low[certain] > least[certain]).all())
        assert fewest <= int(certain.sum()) <= most, share


def test_how_seldom_projections_hide_a_length() -> None:

    assert chi2.cdf(PROJECTIONS / SLACK, PROJECTIONS) < 5e-9
