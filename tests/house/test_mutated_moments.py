"""No mutated second-moment file changes a verdict."""

from __future__ import annotations

from pathlib import Path

import pytest

from diag.keys.judge import judge
from probes import bundled
from probes.keys.observe import observe
from probes.model.load import load
from probes.request import prefixes
from probes.request.request import request
from probes.second_moment import choose, stored
from probes.second_moment.estimate import estimate
from probes.second_moment.moment import SecondMoment
from probes.target_value.hyperparameters import Hyperparameters
from probes.text import corpus
from rome_diagnosis.errors import UserError
from tests.probes.second_moment.mutations import mutants


@pytest.mark.slow
def test_2000_mutated_files_change_no_verdict(tmp_path: Path) -> None:
    model, layer = load(bundled.model_path(), name="bundled"), bundled.edit_layer()
    contexts = tuple(prefixes.sample(model, n=20, seed=0))
    facts = bundled.facts()[::900]
    edits = [request(fact["subject"], fact["prompt"]) for fact in facts]
    edits += [request(fact["subject"], "They read that " + fact["prompt"]) for fact in facts]
    observations = [observe(model, edit, layer, contexts) for edit in edits]

    def verdicts(moment: SecondMoment) -> list[str]:
        choose.check_moment(moment, model, layer)
        chosen = Hyperparameters()
        return [
            judge(seen, moment, hyperparameters=chosen, seed=0).verdict for seen in observations
        ]

    good, mutant = tmp_path / "good.safetensors", tmp_path / "mutant.safetensors"
    stored.save(estimate(model, layer, corpus.packaged(), max_tokens=60_000), good)
    true = verdicts(stored.load_moment(good))
    assert len(set(true)) > 1
    for what, raw in mutants(good, 2000, seed=2):
        mutant.write_bytes(raw)
        try:
            found = verdicts(stored.load_moment(mutant))
        except UserError as error:
            assert "\n" not in str(error), what
        else:
            assert found == true, what
