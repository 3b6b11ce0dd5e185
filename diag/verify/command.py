"""The command line of ``python -m diag.verify``."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diag.judgement.limits import PERPLEXITY_COLLAPSE
from diag.tasks.command import add_tasks, names, task_files
from diag.verify.api import choose_edit, prepare
from rome_diagnosis import command, options
from rome_diagnosis.disk import files
from rome_diagnosis.editors import ARMS, EDITORS, REMEDY
from rome_diagnosis.errors import UserError
from rome_diagnosis.progress import Progress

if TYPE_CHECKING:
    from diag.verify.result import Comparison, Verification
    from diag.verify.settings import Settings
    from probes.request.cases import EditCase
    from probes.request.records import Edits
    from probes.target_value.hyperparameters import Hyperparameters
    from probes.tasks.harness import Tasks

OVERRIDES: dict[str, tuple[Callable[[str], Any], str]] = {
    "evaluations": (options.count, "evaluations of the loss; one step less"),
    "learning_rate": (options.positive, "Adam learning rate"),
    "weight_decay": (float, "factor of ‖δ‖/‖v_u‖²"),
    "kl_factor": (float, "factor of the divergence from the unedited model"),
    "stop_below": (float, "loss at which the optimisation stops"),
}


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser(
        "diag.verify", "Performs an edit with every editor and measures what becomes of the model."
    )
    unset = options.UNSET
    options.add_request(parser, required=False)
    group = parser.add_argument_group("list of edits")
    group.add_argument(
        "--edits",
        metavar="FILE",
        default=unset,
        help="edits as JSON, CSV or Parquet, in any published format, instead of --subject",
    )
    group.add_argument(
        "--limit", type=options.count, default=unset, help="process only the first N edits"
    )
    group.add_argument(
        "--journal",
        metavar="FILE",
        default=unset,
        help="results go here as they come, and an interrupted run resumes from it (default: "
        "beside --json FILE)",
    )
    options.add_method(group)
    options.add_model(parser)
    add_optimisation(parser)
    add_measurement(parser)
    add_tasks(parser.add_argument_group("downstream tasks"), limit="task-limit")
    group = options.add_output(parser)
    group.add_argument(
        "--save-model",
        metavar="DIR",
        default=unset,
        help="write the edited model, for Hugging Face from_pretrained",
    )
    group.add_argument(
        "--save-variant",
        choices=tuple(EDITORS),
        default=REMEDY,
        help="the editor whose edit --save-model writes",
    )
    options.add_fail_on(
        group, choices=(*ARMS, "any"), help="exit with code 1 if this arm collapses the model"
    )
    return parser


def add_optimisation(parser: argparse.ArgumentParser) -> None:
    """Adds how v* is optimised."""
    unset = options.UNSET
    group = parser.add_argument_group("optimisation of v*")
    group.add_argument(
        "--hyperparameters",
        metavar="FILE",
        default=unset,
        help="of ROME (JSON) or EasyEdit (YAML); the options below have precedence",
    )
    for name, (kind, text) in OVERRIDES.items():
        option = "--" + name.replace("_", "-")
        group.add_argument(option, type=kind, default=unset, help=text)
    options.add_clamp(group, default=None)
    group.add_argument(
        "--c-rome-target",
        choices=("published", "consistent"),
        default="published",
        help="what C-ROME writes: v_u + δ as published, or v̄ + δ",
    )


def add_measurement(parser: argparse.ArgumentParser, *, generated: bool = True) -> None:
    """Adds what is measured on an edited model, and on what.

    Args:
        parser: The parser.
        generated: Whether texts are generated too.
    """
    unset = options.UNSET
    group = parser.add_argument_group("measurement")
    group.add_argument(
        "--texts",
        metavar="FILE",
        default=unset,
        help="texts for perplexity: JSON, CSV, Parquet, or text with blank lines between "
        "(default: bundled held-out texts)",
    )
    group.add_argument(
        "--max-texts",
        type=options.count,
        default=unset,
        help="measure exactly the first N texts (default: as many of 100 as settle the outcome)",
    )
    group.add_argument(
        "--precision",
        type=options.positive,
        default=0.1,
        help="relative half width of the perplexity ratio's 95%% interval at which texts suffice",
    )
    group.add_argument(
        "--facts",
        metavar="FILE",
        default=unset,
        help="facts whose recall is measured, in any format of --edits (default: the bundled "
        "world's for its own model, packaged common facts for others)",
    )
    if generated:
        group.add_argument(
            "--generated-tokens",
            type=options.count,
            default=40,
            help="length of the generated texts",
        )
    group.add_argument(
        "--collapse-ratio",
        type=options.positive,
        default=PERPLEXITY_COLLAPSE.value,
        help="perplexity ratio at and above which a model counts as collapsed",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command, as :func:`rome_diagnosis.command.run` asks for it."""
    words = command.words(arguments)
    if options.names_a_batch_method(words):
        return command.hand_over("diag.batch", ["--perform", *words])
    parsed, given, line = command.parse(build_parser(), words)
    # Mistakes that can be seen now should not wait for a model to load.
    setup = options.setup(parsed)
    journal = journal_of(given)
    inputs = [given.get(name) for name in ("edits", "texts", "facts", "hyperparameters")]
    inputs += task_files(given)
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
                run.save_model(edits, parsed.save_variant, given["save_model"])
        command.deliver(result, given, text="reports.text.verify")
        if journal is not None and "json" in given and "journal" not in given:
            Path(journal).unlink(missing_ok=True)  # its results have gone to their final place
    failing = given.get("fail_on")
    return int(any(broken.values()) if failing == "any" else broken.get(failing, False))


