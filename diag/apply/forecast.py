"""What a list of edits that are each safe by themselves does when all of them are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from diag.batch.settings import Workplace
from diag.mathematics.damage import Optimiser
from diag.mathematics.pairs import contradictions
from diag.saved.choice import Choice
from diag.sequence.forecast import forecast_list
from diag.sequence.listed import read_keys
from diag.sequence.outlook import collapse_at, harm_at
from diag.sequence.plan import Plan
from diag.verify.one_edit import Bench
from probes.keys.many_edits import SharedPrefixes
from probes.request.cases import EditCase
from probes.request.records import Edits
from probes.target_value.method_file import defaults
from rome_diagnosis.editors import PUBLISHED
from rome_diagnosis.errors import UserError
from rome_diagnosis.methods import METHODS


def check_list(bench: Bench, cases: Sequence[EditCase], choices: Sequence[Choice]) -> None:
    """Refuses a list that is expected to harm what else the model knows.

    Args:
        bench: The unedited model.
        cases: The edits, in order.
        choices: The editor of each.

    Raises:
        UserError: If it is, with the number of edits that may be made on one copy, or if two of
            them contradict each other.
    """
    for one, other in contradictions([case.request for case in cases]):
        raise UserError(
            f"edits {one + 1} and {other + 1} give {cases[one].request.text!r} two objects, "
            f"{cases[one].request.target_new!r} and {cases[other].request.target_new!r}: leave one "
            "of them out"
        )
    target = bench.settings.hyperparameters
    chosen = dataclasses.replace(defaults(PUBLISHED), layers=(bench.layer,), target=target)
    workplace = Workplace(
        model=bench.model,
        chosen=chosen,
        prefixes=bench.prefixes,
        sampled=False,
        seed=bench.seed,
        moments={bench.layer: bench.moment},
    )
    shared = SharedPrefixes(bench.model, bench.layer, bench.prefixes)
    listed = read_keys(
        Edits(tuple(cases)), range(len(cases)), shared, bench.moment, seed=bench.seed
    )
    plan = Plan.all_by(
        listed, workplace.under(METHODS[PUBLISHED]),
        consistent=bench.settings.c_rome_target == "consistent",
    )  # fmt: skip
    for name in {choice.editor for choice in choices} - {PUBLISHED}:
        at = [i for i, choice in enumerate(choices) if choice.editor == name]
        plan = plan.with_method(workplace.under(METHODS[name]), at)
    optimiser = Optimiser(target.clamp_norm_factor, target.reach(int(bench.model.config.d_model)))
    expected = forecast_list(plan, workplace.streams[bench.layer], optimiser)
    ends = [end for end in (collapse_at(expected), harm_at(expected)) if end is not None]
    if ends:
        most = min(ends) - 1
        some = f"make at most {most} of them on one copy" if most else "make none of them together"
        raise UserError(
            f"each of the {len(cases)} edits is safe by itself, but all together are expected to "
            f"cost the model other facts, from edit {min(ends)} on: {some}, or see what they do "
            "with python -m diag.sequence EDITS --perform"
        )
