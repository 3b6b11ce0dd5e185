"""The library calls: ``from diag.apply import apply, apply_list``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from diag.apply.choose import AUTO
from diag.verify.api import Options
from rome_diagnosis.errors import UserError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from diag.saved.result import Applied
    from probes.request.cases import EditCase
    from probes.request.records import Edits


def apply(
    subject: str,
    prompt: str | None = None,
    *,
    output: str | os.PathLike[str],
    target_new: str | None = None,
    target_true: str | None = None,
    method: str = AUTO,
    **options: Unpack[Options],
) -> Applied:
    """Diagnoses an edit, makes it with an editor that is safe, measures it and saves the model.

    Args:
        subject: The subject of the fact.
        prompt: With ``{}`` for the subject, or with the subject in it once; by default that of a
            fact the bundled world knows about the subject.
        output: Directory for the edited model; must not exist, or be empty.
        target_new: The new object; needed unless the bundled world knows the fact.
        target_true: What the model says now.
        method: An editor's name, or ``"auto"`` for the first one that is safe.
        **options: As in :func:`diag.verify.verify`.

    Returns:
        What was done and what became of the model; nothing is written if no editor is safe.

    Raises:
        UserError: If no editor is safe, and for anything else the caller can put right.
    """
    from diag.verify.api import choose_edit
    from probes.request.known import with_tests

    case = with_tests(choose_edit(subject, prompt, target_new, target_true))
    return apply_list([case], output=output, method=method, **options)


def apply_list(
    edits: Sequence[EditCase] | str | os.PathLike[str],
    *,
    output: str | os.PathLike[str],
    method: str = AUTO,
    **options: Unpack[Options],
) -> Applied:
    """Makes a list of edits one after another, each as :func:`apply`, and saves the model once.

    Args:
        edits: A file in any of the published formats, or cases.
        output: As in :func:`apply`.
        method: As in :func:`apply`, for each edit by itself.
        **options: As in :func:`diag.verify.verify`.

    Returns:
        What was done; nothing is written if one of the edits cannot be made safely.

    Raises:
        UserError: If no editor is safe for one of the edits, all together are expected to harm the
            model, a record of the file is no edit, and for anything else the caller can put right.
    """
    from diag.apply.run import run
    from diag.verify.api import prepare, split_options
    from probes.request.records import read_edits
    from rome_diagnosis.disk import files

    files.check_new_folder(output)
    cases = _all_of(read_edits(edits)) if isinstance(edits, str | os.PathLike) else tuple(edits)
    bench = prepare(*split_options(options)).bench
    return run(bench, cases, method=method, output=output)


def _all_of(listed: Edits) -> tuple[EditCase, ...]:
    """The edits of a file, each of whose records is one: a model is not made of the others."""
    if listed.refused:
        first = listed.refused[0]
        n = len(listed.refused) + len(listed.cases)
        raise UserError(
            f"{len(listed.refused)} of {n} records are no edits, so nothing is made; the first of "
            f"them: {first.place}: {first.reason}"
        )
    return listed.cases
