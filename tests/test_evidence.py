"""docs/evidence: two hundred edits, performed four ways. Is it so, and does it show what we say?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from diag.judgement import limits
from diag.screen.shard import Screener
from diag.verify import verify_list
from probes import bundled
from probes.keys.many_edits import SharedPrefixes
from probes.model.load import load
from probes.model.loaded import LoadedModel
from probes.request.cases import from_record
from probes.request.request import request
from probes.second_moment.choose import for_model
from reports.document import read

EVIDENCE = Path(__file__).parent.parent / "docs" / "evidence" / "verified.json.gz"
Document = dict[str, Any]


@pytest.fixture(scope="module")
def evidence() -> Document:
    return read(str(EVIDENCE))


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load(bundled.model_path(), name="bundled")


def test_it_is_of_the_bundled_model_and_the_present_limits(
    evidence: Document, model: LoadedModel
) -> None:
    assert evidence["model"]["fingerprint"] == model.fingerprint, (
        "run python -m benchmarks.verify_bundled --output verify.json --evidence"
    )
    assert evidence["limits"] == limits.of_verdicts()
    assert len(evidence["edits"]) == 200
    assert sum(edit["site"]["is_first_token"] for edit in evidence["edits"]) == 100


def test_edits_made_again_give_what_it_says(evidence: Document, model: LoadedModel) -> None:
    chosen = evidence["edits"][::67]
    cases = [from_record(edit["request"]) for edit in chosen]
    texts = bundled.texts()[: evidence["texts"]["n_texts"]]
    again = verify_list(
        cases, model=model, layer=evidence["site"]["layer"], texts=texts,
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


def test_screening_flagged_what_collapsed(evidence: Document, model: LoadedModel) -> None:
    layer = evidence["site"]["layer"]
    shared = SharedPrefixes(model, layer, evidence["settings"]["prefixes"])
    asked = [request(e["request"]["subject"], e["request"]["prompt"]) for e in evidence["edits"]]
    rows = Screener(shared, for_model(model, layer)).screen(asked)
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
