"""The study's tables, from the evidence alone.

    python -m benchmarks.pretrained.tables docs/evidence/pretrained.json.gz \
        docs/evidence/verified.json.gz

The second file is of the bundled model: thresholds are carried between the two.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open

from benchmarks.pretrained.predictors import (
    PREDICTORS,
    calibration,
    carried,
    compare,
    ranking,
    resampled,
    separation,
    shown,
    table,
    threshold,
    unseen,
    verdicts,
)
from probes import bundled
from probes.statistics import spearman
from rome_diagnosis.editors import EDITORS
from rome_diagnosis.limits import DAMAGE_COLLAPSE, DAMAGE_HARM

Document = Mapping[str, Any]
SHORT = {"first, one token": "first", "first, several tokens": "several", "later": "later"}
NOTICEABLE = 0.05  # damage from which on ranks mean something
# What a verdict rests on, a typical δ for alarms, was chosen when these parts had been seen.
SEEN = ("00-L5", "01-L5", "00-L8", "01-L8", "00-L12")
ANSWERED = 0.5  # a prompt is answered whose new object is likelier than everything else


def read(path: str | Path) -> Document:
    """Reads evidence; the spectral norms of the bundled model's W are added where they lack."""
    document: dict[str, Any] = json.loads(gzip.decompress(Path(path).read_bytes()))
    if "spectral_norms" not in document:
        assert document["model"]["fingerprint"] == bundled.fingerprint(), f"whose is {path}?"
        layer = document["site"]["layer"]
        with safe_open(bundled.model_path() / "model.safetensors", "pt") as weights:
            w = weights.get_tensor(f"transformer.h.{layer}.mlp.c_proj.weight").double()
        document["spectral_norms"] = {str(layer): float(torch.linalg.matrix_norm(w, 2))}
    return document


def groups(frame: pd.DataFrame) -> pd.DataFrame:
    """The paper's comparison: first-token subjects beside others, a column for each block's."""
    columns = {}
    for (layer, kind), own in frame.groupby(["layer", "kind"]):
        rome = own[own["arm"] == "rome"]
        column = {
            "edits": len(rome),
            "P(new) with v*": f"{rome['probability'].median():.2f}",
            "|ρ|": f"{rome['rho'].abs().median():.3f}",
            "‖v*−v‖": f"{rome['numerator_norm'].median():.0f}",
            "|D|, u of length 1": f"{rome['denominator_normalised'].abs().median():.3f}",
            "damage": f"{rome['damage'].median():.3f}",
            "measured / damage": f"{(rome['measured'] / rome['damage']).median():.2f}",
            "perplexity before": f"{rome['before'].mean():.1f}",
            "… mean over texts": f"{rome['before_by_text'].mean():.1f}",
        }
        for arm, editor in EDITORS.items():
            one = own[own["arm"] == arm]
            column[f"{editor.short}, worst perplexity"] = f"{np.exp(one['log_ratio'].max()):.3g}×"
            column[f"{editor.short}, … mean over texts"] = f"{one['ratio_by_text'].max():.3g}×"
            column[f"{editor.short}, harmed"] = int(one["harmed"].sum())
            for name in ("recall", "generalisation", "locality"):
                column[f"{editor.short}, {name}"] = f"{one[name].mean():.0%}"
        columns[f"{layer}: {SHORT[kind]}"] = column
    return pd.DataFrame(columns)


def answers(document: Document) -> pd.DataFrame:
    """Whether the edits are answered: on the bare prompt, and after a prefix seen or not."""
    rows: dict[str, dict[str, list[float]]] = {}
    for edit in document["edits"]:
        first = "first, one token" if edit["site"]["is_first_token"] else "others"
        arms = edit["arms"]
        by_name = {
            **{f"{EDITORS[arm].short}, bare": arms[arm]["efficacy"] for arm in EDITORS},
            "C-ROME, prefix": arms["c_rome_prefixed"]["efficacy"],
            "C-ROME, unseen prefix": arms["c_rome_prefixed"]["unseen_prefix"]["efficacy"],
        }
        row = rows.setdefault(f"block {edit['site']['layer']}, {first}", {})
        for name, efficacy in by_name.items():
            row.setdefault(name, []).append(efficacy["p_after"])
    return pd.DataFrame(
        {name: {at: f"{np.mean(p):.3f}" for at, p in row.items()} for name, row in rows.items()}
    ).T.sort_index()


