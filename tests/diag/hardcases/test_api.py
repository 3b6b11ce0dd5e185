"""A set made anew is the same to the byte; without hard edits there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diag.hardcases import hardcases
from probes.request.records import read_edits
from reports.command import markdown, page, text
from rome_diagnosis.errors import UserError
from tests.diag.hardcases.made import FEW


def test_a_set_made_anew_is_the_same_to_the_byte(tmp_path: Path) -> None:
    options: dict[str, Any] = FEW | {"n": 6, "perform": 1, "generated_tokens": 3}
    first = hardcases(tmp_path / "a.json", **options)
    again = hardcases(tmp_path / "b.json", **options)
    other = hardcases(tmp_path / "c.json", **options | {"seed": 1, "perform": 0})
    written = [Path(made.path).read_bytes() for made in (first, again, other)]
    assert written[0] == written[1] != written[2]
    changing = ("created", "file")
    cards = [
        {k: v for k, v in made.document.items() if k not in changing} for made in (first, again)
    ]
    assert cards[0] == cards[1]
    groups = first.document["groups"]
    assert groups["hard"]["performed"]["rome"]["n"] == groups["easy"]["performed"]["rome"]["n"] == 1
    assert other.document["groups"]["hard"]["performed"] is None
    read = read_edits(first.path)
    assert not read.refused
    assert [case.group for case in read.cases].count("hard") == groups["hard"]["n"]
    table = first.to_pandas()
    assert set(table.groupby("subject").split.nunique()) == {1}
    assert list(table.performed.notna()).count(True) == 2
    documents = [dict(first.document)]
    for shown in (text(documents), page(documents), markdown(documents)):
        assert "6 hard edits" in shown and "licence: MIT" in shown


def test_a_model_without_hard_edits_says_so(tmp_path: Path) -> None:
    data = tmp_path / "edits.json"
    edit = {"subject": "Space Needle", "prompt": "The {} is in", "target_new": "Rome"}
    data.write_text(json.dumps([edit]))
    with pytest.raises(UserError, match="no edit is hard for bundled at block 1: of 1 screened"):
        hardcases(tmp_path / "hard.json", datasets=[data], **FEW)
    assert not (tmp_path / "hard.json").exists()
