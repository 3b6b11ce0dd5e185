"""docs/evidence: two hundred edits, performed four ways. Is it so, and does it show what we say?"""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from diag.judgement import outcome
from diag.judgement.verdict import Grounds, steps, verdict_of
from diag.mathematics.stream import Stream
from diag.mathematics.update import direction
from diag.screen.shard import Screener
from diag.verify import verify_list
from probes import bundled
from probes.keys.many_edits import SharedPrefixes
from probes.model.contribution import contribution
from probes.model.loaded import LoadedModel
from probes.request.cases import from_record
from probes.request.request import request
from probes.second_moment.choose import for_model
from probes.target_value.hyperparameters import Hyperparameters
from rome_diagnosis import limits
from rome_diagnosis.editors import EDITORS
from rome_diagnosis.errors import UserError

EVIDENCE = Path(__file__).parent.parent.parent / "docs" / "evidence" / "verified.json.gz"
Document = dict[str, Any]


def test_it_is_of_the_bundled_model_and_the_present_limits(
    evidence: Document, bundled_model: LoadedModel
) -> None:
    assert evidence["model"]["fingerprint"] == bundled_model.fingerprint, (
        "run python -m benchmarks.studies.verify_bundled --output verify.json --evidence"
    )
    # Those it was recorded with; others are held against what it records, below.
    assert evidence["limits"]["damage_collapse"] == limits.DAMAGE_COLLAPSE.value
    assert len(evidence["edits"]) == 200
    assert sum(edit["site"]["is_first_token"] for edit in evidence["edits"]) == 100


def test_edits_made_again_give_what_it_says(evidence: Document, bundled_model: LoadedModel) -> None:
    chosen = evidence["edits"][::67]
    cases = [from_record(edit["request"]) for edit in chosen]
    texts = bundled.texts()[: evidence["texts"]["n_texts"]]
    again = verify_list(
        cases, model=bundled_model, layer=evidence["site"]["layer"], texts=texts,
        prefixes=evidence["settings"]["prefixes"],
    )  # fmt: skip
    for edit, other in zip(chosen, again.edits, strict=True):
        for arm in ("rome", "c_rome", "p_rome"):
            old, new = edit["arms"][arm], other["arms"][arm]
            assert new["denominator"] == pytest.approx(old["denominator"], rel=1e-3)
            assert new["damage"]["relative"] == pytest.approx(old["damage"]["relative"], rel=0.02)
            # Perplexity of a broken model is a large number of many small roundings.
            assert math.log(new["perplexity"]["after"]) == pytest.approx(
                math.log(old["perplexity"]["after"]), rel=0.02
            )
        assert other["collapsed"] == edit["collapsed"]


def test_prefixed_keys_prevent_what_inconsistent_keys_do(evidence: Document) -> None:
    collapsed = [edit for edit in evidence["edits"] if edit["collapsed"]["rome"]]
    assert len(collapsed) >= 20
    assert all(edit["site"]["is_first_token"] for edit in collapsed)
    for edit in collapsed:
        assert edit["arms"]["c_rome"]["perplexity"]["ratio"] < 1.5
    told = evidence["summary"]["damage_against_perplexity"]
    assert told["spearman"] >= 0.9 and told["auc"] >= 0.98
    first = next(g for g in evidence["groups"]["first_token"] if g["name"] == "first token")
    bare = first["arms"]["c_rome"]["efficacy"]["mean"]
    prefixed = first["arms"]["c_rome_prefixed"]["efficacy"]["mean"]
    assert bare < 0.5 and prefixed > 0.9  # low, then high, as in the paper


