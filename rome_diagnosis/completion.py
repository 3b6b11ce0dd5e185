"""Shell completion: every command's options in a script that starts no Python to complete."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from rome_diagnosis import command
from rome_diagnosis.errors import UserError

SHELLS = ("bash", "zsh", "tcsh")


def script(commands: Mapping[str, tuple[str, str]], shell: str) -> str:
    """What a shell reads to complete ``rome-diagnosis``.

    Args:
        commands: By name, each command's module, which has a ``build_parser``, and its question.
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
    program = command.parser("rome-diagnosis", "Will this edit break the model?")
    named = program.add_subparsers()
    for name, (module, question) in commands.items():
        own: command.Parser = import_module(module).build_parser()
        for action in own._actions:
            if command.FILES.intersection(str(action.metavar).split("|")):
                # As shtab asks for it; it tells no one else.
                kind = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE
                action.complete = kind  # type: ignore[attr-defined]
        named.add_parser(name, parents=[own], add_help=False, help=question)
    return str(shtab.complete(program, shell))
