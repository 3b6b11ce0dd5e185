"""``python -m diag.apply`` makes an edit, takes it back bit for bit, or says one line."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from diag.apply import undo
from diag.apply.command import main
from diag.saved import record
from rome_diagnosis.errors import UserError
from tests.diag.saved.quick import original, weights


def test_undo_restores_every_bit_and_only_what_it_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "edited"
    words = ["--subject", "Apple", "-o", str(folder), "--json", str(tmp_path / "r.json")]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "The model is intact" in shown
    assert json.loads((tmp_path / "r.json").read_text()) == record.read_record(folder)
    assert "python -m diag.apply --undo" in (folder / record.NOTE).read_text()
    assert main(["--undo", str(folder)]) == 0
    restored = weights(folder)
    assert restored.keys() == original().keys()
    assert all(torch.equal(value, restored[name]) for name, value in original().items())
    assert not [path.name for path in folder.iterdir() if path.name.startswith("MODEL_EDITS")]
    with pytest.raises(UserError, match="it is not a model that"):
        undo(folder)


@pytest.mark.parametrize(
    ("outcome", "failing", "code"),
    [
        ("intact", "damaged", 0),
        ("damaged", "damaged", 1),
        ("collapsed", "damaged", 1),
        ("damaged", "collapsed", 0),
        ("collapsed", "collapsed", 1),
        ("collapsed", None, 0),
    ],
)
def test_the_exit_code_says_what_became_of_the_model_if_asked_to(
    outcome: str, failing: str | None, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = SimpleNamespace(outcome=outcome)
    monkeypatch.setattr("diag.apply.api.apply", lambda *_, **__: made)
    monkeypatch.setattr("rome_diagnosis.command.deliver", lambda *_, **__: None)
    words = ["--subject", "Apple", "-o", str(tmp_path / "edited")]
    assert main([*words, *([] if failing is None else ["--fail-on", failing])]) == code


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--subject or --edits"),
        (["--subject", "Apple"], "--output"),
        (["--undo", "/there/is/none"], "has no MODEL_EDITS.json"),
        (["--edits", "absent.json", "-o", "x"], "absent.json"),
        (["--subject", "Apple", "-o", "tests"], "exists already"),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(words)
