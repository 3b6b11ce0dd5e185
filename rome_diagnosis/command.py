"""The command line: a parser whose errors are one line, and exit codes.

Exit codes: 0 done, 1 done and ``--fail-on`` met, 2 the user's mistake, 130 interrupted. Imports
of torch happen inside functions, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import gc
import importlib
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from rome_diagnosis import lazy, progress
from rome_diagnosis.disk import files
from rome_diagnosis.envelope import Saved
from rome_diagnosis.errors import UserError

PROGRAM = "rome-diagnosis"
# What options that take a file or a folder call it.
FILES = {"FILE", "DIR", "SOURCE", "DATASET"}
# Mistakes of the surroundings that no command expects, and what to do about them.
SURROUNDINGS: dict[type[BaseException], str] = {
    OSError: "a file or device cannot be used",
    UnicodeError: "a text cannot be encoded or decoded as UTF-8",
    MemoryError: "there is not enough memory: try a smaller input, or --dtype float16",
    RecursionError: "an input is nested too deeply",
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and that accepts no empty file name."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses arguments, and refuses empty file names and bytes that are not UTF-8.

        See :class:`argparse.ArgumentParser`. An empty path would be read as this directory.
        """
        self._given = list(sys.argv[1:] if args is None else args)
        for argument in self._given:
            if not _is_text(argument):
                raise UserError(f"the argument {str(argument)[:60]!r} is not valid UTF-8 text")
        options, rest = super().parse_known_args(args, namespace)
        for action in self._actions:
            value = getattr(options, action.dest, None)
            values = value if isinstance(value, list) else [value]
            if action.option_strings and (value == [] or [] in values):
                # Before Python 3.13 argparse takes --option=-- for an option without a value.
                self.error(f"argument {'/'.join(action.option_strings)}: expected one argument")
            named = FILES.intersection(str(action.metavar).split("|"))
            if named and "" in values:
                self.error(f"{'/'.join(action.option_strings) or action.metavar} is empty")
        return options, rest

    def error(self, message: str) -> NoReturn:
        """Raises the mistake, with the option that was meant where one was mistyped.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{self._hint() or message} (see {called(self.prog)} --help)")

    def _hint(self) -> str | None:
        """Which option was meant by the first one that does not exist, if one is close."""
        known = [option for option in self._option_string_actions if option.startswith("--")]
        for argument in getattr(self, "_given", []):
            name = argument.partition("=")[0]
            if name.startswith("--") and not any(option.startswith(name) for option in known):
                close = difflib.get_close_matches(name, known, n=1)
                return f"there is no {name}: did you mean {close[0]}?" if close else None
        return None


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Names the defaults that say something: neither nothing nor a switch that is off."""

    def __init__(self, prog: str, **layout: Any) -> None:
        super().__init__(called(prog), **layout)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        has_default = action.default not in (None, False)
        return super()._get_help_string(action) if has_default else action.help


class _Version(argparse.Action):
    """Prints the version; it is looked up only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from rome_diagnosis.version import DISTRIBUTION, __version__

        print(f"{DISTRIBUTION} {__version__}")
        parser.exit(0)


def called(module: str) -> str:
    """How a command was called: by its module, or as one of ``rome-diagnosis``.

    Args:
        module: The module's name, e.g. ``diag.keys``.

    Returns:
        The words before its options.
    """
    return sys.argv[0] if sys.argv[0].startswith(f"{PROGRAM} ") else f"python -m {module}"


def parser(prog: str, description: str) -> Parser:
    """Makes a parser.

    Args:
        prog: The module's name, e.g. ``diag.keys``.
        description: What the command does or answers.

    Returns:
        The parser, with ``--version`` as its only option.
    """
    new = Parser(prog=prog, description=description, formatter_class=_Help)
    new.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    return new


def words(arguments: Sequence[str] | None) -> list[str]:
    """The command line, without the program's name: the arguments, else the program's own."""
    return list(sys.argv[1:] if arguments is None else arguments)


def parse(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> tuple[argparse.Namespace, dict[str, Any], str]:
    """Parses a command line.

    Args:
        parser: The command's options.
        arguments: The command line; ``None`` for the program's own.

    Returns:
        What was parsed, the same by name, and the line that repeats the command.

    Raises:
        UserError: If it cannot be parsed.
    """
    given = words(arguments)
    parsed = parser.parse_args(given)
    return parsed, vars(parsed), shlex.join(["python", "-m", parser.prog, *given])


def hand_over(program: str, arguments: Sequence[str]) -> int:
    """Runs another command in place of the one that was called, with a line that belongs to it.

    Commands know each other's names alone: none imports the other's modules.

    Args:
        program: The other command's package, e.g. ``diag.batch``.
        arguments: Its command line, without the program's name.

    Returns:
        Its exit code.

    Raises:
        UserError: As that command.
    """
    return int(importlib.import_module(f"{program}.command").main(arguments))


def run(main: Callable[[Sequence[str] | None], int]) -> NoReturn:
    """Runs a command as a program.

    Args:
        main: Takes arguments, returns an exit code, raises :class:`UserError` for mistakes.
    """
    warnings.filterwarnings("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # What the libraries define lives as long as the program, and searching all of it for garbage
    # takes a third of a second: that is done a hundred times less often than by default (10).
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, 1000)
    _make_streams_safe()
    code = 2
    try:
        lazy.check_packages()
        code = main(None)
        sys.stdout.flush()
    except UserError as error:
        _complain(str(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        # The reader (head, less) has gone: what it read is all it wanted.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except tuple(SURROUNDINGS) as error:
        what = next(text for kind, text in SURROUNDINGS.items() if isinstance(error, kind))
        _complain(f"{what} ({str(error) or type(error).__name__})")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # Threads that torch.distributed leaves running can abort the interpreter's shutdown,
        # long after everything is written.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def deliver(result: Saved, given: Mapping[str, Any], *, text: str, **shown: Any) -> None:
    """Writes a result where ``--json`` and ``--html`` say, and prints it unless ``--quiet``.

    Args:
        result: The result.
        given: Parsed options of :func:`rome_diagnosis.options.add_output`.
        text: The module whose ``show`` prints the document.
        **shown: Options of its ``show``.

    Raises:
        UserError: If a file cannot be written.
    """
    if "json" in given:
        files.write_text(given["json"], result.to_json())
    if "html" in given:
        files.write_text(given["html"], result.to_html())
    if "quiet" not in given:
        for line in notes(result.document):
            progress.note(line)
    # Text among the JSON would make standard output unreadable for a program.
    if "quiet" not in given and given.get("json") != files.STANDARD_OUTPUT:
        importlib.import_module(text).show(result.document, **shown)


def notes(document: Mapping[str, Any]) -> list[str]:
    """What a document says was supplied, left out or changed in reading what was asked for."""
    holders = (document, document.get("request") or {}, document.get("dataset") or {})
    return [str(line) for holder in holders for line in holder.get("notes", ())]


def _complain(message: str) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)


def _make_streams_safe() -> None:
    """Streams that are there and take every character, whatever their encoding."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell (>&-): there is nobody to tell
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _is_text(argument: Any) -> bool:
    try:
        return b"\0" not in str(argument).encode("utf-8")
    except UnicodeEncodeError:
        return False
