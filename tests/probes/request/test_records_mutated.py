"""Edit files made by mutation of good ones: the right rows, rows with a reason, or one line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from probes.request import cases
from probes.request.cases import EditCase, from_record
from probes.request.records import read_edits, rows
from rome_diagnosis.errors import UserError
from rome_diagnosis.source import BOM
from tests.probes.request.formats import COUNTERFACT, KNOWEDIT, PARALLEL, ROME, WIKIBIO, ZSRE

Records = list[dict[str, Any]]
N_ROWS = 5
FLAT = ("subject", "prompt", "target_new", "ground_truth", "rephrase_prompt", "case_id")
HOSTILE: tuple[Any, ...] = (
    None, "", " ", True, 3, 1e300, -0.0, float("nan"), float("inf"), [], {}, [[]], [None], "{}",
    "{} {}", "\ud800", "\x1b[2J", "\0", "\u2028", {"str": None}, {"prompt": None}, "9" * 5000,
    [{"prompt": ["a"], "ground_truth": ["b", "c"]}], {"a": {"b": {"c": [[["d"]]]}}},
)  # fmt: skip


def _rows(record: dict[str, Any]) -> Records:
    return [record | {"case_id": f"case {i}"} for i in range(N_ROWS)]


def _csv(delimiter: str) -> Callable[[Records], bytes]:
    def write(records: Records) -> bytes:
        text = io.StringIO()
        writer = csv.writer(text, delimiter=delimiter)
        writer.writerow(FLAT)
        writer.writerows([[record.get(name) for name in FLAT] for record in records])
        return text.getvalue().encode("utf-8", "surrogatepass")

    return write


def _parquet(records: Records) -> bytes:
    content = io.BytesIO()
    pd.DataFrame(records).to_parquet(content)
    return content.getvalue()


def _json(indent: int | None) -> Callable[[Records], bytes]:
    return lambda records: json.dumps(records, indent=indent).encode()


def _lines(records: Records) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def _objects(records: Records) -> bytes:
    return "\n".join(json.dumps(record, indent=2) for record in records).encode()


CONTAINERS: dict[str, tuple[str, Callable[[Records], bytes]]] = {
    "array": ("a.json", _json(None)),
    "indented": ("a.json", _json(1)),
    "lines": ("a.jsonl", _lines),
    "objects": ("a.json", _objects),
    "comma": ("a.csv", _csv(",")),
    "semicolon": ("a.csv", _csv(";")),
    "tab": ("a.tsv", _csv("\t")),
    "parquet": ("a.parquet", _parquet),
}
FORMATS = {
    "ROME": _rows(ROME),
    "COUNTERFACT": _rows(COUNTERFACT),
    "parallel": [PARALLEL],
    "zsRE": _rows(ZSRE),
    "KnowEdit": _rows(KNOWEDIT),
    "WikiBio": _rows(WIKIBIO),
}
CASES = [
    (form, container)
    for form in FORMATS
    for container in CONTAINERS
    if form == "COUNTERFACT" or container not in ("comma", "semicolon", "tab")
    if (form, container) != ("parallel", "parquet")  # its columns hold texts and lists
]


TOKENS = (
    b"\n", b"\r\n", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b";", b"\t", b"\0", BOM,
    b"\xff", b"\xe2\x80\xa8", b"\\ud800", b"null", b"NaN", b"[" * 2000, b"9" * 4400, b"\x1f\x8b",
    b"PAR1",
)  # fmt: skip


def mutate_bytes(content: bytes, draw: random.Random) -> bytes:
    """One to three changes of a file's bytes."""
    for _ in range(draw.randint(1, 3)):
        content = _mutate_once(content, draw)
    return content


def _mutate_once(content: bytes, draw: random.Random) -> bytes:
    at, end = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    before, part = content[:at], content[at : min(end, at + draw.choice((1, 3, 200)))]
    after = content[at + len(part) :]
    return draw.choice(
        (
            before + bytes([draw.randrange(256)]) + content[at + 1 :],
            before + after,
            before + part * draw.randint(2, 50) + after,
            before,
            before + draw.choice(TOKENS) + content[at:],
        )
    )


def mutate_record(value: Any, draw: random.Random) -> Any:
    """A record with one value, somewhere in it, replaced, taken out or put into a list."""
    if isinstance(value, dict) and value and draw.random() < 0.85:
        name = draw.choice(list(value))
        kind = draw.random()
        if kind < 0.15:
            return {key: item for key, item in value.items() if key != name}
        if kind < 0.25:
            return {(f"{key}s" if key == name else key): item for key, item in value.items()}
        return value | {name: mutate_record(value[name], draw)}
    if isinstance(value, list) and value and draw.random() < 0.7:
        at = draw.randrange(len(value))
        return [*value[:at], mutate_record(value[at], draw), *value[at + 1 :]]
    return draw.choice((*HOSTILE, [value], [value, value], {"x": value}))


