"""Which number tells before an edit what it will do? All that are in use, on the same edits.

Every number is known before the model is edited; some need v*. An edit collapses the model if it
multiplies perplexity by ten, and harms it if anything that is measured says so. Thresholds are
fitted on one half of the subjects and tested on the other, or carried from one model to another.
:mod:`benchmarks.pretrained.tables` prints what comes of it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve

from diag.judgement.outcome import wilson
from probes.statistics import drawn, interval
from probes.target_value.hyperparameters import Hyperparameters
from rome_diagnosis.editors import EDITORS
from rome_diagnosis.limits import STEP_REACH

DRAWS = 300
Array = np.ndarray
Predictor = Callable[[pd.DataFrame], pd.Series]
Statistic = Callable[[Array, Array], float | None]
# Larger means more dangerous. The paper's three, what tools judge by, and ours.
PREDICTORS: Mapping[str, Predictor] = {
    "1 / |D|": lambda row: 1 / abs(row["denominator"]),
    "1 / |D|, u of length 1": lambda row: 1 / abs(row["denominator_normalised"]),
    "1 / |ρ|": lambda row: row["inverse_rho"],
    "‖v* − v‖": lambda row: row["numerator_norm"],
    "‖ΔW‖": lambda row: row["update_norm"],
    "‖ΔW‖ / ‖W‖": lambda row: row["relative_update_norm"],
    "σ₁(ΔW) / σ₁(W)": lambda row: row["update_norm"] / row["spectral"],
    "damage, longest δ": lambda row: row["bound"],
    "damage, typical δ": lambda row: row["typical"],
    "damage": lambda row: row["damage"],
    "damage, later tokens": lambda row: row["damage_later"],
    "damage, first tokens": lambda row: row["damage_first"],
    "damage, the larger": lambda row: row[["damage_later", "damage_first"]].max(axis=1),
    "mean push": lambda row: row["mean_push"],
}
AS_THEY_ARE = (
    "denominator", "denominator_normalised", "numerator_norm", "update_norm",
    "relative_update_norm",
)  # fmt: skip


def table(document: Mapping[str, Any]) -> pd.DataFrame:
    """One row for each edit and editor of performed edits.

    Args:
        document: ``diag.verify/1`` of many edits, or of :mod:`benchmarks.pretrained.evidence`,
            with ``spectral_norms`` of W by block.

    Returns:
        What was known before the edit, and what came of it.
    """
    return pd.DataFrame(
        [
            _row(document, edit, arm)
            for edit in document["edits"]
            if "error" not in edit
            for arm in EDITORS
        ]
    )


def _row(document: Mapping[str, Any], edit: Mapping[str, Any], arm: str) -> dict[str, Any]:
    figures, site, arms = edit["arms"][arm], edit["site"], edit["arms"]
    damage, recall, perplexity = figures["damage"], figures["recall"], figures["perplexity"]
    share = edit.get("position0_share") or document["second_moment"]["position0_share"]
    first = damage["relative_first_tokens"]
    later = (damage["relative"] ** 2 - share * first**2) / (1 - share)
    rho = arms["rome"]["denominator"] / arms["c_rome"]["denominator"]
    ratio = math.inf if perplexity["ratio"] is None else perplexity["ratio"]
    published, bound = arm == "rome", edit["prediction"]["relative_bound"]
    return {
        "model": document["model"]["name"],
        "layer": site["layer"],
        "subject": edit["request"]["subject"],
        "kind": "later" if site["index"] and not edit["request"]["prompt"].startswith("{}")
        else "first, several tokens" if site["index"] else "first, one token",
        "part": edit.get("part"),
        "arm": arm,
        **{name: figures[name] for name in AS_THEY_ARE},
        "rho": rho,
        "inverse_rho": 1 / abs(rho) if published else 1.0,
        "spectral": document["spectral_norms"][str(site["layer"])],
        "bound": bound if published else math.nan,
        "typical": bound * _reached(document, edit) if published else math.nan,
        "damage": damage["relative"],
        "damage_first": first,
        "damage_later": math.sqrt(max(later, 0.0)),
        "mean_push": edit.get("mean_push", {}).get(arm, math.nan),
        "measured": damage["measured_relative"],
        "verdict": edit["prediction"]["verdict"] if published else None,
        "log_ratio": math.log(ratio),
        "before": perplexity["before"],
        **{f"{name}_by_text": perplexity["text_mean"][name] for name in ("before", "ratio")},
        **{
            name: figures[name]["after"]
            for name in ("generalisation", "locality")
            if figures.get(name)
        },
        "collapsed": ratio >= document["settings"]["collapse_ratio"],
        "recall": math.nan if recall is None else recall["after"] / recall["before"],
        "harmed": edit["outcome"][arm] != "intact",
        "probability": edit["optimisation"]["probability"],
    }  # fmt: skip


def _reached(document: Mapping[str, Any], edit: Mapping[str, Any]) -> float:
    """The share of its clamp that δ is expected to reach in as many steps of Adam as it has."""
    chosen = document["settings"]["hyperparameters"]
    adam = Hyperparameters(evaluations=chosen["evaluations"], learning_rate=chosen["learning_rate"])
    steps = adam.reach(document["model"]["d_model"])
    clamp = chosen["clamp_norm_factor"] * edit["optimisation"]["initial_norm"]
    return min(1.0, STEP_REACH.value * steps / clamp)


def unseen(subjects: Iterable[str], seed: int = 0) -> list[bool]:
    """Whether each subject belongs to the half that nothing is fitted on: a fair coin by name."""
    return [hashlib.sha256(f"{seed}:{name}".encode()).digest()[0] % 2 == 1 for name in subjects]


def resampled(
    statistic: Statistic,
    value: Array,
    outcome: Array,
    subjects: Sequence[str],
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> tuple[float, float, float] | None:
    """A statistic with its percentile bootstrap interval over the draw of the subjects.

    Args:
        statistic: Function of a predictor's values and the outcomes; ``None`` where undefined.
        value: The values.
        outcome: The outcomes.
        subjects: Whose edits they are; all of a subject's are drawn together.
        seed: Seed of the resampling.
        draws: Resamples.

    Returns:
        Value, low and high end; ``None`` where the statistic is not defined.
    """
    observed = statistic(value, outcome)
    if observed is None:
        return None
    every = np.arange(len(value))
    rows = [np.repeat(every, n.astype(int)) for n in drawn(subjects, draws=draws, seed=seed)]
    ends = interval([statistic(value[again], outcome[again]) for again in rows])
    return None if ends is None else (observed, *ends)


def separation(value: Array, happened: Array) -> float | None:
    """AUC: the chance that an edit with the outcome has the larger value, ties counting half."""
    n, others = int(happened.sum()), int((~happened).sum())
    if not n or not others:
        return None
    return float((rankdata(value)[happened].sum() - n * (n + 1) / 2) / (n * others))


def ranking(value: Array, size: Array) -> float | None:
    """Spearman's rank correlation."""
    ranks = rankdata(value), rankdata(size)
    if len(value) < 3 or min(np.ptp(rank) for rank in ranks) == 0:
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def compare(frame: pd.DataFrame, *, seed: int = 0, draws: int = DRAWS) -> pd.DataFrame:
    """Every predictor on some performed edits.

    Args:
        frame: Rows of :func:`table`.
        seed: Seed of the bootstrap.
        draws: Resamples.

    Returns:
        AUC of collapse, AUC of harm and Spearman's correlation with the logarithm of the
        perplexity ratio, each with its interval, for each predictor.
    """
    columns: Mapping[str, tuple[Statistic, Array]] = {
        "AUC, collapse": (separation, frame["collapsed"].to_numpy(bool)),
        "AUC, harm": (separation, frame["harmed"].to_numpy(bool)),
        "Spearman": (ranking, frame["log_ratio"].to_numpy(float)),
    }
    subjects = frame["subject"].tolist()
    rows: dict[str, dict[str, str]] = {}
    for name, of in PREDICTORS.items():
        value = of(frame).to_numpy(float)
        if not np.isnan(value).any():
            rows[name] = {
                column: shown(resampled(statistic, value, outcome, subjects, seed=seed,
                                        draws=draws))
                for column, (statistic, outcome) in columns.items()
            }  # fmt: skip
    return pd.DataFrame(rows).T


