"""Recorded runs: tables and lists of docs/sequence.md, docs/batch.md and docs/real.md."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import prediction
from benchmarks.real import Stage, line
from diag.judgement.limits import PERPLEXITY_COLLAPSE

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def evidence() -> dict[str, Any]:
    packed = (DOCS / "evidence" / "lists-smollm2.json.gz").read_bytes()
    return dict(json.loads(gzip.decompress(packed)))


@pytest.fixture(scope="module")
def rows() -> list[list[str]]:
    text = (DOCS / "sequence.md").read_text(encoding="utf-8").split("SmolLM2, block 8, C of")[1]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_hard_lists_break_the_model_under_rome_alone(evidence: dict[str, Any]) -> None:
    hard = evidence["hard"]
    assert {len(found["edits"]) for found in hard.values()} == {20}
    for method, found in hard.items():
        last = found["checkpoints"][-1]
        broke = last["ratio"] >= PERPLEXITY_COLLAPSE.value
        assert broke == (found["collapse_at"] is not None) == (method == "rome")
        assert (found["forecast"]["collapse_at"] is not None) == broke
    culprit = hard["rome"]["performance"]["culprit"]
    assert culprit["index"] in {edit["index"] for edit in hard["rome"]["forecast"]["dangerous"]}


def test_the_tables_are_the_documents(evidence: dict[str, Any], rows: list[list[str]]) -> None:
    names = {"ROME": "rome", "C-ROME": "c_rome", "MEMIT": "memit", "AlphaEdit": "alphaedit"}
    names["MEMIT with history"] = "memit_seq"
    first = [row for row in rows if row[0] in names and len(row) == 7]
    second = [row for row in rows if row[0] in names and len(row) == 6]
    assert len(first) == 4
    assert len(second) == 5
    for name, _, _, _, ratio, kept, _ in first:
        last = evidence["hard"][names[name]]["checkpoints"][-1]
        assert ratio.replace(",", "") in (f"×{last['ratio']:.0f}", f"×{last['ratio']:.2f}")
        assert kept == f"{last['recall']:.0%}".replace("%", " %")
    for name, edits, ratios, *_ in second:
        last_of = [run["checkpoints"][-1] for run in evidence["mixed"][names[name]]]
        assert ratios == ", ".join(f"×{last['ratio']:.2f}" for last in last_of)
        assert {int(n) for n in edits.split(", ")} == {last["edits"] for last in last_of}


def test_the_page_shows_the_recorded_stages() -> None:
    recorded = json.loads((DOCS / "evidence" / "real.json").read_text(encoding="utf-8"))
    shown = {row.rstrip() for row in (DOCS / "real.md").read_text(encoding="utf-8").splitlines()}
    lines = [
        line(Stage(**stage)).rstrip()
        for run in recorded.values()
        for stage in run["stages"]
        if stage["name"] != "load"
    ]
    assert len(lines) > 25
    assert [row for row in lines if row not in shown] == []


def test_what_memit_and_emmet_make_of_smollm2_is_shown_and_says_what_the_page_says() -> None:
    packed = (DOCS / "evidence" / "prediction-smollm2.json.gz").read_bytes()
    found = json.loads(gzip.decompress(packed))
    lines = prediction.tables(found)
    shown = (DOCS / "batch.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2 * 2 + 2 * 3
    assert [row for row in lines if row not in shown] == []
    first, later = (found["singly"]["arms"]["memit"][name] for name in prediction.GROUPS)
    assert first["collapsed"] == later["collapsed"] == 0
    assert first["p_bare"] < 0.1 < later["p_bare"] and first["succeed_bare"] < later["succeed_bare"]
    for group in (first, later):
        assert group["received_bare_median"] == pytest.approx(
            group["foretold_bare_median"], rel=1e-5
        )
