"""The library call: ``from diag.sweep import sweep``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from rome_diagnosis import defaults
from rome_diagnosis.errors import UserError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from diag.sweep.result import LayerSweep
    from probes.setup import SetupOptions


def sweep(
    subject: str,
    prompt: str | None = None,
    *,
    layers: Sequence[int] | Literal["all"] = "all",
    target_new: str | None = None,
    target_true: str | None = None,
    clamp: float = defaults.CLAMP_FACTOR,
    **setup: Unpack[SetupOptions],
) -> LayerSweep:
    """Diagnoses one edit at several blocks, from one pass of the model.

    Args:
        subject: The subject of the fact.
        prompt: As :func:`diag.keys.diagnose`.
        layers: The blocks, or ``"all"``.
        target_new: As :func:`diag.keys.diagnose`.
        target_true: As :func:`diag.keys.diagnose`.
        clamp: As :func:`diag.keys.diagnose`.
        **setup: Model, contexts and second moment; see :class:`probes.setup.Setup`. A second
            moment's file is named with ``{layer}`` for the block.

    Returns:
        A diagnosis for each block, and where the attention sink is born.

    Raises:
        UserError: For anything the caller can put right.
    """
    from diag.keys.api import choose_request
    from diag.sweep import run
    from probes.setup import Setup
    from probes.target_value.hyperparameters import Hyperparameters

    if setup.get("layer") is not None:
        raise UserError("a sweep takes layers=[…], not layer=…")
    edit = choose_request(subject, prompt, target_new=target_new, target_true=target_true)
    chosen = Hyperparameters(clamp_norm_factor=defaults.check_clamp(clamp))
    return run.sweep(edit, Setup(**setup), layers, hyperparameters=chosen)
