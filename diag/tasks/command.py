"""The command line of ``python -m diag.tasks``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import Any

from rome_diagnosis import command, options


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser(
        "diag.tasks", "Runs downstream tasks on a model with EleutherAI's lm-evaluation-harness."
    )
    group = parser.add_argument_group("tasks")
    add_tasks(group, default="bundled")
    options.add_model(parser, layer=False)
    options.add_output(parser)
    return parser


def add_tasks(to: options.Options, *, default: str = options.UNSET, limit: str = "limit") -> None:
    """Adds which tasks are run, on how many documents.

    Args:
        to: The parser.
        default: The tasks where none are named.
        limit: What the option for the number of documents is called.
    """
    to.add_argument(
        "--tasks",
        metavar="NAMES",
        default=default,
        help="bundled (over the bundled world), JSON Lines or YAML task files, directories of "
        "them, or names lm-evaluation-harness knows; commas between several",
    )
    to.add_argument(
        f"--{limit}",
        metavar="N",
        type=options.count,
        default=options.UNSET,
        help="ask only the first N documents of each task",
    )


def names(given: str) -> list[str]:
    """The tasks that ``--tasks`` names."""
    return [name for part in given.split(",") if (name := part.strip())] or [given]


def task_files(given: Mapping[str, Any]) -> list[str]:
    """The files and directories among the tasks that are asked, which no output may replace."""
    return [name for name in names(given.get("tasks", "")) if os.path.exists(name)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command, as :func:`rome_diagnosis.command.run` asks for it."""
    parsed, given, line = command.parse(build_parser(), arguments)
    setup = options.setup(parsed)
    with options.outputs(given, [*setup.inputs(), *task_files(given)]):
        from diag.tasks import run

        result = run.measure(
            names(parsed.tasks), setup, limit=given.get("limit"), command_line=line
        )
        command.deliver(result, given, text="reports.text.sections")
    return 0
