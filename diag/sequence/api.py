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
    from diag.sequence.run import Performing
    from probes.request.cases import EditCase

Order = Literal["given", "shuffled"]


def sequence(
    edits: Sequence[EditCase] | str | os.PathLike[str],
    *,
    method: str = PUBLISHED,
    order: Order = "given",
    limit: int | None = None,
    perform: bool = False,
    performing: Performing | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    **options: Unpack[Options],
) -> Trajectory:
    """Forecasts what a list of edits will do to a model, and makes it if that is asked for.

    Args:
        edits: A file in any of the published formats, or cases.
        method: The editor's name.
        order: ``"given"``, or ``"shuffled"`` with the seed.
        limit: Process only the first N edits of the list, before any shuffling.
        perform: Whether to make the edits, one after another, until the model collapses. It is
            afterwards what it was, bit for bit.
        performing: Where results go as they come, and whether the edited model is saved.
        progress: Called with the edits done and all of them.
        **options: Model, layer, contexts and second moment (:class:`probes.setup.Setup`); the
            optimisation of v* and what is measured (:class:`diag.verify.settings.Settings`).

    Returns:
        The forecast, and what was measured.

    Raises:
        UserError: For anything the caller can put right.
    """
    from diag.sequence.run import Asked, Performing, prepare, run
    from diag.verify.api import split_options

    setup, settings = split_options(options)
    asked = Asked.of(edits, method=method, order=order, limit=limit, seed=setup.seed)
    how = performing or (Performing() if perform else None)
    prepared = prepare(setup, settings, how)
    return run(asked, prepared, settings, performing=how, progress=progress)
