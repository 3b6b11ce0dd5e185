"""The command line of ``python -m diag.screen``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from rome_diagnosis import command, options
from rome_diagnosis.errors import UserError
from rome_diagnosis.progress import Progress

if TYPE_CHECKING:
    from diag.screen.result import LayerScreening, Screening
    from probes.setup import Setup


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser("diag.screen", "Which edits of a data set would break the model?")
    unset = options.UNSET
    parser.add_argument("dataset", metavar="DATASET", help="edits as JSON, CSV or Parquet")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        required=True,
        default=unset,
        help="the table, as Parquet; parts of an interrupted run wait in FILE.parts",
    )
    group = parser.add_argument_group("screening")
    group.add_argument(
        "--on-error",
        choices=("skip", "refuse"),
        default="skip",
        help="keep a row that is no edit as an error, or end the run",
    )
    group.add_argument(
        "--riskiest",
        metavar="FILE",
        default=unset,
        help="the riskiest cases as JSON Lines, for diag.verify --edits",
    )
    group.add_argument(
        "--n-riskiest", type=options.natural, default=100, help="write at most this many of them"
    )
    group.add_argument(
        "--forecast",
        action="store_true",
        help="forecast the edits one after another, in this order, too",
    )
    options.add_prefixes(group)
    options.add_clamp(group)
    options.add_model(parser, several=True)
    group = options.add_output(parser)
    options.add_fail_on(group, help="exit with code 1 if a row has this verdict or a worse one")
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
    several = len(given.get("layer", ())) > 1  # several blocks, or the word "all"
    if several:
        one_block = [name for name in ("riskiest", "forecast") if given.get(name)]
        if one_block:
            raise UserError(f"--{one_block[0]} takes one block: give --layer a number")
        layers = given.pop("layer")
    setup = options.setup(parsed)
    with options.outputs(
        given,
        [parsed.dataset, *setup.inputs()],
        table=(parsed.output, ".parquet"),
        riskiest=(given.get("riskiest"), ".jsonl"),
    ):
        if several:
            compared, is_first = _screen_layers(parsed, setup, words, layers)
            counts = sum(map(Counter, compared.verdicts.values()), Counter())
            if is_first:
                command.deliver(compared, given, text="reports.text.sections")
        else:
            result, is_first = _screen(parsed, setup, words)
            if is_first:
                command.deliver(result, given, text="reports.text.screen")
            counts = result.document["summary"]["verdicts"]
    return int(options.fails(given, [name for name, count in counts.items() if count]))


def _screen(
    parsed: argparse.Namespace, setup: Setup, words: Sequence[str]
) -> tuple[Screening, bool]:
    """Screens, and says whether this process is the one that reports."""
    from diag.screen.api import plan
    from diag.screen.in_order import with_forecast
    from diag.screen.run import run
    from diag.screen.scan import scan
    from probes.ranks import ranks

    # A file with mistakes should not wait for a model to load.
    scanned = scan(parsed.dataset, on_error=parsed.on_error)
    with ranks() as group:
        quiet = setup.quiet or not group.is_first
        with Progress(scanned.n_rows, label="requests", quiet=quiet) as progress:
            job = plan(
                scanned,
                parsed.output,
                setup,
                group,
                clamp=parsed.clamp_norm_factor,
                riskiest=vars(parsed).get("riskiest"),
                n_riskiest=parsed.n_riskiest,
                command_line=shlex.join(["python", "-m", "diag.screen", *words]),
            )
            if parsed.forecast:
                job = with_forecast(job, setup)
            return run(job, group, progress), group.is_first


def _screen_layers(
    parsed: argparse.Namespace,
    setup: Setup,
    words: Sequence[str],
    layers: Sequence[int] | Literal["all"],
) -> tuple[LayerScreening, bool]:
    """Screens at several blocks; returns as :func:`_screen`."""
    from diag.screen.api import plan_layers
    from diag.screen.layers import run
    from diag.screen.scan import scan
    from probes.ranks import ranks

    scanned = scan(parsed.dataset, on_error=parsed.on_error)
    with ranks() as group:
        quiet = setup.quiet or not group.is_first
        with Progress(scanned.n_rows, label="requests", quiet=quiet) as progress:
            job = plan_layers(
                scanned,
                parsed.output,
                setup,
                group,
                layers=layers,
                clamp=parsed.clamp_norm_factor,
                command_line=shlex.join(["python", "-m", "diag.screen", *words]),
            )
            return run(job, group, progress), group.is_first
