"""``python -m diag.hardcases`` mines, writes its card, or says one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diag.hardcases.command import main
from probes import bundled
from probes.request.records import read_edits
from probes.setup import Setup
from rome_diagnosis.errors import UserError


def test_the_command_mines_and_writes_its_card(tmp_path: Path, capsys: Any) -> None:
    data = tmp_path / "facts.jsonl"
    some = [fact for fact in bundled.facts() if fact["relation"].startswith("companies")]
    data.write_text("\n".join(map(json.dumps, some)))
    words = [str(data), "-o", str(tmp_path / "hard.json"), "-n", "5", "--perform", "0"]
    assert main([*words, "--n-prefixes", "3", "--licence", "MIT", "--json", "-"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["made"] == "mined" and document["groups"]["hard"]["n"] == 5
    assert document["screened"] == len(some)
    card = (tmp_path / "hard.card.md").read_text()
    assert card.startswith("# Hard edits of bundled, block 1") and "licence: MIT" in card
    assert json.loads((tmp_path / "hard.card.json").read_text()) == document
    assert not (tmp_path / "hard.json.journal").exists()
    subjects = [case.request.subject for case in read_edits(tmp_path / "hard.json").cases]
    assert len(subjects) == len(set(subjects)) == 10


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--perform", "-1"], "must be 0 or more"),
        (["-n", "0"], "must be 1 or more"),
        (["--share-precision", "2"], "precision must be from 0 to 1"),
        (["--share-precision", "nan"], "precision must be from 0 to 1"),
        (["nothing.json"], "cannot read the edits nothing.json"),
        (["--wordings", "nothing.json"], "cannot read the edits nothing.json"),
        (["nothing.json", "--wordings", "w.json"], "data sets bring their own"),
        (["-o", "hard.csv"], "what goes there is .json"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Setup, "load", lambda self: pytest.fail("the model was loaded"))
    with pytest.raises((UserError, SystemExit), match=complaint) as caught:
        main(["-o", "hard.json", *words])
    assert "\n" not in str(caught.value)
