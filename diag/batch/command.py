"""The command line of ``python -m diag.batch``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from diag.verify.parsed import edits_of, measurement_of
from rome_diagnosis import command, options
from rome_diagnosis.errors import UserError
from rome_diagnosis.methods import BATCHED, POST

# Published code samples as many for each method; rome_diagnosis.methods holds the numbers.
N_PREFIXES = "as the method's code: 5 for MEMIT's family, 20 for ROME's"


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser(
        "diag.batch", "What would a batch of edits by MEMIT and its family do to the model?"
    )
    unset = options.UNSET
    parser.add_argument(
        "edits",
        metavar="FILE",
        nargs="?",
        default=unset,
        help="edits as JSON, CSV or Parquet, in any published format; or --subject for one",
    )
    options.add_edits(parser)
    options.add_limit(parser, "the batch is the first N edits")
    options.add_request(parser, required=False, n_prefixes=N_PREFIXES)
    _add_method(parser)
    options.add_model(parser)
    group = parser.add_argument_group("making the batch")
    options.add_perform(group, "write the batch, measure the model and restore it")
    options.add_measurement(parser, generated=False)
    group = options.add_output(parser)
    options.add_save_model(group, "make the batch and write the edited model")
    options.add_fail_on(group)
    return parser


def _add_method(parser: argparse.ArgumentParser) -> None:
    unset = options.UNSET
    group = parser.add_argument_group("method")
    options.add_method(
        group,
        method=f"default: the one of --hyperparameters, else {BATCHED}",
        hyperparameters="of ROME, MEMIT, PMET, EMMET, AlphaEdit, ENCORE (JSON) or EasyEdit (YAML); "
        "the options below have precedence",
    )
    options.add_layers(
        group, "the edited blocks (default: those of the file, else the one published work edits)"
    )
    group.add_argument(
        "--post",
        choices=tuple(POST),
        default=unset,
        help="; ".join(POST.values()).replace("%", "%%"),
    )
    options.add_clamp(group, default=None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command, as :func:`rome_diagnosis.command.run` asks for it."""
    from diag.batch.api import choose_method
    from diag.verify.settings import Settings
    from probes.request.records import Edits

    parsed, given, line = command.parse(build_parser(), arguments)
    setup = options.setup(parsed)
    if "layer" in given and "layers" in given:
        raise UserError("--layer and --layers say the same: give one of them")
    inputs = [given.get(name) for name in ("edits", "texts", "facts", "hyperparameters")]
    with options.outputs(given, [*setup.inputs(), *inputs]):
        chosen = choose_method(
            **options.method_of(given),
            layers=_layers(given),
            post=given.get("post"),
            **options.target_of(given),
        )
        listed = edits_of(given)
        if not isinstance(listed, Edits):
            listed = Edits((listed,))
        making = "perform" in given or "save_model" in given
        settings = Settings(**measurement_of(given)) if making else None
        from diag.batch.run import run

        result = run(
            listed,
            setup,
            chosen,
            n_prefixes=given.get("n_prefixes"),
            settings=settings,
            save_model=given.get("save_model"),
            command_line=line,
        )
        command.deliver(result, given, text="reports.text.batch")
    return int(options.fails(given, [result.verdict]))


def _layers(given: dict[str, Any]) -> Sequence[int] | None:
    if "layers" not in given:
        return [given["layer"]] if "layer" in given else None
    chosen: Sequence[int] = given["layers"]
    if chosen == "all":
        raise UserError("a batch is written into the blocks that --layers names, e.g. 1,2,3")
    return chosen
