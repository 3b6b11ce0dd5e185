"""``python -m reports``: what it reads, where it writes, and what it says to anything else."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reports import command
from reports import document as documents
from reports.document import read_document
from rome_diagnosis.errors import UserError
from tests.documents import EVIDENCE, FOLDER, SAMPLES, sample

SUFFIXES = ("html", "md", "txt")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(sample("keys")), encoding="utf-8")
    return path


def refused(path: Path | str, *arguments: str) -> str:
    """What the command says about a file it does not show: one line."""
    with pytest.raises(UserError) as error:
        command.main([str(path), *arguments])
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 600
    return message


@pytest.mark.parametrize("name", SAMPLES)
def test_recorded_results_are_shown_in_every_form(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(FOLDER / f"{name}.json.gz")
    written = {}
    for suffix in SUFFIXES:
        output = tmp_path / f"shown.{suffix}"
        assert command.main([path, "-o", str(output)]) == 0
        written[suffix] = output.read_text(encoding="utf-8")
    assert written["html"].lower().startswith("<!doctype html>")
    assert written["md"].startswith("# ")
    assert "<" not in written["txt"].replace("< 0.005", "").replace("<0x", "")
    assert command.main([path]) == 0
    shown = capsys.readouterr().out
    assert shown.split()[:3] == written["txt"].split()[:3]


def test_a_table_alone_makes_a_page(tmp_path: Path) -> None:
    table = FOLDER / "screen.parquet"
    assert command.main([str(table), "-o", str(tmp_path / "page.html")]) == 0
    assert "needs its JSON" in refused(table)


def test_what_a_file_is_called_says_what_it_becomes(saved: Path) -> None:
    for name in ("page.docx", "page", "page.html.gz", "page.json", ".html"):
        message = refused(saved, "-o", str(saved.with_name(name)))
        assert "its name must end in .html, .md, .txt, .pdf" in message
        assert not saved.with_name(name).exists()
    assert command.main([str(saved), "-o", str(saved.with_name("PAGE.HTML"))]) == 0


def same(path: Path) -> Path:
    return path


def hard_link(path: Path) -> Path:
    os.link(path, path.with_name("hard.html"))
    return path.with_name("hard.html")


def symbolic_link(path: Path) -> Path:
    path.with_name("soft.md").symlink_to(path)
    return path.with_name("soft.md")


def roundabout(path: Path) -> Path:
    return path.parent / ".." / path.parent.name / path.name


@pytest.mark.parametrize("alias", [same, hard_link, symbolic_link, roundabout])
def test_an_input_is_never_replaced(alias: Callable[[Path], Path], tmp_path: Path) -> None:
    path = tmp_path / "result.txt"
    path.write_text(json.dumps(sample("keys")), encoding="utf-8")
    before = path.read_bytes()
    assert "cannot write" in refused(path, "-o", str(alias(path)))
    assert path.read_bytes() == before


def test_a_table_that_is_read_is_not_replaced(tmp_path: Path) -> None:
    summary = sample("screen")
    summary["table"] = str(tmp_path / "table.txt")
    shutil.copy(FOLDER / "screen.parquet", tmp_path / "table.txt")
    (tmp_path / "screen.json").write_text(json.dumps(summary))
    before = (tmp_path / "table.txt").read_bytes()
    message = refused(tmp_path / "screen.json", "-o", str(tmp_path / "table.txt"))
    assert "cannot write" in message
    assert (tmp_path / "table.txt").read_bytes() == before


def test_outputs_that_cannot_be_written_are_refused(saved: Path, tmp_path: Path) -> None:
    assert "there is no directory" in refused(saved, "-o", "/nowhere/at/all.html")
    (tmp_path / "folder.html").mkdir()
    assert "directory" in refused(saved, "-o", str(tmp_path / "folder.html"))


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


def test_a_renderer_that_fails_is_one_line(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(documents: Any) -> str:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setitem(command.SUFFIXES, ".html", fail)  # type: ignore[arg-type]
    message = refused(saved, "-o", str(saved.with_name("page.html")))
    assert message == f"cannot show {saved}: ZeroDivisionError: division by zero"


def test_evidence_of_earlier_versions_is_shown(tmp_path: Path) -> None:
    for suffix in ("md", "txt"):
        assert command.main([str(EVIDENCE), "-o", str(tmp_path / f"page.{suffix}")]) == 0


def test_a_program_sees_one_line_and_exit_code_2(saved: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "reports", *arguments], capture_output=True, text=True
        )

    document = sample("keys")
    document["findings"][0]["status"] = "**fail**"
    saved.write_text(json.dumps(document))
    done = run(str(saved))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {saved}: findings[0].status must be one of 'pass'")
    assert done.stderr.count("\n") == 1
    saved.write_text(json.dumps(sample("keys")))
    done = run(str(saved))
    assert (done.returncode, done.stderr) == (0, "")
    assert "Apple" in done.stdout


def test_a_table_with_line_breaks_in_its_name_gets_one_line(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps(sample("screen") | {"table": "\r\n| a |\n# b"}))
    assert "cannot read the table" in refused(tmp_path / "t.json")


def test_a_screened_table_whose_summary_is_null_gets_one_line(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "screen.parquet", tmp_path)
    (tmp_path / "t.json").write_text(json.dumps(sample("screen") | {"summary": None}))
    with pytest.raises(UserError, match="a table alone makes a page"):
        command.text([read_document(str(tmp_path / "t.json"))])


def test_the_library_renders_files_and_documents_alike(tmp_path: Path) -> None:
    import rome_diagnosis as rd

    path, document = FOLDER / "keys.json.gz", sample("keys")
    assert rd.render(path) == rd.render(str(path)) == rd.render(document)
    table = sample("screen") | {"table": str(FOLDER / "screen.parquet")}
    assert rd.render(table) == rd.render(read_document(str(FOLDER / "screen.json.gz")))
    assert "Apple" in rd.render(document, sample("edit"))
    document["findings"] = "none"
    with pytest.raises(UserError, match="findings must be a list, not 'none'"):
        rd.render(document)
