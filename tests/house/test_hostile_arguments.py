"""Every option of every command with hostile values: accepted, or one line before any work."""

from __future__ import annotations

import argparse
import importlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes import bundled
from probes.setup import Setup
from rome_diagnosis.__main__ import COMMANDS
from rome_diagnosis.errors import UserError

# Commands that measure, with the least they need.
BASES = {
    "keys": ["--subject", "Apple"],
    "verify": ["--subject", "Apple", "--target-new", "Paris"],
    "screen": ["edits.json", "-o", "out.parquet"],
    "covariance": ["--text", "text.txt", "-o", "c.safetensors"],
    "batch": ["edits.json"],
    "hardcases": ["edits.json", "-o", "hard.json"],
    "first-token": [],
}
NAMES = (
    "", " ", ".", "..", "/", "~", "~nosuchuser/x", "x" * 300, "/" + "x" * 300, "no/such/folder",
    "a\0b", "\ud800", "\n", "-", "--", "/dev/null", "/dev/zero", "/proc/self/mem", "{}", "{layer}",
    "[bold]", "\x1b[31m", "%s", "edits.json", "text.txt", "pipe", "x.csv", "x.html",
)  # fmt: skip
NUMBERS = (
    "", "0", "-1", "1.5", "1e300", "-1e300", "inf", "nan", "9" * 25, "9" * 5000, "0x10", "٣", "1_0",
)  # fmt: skip


class Accepted(Exception):
    """The arguments passed: the model would be loaded now."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    edit = {"subject": "Apple", "prompt": "{} is", "target_new": "Paris"}
    (tmp_path / "edits.json").write_text(json.dumps([edit]))
    (tmp_path / "text.txt").write_text("Paris lies on the Seine.")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)

    def load(setup: Setup) -> None:
        raise Accepted

    monkeypatch.setattr(Setup, "load", load)
    facts = bundled.facts()  # read once instead of for every case
    monkeypatch.setattr(bundled, "facts", lambda: facts)
    return tmp_path


def cases(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Every option that takes a value, with each hostile one."""
    for action in parser._actions:
        if action.option_strings and action.nargs != 0:
            # Verdicts and the like are given a few names too: a choice has to be one.
            for value in NUMBERS if action.type is not None else NAMES:
                yield f"{action.option_strings[-1]}={value}"


@pytest.mark.parametrize("name", BASES)
def test_an_option_is_accepted_or_refused_in_one_line(name: str, folder: Path) -> None:
    module = importlib.import_module(COMMANDS[name][0])
    before = {path.name: path.stat().st_ino for path in folder.iterdir()}
    accepted, refused = [], []
    for words in cases(module.build_parser()):
        try:
            module.main([*BASES[name], words, "--quiet"])
        except Accepted:
            accepted.append(words)
        except UserError as error:
            assert str(error).strip(), words
            refused.append(words)
        assert {path.name: path.stat().st_ino for path in folder.iterdir()} == before, words
    assert len(refused) > 100
    assert len(accepted) > 30
    assert (folder / "text.txt").read_text() == "Paris lies on the Seine."


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("keys", ["--json", "apple.txt"]),
        ("keys", ["--html", "apple.pdf"]),
        ("keys", ["--save-tensors", "apple.npz"]),
        ("screen", ["-o", "screened.csv"]),
        ("screen", ["--riskiest", "risky.csv"]),
        ("covariance", ["-o", "c.npz"]),
        ("batch", ["--html", "batch.pdf"]),
        ("hardcases", ["-o", "hard.csv"]),
    ],
)
def test_a_suffix_is_honoured_or_refused(name: str, words: list[str], folder: Path) -> None:
    with pytest.raises(UserError, match="what goes there is"):
        importlib.import_module(COMMANDS[name][0]).main([*BASES[name], *words])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("screen", ["--json", "edits.json"]),
        ("screen", ["--riskiest", "edits.jsonl", "--json", "edits.jsonl"]),
        ("screen", ["-o", "edits.json"]),
        ("screen", ["--json", "out.parquet"]),
        ("keys", ["--second-moment", "c", "--save-tensors", "c"]),
        ("keys", ["--model", "model", "--json", "model/config.json"]),
        ("verify", ["--texts", "text.txt", "--html", "./text.txt"]),
        ("covariance", ["--import-npz", "c.npz", "--json", "c.npz"]),
        ("covariance", ["-o", "text.txt"]),
        ("batch", ["--json", "edits.json"]),
        ("hardcases", ["--json", "hard.card.json"]),
        ("hardcases", ["-o", "edits.json"]),
        ("batch", ["--hyperparameters", "model/config.json", "--html", "model/config.json"]),
        ("first-token", ["--subjects", "text.txt", "--json", "../{folder}/text.txt"]),
    ],
)
def test_no_command_writes_over_what_it_reads(name: str, words: list[str], folder: Path) -> None:
    (folder / "model").mkdir()
    for file in ("c", "c.npz", "model/config.json", "edits.jsonl"):
        (folder / file).write_text("{}")
    words = [word.format(folder=folder.name) for word in words]
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"read as an input|two outputs|what goes there is"):
        importlib.import_module(COMMANDS[name][0]).main([*BASES[name], *words])
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
