"""The command line of ``python -m diag.verify``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diag.verify.api import prepare
from diag.verify.parsed import edits_of, settings_of
from rome_diagnosis import command, options
from rome_diagnosis.disk import files
from rome_diagnosis.editors import ARMS, EDITORS, REMEDY
from rome_diagnosis.progress import Progress

if TYPE_CHECKING:
    from diag.verify.result import Comparison, Verification


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser(
        "diag.verify", "Performs an edit with every editor and measures what becomes of the model."
    )
    options.add_request(parser, required=False)
    group = parser.add_argument_group("list of edits")
    options.add_edits(
        group, "edits as JSON, CSV or Parquet, in any published format, instead of --subject"
    )
    options.add_limit(group)
    options.add_journal(group, "results go here")
    options.add_other_method(group)
    options.add_model(parser)
    options.add_target(parser)
    options.add_measurement(parser)
    options.add_tasks(parser.add_argument_group("downstream tasks"), limit="task-limit")
    group = options.add_output(parser)
    options.add_save_model(group, "write the edited model")
    group.add_argument(
        "--save-editor",
        choices=tuple(EDITORS),
        default=REMEDY,
        help="the editor whose edit --save-model writes",
    )
    # What the option was called before.
    group.add_argument(
        "--save-variant",
        dest="save_editor",
        choices=tuple(EDITORS),
        default=options.UNSET,
        help=argparse.SUPPRESS,
    )
    options.add_fail_on(
        group, choices=(*ARMS, "any"), help="exit with code 1 if this arm collapses the model"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command, as :func:`rome_diagnosis.command.run` asks for it."""
    words = command.words(arguments)
    if options.names_a_batch_method(words):
        return command.hand_over("diag.batch", ["--perform", *words])
    parsed, given, line = command.parse(build_parser(), words)
    # Mistakes that can be seen now should not wait for a model to load.
    setup = options.setup(parsed)
    journal = options.journal_of(given)
    inputs = [given.get(name) for name in ("edits", "texts", "facts", "hyperparameters")]
    inputs += options.task_files(given)
    with options.outputs(given, [*setup.inputs(), *inputs], journal=(journal, "")):
        from probes.request.records import Edits

        if "save_model" in given:
            files.check_new_folder(given["save_model"])
        edits = edits_of(given, only_one=["save_model"])
        settings = settings_of(given)
        run = prepare(setup, settings)
        result: Verification | Comparison
        if isinstance(edits, Edits):
            with Progress(len(edits.cases), quiet=setup.quiet) as progress:
                result = run.many(edits, journal=journal, progress=progress, command_line=line)
            broken = {arm: n > 0 for arm, n in result.summary["collapsed"].items()}
        else:
            result = run.one(edits, command_line=line)
            broken = dict(result.collapsed)
            if "save_model" in given:
                run.save_model(edits, parsed.save_editor, given["save_model"])
        command.deliver(result, given, text="reports.text.verify")
        if journal is not None and "json" in given and "journal" not in given:
            Path(journal).unlink(missing_ok=True)  # its results have gone to their final place
    failing = given.get("fail_on")
    return int(any(broken.values()) if failing == "any" else broken.get(failing, False))