def test_screening_flagged_what_collapsed(evidence: Document, bundled_model: LoadedModel) -> None:
    layer = evidence["site"]["layer"]
    shared = SharedPrefixes(bundled_model, layer, evidence["settings"]["prefixes"])
    asked = [request(e["request"]["subject"], e["request"]["prompt"]) for e in evidence["edits"]]
    rows = Screener(shared, for_model(bundled_model, layer)).screen(asked)
    flagged = {True: 0, False: 0}
    risen = []
    for row, edit in zip(rows, evidence["edits"], strict=True):
        assert isinstance(row, dict)
        if row["verdict"] == "collapse_risk":
            flagged[edit["collapsed"]["rome"]] += 1
            risen.append(edit["arms"]["rome"]["perplexity"]["ratio"] or math.inf)
    broken = evidence["summary"]["collapsed"]["rome"]
    assert flagged[True] == broken
    assert flagged[False] <= 0.1 * (200 - broken)
    assert min(risen) > 3
    # The limit's reason quotes these figures.
    assert f"all {broken} that multiplied" in limits.DAMAGE_COLLAPSE.reason
    assert f"{flagged[False]} of the other {200 - broken}" in limits.DAMAGE_COLLAPSE.reason


def test_verdicts_on_every_editor_are_what_became_of_the_model(
    evidence: Document, bundled_model: LoadedModel
) -> None:
    layer = evidence["site"]["layer"]
    moment = for_model(bundled_model, layer)
    shared = SharedPrefixes(bundled_model, layer, evidence["settings"]["prefixes"])
    asked = [request(e["request"]["subject"], e["request"]["prompt"]) for e in evidence["edits"]]
    keys = shared.capture([at for at in shared.place(asked) if not isinstance(at, UserError)]).of()
    stream = Stream(moment, contribution(bundled_model, layer))
    seen: Counter[tuple[str, str]] = Counter()
    for edit, own in zip(evidence["edits"], keys, strict=True):
        for name, editor in EDITORS.items():
            arm = edit["arms"][name]
            u, d = direction(editor, own, moment), arm["denominator"]
            change = stream.change(u, d, arm["numerator_norm"])
            assert change is not None
            assert change.corpus == pytest.approx(arm["damage"]["relative"], rel=1e-2)
            verdict = verdict_of(Grounds(1.0, change.corpus, change.first_tokens))
            seen[verdict, outcome.judge(arm, collapse_ratio=10.0).outcome] += 1
    assert seen.total() == 600
    assert seen["safe", "intact"] >= 398
    assert seen["safe", "damaged"] <= 1  # five of five neighbours of one subject
    assert seen["damage_risk", "damaged"] >= 140
    assert seen["damage_risk", "intact"] == seen["collapse_risk", "intact"] == 0
    assert not any(end == "collapsed" for verdict, end in seen if verdict != "collapse_risk")


@pytest.mark.parametrize(
    ("names", "near", "far"),
    [
        (("verified.json.gz", "pretrained.json.gz"), (268, 270), (2, 35)),
        (("pretrained-consistent.json.gz",), (16, 16), (0, 0)),
    ],
)
def test_a_target_is_answered_where_it_is_written_nearly_as_optimised(
    names: tuple[str, ...], near: tuple[int, int], far: tuple[int, int]
) -> None:
    """‖v_u − v̄‖ is not recorded: taken from ‖v* − v̄‖ and ‖δ‖, as if they stood at right angles."""
    counts: dict[bool, list[bool]] = {False: [], True: []}
    for name in names:
        document = json.loads(gzip.decompress(EVIDENCE.with_name(name).read_bytes()))
        for edit in document["edits"]:
            target = edit.get("optimisation")
            if target is None or target["probability"] < 0.5:
                continue
            delta, longest = target["delta_norm"], 4 * target["initial_norm"]
            expected = min(longest, steps(Hyperparameters(), document["model"]["d_model"]).reach)
            norm = edit["arms"]["c_rome"]["numerator_norm"]
            apart = max(norm**2 - delta**2, 0.0) ** 0.5
            answered = edit["arms"]["c_rome_prefixed"]["efficacy"]["p_after"] >= 0.5
            counts[apart >= limits.TARGET_APART.value * expected].append(answered)
    assert [(sum(own), len(own)) for own in counts.values()] == [near, far]
