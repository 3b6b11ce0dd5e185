"""The pages of many edits: headlines, groups, tables and their limits."""

from __future__ import annotations

import copy
import html
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reports.document import read_document
from reports.numbers import number
from reports.pages.page import render
from tests.reports.reading import parse, words

Document = dict[str, Any]


def test_many_edits_are_counted_and_compared(evidence: Document, pages: dict[str, str]) -> None:
    said = words(pages["group"])
    broken = evidence["summary"]["collapsed"]
    assert f"Of 200 edits, {broken['rome']} broke the model with ROME" in said
    outcomes = evidence["summary"]["outcomes"]["rome"]
    assert outcomes["collapsed"] == broken["rome"] and all(outcomes.values())
    counts = (
        f"{outcomes[name]} {name.capitalize()}" for name in ("collapsed", "damaged", "intact")
    )
    assert " ".join(counts) in said
    for grouping in evidence["groups"].values():
        for part in grouping:
            assert f"{part['name']} ( {number(part['n'])} edits)" in said.replace("(", "( ")


def test_edits_not_made_come_with_commands_whose_files_there_are(screened: Document) -> None:
    document = screened | {"command": "python -m diag.screen edits.json -o table.parquet"}
    page = words(render(document | {"riskiest_file": None}))
    assert "-o table.parquet --riskiest riskiest.jsonl" in page
    assert "diag.verify --edits riskiest.jsonl" in page
    page = words(render(document | {"riskiest_file": "my own.jsonl"}))
    assert "--riskiest riskiest.jsonl" not in page
    assert "diag.verify --edits 'my own.jsonl'" in html.unescape(page)


def test_five_thousand_screened_edits_fit_and_the_riskiest_stand_first(
    screened: Document, tmp_path: Path
) -> None:
    rows = [dict(row) for row in screened["rows"] if row["error"] is None]
    many = [rows[i % len(rows)] | {"row": i} for i in range(5000)]
    many[17] = many[17] | {"error": "line 18: no subject", "verdict": None}
    pq.write_table(pa.Table.from_pylist(many), tmp_path / "many.parquet")
    page = render(read_document(str(tmp_path / "many.parquet")))
    assert len(page.encode()) < 5_000_000
    parse(page)
    said = words(page)
    assert "4,999 edits" in said
    assert "row 17: line 18: no subject" in said
    body = page.split('<table class="riskiest sortable">', 1)[1].split("<tbody>", 1)[1]
    shown = [
        float(x)
        for x in re.findall(r'data-v="[^"]*">[^<]*</td>\n<td class="n" data-v="([^"]+)">', body)
    ]
    assert len(shown) == 500
    assert shown == sorted(shown, reverse=True)


def test_one_edit_is_no_plural_and_one_observation_no_interval(evidence: Document) -> None:
    one = copy.deepcopy(evidence)
    one["edits"], one["projections"] = one["edits"][:1], None
    one["summary"] |= {"n": 1}
    for grouping in one["groups"].values():
        for part in grouping:
            part["n"] = 1
            for arm in part["arms"].values():
                for figure in arm.values():
                    if isinstance(figure, dict):
                        figure |= {"low": figure["mean"], "high": figure["mean"], "n": 1}
    said = words(render(one))
    assert "1 edit performed" in said and "1 edits" not in said
    several = words(render(evidence))
    assert re.search(r"\d to \d", several.split("Mean, 95 % interval", 1)[1])  # the control
    assert not re.search(r"\d to \d", said.split("Mean, 95 % interval", 1)[1].split("riskiest")[0])


def test_rank_statistics_of_a_few_edits_are_not_shown(evidence: Document) -> None:
    few = copy.deepcopy(evidence)
    assert "AUC" in words(render(few))  # the control
    few["summary"]["damage_against_perplexity"] |= {"n_collapsed": 1, "n_other": 3, "n_ranked": 4}
    assert "AUC" not in words(render(few))


def test_what_is_expected_stands_beside_the_bound(screened: Document) -> None:
    assert "expected" not in words(render(screened)).split("How the edits are distributed")[0]
    for i, row in enumerate(screened["rows"]):
        if row["error"] is None:
            row |= {"expected_share_rome": 0.25, "relative_bound_rome": 0.8 + i}
    said = words(render(screened))
    assert "Damage at most expected" in said and "safe rests on this bound" in said
    assert "80 % 20 %" in said.replace("\u00a0", " ")
