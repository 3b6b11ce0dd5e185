"""Files of edits: every format in every container, what tests the edits included."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from probes import bundled
from probes.request import records
from probes.request.cases import Neighbour, from_record
from probes.request.records import Refused, read_edits, rows
from rome_diagnosis.errors import UserError
from tests.probes.request.formats import COUNTERFACT, PARALLEL, RECORDS, ROME, ZSRE

DATA = Path(__file__).parents[4] / "shared" / "data"
Records = Sequence[dict[str, Any]]


def parquet(written: Records, path: Path) -> None:
    pd.DataFrame(list(written)).to_parquet(path)


def text(form: Callable[[Records], str]) -> Callable[[Records, Path], None]:
    def write(written: Records, path: Path) -> None:
        path.write_text(form(written), encoding="utf-8")

    return write


WRITERS = {
    "array.json": text(lambda records: json.dumps(records, indent=1)),
    "lines.jsonl": text(lambda records: "\n".join(map(json.dumps, records))),
    "objects.json": text(lambda records: "\n".join(json.dumps(each, indent=2) for each in records)),
    "table.parquet": parquet,
}


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("container", WRITERS)
@pytest.mark.parametrize("name", [name for name in RECORDS if name != "parallel lists"])
def test_every_format_in_every_container(
    name: str, container: str, zipped: bool, tmp_path: Path
) -> None:
    record = RECORDS[name]
    WRITERS[container]([record | {"case_id": 1}, record | {"case_id": 2}], tmp_path / container)
    path = tmp_path / container
    if zipped:
        path = tmp_path / f"{container}.gz"
        path.write_bytes(gzip.compress((tmp_path / container).read_bytes()))
    edits = read_edits(path)
    assert edits.cases == tuple(from_record(record | {"case_id": i}) for i in (1, 2))
    assert not edits.refused
    # What screening writes: the row's record, with what it measured beside it.
    screened = [row.record | {"screen": {"row": row.row, "rho": 0.1}} for row in rows(path)]
    (tmp_path / "risky.jsonl").write_text("\n".join(json.dumps(each) for each in screened))
    assert read_edits(tmp_path / "risky.jsonl").cases == edits.cases


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("record", [COUNTERFACT, {k: v for k, v in ZSRE.items() if k[0] != "p"}])
def test_flat_formats_as_csv(record: dict[str, Any], delimiter: str, tmp_path: Path) -> None:
    flat = {name: value[0] if isinstance(value, list) else value for name, value in record.items()}
    path = tmp_path / "a.csv"
    pd.DataFrame([flat, flat]).to_csv(path, index=False, sep=delimiter)
    assert read_edits(path).cases == (from_record(record),) * 2


def test_parallel_lists_are_edits_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(PARALLEL, indent=1))
    edits = read_edits(tmp_path / "a.json")
    first, second = edits.cases
    assert first.request == from_record(COUNTERFACT).request
    assert first.paraphrases == ("Danielle Darrieux speaks",)
    assert first.neighbourhood == (
        Neighbour("Michel Rocard speaks", "French"), Neighbour("She said:", "French"),
    )  # fmt: skip
    assert first.portability == (Neighbour("Danielle Darrieux greets with", "Hello"),)
    assert second.request.subject == "Apple"
    assert second.request.target_true is None  # EasyEdit's <|endoftext|> is no object
    assert not second.paraphrases
    assert second.neighbourhood[1] == Neighbour("HP was founded by", "Bill Hewlett")
    assert edits.notes == ("fields that are not used: keep_original_weight",)
    places = [(row.row, row.place) for row in rows(tmp_path / "a.json")]
    assert places == [(0, "line 1, entry 0"), (1, "line 1, entry 1")]
    for change, complaint in (
        ({"subject": ["Apple"]}, "subject has 1 entries where prompts has 2"),
        ({"ground_truth": ["x"] * 3}, "ground_truth has 3 entries"),
        ({"prompts": []}, "list of prompts is empty"),
    ):
        lines = [json.dumps(PARALLEL | change), json.dumps(COUNTERFACT)]
        (tmp_path / "b.jsonl").write_text("\n".join(lines))
        edits = read_edits(tmp_path / "b.jsonl")
        assert len(edits.cases) == 1
        assert complaint in edits.refused[0].reason


def test_records_that_are_no_edits_are_named_once_and_the_others_stay(tmp_path: Path) -> None:
    twice = COUNTERFACT | {"prompt": "Danielle Darrieux, Danielle Darrieux is"}
    written = [COUNTERFACT, twice, ROME, COUNTERFACT | {"target_new": " "}]
    lines = [*map(json.dumps, written), "{oops", "[1]"]
    (tmp_path / "edits").write_text("\n".join(lines))
    edits = read_edits(tmp_path / "edits")
    assert [case.case_id for case in edits.cases] == ["0", "7"]
    assert [(refused.index, refused.place) for refused in edits.refused] == [
        (1, "line 2"), (3, "line 4"), (4, "line 5"), (5, "line 6"),
    ]  # fmt: skip
    assert edits.refused[1] == Refused(3, "target_new is missing or empty", "line 4")
    assert "2 times" in edits.refused[0].reason


def test_what_is_not_used_is_named_and_what_is_changed_is_counted(tmp_path: Path) -> None:
    spaced = COUNTERFACT | {"prompt": COUNTERFACT["prompt"] + " "}
    (tmp_path / "a.json").write_text(json.dumps([ROME, spaced, spaced]))
    space, fields = read_edits(tmp_path / "a.json").notes
    assert space.endswith("(2 records)")
    assert fields.endswith("attribute_prompts, generation_prompts, pararel_idx, relation_id")


def test_only_the_first_edits_are_read(tmp_path: Path) -> None:
    lines = [json.dumps(COUNTERFACT | {"case_id": i}) for i in range(5)]
    (tmp_path / "a.jsonl").write_text("\n".join(["broken", *lines]))
    edits = read_edits(tmp_path / "a.jsonl", limit=2)
    assert [case.case_id for case in edits.cases] == ["0", "1"]
    assert len(edits.refused) == 1


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "there are no rows"),
        ("[]", "there are no rows"),
        ("[1, 2]", "none of the 2 rows of .* is an edit: line 1: an object is expected"),
        ('{"subject": "Apple"}', "line 1: the prompt is missing"),
        (json.dumps([COUNTERFACT | {"prompt": "He is"}]), "is not in the prompt"),
        ("9" * 5000, "an object is expected"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_files_without_edits_are_refused_in_a_line(
    content: str, complaint: str, tmp_path: Path
) -> None:
    (tmp_path / "edits.json").write_text(content)
    with pytest.raises(UserError, match=complaint) as refused:
        read_edits(tmp_path / "edits.json")
    assert "\n" not in str(refused.value)


def test_a_file_without_any_edit_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.json").write_text("[1, 2, 3, oops]")
    monkeypatch.setattr(records, "HOPELESS", 2)
    with pytest.raises(UserError, match="none of the first 2 rows"):
        read_edits(tmp_path / "a.json")
    monkeypatch.undo()
    with pytest.raises(UserError, match="not JSON"):
        read_edits(tmp_path / "a.json")


def test_the_bundled_facts_are_a_file_of_edits() -> None:
    edits = read_edits(bundled.facts_path())
    assert edits.cases == tuple(from_record(fact) for fact in bundled.facts())
    assert not edits.refused


@pytest.mark.skipif(not DATA.is_dir(), reason="the published data sets are not at hand")
def test_counterfact_is_read_completely() -> None:
    for part, n in (("edit", 10_000), ("train", 10_000), ("val", 1_919)):
        edits = read_edits(DATA / "counterfact" / f"counterfact-{part}.json")
        assert len(edits.cases) + len(edits.refused) == n
        assert not edits.notes
        assert len(edits.refused) <= 5
        assert all(len(case.neighbourhood) == len(case.paraphrases) == 1 for case in edits.cases)
