"""All commands by one name: ``rome-diagnosis COMMAND …`` or ``python -m rome_diagnosis …``."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from rome_diagnosis import command
from rome_diagnosis.errors import UserError

SHELLS = ("bash", "zsh", "tcsh")  # that shtab writes completion for
# Each command's module and what it answers.
COMMANDS = {
    "keys": ("diag.keys.command", "Will editing this fact break the model?"),
    "verify": ("diag.verify.command", "What became of the model when the edit was performed?"),
    "apply": ("diag.apply.command", "Make the recommended edit, save the model, take it back."),
    "screen": ("diag.screen.command", "Which edits of a data set would break the model?"),
    "sequence": ("diag.sequence.command", "Which edit of a list breaks the model, and when?"),
    "batch": ("diag.batch.command", "What would a batch by MEMIT and its family do?"),
    "hardcases": ("diag.hardcases.command", "Edits that break this model, and easy ones beside."),
    "tasks": ("diag.tasks.command", "What can the model still do? By lm-evaluation-harness."),
    "surrogate": ("diag.surrogate.command", "Does perplexity tell what tasks lose?"),
    "covariance": ("diag.covariance.command", "Second moments: estimate, merge, import."),
    "first-token": ("probes.first_token.command", "Where and why do first-token keys differ?"),
    "bundled": ("probes.bundled.command", "Where the bundled model and its data are."),
    "report": ("reports.command", "Saved results as text, page or Markdown."),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command that is named first.

    Args:
        arguments: The command line, without the program's name.

    Returns:
        The command's exit code.

    Raises:
        UserError: If there is no such command, and as the command.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0
    name, *rest = words
    if name == "--version":
        from rome_diagnosis.version import DISTRIBUTION, __version__

        print(f"{DISTRIBUTION} {__version__}")
        return 0
    if name == "--print-completion":
        if len(rest) != 1:
            raise UserError(f"--print-completion takes one shell: {', '.join(SHELLS)}")
        print(_completion(rest[0]))
        return 0
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(COMMANDS)}"
        raise UserError(f"there is no command {name!r}: {hint}")
    # Commands record the line that repeats them from the program's arguments.
    sys.argv = [f"{command.PROGRAM} {name}", *rest]
    return int(import_module(COMMANDS[name][0]).main())


def _completion(shell: str) -> str:
    """What a shell reads to complete every option; to complete then starts no Python.

    Args:
        shell: One of :data:`SHELLS`.

    Returns:
        The script.

    Raises:
        UserError: If there is none for this shell, or the package ``shtab`` is not installed.
    """
    if shell not in SHELLS:
        raise UserError(f"cannot complete for {shell!r}: expected one of {', '.join(SHELLS)}")
    try:
        import shtab
    except ModuleNotFoundError:
        raise UserError(
            "completion needs the package shtab: pip install 'rome-diagnosis[completion]'"
        ) from None
    program = command.parser(command.PROGRAM, "Will this edit break the model?")
    named = program.add_subparsers()
    for name, (module, question) in COMMANDS.items():
        own: command.Parser = import_module(module).build_parser()
        for action in own._actions:
            if command.FILES.intersection(str(action.metavar).split("|")):
                # As shtab asks for it; it tells no one else.
                kind = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE
                action.complete = kind  # type: ignore[attr-defined]
        named.add_parser(name, parents=[own], add_help=False, help=question)
    return str(shtab.complete(program, shell))


def program() -> NoReturn:
    """Runs the console script."""
    command.run(main)


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: rome-diagnosis COMMAND [OPTION …]",
            "",
            "Will this edit break the model, why, and what to do instead?",
            "",
            *lines,
            "",
            "Each command has --help; rome-diagnosis --version prints the version,",
            "--print-completion bash (zsh, tcsh) what the shell completes these commands with.",
        ]
    )


if __name__ == "__main__":
    program()
