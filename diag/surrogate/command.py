"""The command line of ``python -m diag.surrogate``."""

from __future__ import annotations

import argparse
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
    """Runs the command, as :func:`rome_diagnosis.command.run` asks for it."""
    parsed, given, line = command.parse(build_parser(), arguments)
    with options.outputs(given, parsed.results):
        from diag.surrogate import run
        from reports.document import read_document

        documents = [read_document(path) for path in parsed.results]
        result = run.hold(documents, seed=parsed.seed, command_line=line)
        command.deliver(result, given, text="reports.text.sections")
    return 0
