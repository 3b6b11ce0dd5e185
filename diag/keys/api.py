"""The library call: ``from diag.keys import diagnose``."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from rome_diagnosis import defaults
from rome_diagnosis.errors import UserError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from diag.keys.compare import Diagnoses
    from diag.keys.result import KeyDiagnosis
    from probes.request.request import Request
    from probes.setup import SetupOptions


@overload
def diagnose(
    subject: str,
    prompt: str | None = None,
    *,
    target_new: str | None = None,
    target_true: str | None = None,
    clamp: float = defaults.CLAMP_FACTOR,
    **setup: Unpack[SetupOptions],
) -> KeyDiagnosis: ...
@overload
def diagnose(
    subject: list[str] | tuple[str, ...],
    prompt: str | None = None,
    *,
    target_new: str | None = None,
    target_true: str | None = None,
    clamp: float = defaults.CLAMP_FACTOR,
    **setup: Unpack[SetupOptions],
) -> Diagnoses: ...
def diagnose(
    subject: str | list[str] | tuple[str, ...],
    prompt: str | None = None,
    *,
    target_new: str | None = None,
    target_true: str | None = None,
    clamp: float = defaults.CLAMP_FACTOR,
    **setup: Unpack[SetupOptions],
) -> KeyDiagnosis | Diagnoses:
    """Diagnoses one edit before it is performed, or one of each of several subjects.

    Args:
        subject: The subject of the fact, or several.
        prompt: With ``{}`` for the subject, or with the subject in it once; by default the prompt
            of a fact the bundled world knows about the subject, else ``"{} is"``.
        target_new: What the edit should make the model say; recorded in the result.
        target_true: What the model says now; recorded in the result.
        clamp: ‖δ‖ is clamped to this factor times ‖v_u‖ when v* is optimised.
        **setup: Model, layer, contexts and second moment; see :class:`probes.setup.Setup`.

    Returns:
        Everything measured, with findings and a verdict; of several subjects their diagnoses, which
        are also one table.

    Raises:
        UserError: For anything the caller can put right.
    """
    from probes.setup import Setup

    defaults.check_clamp(clamp)
    if not isinstance(subject, str | list | tuple):
        raise UserError(f"a subject is a text, or a list of texts, not {type(subject).__name__}")
    subjects = [subject] if isinstance(subject, str) else subject
    edits = [
        choose_request(each, prompt, target_new=target_new, target_true=target_true)
        for each in subjects
    ]
    if not edits:
        raise UserError("there is no subject: give one, or a list of them")
    prepared = Setup(**setup).prepare()
    from diag.keys import run  # after the line that says what is waited for
    from diag.keys.compare import compare
    from probes.target_value.hyperparameters import Hyperparameters

    chosen = Hyperparameters(clamp_norm_factor=clamp)
    results = [run.diagnose(edit, prepared, hyperparameters=chosen) for edit in edits]
    return results[0] if isinstance(subject, str) else compare(results)


def choose_request(
    subject: str,
    prompt: str | None = None,
    *,
    target_new: str | None = None,
    target_true: str | None = None,
) -> Request:
    """The requested edit, its prompt filled in from the bundled world where none is given.

    Args:
        subject: The subject.
        prompt: The prompt, or ``None``.
        target_new: The new object, or ``None``.
        target_true: The present object, or ``None``.

    Returns:
        The request.

    Raises:
        UserError: As :func:`probes.request.request.request`.
    """
    from probes.request.known import complete

    return complete(subject, prompt, target_new=target_new, target_true=target_true)
