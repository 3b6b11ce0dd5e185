"""The command line of ``python -m diag.tasks``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rome_diagnosis import command, options


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser(
        "diag.tasks", "Runs downstream tasks on a model with EleutherAI's lm-evaluation-harness."
    )
    group = parser.add_argument_group("tasks")
    options.add_tasks(group, default="bundled")
    options.add_model(parser, layer=False)
    options.add_output(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command, as :func:`rome_diagnosis.command.run` asks for it."""
    parsed, given, line = command.parse(build_parser(), arguments)
    setup = options.setup(parsed)
    with options.outputs(given, [*setup.inputs(), *options.task_files(given)]):
        from diag.tasks import run

        result = run.run_tasks(
            options.task_names(parsed.tasks), setup, limit=given.get("limit"), command_line=line
        )
        command.deliver(result, given, text="reports.text.sections")
    return 0
