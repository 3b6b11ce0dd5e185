"""The study on a pretrained model: its statistics, and whether its evidence is what it says."""

from __future__ import annotations

import gzip
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.pretrained import predictors
from benchmarks.pretrained.picture import MODELS, figure
from benchmarks.pretrained.predictors import (
    PREDICTORS,
    calibration,
    carried,
    compare,
    errors,
    ranking,
    resampled,
    separation,
    threshold,
    unseen,
    verdicts,
)
from benchmarks.pretrained.tables import read
from rome_diagnosis.limits import PERPLEXITY_COLLAPSE

EVIDENCE = Path(__file__).parent.parent.parent / "docs" / "evidence"
damage = PREDICTORS["damage"]


def performed(n: int = 80, *, seed: int = 0) -> pd.DataFrame:
    """Edits whose damage decides everything, and of which nothing else does."""
    generator = np.random.default_rng(seed)
    size = np.exp(generator.uniform(-4, 2, n))
    decide_nothing = (
        "denominator", "denominator_normalised", "numerator_norm", "update_norm", "spectral",
        "relative_update_norm", "inverse_rho", "bound", "typical", "damage_first", "damage_later",
    )  # fmt: skip
    return pd.DataFrame(
        {
            **{name: generator.uniform(1, 2, n) for name in decide_nothing},
            "mean_push": np.nan,
            "subject": [f"subject {i // 2}" for i in range(n)],
            "damage": size,
            "log_ratio": size**2,
            "collapsed": size > 1.0,
            "harmed": size > 0.25,
        }
    )


def test_a_predictor_that_decides_separates_and_one_that_does_not_fails() -> None:
    frame = performed()
    broken, size = frame["collapsed"].to_numpy(), frame["damage"].to_numpy()
    assert separation(size, broken) == 1.0
    assert separation(-size, broken) == 0.0
    assert separation(np.ones(len(size)), broken) == 0.5
    assert separation(size, broken & False) is None
    assert ranking(size, frame["log_ratio"].to_numpy()) == pytest.approx(1.0)
    assert ranking(np.ones(len(size)), size) is None
    told = compare(frame, draws=100)
    assert told.loc["damage", "AUC, collapse"] == "1.000 (1.000 to 1.000)"
    value, low, high = map(float, re.findall(r"-?[\d.]+", told.loc["1 / |D|", "Spearman"]))
    assert low < 0 < high and low <= value <= high


def test_all_edits_of_a_subject_are_drawn_together() -> None:
    frame = performed()
    drawn: list[int] = []

    def keep(value: np.ndarray, outcome: np.ndarray) -> float:
        drawn.extend(pd.Series(outcome).value_counts())
        return 0.0

    number = frame["subject"].str.split().str[1].astype(int).to_numpy()
    resampled(keep, number, number, frame["subject"].tolist(), draws=20)
    assert drawn and all(count % 2 == 0 for count in drawn)  # each subject has two edits


def test_a_threshold_lies_between_the_groups_and_is_carried() -> None:
    frame, other = performed(), performed(seed=1)
    cut = threshold(damage, frame, "collapsed")
    assert frame["damage"][~frame["collapsed"]].max() < cut <= frame["damage"].max()
    said = carried(frame, other, "collapsed")
    assert said["damage"] == errors(other["damage"] >= cut, other["collapsed"])
    assert said["damage"].startswith("0 of ")
    assert not said["1 / |D|"].startswith("0 of ") or not said["1 / |D|"].endswith(" 0 false")
    assert "mean push" not in said  # it is not known of every edit
    assert errors([True, False, False], [False, True, False]) == "1 of 1 missed, 1 of 2 false"


def test_calibration_is_of_edits_that_were_not_fitted() -> None:
    table = calibration(performed(200), performed(200, seed=1), "collapsed")
    assert table["edits"].sum() == 200
    assert table["observed"].iloc[0].startswith("0.0%")
    assert table["observed"].iloc[-1].startswith("100.0%")


def test_verdicts_count_every_edit_once() -> None:
    counted = verdicts(performed(), collapse=1.0, harm=0.25)
    assert counted.to_numpy().sum() == 80
    assert np.diag(counted).sum() == 80  # the limits are the truth here
    assert np.diag(verdicts(performed(), collapse=0.5, harm=0.25)).sum() < 80


def test_halves_are_of_subjects() -> None:
    names = [f"subject {i}" for i in range(400)]
    assert unseen(names) == unseen(names)
    assert unseen(names, 1) != unseen(names)
    assert 160 < sum(unseen(names)) < 240


@pytest.fixture(scope="module")
def pretrained() -> Any:
    return read(EVIDENCE / "pretrained.json.gz")


