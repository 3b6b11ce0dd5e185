"""Saved results as they are read: documents and tables that are none get one line."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reports import document as documents
from reports.document import read_document
from tests.documents import FOLDER, sample
from tests.reports.test_command import refused


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is not JSON: Expecting value"),
        (b"not json", "is not JSON: Expecting value"),
        (b"[1]", "names no schema"),
        (b'{"schema": "other/9"}', "cannot read schema 'other/9'"),
        (b'{"schema": "diag.keys/1"}', "version is missing: it must be a text"),
        (b'{"schema": NaN}', "is not JSON: it holds NaN"),
        (b'{"schema": 1' + b"0" * 5000 + b"}", "a number in it has too many digits"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b'{"schema": "\xff"}', "its bytes are no text"),
        (b"PK\x03\x04 zipped", "it is a zip archive"),
        (gzip.compress(b"{}", mtime=0)[:-9], "Compressed file ended"),
        (b"\x1f\x8b not gzip", "cannot read"),
    ],
)
def test_wrong_files_get_one_line(content: bytes, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(content)
    assert complaint in refused(path)
    assert refused(path).count(str(path)) == 1


def test_what_is_no_file_gets_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, complaint in (
        (tmp_path / "none.json", "No such file"),
        (tmp_path, "it is a directory"),
        (tmp_path / "pipe", "it is a pipe or a device"),  # reading it would wait for ever
        (Path("/dev/zero"), "it is a pipe or a device"),  # and this would never end
        (tmp_path / ("x" * 300), "File name too long"),
    ):
        assert complaint in refused(path)
    assert "is empty" in refused(" ")


def test_files_that_unpack_without_end_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bomb.json").write_bytes(gzip.compress(b" " * (4 << 20)))
    assert "is not JSON" in refused(tmp_path / "bomb.json")
    monkeypatch.setattr(documents, "LARGEST", 1 << 20)
    assert "it is larger than 1 MiB" in refused(tmp_path / "bomb.json")


def test_compression_is_seen_whatever_the_name(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "keys.json.gz", tmp_path / "keys.json")
    assert read_document(str(tmp_path / "keys.json")) == read_document(str(FOLDER / "keys.json.gz"))


def columns() -> dict[str, list[Any]]:
    recorded: dict[str, list[Any]] = pq.read_table(FOLDER / "screen.parquet").to_pydict()
    return recorded


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({}, None),
        ({"rho": None}, "it has no rho"),
        ({"rho": ["x"] * 6}, "rows[0].rho must be a finite number, not 'x'"),
        ({"rho": [float("nan")] * 6}, "rows[0].rho must be a finite number, not nan"),
        ({"verdict": ["fine"] * 6}, "rows[0].verdict must be one of 'collapse_risk'"),
        ({"error": [None] * 6}, "rows[5].subject must be a text, not null"),
        ({"token_index": [0.5] * 6}, "rows[0].token_index must be a whole number, 0 or more"),
        ({"prompt": ["no slot"] * 6}, "rows[0].prompt must be a text with one {}"),
        ({"subject": [b"\xff"] * 6}, "rows[0].subject must be a text"),
        ({"later": [[{"a": 2}]] * 6}, None),
    ],
)
def test_tables_are_checked_like_documents(
    change: dict[str, Any], complaint: str | None, tmp_path: Path
) -> None:
    changed = {name: value for name, value in (columns() | change).items() if value is not None}
    path = tmp_path / "screen.parquet"
    pq.write_table(pa.table(changed), path)
    if complaint is None:
        assert [row["row"] for row in read_document(str(path))["rows"]] == list(range(6))
    else:
        assert complaint in refused(path, "-o", str(tmp_path / "page.html"))


def test_tables_that_are_none_get_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "screen.parquet"
    assert "No such file" in refused(path)
    content = (FOLDER / "screen.parquet").read_bytes()
    for broken in (b"", b"PAR1", content[:-1], content[: len(content) // 2], b"x" * 5000):
        path.write_bytes(broken)
        assert "cannot read the table" in refused(path)
    path.write_bytes(content)
    monkeypatch.setattr(documents, "LARGEST_TABLE", 5)
    assert "it has 6 of 5 rows" in refused(path)


def test_settings_in_a_table_are_checked_too(tmp_path: Path) -> None:
    path = tmp_path / "screen.parquet"
    table = pq.read_table(FOLDER / "screen.parquet")
    for settings, complaint in (
        (b"{", "is not JSON"),
        (b'{"limits": {"ratio_safe": "<b>"}}', "limits.ratio_safe must be a finite number"),
    ):
        pq.write_table(table.replace_schema_metadata({b"diag.screen": settings}), path)
        assert complaint in refused(path)
    pq.write_table(table.replace_schema_metadata({b"diag.screen": b"[]"}), path)
    assert read_document(str(path))["limits"] == {}


def test_a_table_with_line_breaks_in_its_name_gets_one_line(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps(sample("screen") | {"table": "\r\n| a |\n# b"}))
    assert "cannot read the table" in refused(tmp_path / "t.json")
