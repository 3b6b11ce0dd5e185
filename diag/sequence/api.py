"""The library call: ``from diag.sequence import sequence``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from diag.verify.api import Options
from rome_diagnosis.editors import PUBLISHED

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from diag.sequence.result import Trajectory
    from probes.request.cases import EditCase

Order = Literal["given", "shuffled"]


def sequence(
    edits: Sequence[EditCase] | str | os.PathLike[str],
    *,
    method: str = PUBLISHED,
    order: Order = "given",
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Unpack[Options],
) -> Trajectory:
    """Forecasts what a list of edits, made one after another, will do to a model.

    Args:
        edits: A file in any of the published formats, or cases.
        method: The editor's name.
        order: ``"given"``, or ``"shuffled"`` with the seed.
        limit: Process only the first N edits of the list, before any shuffling.
        progress: Called with the edits done and all of them.
        **options: Model, layer, contexts and second moment (:class:`probes.setup.Setup`); the
            optimisation of v* and what is measured (:class:`diag.verify.settings.Settings`).

    Returns:
        The forecast.

    Raises:
        UserError: For anything the caller can put right.
    """
    from diag.sequence.run import Asked, run
    from diag.verify.api import split_options, with_hyperparameters

    setup, settings = split_options(options)
    asked = Asked.of(edits, method=method, order=order, limit=limit, seed=setup.seed)
    prepared = with_hyperparameters(setup, settings.hyperparameters).prepare()
    return run(asked, prepared, settings, progress=progress)
