"""A run over one batch: check it, make it if asked for, measure it, save the model if asked for."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from diag.batch import document
from diag.batch.check import Preflight, check_batch
from diag.batch.measure import BatchBench
from diag.batch.result import Batch
from diag.batch.settings import Workplace, prepare_workplace
from diag.judgement import agreement
from diag.verify.settings import Settings
from probes.edited.weights import save_edited_layers
from probes.model.loaded import LoadedModel
from probes.request.lookup import lookup
from probes.request.records import Edits, Refused
from probes.setup import Setup
from probes.target_value.method_file import MethodFile
from rome_diagnosis.disk import files
from rome_diagnosis.errors import UserError


def run(
    listed: Edits,
    setup: Setup,
    chosen: MethodFile,
    *,
    n_prefixes: int | None = None,
    settings: Settings | None = None,
    save_model: str | os.PathLike[str] | None = None,
    command_line: str | None = None,
) -> Batch:
    """Checks a batch and, if asked for, makes it.

    Args:
        listed: The edits, and the records that are none.
        setup: Model, contexts and second moment.
        chosen: The method, its layers and parameters.
        n_prefixes: How many contexts to sample; as the method's code does by default.
        settings: What is measured of a batch that is made; ``None`` makes none.
        save_model: A directory for the edited model.
        command_line: What repeats the run.

    Returns:
        The result.

    Raises:
        UserError: If nothing can be edited, or the model cannot be used or written.
    """
    if save_model is not None:
        files.check_new_folder(save_model)
    workplace = prepare_workplace(
        setup, chosen, n_prefixes=n_prefixes, writing=settings is not None
    )
    here = placeable(workplace.model, listed)
    preflight = check_batch(workplace, [case.request for case in here.cases])
    result = document.of_preflight(
        preflight, here.cases, refused=here.refused, notes=here.notes, command_line=command_line
    )
    if settings is not None:
        result["performed"] = _perform(preflight, here, settings, save_model)
    return Batch(result)


def placeable(model: LoadedModel, listed: Edits) -> Edits:
    """The edits whose subjects can be looked up; the others become records that are refused.

    Args:
        model: The model.
        listed: The edits.

    Returns:
        The same, sorted apart.

    Raises:
        UserError: If none can.
    """
    cases, refused = [], list(listed.refused)
    for i, case in enumerate(listed.cases):
        try:
            lookup(model, case.request)
            cases.append(case)
        except UserError as error:
            refused.append(Refused(i, str(error), f"edit {i}"))
    if not cases:
        raise UserError(f"not one edit can be looked up: {refused[0].reason}")
    return dataclasses.replace(listed, cases=tuple(cases), refused=tuple(refused))


def _perform(
    preflight: Preflight,
    listed: Edits,
    settings: Settings,
    save_model: str | os.PathLike[str] | None,
) -> dict[str, Any]:
    workplace: Workplace = preflight.workplace
    chosen = dataclasses.replace(settings, hyperparameters=workplace.chosen.target)
    bench = BatchBench(workplace, listed.cases, chosen)
    with bench.perform() as batch:
        pass
    measured = bench.measure(batch)
    if save_model is not None:
        save_edited_layers(workplace.model, batch.changes, save_model)
    return {
        **document.of_performed(preflight, batch, measured),
        "prediction": agreement.compare_with_performed(
            preflight.verdict, measured["outcome"]
        ).sentence,
        "collapse_ratio": chosen.collapse_ratio,
        "texts": chosen.texts.source,
        "facts": bench.bench.facts.source,
    }
