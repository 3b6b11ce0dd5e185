"""Containers: each gives the rows it holds, and a broken row costs no other."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from probes.reading import json_stream
from probes.reading.rows import container, rows
from rome_diagnosis import source
from rome_diagnosis.errors import UserError

Row = dict[str, Any]
RECORDS: list[Row] = [
    {"subject": "Apple", "prompt": "{} is", "n": "1"},
    {"subject": "Caf\u00e9", "prompt": 'a "quoted", word {}', "n": "2"},
    {"subject": "line\u2028separator", "prompt": "{}; and\ttab", "n": "3"},
]
NEEDED = (("subject",), ("prompt",))


def read(path: Path) -> list[Any]:
    read = list(rows(path, what="the rows", needed=NEEDED))
    assert [row.row for row in read] == list(range(len(read)))
    return read


def lines(records: list[Row]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def table(records: list[Row], delimiter: str, space: str = "") -> str:
    frame = pd.DataFrame(records).rename(columns=lambda name: f"{space}{name}{space}")
    return frame.to_csv(index=False, sep=delimiter)


TEXTS: dict[str, Callable[[list[Row]], str]] = {
    "array.json": lambda records: json.dumps(records, ensure_ascii=False),
    "indented.json": lambda records: json.dumps(records, ensure_ascii=False, indent=2),
    "array": json.dumps,
    "array.jsonl": json.dumps,
    "lines.jsonl": lines,
    "lines.json": lines,
    "lines": lines,
    "windows.jsonl": lambda records: lines(records).replace("\n", "\r\n"),
    "blank.ndjson": lambda records: "\n\n" + lines(records).replace("\n", "\n\n"),
    "objects.json": lambda records: "\n".join(json.dumps(r, indent=1) for r in records),
    "comma.csv": lambda records: table(records, ","),
    "semicolon.csv": lambda records: table(records, ";", " "),
    "tab.tsv": lambda records: table(records, "\t"),
    "tab.csv": lambda records: table(records, "\t"),
    "semicolon": lambda records: table(records, ";"),
}


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("mark", [b"", source.BOM], ids=["", "BOM"])
@pytest.mark.parametrize("name", TEXTS)
def test_every_container_gives_its_rows(
    name: str, mark: bytes, zipped: bool, tmp_path: Path
) -> None:
    content = mark + TEXTS[name](RECORDS).encode("utf-8")
    path = tmp_path / (f"{name}.gz" if zipped else name)
    path.write_bytes(gzip.compress(content) if zipped else content)
    assert [row.record for row in read(path)] == RECORDS
    (tmp_path / "no-suffix-for-gzip").write_bytes(gzip.compress(content))
    if Path(name).suffix != ".csv" and Path(name).suffix != ".tsv":
        assert [row.record for row in read(tmp_path / "no-suffix-for-gzip")] == RECORDS


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
def test_parquet_gives_its_rows_without_lines(zipped: bool, tmp_path: Path) -> None:
    nested = [record | {"more": [{"a": [i]}]} for i, record in enumerate(RECORDS)]
    path = tmp_path / "table.parquet"
    pd.DataFrame(nested).to_parquet(path)
    if zipped:
        path.write_bytes(gzip.compress(path.read_bytes()))
    result = read(path)
    assert [row.record for row in result] == nested
    assert [row.place for row in result] == ["row 0", "row 1", "row 2"]


def test_lines_are_counted(tmp_path: Path) -> None:
    for name, expected in (
        ("array.json", [1, 1, 1]), ("indented.json", [2, 7, 12]), ("lines.jsonl", [1, 2, 3]),
        ("blank.ndjson", [3, 5, 7]), ("objects.json", [1, 6, 11]), ("comma.csv", [2, 3, 4]),
    ):  # fmt: skip
        (tmp_path / name).write_text(TEXTS[name](RECORDS), encoding="utf-8")
        assert [row.line for row in read(tmp_path / name)] == expected, name
    (tmp_path / "two.csv").write_text('subject,prompt\nA,"{}\nis"\nB,{} is\n')
    assert [row.line for row in read(tmp_path / "two.csv")] == [2, 4]


GOOD = '{"subject": "A", "prompt": "{} is"}'
CELLS = "A,{} is"
BROKEN_LINES = {
    "cut off": (GOOD[:-4], "is not JSON"),
    "not closed": (GOOD[:-1], "is not JSON"),
    "words": ("oops", "is not JSON"),
    "Latin-1": (GOOD.replace("A", "\udce9"), "is not UTF-8"),
    "deep": ("[" * 100_000, "nested too deeply"),
    "two values": (GOOD + GOOD, "Extra data"),
}
BROKEN_CELLS = {
    "few": ("A", "has 1 cells where the header has 2"),
    "many": ("A,{} is,B", "has 3 cells"),
    "open quote": ('A,"{} is', "is not CSV"),
    "text after a quote": ('A,"{} is"x', "is not CSV"),
    "Latin-1": ("\udce9,{} is", "is not UTF-8"),
}


@pytest.mark.parametrize("at", [0, 2, 4])
@pytest.mark.parametrize(
    ("name", "good", "broken", "complaint"),
    [("a.jsonl", GOOD, *case) for case in BROKEN_LINES.values()]
    + [("a", GOOD, *case) for case in list(BROKEN_LINES.values())[:2]]
    + [("a.csv", CELLS, *case) for case in BROKEN_CELLS.values()],
)
def test_a_broken_line_among_good_ones_is_alone(
    name: str, good: str, broken: str, complaint: str, at: int, tmp_path: Path
) -> None:
    texts = [good] * 4
    texts.insert(at, broken)
    header = ["subject,prompt"] * name.endswith(".csv")
    content = "\n".join([*header, *texts]).encode("utf-8", "surrogateescape")
    (tmp_path / name).write_bytes(content)
    result = read(tmp_path / name)
    assert [row.error is None for row in result] == [i != at for i in range(5)]
    assert complaint in str(result[at].error)
    assert result[at].line == at + 1 + len(header)
    assert all(row.record == {"subject": "A", "prompt": "{} is"} for row in result if not row.error)


def test_undecodable_bytes_cost_one_element_of_an_array(tmp_path: Path) -> None:
    good = GOOD.encode()
    (tmp_path / "a.json").write_bytes(b"[" + b",\n".join([good, b'{"a": "\xe9"}', good]) + b"]")
    assert [row.error for row in read(tmp_path / "a.json")] == [None, "is not UTF-8 text", None]


def test_an_integer_too_long_for_python_stays_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(f'[{{"n": {"9" * 5000}, "m": {"9" * 4300}}}, 7]')
    first, second = read(tmp_path / "a.json")
    assert first.record == {"n": "9" * 5000, "m": 10**4300 - 1}
    assert second.record == 7


def test_what_is_longer_than_memory_should_hold_is_read_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "CHUNK", 7)
    records = [{"i": i, "text": "\u00e9" * i, "n": [1.5, i, {}]} for i in range(40)]
    records += [12, 345, "six", -1e-9, None, True]
    for name, indent in (("a.json", 1), ("b.json", None)):
        text = json.dumps(records, indent=indent, ensure_ascii=False)
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert [row.record for row in read(tmp_path / name)] == records


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.json", "", "there are no rows"),
        ("a.json", " \n ", "there are no rows"),
        ("a.json", "[]", "there are no rows"),
        ("a.csv", "subject,prompt\n", "there are no rows"),
        ("a.json", f"[{GOOD},\n{GOOD}", "at line 2: it breaks off"),
        ("a.json", f'[{GOOD},\n{{"a": ', "at line 2: it is not JSON"),
        ("a.json", f'[{GOOD},\n{{"a": oops}}]', "at line 2: it is not JSON"),
        ("a.json", f"[{GOOD}\n {GOOD}]", "at line 2: expected a comma"),
        ("a.json", f"[{GOOD}] x", "something follows"),
        ("a.json", f"[{GOOD},]", "not JSON"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.csv", "a,b\n1,2\n", "no column subject or prompt in its first line"),
        ("a.csv", '"subject,prompt\nA,{} is\n', "no column"),
        ("a.csv", "subject,prompt,subject\nA,{} is,B\n", "two columns subject"),
        ("a.json", "PK\x03\x04", "zip archive"),
        ("a.json", "BZh91AY", "bzip2"),
        ("a", "PAR1 and no more", "damaged"),
    ],
)
def test_a_broken_file_is_one_line(name: str, text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=complaint) as refused:
        read(tmp_path / name)
    assert "\n" not in str(refused.value)


def test_texts_are_no_table(tmp_path: Path) -> None:
    for name, text, expected in (
        ("a.txt", "Subject: a prompt, and more.\n", "other"), ("a", "subject,prompt\n", "csv"),
        ("a.txt", "[Applause]\n", "other"), ("a.jsonl", "[Applause]\n", "lines"),
        ("a.json", "[Applause]\n", "array"), ("a.txt", "{x} + {y}\n", "other"),
        ("a.txt", '[{"Text": "It rains."}]', "array"), ("a.txt", '{"Text": "It rains."}', "lines"),
    ):  # fmt: skip
        (tmp_path / name).write_text(text)
        assert container(tmp_path / name, what="it", needed=NEEDED) == expected
