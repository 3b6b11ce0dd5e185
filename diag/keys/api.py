"""The library call: ``from diag.keys import diagnose``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rome_diagnosis import options

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from diag.keys.result import KeyDiagnosis
    from probes.request.request import Request
    from probes.setup import SetupOptions


def diagnose(
    subject: str,
    prompt: str | None = None,
    *,
    target_new: str | None = None,
    target_true: str | None = None,
    clamp: float = options.CLAMP_FACTOR,
    **setup: Unpack[SetupOptions],
) -> KeyDiagnosis:
    """Diagnoses one edit before it is performed.

    Args:
        subject: The subject of the fact.
        prompt: With ``{}`` for the subject, or with the subject in it once; by default the prompt
            of a fact the bundled world knows about the subject, else ``"{} is"``.
        target_new: What the edit should make the model say; recorded in the result.
        target_true: What the model says now; recorded in the result.
        clamp: ‖δ‖ is clamped to this factor times ‖v_u‖ when v* is optimised.
        **setup: Model, layer, contexts and second moment; see :class:`probes.setup.Setup`.

    Returns:
        Everything measured, with findings and a verdict.

    Raises:
        UserError: For anything the caller can put right.
    """
    from diag.keys import run
    from probes.setup import Setup

    options.check_clamp(clamp)
    edit = choose_request(subject, prompt, target_new=target_new, target_true=target_true)
    return run.diagnose(edit, Setup(**setup).prepare(), clamp=clamp)


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
