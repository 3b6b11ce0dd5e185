"""``python -m diag.tasks``: the document is what the call gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diag.tasks import tasks
from diag.tasks.command import main
from probes.setup import load_model
from rome_diagnosis.schema import validate

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed: [tasks]")


def test_the_document_is_what_the_call_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tasks.json"
    assert main(["--limit", "5", "--json", str(path), "--html", str(tmp_path / "t.html")]) == 0
    written = validate(json.loads(path.read_text()))
    again = tasks(limit=5, model=load_model(), quiet=True)
    assert written["tasks"] == again.tasks
    assert set(written["tasks"]) == {"bundled_choice", "bundled_cloze", "bundled_last_word"}
    assert written["mean"]["score"] == pytest.approx(again.to_pandas()["score"].mean())
    assert written["versions"]["lm-eval"] and written["limit"] == 5
    assert "bundled_cloze" in capsys.readouterr().out
    assert "bundled_cloze" in (tmp_path / "t.html").read_text() and "TaskScores" in repr(again)