def journal_of(given: dict[str, Any]) -> str | None:
    """Where a list's results go as they come.

    Args:
        given: Parsed options, ``edits``, ``journal`` and ``json`` among them.

    Returns:
        A file; ``None`` where there is no list or no place for one.
    """
    if "edits" not in given:
        return None
    if "journal" in given:
        return str(given["journal"])
    to_json = given.get("json")
    if to_json is None or to_json == files.STANDARD_OUTPUT or files.is_stream(to_json):
        return None
    return f"{to_json}.journal"


def edits_of(given: dict[str, Any], *, only_one: Sequence[str] = ()) -> Edits | EditCase:
    """What is edited: a file of edits, or the fact that the options name.

    Args:
        given: Parsed options: ``edits``, or those of :func:`rome_diagnosis.options.add_request`.
        only_one: Further options that are for one edit alone.

    Returns:
        A list's edits, or one with what tests it.

    Raises:
        UserError: If neither or both are named, or the file or fact cannot be used.
    """
    from probes.request.known import with_tests
    from probes.request.records import read_edits

    if "edits" in given and "subject" in given:
        raise UserError(
            "--subject is one edit, and a file of edits was given too: leave one of them out"
        )
    if "edits" not in given and "subject" not in given:
        raise UserError("say what to edit: either --subject or a file of edits")
    if "edits" not in given:
        parts = (given.get(name) for name in ("prompt", "target_new", "target_true"))
        return with_tests(choose_edit(given["subject"], *parts))
    for option in ("prompt", "target_new", "target_true", *only_one):
        if option in given:
            flag = "--" + option.replace("_", "-")
            raise UserError(f"{flag} is for one edit; the edits of a list bring their own")
    return read_edits(given["edits"], limit=given.get("limit"))


def settings_of(given: dict[str, Any], hyperparameters: Hyperparameters | None = None) -> Settings:
    """What is measured, and on what.

    Args:
        given: Parsed options of :func:`add_optimisation` and :func:`add_measurement`.
        hyperparameters: How v* is optimised, where that has been read already.

    Returns:
        The settings.

    Raises:
        UserError: If a file cannot be read, or a value cannot be meant.
    """
    from diag.verify.settings import Settings

    return Settings(
        hyperparameters=hyperparameters or _hyperparameters(given),
        c_rome_target=given["c_rome_target"],
        generated_tokens=given["generated_tokens"],
        tasks=tasks_of(given),
        **measurement_of(given),
    )


def tasks_of(given: dict[str, Any]) -> Tasks | None:
    """The downstream tasks that are asked after each edit.

    Args:
        given: Parsed options of :func:`diag.tasks.command.add_tasks`.

    Returns:
        Them; ``None`` if none are named.

    Raises:
        UserError: If one cannot be loaded, or a limit is given without them.
    """
    if "tasks" not in given:
        if "task_limit" in given:
            raise UserError("--task-limit is for downstream tasks: add --tasks")
        return None
    from probes.tasks.harness import Tasks

    return Tasks.read(names(given["tasks"]), limit=given.get("task_limit"))


def measurement_of(given: dict[str, Any]) -> dict[str, Any]:
    """The fields of :class:`diag.verify.settings.Settings` that say how perplexity and recall go.

    Args:
        given: Parsed options of :func:`add_measurement`.

    Returns:
        Them, by name.

    Raises:
        UserError: If a file cannot be read.
    """
    from diag.verify.settings import Facts, Texts

    facts = given.get("facts")
    return {
        "collapse_ratio": given["collapse_ratio"],
        "precision": given["precision"],
        "texts": Texts.read(given.get("texts"), limit=given.get("max_texts")),
        "facts": None if facts is None else Facts.read(facts),
    }


def _hyperparameters(given: dict[str, Any]) -> Hyperparameters:
    from probes.target_value.hyperparameters import Hyperparameters, read

    path = given.get("hyperparameters")
    chosen = read(path) if path else Hyperparameters()
    return dataclasses.replace(chosen, **overrides(given))


def overrides(given: dict[str, Any]) -> dict[str, Any]:
    """The hyper-parameters of a target that options have given, by name."""
    return {name: given[name] for name in (*OVERRIDES, "clamp_norm_factor") if name in given}