def shown(found: tuple[float, float, float] | None) -> str:
    """A statistic and its interval as text."""
    return "" if found is None else "{:.3f} ({:.3f} to {:.3f})".format(*found)


def threshold(predictor: Predictor, frame: pd.DataFrame, outcome: str) -> float:
    """Where a predictor separates an outcome best: hits less false alarms at their largest.

    Between the two values that enclose it, the geometric mean is taken; without edits that had the
    outcome it is infinite.
    """
    if not frame[outcome].any():
        return math.inf
    value = predictor(frame).to_numpy(float)
    false, true, cuts = roc_curve(frame[outcome], value, drop_intermediate=False)
    cut = cuts[int(np.argmax(true - false))]
    below = value[value < cut]
    return float(math.sqrt(cut * below.max())) if len(below) else float(cut)


def errors(said: Sequence[bool], happened: Sequence[bool]) -> str:
    """Misses and false alarms, each of how many."""
    said, happened = np.asarray(said, bool), np.asarray(happened, bool)
    return (
        f"{int((~said & happened).sum())} of {int(happened.sum())} missed, "
        f"{int((said & ~happened).sum())} of {int((~happened).sum())} false"
    )


def carried(fitted: pd.DataFrame, tested: pd.DataFrame, outcome: str) -> dict[str, str]:
    """Each predictor's threshold, fitted on some edits and used on others."""
    return {
        name: errors(of(tested) >= threshold(of, fitted, outcome), tested[outcome])
        for name, of in PREDICTORS.items()
        if of(fitted).notna().all() and of(tested).notna().all()
    }


