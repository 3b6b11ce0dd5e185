"""The README shows what the tool really prints, and its two lines are the ones CI runs."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from docs.refresh import BLOCK, FILES, output

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def masked(text: str) -> str:
    """Text without digits and layout: last digits differ between processors, words do not."""
    return " ".join(re.sub(r"[−-]?[\d.,]+(e[−+-]?\d+)?", "#", text).split())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_output_shown_is_the_real_one(path: Path) -> None:
    blocks = list(BLOCK.finditer(path.read_text(encoding="utf-8")))
    assert blocks
    for block in blocks:
        shown = block[0].split("```text\n")[1].split("```")[0]
        assert masked(output(block["command"], block["section"])) == masked(shown)
        assert len(shown.splitlines()) >= 5


def test_two_lines_install_and_run() -> None:
    lines = re.findall(r"^python3 -m venv.*$", README, re.MULTILINE)
    assert len(lines) == 2
    assert "diag.keys --subject" in lines[0]
    assert lines[1].endswith("pytest")


def test_every_command_shown_is_understood() -> None:
    """Those of the code blocks, to the last option; what they do is tested elsewhere."""
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    understood = set()
    for line in lines:
        _, _, typed = line.partition("python -m ")
        words = shlex.split(typed, comments=True)
        if not words or words[0] in ("venv", "pytest"):
            continue
        if words[0] == "probes.bundled":
            assert words[1:] == []
            continue
        command = importlib.import_module(f"{words[0]}.command")
        command.build_parser().parse_args(words[1:])
        understood.add(words[0])
    assert understood == {
        "diag.apply", "diag.keys", "diag.verify", "diag.screen", "diag.sequence", "diag.batch",
        "diag.covariance", "diag.hardcases", "diag.tasks", "diag.surrogate", "probes.first_token",
    }  # fmt: skip


def test_files_that_the_readme_names_are_there() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in re.findall(r"\]\(([\w./-]+)\)", README):
        assert (ROOT / name).exists(), name
        assert not tracked or any(path.startswith(name) for path in tracked), name
