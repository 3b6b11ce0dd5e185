"""What parsed options name: the edits, and what is measured on an edited model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rome_diagnosis import options
from rome_diagnosis.errors import UserError

if TYPE_CHECKING:
    from diag.verify.settings import Settings
    from probes.request.cases import EditCase
    from probes.request.records import Edits
    from probes.target_value.hyperparameters import Hyperparameters
    from probes.tasks.harness import Tasks


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
    from diag.verify.api import choose_edit
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
        given: Parsed options of :func:`rome_diagnosis.options.add_target` and ``add_measurement``.
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
        given: Parsed options of :func:`rome_diagnosis.options.add_tasks`.

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

    return Tasks.read(options.task_names(given["tasks"]), limit=given.get("task_limit"))


def measurement_of(given: dict[str, Any]) -> dict[str, Any]:
    """The fields of :class:`diag.verify.settings.Settings` that say how perplexity and recall go.

    Args:
        given: Parsed options of :func:`rome_diagnosis.options.add_measurement`.

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
    from probes.target_value.hyperparameters import Hyperparameters, read_hyperparameters

    path = given.get("hyperparameters")
    chosen = read_hyperparameters(path) if path else Hyperparameters()
    return dataclasses.replace(chosen, **options.target_of(given))
