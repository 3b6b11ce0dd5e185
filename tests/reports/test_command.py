"""``python -m reports``: what it reads, where it writes, and what it says to anything else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports import command
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


def test_a_screened_table_whose_summary_is_null_gets_one_line(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "screen.parquet", tmp_path)
    (tmp_path / "t.json").write_text(json.dumps(sample("screen") | {"summary": None}))
    with pytest.raises(UserError, match="a table alone makes a page"):
        command.text([read_document(str(tmp_path / "t.json"))])


def test_the_command_prints_first_token_probes_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(FOLDER / "first_token.json.gz")]) == 0
    assert "Attribution of Δρ" in capsys.readouterr().out
