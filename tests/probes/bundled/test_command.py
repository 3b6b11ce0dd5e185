"""``python -m probes.bundled``: where everything is, as JSON, or one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from probes import bundled
from probes.bundled import command as bundled_command
from rome_diagnosis.errors import UserError


def test_json_says_where_everything_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert bundled_command.main(["--json", "-"]) == 0
    described = json.loads(capsys.readouterr().out)
    for name in ("path", "facts", "texts", "corpus", "history"):
        assert Path(described[name]).exists()
    assert described["layer"] == described["card"]["layer"] == bundled.edit_layer()


def test_json_to_a_file_or_a_user_error(tmp_path: Path) -> None:
    assert bundled_command.main(["--json", str(tmp_path / "out.json")]) == 0
    assert json.loads((tmp_path / "out.json").read_text())["card"]
    with pytest.raises(UserError, match="there is no directory"):
        bundled_command.main(["--json", str(tmp_path / "no" / "out.json")])
