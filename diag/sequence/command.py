"""The command line of ``python -m diag.sequence``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from diag.verify.command import add_measurement, add_optimisation, settings_of
from rome_diagnosis import command, options
from rome_diagnosis.editors import EDITORS, PUBLISHED
from rome_diagnosis.progress import Progress


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser(
        "diag.sequence", "Which edit of a list breaks the model? Before the first is made."
    )
    unset = options.UNSET
    parser.add_argument(
        "edits", metavar="DATASET", help="edits as JSON, CSV or Parquet, in any published format"
    )
    group = parser.add_argument_group("list of edits")
    group.add_argument(
        "--method", choices=tuple(EDITORS), default=PUBLISHED, help="the editor of every edit"
    )
    group.add_argument(
        "--order",
        choices=("given", "shuffled"),
        default="given",
        help="make the edits as listed, or in an order drawn with --seed",
    )
    group.add_argument(
        "--limit", type=options.count, default=unset, help="process only the first N edits"
    )
    options.add_prefixes(group)
    options.add_model(parser)
    add_optimisation(parser)
    add_measurement(parser)
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
    setup = options.setup(parsed)
    inputs = [given.get(name) for name in ("edits", "texts", "facts", "hyperparameters")]
    with options.outputs(given, [*setup.inputs(), *inputs]):
        from diag.sequence.run import Asked, run
        from diag.verify.api import with_hyperparameters

        # A file with mistakes should not wait for a model to load.
        asked = Asked.of(
            parsed.edits,
            method=parsed.method,
            order=parsed.order,
            limit=given.get("limit"),
            seed=setup.seed,
        )
        settings = settings_of(given)
        prepared = with_hyperparameters(setup, settings.hyperparameters).prepare()
        line = shlex.join(["python", "-m", "diag.sequence", *words])
        total = len(asked.edits.cases)
        with Progress(total, label="keys", quiet=setup.quiet) as progress:
            result = run(asked, prepared, settings, progress=progress, command_line=line)
        command.deliver(result, given, text="reports.text.sequence")
    return 0
