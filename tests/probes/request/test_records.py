"""Data sets of edits in everyone's formats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from probes.request import cases
from probes.request import records as dataset
from rome_diagnosis.errors import UserError

ROME_RECORD = {
    "case_id": 12,
    "requested_rewrite": {
        "prompt": "{} was founded by", "subject": "Apple",
        "target_new": {"str": "Bill Gates"}, "target_true": {"str": "Steve Jobs"},
    },
    "paraphrase_prompts": ["Who founded Apple?"],
    "neighborhood_prompts": ["Paris lies on"],
}  # fmt: skip
EASYEDIT_RECORD = {
    "case_id": 0, "prompt": "The mother tongue of Danielle Darrieux is", "target_new": "English",
    "subject": "Danielle Darrieux", "ground_truth": "French",
}  # fmt: skip
ZSRE_RECORD = {"subject": "Paris", "src": "Where does Paris lie?", "alt": "Rome", "answers": ["x"]}


@pytest.mark.parametrize("kind", ["array.json", "packed.json", "lines.json", "lines.jsonl"])
def test_rome_easyedit_and_zsre_records_are_read(kind: str, tmp_path: Path) -> None:
    records = [ROME_RECORD, EASYEDIT_RECORD, ZSRE_RECORD]
    path = tmp_path / kind
    if kind.startswith("lines"):
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    else:
        path.write_text(json.dumps(records, indent=2 if kind == "array.json" else None))
    found = list(dataset.rows(path))
    edits = [dataset.edit(row.record) for row in found]
    assert [edit.subject for edit in edits] == ["Apple", "Danielle Darrieux", "Paris"]
    assert [edit.text for edit in edits] == [
        "Apple was founded by", "The mother tongue of Danielle Darrieux is",
        "Where does Paris lie?",
    ]  # fmt: skip
    assert [row.row for row in found] == [0, 1, 2]
    starts = [i for i, line in enumerate(path.read_text().splitlines(), 1) if line[:3] == "  {"]
    lines = {"array.json": starts, "packed.json": [1, 1, 1]}.get(kind, [1, 2, 3])
    assert [row.line for row in found] == lines
    assert [dataset.case_id(row.record) for row in found] == ["12", "0", None]
    for record in records:  # what is handed to diag.verify can be read there
        assert cases.from_record(dataset.for_verify(record)).request.subject


def test_csv_rows_and_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "edits.csv"
    path.write_text(
        'case_id,subject,prompt,target_new\n7,Apple,"{} was\nfounded by",X\n'
        "8,Paris\n9,Paris,{} is,Y\n",
        encoding="utf-8-sig",
    )
    found = list(dataset.rows(path))
    assert [(row.row, row.line) for row in found] == [(0, 2), (1, 4), (2, 5)]
    assert dataset.edit(found[0].record).text == "Apple was\nfounded by"
    assert found[1].error == "has 2 fields where the header has 4"
    assert dataset.edit(found[2].record).subject == "Paris"
    (tmp_path / "no.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="no columns subject and prompt"):
        list(dataset.rows(tmp_path / "no.csv"))


def test_a_long_array_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "CHUNK", 7)
    records = [{"i": i, "text": "é" * i, "n": [1.5, i, {}]} for i in range(40)] + [12, 345, "six"]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(records, indent=1, ensure_ascii=False), encoding="utf-8")
    assert [row.record for row in dataset.rows(path)] == records


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "holds no rows"),
        ("[]", "holds no rows"),
        ('[{"a": 1},\n {"a": 2}', "at line 2: expected a comma or the end"),
        ('[{"a": 1},\n {"a": ', "at line 2: the record that begins there"),
        ('[{"a": 1},\n {"a": oops}]', "at line 2: the record that begins there"),
        ('[{"a": 1}\n {"a": 2}]', "at line 2: expected a comma"),
        ('[{"a": 1}] x', "something follows"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(UserError, match=complaint):
        list(dataset.rows(path))
