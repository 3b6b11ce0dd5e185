"""The command line: one line and exit code 2 for every mistake, whatever the surroundings."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rome_diagnosis import command, options
from rome_diagnosis.__main__ import COMMANDS
from rome_diagnosis.__main__ import main as by_name
from rome_diagnosis.errors import UserError

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "transformers", "transformer_lens", "numpy", "pandas", "pyarrow", "rich"}


def parser() -> command.Parser:
    """One with the options that all commands share."""
    new = command.parser("diag.keys", "A test.")
    options.add_request(new)
    options.add_model(new)
    options.add_clamp(new)
    options.add_fail_on(options.add_output(new))
    return new


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--subjct", "Apple"], "there is no --subjct: did you mean --subject?"),
        (["--subject", "A", "--n-prefixs=3"], "there is no --n-prefixs: did you mean --n-prefixes"),
        (["--subject", "A", "--zzz"], "unrecognized arguments: --zzz"),
        (["--subject", "A", "--seed", "-1"], "must be from 0 to 4294967295, not -1"),
        (["--subject", "A", "--seed", "9" * 30], "must be from 0 to 4294967295"),
        (["--subject", "A", "--seed", "9" * 5000], "argument --seed: invalid int value"),
        (["--subject", "A", "--n-prefixes", "-1"], "must be 0 or more, not -1"),
        (["--subject", "A", "--n-prefixes", "2.5"], "invalid int value: '2.5'"),
        (["--subject", "A", "--clamp-norm-factor", "inf"], "finite number above 0, not inf"),
        (["--subject", "A", "--clamp-norm-factor", "nan"], "finite number above 0, not nan"),
        (["--subject", "A", "--clamp-norm-factor", "0"], "finite number above 0, not 0"),
        (["--subject", "A", "--json", ""], "--json is empty"),
        (["--subject", "A", "--fail-on", "rain"], "invalid choice"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError) as refused:
        parser().parse_args(words)
    assert complaint in str(refused.value)
    assert str(refused.value).endswith("(see python -m diag.keys --help)")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("keys", ["--subject", "A"]),
        ("screen", ["a.json", "-o", "a.parquet"]),
        ("batch", ["a.json"]),
        ("verify", ["--subject", "A"]),
        ("sequence", ["a.json"]),
    ],
)
def test_the_clamp_has_one_name_and_the_one_it_had_is_understood(
    name: str, words: list[str]
) -> None:
    one = importlib.import_module(f"diag.{name}.command").build_parser()
    for option in ("--clamp-norm-factor", "--clamp-factor"):
        assert one.parse_args([*words, option, "2.5"]).clamp_norm_factor == 2.5
    assert "--clamp-norm-factor" in one.format_help() and "--clamp-factor" not in one.format_help()


def test_bytes_that_are_no_text_are_refused_wherever_they_stand() -> None:
    for words in (
        ["--subject", "A\udcff"],
        ["--subject", "A", "--json", "\udcff"],
        ["\ud800"],
        ["a\0b"],
    ):
        with pytest.raises(UserError, match="not valid UTF-8"):
            parser().parse_args(words)


def run(
    main: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(SystemExit) as stop:
        command.run(main)
    assert isinstance(stop.value.code, int)
    return stop.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("two\nlines"), 2, "error: two lines\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (PermissionError(13, "Permission denied", "/x"), 2, "error: a file or device cannot be"),
        ("\ud800".encode, 2, "error: a text cannot be encoded"),
        (MemoryError(), 2, "error: there is not enough memory"),
        (RecursionError("too deep"), 2, "error: an input is nested too deeply"),
    ],
)
def test_the_surroundings_fail_in_one_line(
    error: BaseException | Callable[[], bytes],
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def main(_: object) -> int:
        if isinstance(error, BaseException):
            raise error
        error()
        return 0

    status, message = run(main, monkeypatch, capsys)
    assert (status, message.count("\n")) == (code, 1)
    assert message.startswith(line)


def test_a_mistake_of_the_program_still_shows_where_it_is() -> None:
    with pytest.raises(ZeroDivisionError):  # the control: the net is not for our own errors
        command.run(lambda _: 1 // 0)


def process(*words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        words, cwd=ROOT, env=os.environ | environment, capture_output=True, timeout=120
    )


@pytest.mark.parametrize("module", [module for module, _ in COMMANDS.values()])
def test_help_and_version_import_nothing_heavy(module: str) -> None:
    script = (
        f"import sys; from {module} import main\n"
        "for option in ('--help', '--version'):\n"
        "    try: main([option])\n"
        "    except SystemExit as stop: assert stop.code == 0\n"
        f"assert not {HEAVY!r} & set(sys.modules), {HEAVY!r} & set(sys.modules)"
    )
    done = process(sys.executable, "-c", script)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.splitlines()[-1].startswith(b"rome-diagnosis ")
    assert b"default: None" not in done.stdout and b"default: False" not in done.stdout


def test_streams_that_are_closed_or_narrow_do_no_harm(tmp_path: Path) -> None:
    printing = "from rome_diagnosis import command; command.run(lambda _: print('ρ 🙂') or 0)"
    narrow = process(sys.executable, "-c", printing, PYTHONIOENCODING="ascii")
    assert (narrow.returncode, narrow.stderr) == (0, b"")
    assert narrow.stdout == b"\\u03c1 \\U0001f642\n"
    for redirection in (">&-", ">&- 2>&-", "<&- >&- 2>&-"):
        done = process("sh", "-c", f'exec "$0" -c "$1" {redirection}', sys.executable, printing)
        assert (done.returncode, done.stderr) == (0, b""), redirection
    gone = process(
        "bash", "-c", '"$0" -c "$1" | true; exit ${PIPESTATUS[0]}', sys.executable, printing
    )
    assert (gone.returncode, gone.stderr) == (0, b"")
    full = process("sh", "-c", 'exec "$0" -c "$1" >/dev/full', sys.executable, printing)
    assert full.returncode == 2
    assert full.stderr.count(b"\n") == 1
    assert b"No space left" in full.stderr


def test_a_document_on_standard_output_is_utf_8_whatever_the_terminal_is() -> None:
    script = (
        "from rome_diagnosis import command; from rome_diagnosis.disk import files\n"
        "command.run(lambda _: files.write_text('-', 'ρ 🙂') or 0)"
    )
    done = process(sys.executable, "-c", script, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout.decode()) == (0, "ρ 🙂")


def test_commands_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert by_name([]) == by_name(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in COMMANDS)
    assert by_name(["--version"]) == 0
    with pytest.raises(UserError, match="did you mean verify"):
        by_name(["verfy"])
    with pytest.raises(UserError, match="known are keys"):
        by_name(["xyz"])


def test_a_command_by_name_gets_its_arguments(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["rome-diagnosis", "bundled"])
    assert by_name() == 0
    assert capsys.readouterr().out.startswith("path ")
    assert sys.argv == ["rome-diagnosis bundled"]
