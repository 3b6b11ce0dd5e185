"""The command line of ``python -m diag.covariance``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rome_diagnosis import command, options
from rome_diagnosis.errors import UserError

if TYPE_CHECKING:
    from diag.covariance.result import SecondMoments
    from probes.setup import Setup


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser(
        "diag.covariance", "Estimates, merges and imports second moments of keys."
    )
    group = options.add_model(parser, layer=False)
    options.add_layers(
        group,
        "the blocks, or all, in as few passes as memory allows (default: the edited one)",
    )
    _add_text(parser)
    _add_result(parser)
    return parser


def _add_text(parser: argparse.ArgumentParser) -> None:
    unset = options.UNSET
    group = parser.add_argument_group("text")
    group.add_argument(
        "--text",
        metavar="SOURCE",
        action="append",
        default=unset,
        help="text with blank lines between documents, JSON, JSON Lines, CSV or Parquet (each "
        "also .gz), a folder saved by datasets, or hf:NAME[:CONFIG]:SPLIT; repeat it (default: "
        "packaged text)",
    )
    group.add_argument(
        "--text-field", default=unset, help="where a record has its text (default: text or Text)"
    )
    group.add_argument(
        "--max-tokens",
        type=options.count,
        default=unset,
        help="stop after the row that reaches this many tokens",
    )
    group.add_argument(
        "--row-length",
        type=options.count,
        default=unset,
        help="tokens in a row (default: as many as the model reads, at most 1024)",
    )
    options.add_seed(group, help="seed of the samples stored beside C")
    group = parser.add_argument_group("instead of an estimate")
    group.add_argument(
        "--merge",
        metavar="FILE",
        nargs="+",
        default=unset,
        help="second moments of parts of a corpus, to be added up",
    )
    group.add_argument(
        "--import-npz",
        metavar="FILE",
        default=unset,
        help="statistics of ROME or EasyEdit; residual norms are measured on the text",
    )


def _add_result(parser: argparse.ArgumentParser) -> None:
    unset = options.UNSET
    group = options.add_output(parser)
    group.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        default=unset,
        help="where C goes, {layer} in it for the block (default: where auto looks)",
    )
    group.add_argument(
        "--ridge",
        metavar="auto|none|FACTOR",
        default="auto",
        help="auto: Ledoit and Wolf's shrinkage where there are fewer than 4 tokens for each "
        "dimension, else none; a number from 0 to 99: this many times C's mean eigenvalue",
    )
    group.add_argument(
        "--checkpoint-every",
        metavar="SECONDS",
        type=float,
        default=60.0,
        help="how much work an interruption may cost",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command, as :func:`rome_diagnosis.command.run` asks for it."""
    parsed, given, line = command.parse(build_parser(), arguments)
    if "merge" in given and "import_npz" in given:
        raise UserError("--merge and --import-npz are two things: run them one after the other")
    if "merge" in given and "output" not in given:
        raise UserError("--merge needs --output FILE")
    setup = options.setup(parsed)
    inputs = [given.get("import_npz"), *given.get("merge", []), *given.get("text", [])]
    output = given["output"].replace("{layer}", "0") if "output" in given else None
    with options.outputs(given, [*setup.inputs(), *inputs], moment=(output, ".safetensors")):
        if "merge" in given:
            from diag.covariance.run import merge_files

            result: SecondMoments | None = merge_files(given["merge"], given["output"], line)
        else:
            result = _estimate(parsed, given, setup, line)
        if result is not None:
            command.deliver(result, given, text="reports.text.covariance")
    return 0


def _estimate(
    parsed: argparse.Namespace, given: dict[str, Any], setup: Setup, line: str
) -> SecondMoments | None:
    """Estimates or imports; ``None`` in all processes but the first."""
    from diag.covariance.run import MomentPlan, measure_moments
    from probes.ranks import ranks

    plan = MomentPlan(
        text=given.get("text"),
        text_field=given.get("text_field"),
        max_tokens=given.get("max_tokens"),
        row_length=given.get("row_length"),
        seed=parsed.seed,
        ridge=parsed.ridge,
        import_npz=given.get("import_npz"),
        output=given.get("output"),
        checkpoint_every=parsed.checkpoint_every,
        quiet=setup.quiet,
        command_line=line,
    )
    sources = plan.check()
    with ranks() as group:
        model = setup.load()
        layers = given.get("layers") or [setup.choose_layer(model)]
        if layers == "all":
            layers = range(model.n_layers)
        result = measure_moments(plan, sources, model, list(layers), group)
        return result if group.is_first else None
