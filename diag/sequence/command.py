"""The command line of ``python -m diag.sequence``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diag.batch.command import N_PREFIXES
from diag.verify.parsed import settings_of
from rome_diagnosis import command, options
from rome_diagnosis.editors import PUBLISHED
from rome_diagnosis.errors import UserError
from rome_diagnosis.progress import Progress

if TYPE_CHECKING:
    from probes.target_value.method_file import MethodFile


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
    options.add_method(
        group, method="what makes every edit (default: the method of --hyperparameters, else rome)"
    )
    group.add_argument("--batch", type=options.count, default=1, help="make the edits N at a time")
    group.add_argument(
        "--order",
        choices=("given", "shuffled"),
        default="given",
        help="make the edits as listed, or in an order drawn with --seed",
    )
    options.add_limit(group)
    options.add_perform(group, "make the edits, until the model collapses")
    options.add_journal(group, "results of --perform go here")
    options.add_prefixes(group, n_prefixes=N_PREFIXES)
    options.add_model(parser)
    options.add_target(parser)
    options.add_measurement(parser)
    options.add_tasks(parser.add_argument_group("downstream tasks"), limit="task-limit")
    group = options.add_output(parser)
    options.add_save_model(group, "write the model --perform makes")
    group.add_argument(
        "--save-after",
        type=options.count,
        default=unset,
        help="save it after N edits (default: the last before it collapsed)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command, as :func:`rome_diagnosis.command.run` asks for it."""
    parsed, given, line = command.parse(build_parser(), arguments)
    setup = options.setup(parsed)
    performing = "perform" in given
    inputs = [given.get(name) for name in ("edits", "texts", "facts", "hyperparameters")]
    inputs += options.task_files(given)
    if not performing:
        for option in ("journal", "save_model", "save_after", "tasks"):
            if option in given:
                flag = "--" + option.replace("_", "-")
                raise UserError(f"{flag} is for edits that are made: add --perform")
    journal = options.journal_of(given) if performing else None
    with options.outputs(given, [*setup.inputs(), *inputs], journal=(journal, "")):
        from diag.sequence.run import EditList, Performing, prepare, run

        # A file with mistakes should not wait for a model to load.
        chosen = _chosen(given)
        asked = EditList.of(
            parsed.edits,
            chosen,
            batch=parsed.batch,
            order=parsed.order,
            limit=given.get("limit"),
            seed=setup.seed,
        )
        if given.get("save_after", 0) > len(asked.edits.cases):
            raise UserError(
                f"--save-after {given['save_after']} is beyond the list, which has "
                f"{len(asked.edits.cases)} edits"
            )
        settings = settings_of(given, chosen.target)
        how = None
        if performing:
            how = Performing(journal, given.get("save_model"), given.get("save_after"))
        n_prefixes = given.get("n_prefixes")
        workplace = prepare(setup, chosen, settings, how, n_prefixes=n_prefixes)
        total = len(asked.edits.cases)
        with Progress(total, quiet=setup.quiet) as progress:
            result = run(
                asked, workplace, settings, performing=how, progress=progress, command_line=line
            )  # fmt: skip
        command.deliver(result, given, text="reports.text.sequence")
        if journal is not None and "json" in given and "journal" not in given:
            Path(journal).unlink(missing_ok=True)  # its results have gone to their final place
    return 0


def _chosen(given: dict[str, Any]) -> MethodFile:
    """The method, from options and from a file that they have precedence over."""
    from diag.batch.api import choose_method

    return choose_method(
        **options.method_of(given, PUBLISHED),
        layers=[given["layer"]] if "layer" in given else None,
        **options.target_of(given),
    )
