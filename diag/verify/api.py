"""The library calls: ``from diag.verify import verify, verify_list``."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from probes.setup import Setup, SetupOptions
from rome_diagnosis.errors import UserError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from diag.verify.result import Comparison, Verification
    from diag.verify.run import Verifier
    from diag.verify.settings import CRomeTarget, Facts, Settings, Texts
    from probes.request.cases import EditCase
    from probes.request.request import Request
    from probes.target_value.hyperparameters import Hyperparameters
    from probes.tasks.harness import Tasks


class Options(SetupOptions, total=False):
    """Fields of :class:`probes.setup.Setup` and of :class:`diag.verify.settings.Settings`."""

    hyperparameters: Hyperparameters
    c_rome_target: CRomeTarget
    collapse_ratio: float
    precision: float
    texts: Texts | Sequence[str]
    facts: Facts
    generated_tokens: int
    tasks: Tasks | str | Sequence[str] | None


def verify(
    subject: str,
    prompt: str | None = None,
    *,
    target_new: str | None = None,
    target_true: str | None = None,
    **options: Unpack[Options],
) -> Verification:
    """Performs one edit with every editor and measures the model before and after each.

    Args:
        subject: The subject of the fact.
        prompt: With ``{}`` for the subject, or with the subject in it once; by default that of a
            fact the bundled world knows about the subject.
        target_new: The new object; needed unless the bundled world knows the fact.
        target_true: What the model says now; success is then P(new) > P(true).
        **options: Model, layer, contexts and second moment (:class:`probes.setup.Setup`); what is
            measured, and on what (:class:`diag.verify.settings.Settings`). All of the ``texts``
            that are given as a list are measured.

    Returns:
        What became of the model.

    Raises:
        UserError: For anything the caller can put right.
    """
    from probes.request.known import with_tests

    edit = choose_edit(subject, prompt, target_new, target_true)
    return prepare(*split_options(options)).one(with_tests(edit))


def verify_list(
    edits: Sequence[EditCase] | str | os.PathLike[str],
    *,
    journal: str | os.PathLike[str] | None = None,
    progress: Callable[[int], None] | None = None,
    **options: Unpack[Options],
) -> Comparison:
    """Performs a list of edits, one at a time, and compares collapse cases with normal ones.

    Args:
        edits: A file in any of the published formats, or cases.
        journal: A file that results go to as they come; with the same arguments an interrupted
            run resumes from it.
        progress: Called with the number of edits done.
        **options: As in :func:`verify`.

    Returns:
        Every edit's result, and groups of them beside one another.

    Raises:
        UserError: For anything the caller can put right.
    """
    from probes.request.records import Edits, read_edits

    listed = read_edits(edits) if isinstance(edits, str | os.PathLike) else Edits(tuple(edits))
    return prepare(*split_options(options)).many(
        listed, journal=None if journal is None else os.fspath(journal), progress=progress
    )


def prepare(setup: Setup, settings: Settings) -> Verifier:
    """Loads the model, asks it what it knows and makes it ready for edits.

    Args:
        setup: What to measure with; its layer and second moment have precedence over those that
            the hyper-parameters name.
        settings: What is measured, and on what.

    Returns:
        The run.

    Raises:
        UserError: If weights, texts, facts or contexts cannot be used.
    """
    setup = with_hyperparameters(setup, settings.hyperparameters)
    model = setup.load()
    from diag.verify import run  # after the line that says what is waited for
    from probes.edited.weights import writable

    writable(model, setup.choose_layer(model))  # said before a second moment is estimated
    return run.prepare(setup.prepare(), settings, quiet=setup.quiet)


def with_hyperparameters(setup: Setup, chosen: Hyperparameters) -> Setup:
    """A setup that takes from hyper-parameters what it leaves open: the layer, and C = I.

    Args:
        setup: What to measure with.
        chosen: The hyper-parameters.

    Returns:
        The setup.
    """
    if setup.layer is None:
        setup = dataclasses.replace(setup, layer=chosen.layer)
    if setup.second_moment == "auto" and not chosen.second_moment_adjustment:
        setup = dataclasses.replace(setup, second_moment="identity")  # as the result will say
    return setup


def split_options(options: Options) -> tuple[Setup, Settings]:
    """The options of a library call: what is measured with, and what is measured.

    Args:
        options: The keyword arguments.

    Returns:
        The setup and the settings.
    """
    from diag.verify.settings import Settings, Tasks, Texts

    given: dict[str, Any] = dict(options)
    names = {field.name for field in dataclasses.fields(Settings)}
    measured = {name: given.pop(name) for name in names & given.keys()}
    texts = measured.get("texts")
    if texts is not None and not isinstance(texts, Texts):
        measured["texts"] = Texts.given(texts)
    tasks = measured.get("tasks")
    if tasks is not None and not isinstance(tasks, Tasks):
        measured["tasks"] = Tasks.read(tasks)
    return Setup(**given), Settings(**measured)


def choose_edit(
    subject: str, prompt: str | None, target_new: str | None, target_true: str | None
) -> Request:
    """The requested edit, which must have a new object.

    Raises:
        UserError: As :func:`probes.request.known.complete`, or if there is no new object.
    """
    from probes.request.known import complete

    edit = complete(subject, prompt, target_new=target_new, target_true=target_true)
    if edit.target_new is None:
        raise UserError(f"the edit of {edit.subject!r} has no new object: give --target-new")
    return edit
