"""The command line of ``python -m diag.apply``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from diag.judgement.outcome import OUTCOMES
from rome_diagnosis import command, options
from rome_diagnosis.errors import UserError

if TYPE_CHECKING:
    from diag.saved.result import Applied

FAILURES = OUTCOMES[1:]  # the worst last


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser(
        "diag.apply",
        "Makes the edit that the diagnosis recommends, saves the model, takes it back.",
    )
    options.add_request(parser, required=False)
    group = parser.add_argument_group("edit or list of edits")
    options.add_edits(group, "a file of edits, made in order")
    options.add_editor(group, auto="auto")
    group.add_argument(
        "--undo",
        metavar="DIR",
        default=options.UNSET,
        help="restore the original weights of a model this command wrote, bit for bit",
    )
    options.add_model(parser)
    group = options.add_output(parser)
    group.add_argument(
        "-o", "--output", metavar="DIR", default=options.UNSET, help="where the edited model goes"
    )
    options.add_fail_on(
        group, choices=FAILURES, help="exit with code 1 if the saved model is that, or worse"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: The command line, without the program's name.

    Returns:
        The exit code.

    Raises:
        UserError: For anything the user can put right, and if no editor is safe.
    """
    parsed, given, _ = command.parse(build_parser(), arguments)
    if "undo" in given:
        from diag.saved.record import undo

        weight = undo(given["undo"])
        if "quiet" not in given:
            print(f"{given['undo']}: {weight} is the original again, bit for bit")
        return 0
    if ("edits" in given) == ("subject" in given):
        raise UserError("say what to edit, --subject or --edits FILE, or what to take back, --undo")
    if "output" not in given:
        raise UserError("say where the edited model goes: --output DIR")
    setup = options.setup(parsed)
    with options.outputs(given, [*setup.inputs(), given.get("edits")]):
        result = _apply(given, setup.options())
        command.deliver(result, given, text="reports.text.apply")
    failing = given.get("fail_on")
    return int(failing is not None and result.outcome in FAILURES[FAILURES.index(failing) :])


def _apply(given: dict[str, Any], setup: Any) -> Applied:
    from diag.apply.api import apply, apply_list

    where = {"output": given["output"], "method": given["method"]}
    if "edits" in given:
        return apply_list(given["edits"], **where, **setup)
    names = ("prompt", "target_new", "target_true")
    parts = {name: given[name] for name in names if name in given}
    return apply(given["subject"], **parts, **where, **setup)
