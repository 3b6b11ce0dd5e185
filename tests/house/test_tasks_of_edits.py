"""``--tasks`` on the commands that edit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diag.sequence.command import main as sequence
from diag.surrogate import surrogate
from diag.verify.command import main as verify
from probes import bundled
from rome_diagnosis.errors import UserError
from rome_diagnosis.schema import validate

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed: [tasks]")
EDIT = ["--subject", "Apple", "--target-new", "Bill Gates", "--n-prefixes", "3", "--quiet"]
SMALL = ["--tasks", "bundled", "--task-limit", "5"]
FAST = ["--max-texts", "2", "--generated-tokens", "2", "--evaluations", "2"]


def test_an_edit_is_asked_tasks_before_and_after(tmp_path: Path) -> None:
    path = tmp_path / "verify.json"
    assert verify([*EDIT, *SMALL, *FAST, "--json", str(path)]) == 0
    document = validate(json.loads(path.read_text()))
    for arm in document["arms"].values():
        for name, change in arm["tasks"].items():
            assert change["before"] == document["tasks"][name]["score"]
            assert change["n"] == 5
    assert document["arms"]["c_rome"]["tasks"] == document["arms"]["c_rome_prefixed"]["tasks"]


def test_a_list_holds_perplexity_against_its_tasks(tmp_path: Path) -> None:
    edits, path, page = tmp_path / "edits.json", tmp_path / "edits.out.json", tmp_path / "e.html"
    facts = [fact for fact in bundled.facts() if fact["subject"] in ("Apple", "Athens", "Nobel")]
    edits.write_text(json.dumps(facts[:3]))
    line = ["--edits", str(edits), *SMALL, *FAST, "--n-prefixes", "3", "--quiet"]
    assert verify([*line, "--json", str(path), "--html", str(page)]) == 0
    document = validate(json.loads(path.read_text()))
    again = surrogate(document).document
    for name, value in document["summary"]["surrogate"].items():
        if name != "points":  # their groups are named after the file too
            assert again[name] == value, name
    assert "models whose tasks suffered" in page.read_text()


def test_a_list_is_asked_at_its_checkpoints(tmp_path: Path) -> None:
    edits, path = tmp_path / "edits.json", tmp_path / "sequence.json"
    fact = {"subject": "Apple", "prompt": "{} was founded by", "target_new": "Bill Gates"}
    edits.write_text(json.dumps([fact | {"target_true": "Steve Jobs"}]))
    line = [str(edits), "--perform", *SMALL, *FAST, "--n-prefixes", "3", "--quiet"]
    assert sequence([*line, "--json", str(path)]) == 0
    document = validate(json.loads(path.read_text()))
    (checkpoint,) = document["checkpoints"]
    assert set(checkpoint["tasks"]) == set(document["tasks"])
    assert checkpoint["damage_first_tokens"] > 0


def test_options_without_their_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--task-limit is for downstream tasks: add --tasks"):
        verify([*EDIT, "--task-limit", "5"])
    edits = tmp_path / "edits.json"
    edits.write_text("[]")
    with pytest.raises(UserError, match="--tasks is for edits that are made: add --perform"):
        sequence([str(edits), "--tasks", "bundled"])
