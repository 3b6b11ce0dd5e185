"""Completion: every command and option by the shell itself, and one line where it cannot be."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rome_diagnosis.__main__ import COMMANDS, main
from rome_diagnosis.errors import UserError

COMPLETE = """
source "$1"
COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_TYPE=9
function=$(complete -p rome-diagnosis | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
$function rome-diagnosis "${{COMP_WORDS[-1]}}" x
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    pytest.importorskip("shtab", reason="shtab is not installed: [completion]")
    assert main(["--print-completion", "bash"]) == 0
    path = tmp_path / "completion.bash"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_commands_options_and_choices(script: Path, tmp_path: Path) -> None:
    (tmp_path / "edits.json").touch()

    def completed(words: str) -> set[str]:
        done = subprocess.run(
            ["bash", "-c", COMPLETE.format(words=words), "bash", str(script)],
            cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return set(done.stdout.split())

    assert completed("rome-diagnosis ''") >= set(COMMANDS)
    assert completed("rome-diagnosis ke") == {"keys"}
    assert {"--subject", "--subject="} & completed("rome-diagnosis keys --sub")
    assert completed("rome-diagnosis keys --fail-on col") == {"collapse_risk"}
    assert "edits.json" in completed("rome-diagnosis verify --edits ed")


def test_what_cannot_be_completed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="cannot complete for 'fish': expected one of bash, zsh"):
        main(["--print-completion", "fish"])
    with pytest.raises(UserError, match="takes one shell"):
        main(["--print-completion"])
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(UserError, match=r"pip install 'rome-diagnosis\[completion\]'"):
        main(["--print-completion", "zsh"])
