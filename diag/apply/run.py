"""A run of edits that are meant to stay: choose, edit, measure, save with a record.

Edits are made one after another, each v* optimised on the model as the earlier ones left it, as
the published code does. Keys at the edited layer do not depend on them, so a diagnosis holds for
every place in the list.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from diag.apply import forecast
from diag.apply.choose import Choice, choose_editor
from diag.keys.judge import judge
from diag.mathematics.update import RankOne
from diag.saved.model import save
from diag.saved.result import Applied
from diag.verify.one_edit import Bench
from probes.edited.weights import edited
from probes.request.cases import EditCase
from rome_diagnosis.errors import UserError


def run(
    bench: Bench, cases: Sequence[EditCase], *, method: str, output: str | os.PathLike[str]
) -> Applied:
    """Makes edits and saves the model.

    Args:
        bench: The model and what is measured on it.
        cases: The edits, in order.
        method: An editor's name or ``"auto"``.
        output: Directory for the edited model.

    Returns:
        What was done.

    Raises:
        UserError: If no editor is safe for one of the edits, all together are expected to harm the
            model, or it cannot be written.
    """
    layer, model = bench.layer, bench.model
    choices = [_choose(bench, case, method) for case in cases]
    if len(cases) > 1:
        forecast.check_list(bench, cases, choices)
    changes: list[RankOne] = []
    for case, choice in zip(cases, choices, strict=True):
        with edited(model, changes, layer):
            (target,) = bench.target_values([case])
            changes.append(bench.factors(bench.observe(case), target)[choice.editor])
    return save(bench, cases, choices, changes, output=output)


def _choose(bench: Bench, case: EditCase, method: str) -> Choice:
    judgement = judge(
        bench.observe(case),
        bench.moment,
        hyperparameters=bench.settings.hyperparameters,
        seed=bench.seed,
    )
    try:
        return choose_editor(judgement, method)
    except UserError as error:
        raise UserError(f"{case.request.text!r}: {error}") from error
