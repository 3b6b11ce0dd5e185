"""The command line of ``python -m diag.surrogate``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from rome_diagnosis import command, options


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser(
        "diag.surrogate",
        "Holds perplexity and closed-form damage of performed edits against downstream tasks.",
    )
    parser.add_argument(
        "results", metavar="FILE", nargs="+",
        help="JSON of diag.verify or diag.sequence, measured with --tasks",
    )  # fmt: skip
    options.add_seed(parser, "seed of the bootstrap")
    options.add_output(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: The command line, without the program's name.

    Returns:
        The exit code.

    Raises:
        UserError: For anything the user can put right.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    parsed = build_parser().parse_args(words)
    given = vars(parsed)
    with options.outputs(given, parsed.results):
        from diag.surrogate import run
        from reports.document import read

        documents = [read(path) for path in parsed.results]
        line = shlex.join(["python", "-m", "diag.surrogate", *words])
        result = run.hold(documents, seed=parsed.seed, command_line=line)
        command.deliver(result, given, text="reports.text.sections")
    return 0
