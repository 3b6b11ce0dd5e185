"""The library call: ``from diag.hardcases import hardcases``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rome_diagnosis.disk import files

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from diag.hardcases.result import HardCases
    from diag.verify.api import Options

N_HARD = 1000
PRECISION = 0.05  # 45 edits, if all of them break the model
AT_MOST = 200


def hardcases(
    output: str | os.PathLike[str],
    *,
    datasets: Sequence[str | os.PathLike[str]] = (),
    wordings: str | os.PathLike[str] | None = None,
    n: int = N_HARD,
    perform: int = AT_MOST,
    share_precision: float = PRECISION,
    licence: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    **options: Unpack[Options],
) -> HardCases:
    """Makes a set of edits that break a model, each with an easy one beside it.

    Args:
        output: The records: ROME's and EasyEdit's fields, one JSON array.
        datasets: Data sets to mine, in any published format; none composes new edits.
        wordings: Facts whose prompts and objects new edits are composed with; by default those of
            the bundled world.
        n: At most this many hard edits.
        perform: Perform at most this many of the hard edits and as many of the easy ones.
        share_precision: Perform no more once the share that breaks or damages the model is known
            to ± this.
        licence: Licence of the files that are given, for the card.
        progress: Called with the edits screened and all of them.
        **options: Model, layer, contexts and second moment (:class:`probes.setup.Setup`); how
            edits are performed (:class:`diag.verify.settings.Settings`).

    Returns:
        The records' file and the data card. Results of performed edits wait in a journal beside
        the file until the set is written, so that an interrupted run resumes.

    Raises:
        UserError: For anything the caller can put right.
    """
    from diag.hardcases.confirm import Wanted
    from diag.hardcases.run import HardCasePlan, prepare, run
    from diag.verify.api import split_options

    setup, settings = split_options(options)
    plan = HardCasePlan(
        output=os.fspath(output),
        datasets=tuple(os.fspath(path) for path in datasets),
        wordings=None if wordings is None else os.fspath(wordings),
        n=n,
        wanted=Wanted(share_precision, perform, setup.seed),
        licence=licence,
        command_line=None,
    )
    files.check_outputs([plan.output, plan.journal], [*plan.inputs, *setup.inputs()])
    with files.locked(plan.output):
        result = run(plan, prepare(plan, setup, settings), settings, progress=progress)
    Path(plan.journal).unlink(missing_ok=True)  # its results are in the records
    return result
