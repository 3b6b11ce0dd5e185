"""The command line of ``python -m probes.bundled``: where the bundled model is, and its card."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from probes.bundled import describe
from rome_diagnosis import command, envelope, options
from rome_diagnosis.disk import files


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser(
        "probes.bundled", "Where the bundled model and its data are, and the model card's figures."
    )
    options.add_json(parser, "write it all as JSON")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: The command line, without the program's name.

    Returns:
        The exit code.

    Raises:
        UserError: If the file cannot be written.
    """
    given = vars(build_parser().parse_args(arguments))
    description = describe()
    if "json" in given:
        files.check_outputs([given["json"]])
        files.write_text(given["json"], envelope.dumps(description))
        return 0
    for name in ("path", "facts", "texts", "corpus", "history", "layer"):
        print(f"{name:8} {description[name]}")
    return 0