def test_what_follows_from_keys_is_in_the_evidence(pretrained: Any) -> None:
    """φ at the key in D is 1, and C-ROME's at the bare prompt is ρ."""
    assert len(pretrained["edits"]) >= 16
    for edit in pretrained["edits"]:
        shares, arms = edit["response"], edit["arms"]
        rho = arms["rome"]["denominator"] / arms["c_rome"]["denominator"]
        assert shares["rome"]["bare"] == pytest.approx(1.0, rel=1e-4)
        assert shares["p_rome"]["bare"] == pytest.approx(1.0, rel=1e-4)
        assert shares["c_rome"]["bare"] == pytest.approx(rho, rel=1e-4)
        assert shares["c_rome"]["editing_prefix"] == pytest.approx(
            rho * shares["rome"]["editing_prefix"], rel=1e-4
        )


def test_damage_is_split_exactly(pretrained: Any) -> None:
    frame = predictors.table(pretrained)
    share = pretrained["edits"][0]["position0_share"]
    whole = share * frame["damage_first"] ** 2 + (1 - share) * frame["damage_later"] ** 2
    assert np.allclose(whole, frame["damage"] ** 2, rtol=1e-4)
    # A mean is at most the root of the mean square; the two come from a sample and from C.
    assert (frame["mean_push"] <= 1.2 * frame["damage_later"]).all()
    assert frame["mean_push"].notna().all()


def test_damage_of_equal_residuals_goes_with_rho(pretrained: Any) -> None:
    for edit in pretrained["edits"]:
        rome, c_rome = (edit["arms"][arm] for arm in ("rome", "c_rome"))
        rho = abs(rome["denominator"] / c_rome["denominator"])
        for kind in ("relative", "relative_first_tokens"):
            expected = c_rome["damage"][kind] / c_rome["numerator_norm"] / rho
            assert rome["damage"][kind] / rome["numerator_norm"] == pytest.approx(
                expected, rel=1e-3
            )


def test_what_readme_says_of_safe_edits_is_in_the_evidence(pretrained: Any) -> None:
    """The misses are named where the successes are: their number, and what they lost."""
    safe = [edit for edit in pretrained["edits"] if edit["prediction"]["verdict"] == "safe"]
    recalls = [edit["arms"]["rome"]["recall"] for edit in safe
               if edit["outcome"]["rome"] != "intact"]  # fmt: skip
    lost = sorted(round((1 - recall["after"]) * recall["n"]) for recall in recalls)
    (asked,) = {recall["n"] for recall in recalls}
    readme = (EVIDENCE.parent.parent / "README.md").read_text(encoding="utf-8")
    numbers = {2: "two", 3: "three", 4: "four"}
    assert re.search(
        rf"Of all {len(pretrained['edits'])} edits, {numbers[len(lost)]}\s+that were called safe "
        rf"are damaged: they lost {' and '.join(map(str, lost))} of {asked} other facts",
        readme,
    )


def test_the_picture_shows_every_edit_where_it_fell(pretrained: Any) -> None:
    frames = [predictors.table(of) for of in (pretrained, read(EVIDENCE / "verified.json.gz"))]
    frame = pd.concat(frames, ignore_index=True)
    rome = frame[frame["arm"] == "rome"]
    for axes in figure(rome).axes:
        own = rome[rome["model"].map(MODELS) == axes.get_title().split(" edits of ")[1]]
        drawn = np.concatenate([points.get_offsets() for points in axes.collections])
        assert len(drawn) == len(own) == int(axes.get_title().split()[0])
        assert np.allclose(np.sort(drawn[:, 0]), np.sort(own["typical"]))
        above = drawn[:, 1] >= PERPLEXITY_COLLAPSE.value
        assert above.sum() == own["collapsed"].sum() > 0


def test_odd_subjects_that_were_called_safe_left_the_model_intact() -> None:
    odd = json.loads(gzip.decompress((EVIDENCE / "odd-smollm2.json.gz").read_bytes()))
    safe = [edit for edit in odd["edits"] if edit["verdict"] == "safe"]
    arms = [arm for edit in safe for arm in edit["arms"].values()]
    assert {arm["outcome"] for arm in arms} == {"intact"}
    least = min(arm["recall"] for arm in arms)
    most = max(abs(arm["ratio"] - 1) for arm in arms)
    page = (EVIDENCE.parent / "pretrained.md").read_text(encoding="utf-8")
    assert f"block {odd['layer']} and {odd['n_prefixes']} contexts, {len(safe)} of the" in page
    assert f"C of {odd['second_moment']['n_tokens']:,} tokens" in page
    assert f"it keeps {least:.0%} of".replace("%", " %") in page
    assert f"perplexity stays within {math.ceil(1000 * most) / 10} %" in page
