"""docs/evidence/surrogate.json.gz: edits held against their tasks. Is it so, and as we say?"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from diag.surrogate import relate
from diag.surrogate.collect import points
from diag.verify import verify_list
from probes import bundled
from probes.request.cases import from_record
from probes.tasks.harness import Tasks
from reports.document import read_document

DOCS = Path(__file__).parent.parent.parent / "docs"
Document = dict[str, Any]
# A chunk of edits is optimised together, and rounding decides a close call here and there.
CLOSE_CALLS = 0.02


@pytest.fixture(scope="module")
def surrogate() -> Document:
    return read_document(str(DOCS / "evidence" / "surrogate.json.gz"))


@pytest.fixture(scope="module")
def pretrained() -> Document:
    return read_document(str(DOCS / "evidence" / "surrogate-smollm2.json.gz"))


@pytest.mark.parametrize("name", ["surrogate", "pretrained"])
def test_its_relations_follow_from_its_points(name: str, request: pytest.FixtureRequest) -> None:
    evidence: Document = request.getfixturevalue(name)
    held = relate.relations(evidence["points"], evidence["tasks"], seed=evidence["seed"])
    for name, relation in json.loads(json.dumps(held)).items():
        recorded = evidence["relations"][name]
        for related, other in (
            (relation["together"], recorded["together"]),
            *((relation["tasks"][task], recorded["tasks"][task]) for task in evidence["tasks"]),
        ):
            for kind in ("spearman", "pearson"):
                assert related[kind] == pytest.approx(other[kind])
                assert related[f"{kind}_interval"] == pytest.approx(other[f"{kind}_interval"])
    assert relate.silent(evidence["points"]) == evidence["silent"]
    onset = relate.onset(evidence["points"], seed=evidence["seed"])
    assert onset is not None and onset["ratio"] == pytest.approx(evidence["onset"]["ratio"])


def test_its_edits_go_from_harmless_to_destroyed_with_every_editor(surrogate: Document) -> None:
    alone = [point for point in surrogate["points"] if point["edits"] == 1]
    assert len(alone) >= 60
    assert {point["method"] for point in alone} == {"rome", "c_rome", "p_rome"}
    ratios = [point["ratio"] for point in alone if point["ratio"] is not None]
    assert min(ratios) < 1.01 and max(ratios) > 1000


def test_perplexity_ranks_and_its_limit_is_silent(surrogate: Document) -> None:
    """What docs/tasks.md says of it."""
    relations, silent = surrogate["relations"], surrogate["silent"]
    text = " ".join((DOCS / "tasks.md").read_text(encoding="utf-8").split())
    said = re.search(r"(\d+) of (\d+) models whose tasks suffered", text)
    assert said and (len(silent), surrogate["suffering"]) == tuple(map(int, said.groups()))
    assert relations["ratio"]["together"]["spearman_interval"][1] < -0.8
    by_first_tokens = [surrogate["points"][i]["method"] == "p_rome" for i in silent]
    assert f"All {sum(by_first_tokens)} first-token subjects edited with P-ROME" in text
    for relation in relations.values():
        for kind in ("spearman", "pearson"):
            assert shown(relation["together"], kind) in text
    assert relations["damage_first_tokens"]["auc"] > relations["damage"]["auc"]


def shown(of: Document, kind: str) -> str:
    low, high = of[f"{kind}_interval"]
    return f"{of[kind]:.3f} ({low:.3f} to {high:.3f})".replace("-", "−")


def test_what_is_said_of_the_pretrained_model_is_in_its_evidence(pretrained: Document) -> None:
    text = " ".join((DOCS / "tasks.md").read_text(encoding="utf-8").split("**SmolLM2")[1].split())
    points, relations = pretrained["points"], pretrained["relations"]
    assert len(points) == 60 and {point["method"] for point in points} == {
        "rome",
        "c_rome",
        "p_rome",
    }
    for relation in relations.values():
        for kind in ("spearman", "pearson"):
            assert shown(relation["together"], kind) in text
        assert f"{relation['auc']:.3f}" in text
    assert pretrained["suffering"] == 4 and not pretrained["silent"]
    by_task = relations["ratio"]["tasks"]
    for task in ("lambada_openai", "piqa", "arc_easy"):
        assert f"{by_task[task]['spearman']:.2f}".replace("-", "−") in text
    gained = by_task["openbook_qa"]
    assert f"+{gained['spearman']:.2f}" in text and gained["spearman_interval"][0] > 0


def test_an_edit_made_again_loses_what_it_says(surrogate: Document) -> None:
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed: [tasks]")
    worst = surrogate["points"][surrogate["silent"][0]]
    recorded = {p["method"]: p for p in surrogate["points"] if p["label"] == worst["label"]}
    (fact,) = [
        fact
        for fact in bundled.facts()
        if f"{fact['prompt'].format(fact['subject'])} → {fact['target_new']}" == worst["label"]
    ]
    again = verify_list(
        [from_record(fact)],
        tasks=Tasks.read(),
        texts=bundled.texts()[:30],
        generated_tokens=2,
        quiet=True,
    )
    made = list(points(again.document))
    assert {point["method"] for point in made} == set(recorded)
    for point in made:
        other = recorded[point["method"]]
        assert point["ratio"] == pytest.approx(other["ratio"], rel=0.02)
        assert point["damage"] == pytest.approx(other["damage"], rel=0.02)
        assert point["change"] == pytest.approx(other["change"], abs=CLOSE_CALLS)
        for name, change in point["tasks"].items():
            assert change == pytest.approx(other["tasks"][name], abs=2 * CLOSE_CALLS)