def calibration(fitted: pd.DataFrame, tested: pd.DataFrame, outcome: str) -> pd.DataFrame:
    """Chance of an outcome by damage, fitted on some edits, beside how often it came in others.

    Args:
        fitted: Edits that a logistic regression on the logarithm of the damage is fitted to.
        tested: The others.
        outcome: ``collapsed`` or ``harmed``.

    Returns:
        For each range of the chance: its mean, the share of edits with the outcome, and how many.
    """
    x, new = (np.log(frame[["damage"]].to_numpy(float)) for frame in (fitted, tested))
    chance = LogisticRegression().fit(x, fitted[outcome].astype(bool)).predict_proba(new)[:, 1]
    rows = {}
    for low, high in ((0, 0.1), (0.1, 0.5), (0.5, 0.9), (0.9, 1)):
        inside = (chance >= low) & ((chance < high) | (high == 1))
        if inside.any():
            share, n = float(tested[outcome].to_numpy(float)[inside].mean()), int(inside.sum())
            start, end = wilson(share, n)
            rows[f"{low:.0%} to {high:.0%}"] = {
                "predicted": f"{chance[inside].mean():.1%}",
                "observed": f"{share:.1%} ({start:.1%} to {end:.1%})",
                "edits": n,
            }
    return pd.DataFrame(rows).T


def verdicts(
    frame: pd.DataFrame, damage: str = "damage", *, collapse: float, harm: float
) -> pd.DataFrame:
    """What edits became, by what limits on a damage say of them."""
    size = frame[damage].to_numpy(float)
    predicted = np.select(
        [size >= collapse, size >= harm], ["collapse risk", "damage risk"], "neither"
    )
    became = np.select([frame["collapsed"], frame["harmed"]], ["collapsed", "damaged"], "intact")
    rows, columns = (
        ["neither", "damage risk", "collapse risk"],
        ["intact", "damaged", "collapsed"],
    )
    counted = pd.crosstab(pd.Series(predicted, name=""), pd.Series(became, name=""))
    counted = counted.reindex(index=rows, columns=columns, fill_value=0)
    return counted.rename_axis(index=None, columns=None)
