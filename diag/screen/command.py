"""The command line of ``python -m diag.screen``."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rome_diagnosis import command, options
from rome_diagnosis.defaults import N_PREFIXES
from rome_diagnosis.editors import EDITORS, PUBLISHED
from rome_diagnosis.errors import UserError
from rome_diagnosis.progress import Progress

if TYPE_CHECKING:
    from diag.screen.run import ScreenPlan
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
    options.add_prefixes(group, n_prefixes=f"{N_PREFIXES}, or as the method's code does")
    options.add_model(parser, several=True)
    group = parser.add_argument_group("method")
    options.add_method(
        group,
        method="add its damage, response and verdict to ROME's, each edit made by itself (default: "
        "the one of --hyperparameters, else none)",
        hyperparameters="of the method, as diag.batch reads them; the options below have "
        "precedence",
    )
    options.add_clamp(group, default=None)
    group = options.add_output(parser)
    options.add_fail_on(group, help="exit with code 1 if a row has this verdict or a worse one")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command, as :func:`rome_diagnosis.command.run` asks for it."""
    from diag.screen.api import choose_screening, plan, plan_layers
    from diag.screen.result import LayerScreening, Screening

    parsed, given, line = command.parse(build_parser(), arguments)
    layers = given.pop("layer", ())
    several = len(layers) > 1  # several blocks, or the word "all"
    method = choose_screening(
        **options.method_of(given, PUBLISHED), clamp=given.get("clamp_norm_factor")
    )
    _check_together(given, method.method, several=several)
    given.setdefault("n_prefixes", method.row.contexts)
    if layers and not several:
        given["layer"] = layers
    setup = options.setup(parsed)
    planning: Callable[..., ScreenPlan]
    if several:
        planning = functools.partial(plan_layers, layers=layers, target=method.target)
    else:
        planning = functools.partial(
            plan, method=method, riskiest=given.get("riskiest"), n_riskiest=parsed.n_riskiest,
            forecast=parsed.forecast,
        )  # fmt: skip
    with options.outputs(
        given,
        [parsed.dataset, *setup.inputs(), given.get("hyperparameters")],
        table=(parsed.output, ".parquet"),
        riskiest=(given.get("riskiest"), ".jsonl"),
    ):
        document, is_first = _screened(parsed, setup, line, planning)
        result: LayerScreening | Screening
        result = (LayerScreening if several else Screening)(parsed.output, document)
        if is_first:
            text = "reports.text.sections" if several else "reports.text.screen"
            command.deliver(result, given, text=text)
    by_block: Sequence[Mapping[str, int]]
    if isinstance(result, LayerScreening):
        by_block = [*result.verdicts.values()]
    else:
        by_block = [result.verdicts]
    return int(options.fails(given, [name for of in by_block for name, n in of.items() if n]))


def _check_together(given: Mapping[str, Any], method: str, *, several: bool) -> None:
    """Refuses options that do not go together."""
    for name in ("riskiest", "forecast"):
        if several and given.get(name):
            raise UserError(f"--{name} takes one block: give --layer a number")
    if several and method != PUBLISHED:
        raise UserError("--method takes one block: give --layer a number")
    if given["forecast"] and method not in EDITORS:
        raise UserError(
            f"--forecast is about {', '.join(EDITORS)}: python -m diag.sequence --method {method} "
            "forecasts a list"
        )


def _screened(
    parsed: argparse.Namespace, setup: Setup, line: str, planning: Callable[..., ScreenPlan]
) -> tuple[dict[str, Any], bool]:
    """The document, and whether this process is the one that reports."""
    from diag.screen.run import run
    from diag.screen.scan import scan
    from probes.ranks import ranks

    # A file with mistakes should not wait for a model to load.
    scanned = scan(parsed.dataset, on_error=parsed.on_error)
    with ranks() as group:
        quiet = setup.quiet or not group.is_first
        with Progress(scanned.n_rows, label="requests", quiet=quiet) as progress:
            job = planning(scanned, parsed.output, setup, group)
            return run(job, group, progress, command_line=line), group.is_first
