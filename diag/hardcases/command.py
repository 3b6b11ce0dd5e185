"""The command line of ``python -m diag.hardcases``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from diag.hardcases.api import AT_MOST, N_HARD, PRECISION
from diag.verify.parsed import settings_of
from rome_diagnosis import command, options
from rome_diagnosis.disk import files
from rome_diagnosis.progress import Progress


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser(
        "diag.hardcases", "Edits that break this model, each with an easy one beside it."
    )
    unset = options.UNSET
    parser.add_argument(
        "datasets",
        metavar="DATASET",
        nargs="*",
        help="mine these edits, in any published format (default: compose new ones)",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        required=True,
        default=unset,
        help="the records, as JSON; the data card goes to FILE's name with .card.md and .card.json",
    )
    group = parser.add_argument_group("hard cases")
    group.add_argument(
        "-n", "--n-hard", type=options.count, default=N_HARD, help="at most this many hard edits"
    )
    group.add_argument(
        "--wordings",
        metavar="FILE",
        default=unset,
        help="facts whose prompts and objects new edits are composed with, in any format of "
        "DATASET (default: those of the bundled world)",
    )
    group.add_argument(
        "--perform",
        type=options.natural,
        default=AT_MOST,
        help="perform at most this many hard edits and as many easy ones; 0 performs none",
    )
    group.add_argument(
        "--share-precision",
        type=float,
        default=PRECISION,
        help="perform no more once the share that breaks or damages the model is known to ± this",
    )
    group.add_argument(
        "--licence", default=unset, help="of the files that are given, for the data card"
    )
    options.add_prefixes(group)
    options.add_model(parser)
    options.add_target(parser)
    options.add_measurement(parser)
    options.add_output(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command, as :func:`rome_diagnosis.command.run` asks for it."""
    parsed, given, line = command.parse(build_parser(), arguments)
    setup = options.setup(parsed)
    stem = parsed.output.removesuffix(".gz").removesuffix(".json")
    cards = {"card": (f"{stem}.card.md", ".md"), "card_json": (f"{stem}.card.json", ".json")}
    journal = f"{parsed.output}.journal"
    inputs = [given.get(name) for name in ("wordings", "texts", "facts", "hyperparameters")]
    read = [*parsed.datasets, *inputs, *setup.inputs()]
    with options.outputs(
        given, read, records=(parsed.output, ".json"), journal=(journal, ""), **cards
    ):
        from diag.hardcases.confirm import Wanted
        from diag.hardcases.run import HardCasePlan, prepare, run

        plan = HardCasePlan(
            output=parsed.output,
            datasets=tuple(parsed.datasets),
            wordings=given.get("wordings"),
            n=parsed.n_hard,
            wanted=Wanted(parsed.share_precision, parsed.perform, setup.seed),
            licence=given.get("licence"),
            command_line=line,
        )
        settings = settings_of(given)
        prepared = prepare(plan, setup, settings)
        with Progress(2 * plan.wanted.at_most, quiet=setup.quiet) as progress:
            result = run(plan, prepared, settings, performing=progress)
        files.write_text(cards["card"][0], result.to_markdown())
        files.write_text(cards["card_json"][0], result.to_json())
        command.deliver(result, given, text="reports.text.hardcases")
        Path(journal).unlink(missing_ok=True)  # its results have gone to their final place
    return 0