def read(path: Path, untouched: Sequence[EditCase] = ()) -> str:
    """Reads a file as both commands do; what came of it, in a word.

    Args:
        path: The file.
        untouched: Edits that must be among those read, in this order.
    """
    screened = []
    try:
        for row in rows(path):
            if row.error is None:
                try:
                    screened.append(cases.edit(row.record))
                except UserError as refused:
                    assert_one_line(str(refused))
            else:
                assert_one_line(row.error)
            assert "\n" not in row.place
    except UserError as refused:
        assert_one_line(str(refused))
        screened = []
    try:
        edits = read_edits(path)
    except UserError as refused:
        assert_one_line(str(refused))
        assert not untouched
        return "refused"
    for refused_row in edits.refused:
        assert_one_line(refused_row.reason)
    for case in edits.cases:
        assert_usable(case)
    assert [case for case in edits.cases if case in untouched] == list(untouched)
    assert {case.request.text for case in edits.cases} <= {edit.text for edit in screened}
    return "rows refused" if edits.refused else "read"


def assert_one_line(message: str) -> None:
    assert message
    assert "\n" not in message
    assert "record 0: record 0" not in message


def assert_usable(case: EditCase) -> None:
    """Whatever is read as an edit can be tokenised, hashed and saved."""
    edit = case.request
    assert edit.subject.strip()
    assert edit.target_new is not None
    assert not edit.text[-1].isspace()
    texts = [edit.text, edit.target_new, edit.target_true or "", *case.paraphrases]
    for test in (*case.neighbourhood, *case.portability):
        texts += [test.prompt, test.answer or ""]
    for text in (*texts, case.case_id or "", case.group or ""):
        assert isinstance(text, str)
        text.encode("utf-8")
    assert len(case.digest) == 16


def series(n: int, folder: Path) -> Counter[str]:
    """Reads ``n`` mutated files and counts what came of them."""
    outcomes: Counter[str] = Counter()
    for seed in range(n):
        draw = random.Random(seed)
        form, container = CASES[seed % len(CASES)]
        name, write = CONTAINERS[container]
        records = json.loads(json.dumps(FORMATS[form]))
        in_bytes = draw.random() < 0.6
        untouched: list[EditCase] = []
        if not in_bytes:
            at = draw.randrange(len(records))
            if container not in ("comma", "semicolon", "tab", "parquet"):
                untouched = [from_record(each) for each in records[:at] + records[at + 1 :]]
            records[at] = mutate_record(records[at], draw)
            if container == "objects" and not isinstance(records[at], dict):
                untouched = []  # what follows one another are then no longer objects
        try:
            content = write(records)
        except Exception:  # what Parquet or CSV cannot hold
            outcomes["not written"] += 1
            continue
        if in_bytes:
            content = mutate_bytes(content, draw)
        if draw.random() < 0.2:
            content, name = gzip.compress(content), name + draw.choice(("", ".gz"))
            if draw.random() < 0.3:
                content, untouched = mutate_bytes(content, draw), []
        path = folder / name
        path.write_bytes(content)
        try:
            outcomes[read(path, untouched)] += 1
        except BaseException as error:
            error.add_note(f"seed {seed}: {form} as {container}")
            raise
        path.unlink()
    return outcomes


def test_the_good_files_are_read(tmp_path: Path) -> None:
    for form, container in CASES:
        name, write = CONTAINERS[container]
        (tmp_path / name).write_bytes(write(FORMATS[form]))
        assert read(tmp_path / name) == "read", (form, container)


def test_rows_that_a_mutation_leaves_alone_are_read_as_they_are(tmp_path: Path) -> None:
    expected = [from_record(record) for record in FORMATS["ROME"]]
    for seed in range(200):
        draw = random.Random(seed)
        at = draw.randrange(N_ROWS)
        lines = _lines(FORMATS["ROME"]).splitlines()
        lines[at] = mutate_bytes(lines[at], draw).replace(b"\n", b" ")
        (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
        if lines[at].startswith(b"\x1f\x8b") and at == 0:
            continue  # then it is no longer a text
        edits = read_edits(tmp_path / "a.jsonl").cases
        alone = [case for case in expected if case.case_id != f"case {at}"]
        assert [case for case in edits if case in alone] == alone, seed


def test_mutated_files_are_read_or_refused_in_a_line(tmp_path: Path) -> None:
    outcomes = series(400, tmp_path)
    # Each outcome is frequent, so that the series tests all of them.
    assert min(outcomes[kind] for kind in ("read", "rows refused", "refused")) > 40


@pytest.mark.slow
def test_five_thousand_mutated_files(tmp_path: Path) -> None:
    outcomes = series(5000, tmp_path)
    print(dict(outcomes))
    assert sum(outcomes.values()) == 5000
