"""Recorded runs: tables and lists of docs/sequence.md, docs/batch.md and docs/real.md."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from benchmarks.real import Stage, line
from benchmarks.studies import lists, prediction

DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.fixture(scope="module")
def smollm2() -> dict[str, lists.EditList]:
    return lists.read(DOCS / "evidence" / "lists-smollm2.json.gz")


def test_the_page_shows_the_recorded_lists(smollm2: dict[str, lists.EditList]) -> None:
    shown = (DOCS / "sequence.md").read_text(encoding="utf-8").splitlines()
    rows = [*lists.rows(smollm2), *lists.hard_rows(smollm2)]
    assert len(smollm2) == 30 and len(rows) == 15 + 5
    assert [row for row in rows if row not in shown] == []


def test_every_edit_that_broke_smollm2_had_been_called_dangerous(
    smollm2: dict[str, lists.EditList],
) -> None:
    broken = [one for one in smollm2.values() if one["collapse_at"] is not None]
    assert len(broken) == 5
    for one in broken:
        assert one["method"] == "rome"
        assert one["culprit"]["index"] in one["dangerous"]
        assert 0.5 <= one["forecast"]["collapse_at"] / one["collapse_at"] <= 2.0
    others = [one for one in smollm2.values() if one["method"] != "rome"]
    assert all(one["forecast"]["collapse_at"] is None for one in others)
    assert max(point["ratio"] for one in others for point in one["checkpoints"]) < 2.0


def test_the_edit_that_breaks_a_short_list_is_named_and_its_number_is_known() -> None:
    recorded = lists.read(DOCS / "evidence" / "lists.json.gz")
    short = [one for one in recorded.values() if one["kind"] == "single"]
    broken = [one for one in short if one["collapse_at"] is not None]
    assert (len(short), len(broken)) == (21, 18)
    for one in broken:
        assert one["culprit"]["alone"] and one["culprit"]["index"] in one["dangerous"]
        assert one["collapse_at"] == one["forecast"]["collapse_at"]
    ratios = [one["checkpoints"][-1]["ratio"] for one in short if one not in broken]
    assert min(ratios) > 1.2 and max(ratios) < 10


def test_harm_is_forecast_on_a_model_that_its_limit_was_not_made_from(
    smollm2: dict[str, lists.EditList],
) -> None:
    mixed = [one for one in smollm2.values() if one["kind"] == "mixed"]
    real = {name: lists.harmed(one) for name, one in smollm2.items() if one["kind"] == "mixed"}
    assert len(mixed) == 15 and sum(at is None for at in real.values()) == 3
    for name, at in real.items():
        forecast = smollm2[name]["forecast"]["harm_at"]
        assert forecast is not None
        assert at is None or 0.5 < forecast / at < 2.0, name


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