def share_and_answer(edits: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    """φ of C-ROME at the test prompts, and P(new) there: bare, and after two prefixes."""
    shares, probabilities = [], []
    for edit in edits:
        shared, arms = edit["response"]["c_rome"], edit["arms"]
        prefixed = arms["c_rome_prefixed"]
        for at, arm in (("bare", arms["c_rome"]), ("editing_prefix", prefixed),
                        ("unseen_prefix", prefixed["unseen_prefix"])):  # fmt: skip
            shares.append(shared[at])
            probabilities.append(arm["efficacy"]["p_after"])
    return shares, probabilities


def halves(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The half that limits are fitted on, and the half that they have not seen."""
    is_unseen = np.array(unseen(frame["subject"]))
    return frame[~is_unseen].reset_index(drop=True), frame[is_unseen].reset_index(drop=True)


def claims(document: Document, frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """What was to be shown, and what the unseen half shows.

    Args:
        document: The pretrained model's evidence.
        frame: Its rows of ROME, C-ROME and P-ROME.

    Yields:
        A claim and a figure.
    """
    _, new = halves(frame[frame["arm"] == "rome"])
    broken = new[new["collapsed"]]
    safe = int((broken["verdict"] == "safe").sum())
    yield "edits that multiply perplexity by ten and were called safe", f"{safe} of {len(broken)}"
    fine = new[~new["collapsed"]]
    for column, what in (("bound", "the longest δ"), ("typical", "a typical δ"),
                         ("damage", "its own δ")):  # fmt: skip
        alarms = int((fine[column] >= DAMAGE_COLLAPSE.value).sum())
        yield f"others above the limit of collapse with {what}", f"{alarms} of {len(fine)}"
    for name, rows in (("ROME", new), ("all editors", halves(frame)[1])):
        rows = rows[rows["damage"] >= NOTICEABLE]
        rank = resampled(
            ranking,
            rows["damage"].to_numpy(),
            rows["log_ratio"].to_numpy(),
            rows["subject"].tolist(),
        )
        yield (
            f"Spearman of damage ≥ {NOTICEABLE} and log perplexity ratio, {name}, "
            f"{len(rows)} edits",
            shown(rank),
        )
    collapsed = [edit for edit in document["edits"] if edit["collapsed"]["rome"]]
    ratios = [edit["arms"]["c_rome"]["perplexity"]["ratio"] for edit in collapsed]
    yield (
        f"largest ratio of C-ROME over all {len(ratios)} edits that ROME collapses",
        f"{max(ratios):.3f}×" if ratios else "–",
    )
    first = [edit for edit in document["edits"] if edit["site"]["is_first_token"]]
    for who, edits in (("first-token subjects", first), ("all subjects", document["edits"])):
        shares, answered = share_and_answer(edits)
        yield f"Spearman of φ and C-ROME's P(new), {who}", f"{spearman(shares, answered) or 0:.3f}"
        parts = separation(np.array(shares), np.array(answered) >= ANSWERED)
        yield f"AUC of φ and C-ROME's P(new) ≥ {ANSWERED}, {who}", f"{parts or math.nan:.3f}"


def limits(frame: pd.DataFrame) -> pd.DataFrame:
    """The limits that each model's edits would set, beside the present ones."""
    present = {"collapsed": DAMAGE_COLLAPSE.value, "harmed": DAMAGE_HARM.value}
    kinds = [name for name in PREDICTORS if name.startswith("damage, ") and "δ" in name]
    return pd.DataFrame(
        {
            f"{outcome}, {model}": {
                "present": value,
                **{kind: f"{threshold(PREDICTORS[kind], own, outcome):.3f}"
                   for kind in ("damage", *kinds)},
            }
            for outcome, value in present.items()
            for model, own in frame.groupby("model")
        }
    )  # fmt: skip


Section = tuple[str, Callable[[], pd.DataFrame]]


def sections(own: Document, other: Document) -> Iterator[Section]:
    """Titles, and what computes the tables under them.

    Args:
        own: The pretrained model's evidence.
        other: The bundled model's.

    Yields:
        Each section.
    """
    frame, elsewhere = table(own), table(other)
    rome, theirs = (rows[rows["arm"] == "rome"].reset_index(drop=True)
                    for rows in (frame, elsewhere))  # fmt: skip
    yield "Groups", lambda: groups(frame)
    yield "Probability of the new object", lambda: answers(own)
    yield "Predictors, ROME", lambda: compare(rome)
    yield "Predictors, all editors", lambda: compare(frame)
    yield "Predictors, ROME, bundled model", lambda: compare(theirs)
    for outcome, title in (("collapsed", "Collapse"), ("harmed", "Harm")):
        yield f"{title}, thresholds carried", partial(_both_ways, theirs, rome, outcome)
    yield "Limits", lambda: limits(pd.concat([theirs, rome], ignore_index=True))
    fitted, new = halves(rome)
    both = pd.concat([halves(theirs)[0], fitted], ignore_index=True)
    present = {"collapse": DAMAGE_COLLAPSE.value, "harm": DAMAGE_HARM.value}
    for title, column in (("longest δ", "bound"), ("typical δ", "typical"), ("its δ", "damage")):
        yield f"Unseen half, {title}", partial(verdicts, new, column, **present)
    yield "Calibration of collapse", lambda: calibration(both, new, "collapsed")
    yield "Calibration of harm", lambda: calibration(both, new, "harmed")
    yield "Claims", lambda: _listed(claims(own, frame))
    later = rome[~rome["part"].isin(SEEN)].reset_index(drop=True)
    yield "Performed after the number was chosen", partial(verdicts, later, "typical", **present)


def _both_ways(bundled: pd.DataFrame, pretrained: pd.DataFrame, outcome: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "set on the bundled model": carried(bundled, pretrained, outcome),
            "set on the pretrained one": carried(pretrained, bundled, outcome),
        }
    )


def _listed(pairs: Iterator[tuple[str, str]]) -> pd.DataFrame:
    return pd.DataFrame(dict(pairs).items(), columns=["claim", "figure"]).set_index("claim")


def main() -> None:
    """Prints every table, or those whose titles are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("evidence", help="of benchmarks.pretrained.evidence")
    parser.add_argument("bundled", help="diag.verify/1 of the bundled model")
    parser.add_argument("--only", help="print the sections whose titles begin so")
    options = parser.parse_args()
    for title, of in sections(read(options.evidence), read(options.bundled)):
        if options.only is None or title.startswith(options.only):
            print(f"{title}\n{of().to_string()}\n")


if __name__ == "__main__":
    main()
