"""The library call: ``from diag.sequence import sequence``."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
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
    batch: int = 1,
    parameters: Mapping[str, float] | None = None,
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
        method: A row of :data:`rome_diagnosis.methods.METHODS`.
        batch: How many edits are made together.
        parameters: The method's parameters, by names of
            :data:`rome_diagnosis.methods.PARAMETERS`; its published ones where a name is missing.
        order: ``"given"``, or ``"shuffled"`` with the seed.
        limit: Process only the first N edits of the list, before any shuffling.
        perform: Whether to make the edits, one after another, until the model collapses. It is
            afterwards what it was, bit for bit.
        performing: Where results go as they come, and whether the edited model is saved.
        progress: Called with the edits done and all of them.
        **options: Model, layer, contexts and second moment (:class:`probes.setup.Setup`); the
            optimisation of the target and what is measured
            (:class:`diag.verify.settings.Settings`). ``n_prefixes`` and ``hyperparameters`` are the
            method's published ones where they are not given.

    Returns:
        The forecast, and what was measured.

    Raises:
        UserError: For anything the caller can put right.
    """
    from diag.batch.api import choose_method
    from diag.sequence.run import EditList, Performing, prepare, run
    from diag.verify.api import split_options

    n_prefixes = options.get("n_prefixes")
    setup, settings = split_options(options)
    chosen = choose_method(method, parameters=parameters)
    if "hyperparameters" in options:
        chosen = dataclasses.replace(chosen, target=settings.hyperparameters)
    asked = EditList.of(edits, chosen, batch=batch, order=order, limit=limit, seed=setup.seed)
    how = performing or (Performing() if perform else None)
    workplace = prepare(setup, chosen, settings, how, n_prefixes=n_prefixes)
    return run(asked, workplace, settings, performing=how, progress=progress)
