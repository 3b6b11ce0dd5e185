"""Lists by any method, in batches: what is known beforehand is what is made."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from diag.batch.settings import Workplace
from diag.saved import record
from diag.sequence import sequence
from diag.sequence.perform import MadeEdits
from diag.sequence.performance import Performer
from diag.sequence.run import EditList, Performing, foresee
from diag.verify.one_edit import Bench
from diag.verify.settings import Settings
from probes.edited.weights import Total
from probes.model.load import load
from probes.request.records import read_edits
from probes.setup import Prepared
from rome_diagnosis.errors import UserError
from rome_diagnosis.methods import METHODS
from rome_diagnosis.schema import validate
from tests.diag.sequence.listing import LAYER, PREFIXES
from tests.diag.sequence.test_perform import SETTINGS, N, document, weights

BATCH = 2
COUPLED = [name for name, method in METHODS.items() if method.together]


def performed(
    name: str, file: Path, setup: Prepared, workplace_of: Callable[..., Workplace]
) -> tuple[Performer, MadeEdits]:
    workplace = workplace_of(name, evaluations=4)
    outlook = foresee(EditList.of(file, workplace.chosen, batch=BATCH, limit=N), workplace)
    performer = Performer(Bench(setup, Settings(**SETTINGS)), outlook, workplace)
    results: dict[str, Any] = {}
    return performer, performer.run((results, results.__setitem__))


def corpus_of(performer: Performer) -> torch.Tensor:
    """Second moment of the keys that the texts are measured at."""
    texts = performer.bench.texts
    keys = torch.cat(
        [
            batch.recording.taken().keys[batch.recording.taken().mask.bool()].double()
            for i in range(len(texts._bounds))
            for batch in texts._portion(i).batches
        ]
    )
    return keys.T @ keys / len(keys)


def damage_of(steps: torch.Tensor, residuals: torch.Tensor, moment: torch.Tensor) -> torch.Tensor:
    """√tr(ΔWᵀ C ΔW) after each edit, ΔW = Σ w_i ⊗ r_i."""
    products = (steps @ moment @ steps.T) * (residuals @ residuals.T)
    return torch.stack([products[:n, :n].sum() for n in range(1, len(steps) + 1)]).sqrt()


@pytest.mark.parametrize("name", ["rome", "r_rome", *COUPLED])
def test_the_rows_of_the_forecast_are_those_of_the_edits_that_are_made(
    name: str, file: Path, setup: Prepared, workplace_of: Callable[..., Workplace]
) -> None:
    before = weights(setup)
    performer, made = performed(name, file, setup, workplace_of)
    assert torch.equal(weights(setup), before)
    assert [one.places for one in made.written] == [(0, 1), (2, 3), (4,)]
    assert [point["edits"] for point in made.checkpoints] == [2, 4, 5]
    forecast = performer.outlook.chosen
    steps = torch.cat([one.steps for one in made.written])
    assert float((forecast.steps - steps).norm() / steps.norm()) < 1e-4  # keys are float32
    # With the residuals that came, the closed form is what the texts' tokens went through.
    residuals = torch.cat([one.residuals for one in made.written])
    damage = damage_of(forecast.steps, residuals, corpus_of(performer))
    texts = performer.bench.texts
    for end in made.ends:
        measured = texts.rms_change([Total(made.after(end))])
        assert measured == pytest.approx(float(damage[end - 1]), rel=1e-3)
    assert float(damage[0]) != pytest.approx(float(damage[-1]), rel=1e-3)
    if METHODS[name].together and name != "emmet":  # the control: alone each would be another
        alone = forecast.plan.alone
        assert float((alone - steps).norm() / steps.norm()) > 1e-3


def test_residuals_are_no_longer_than_the_forecasts_bound(
    file: Path, setup: Prepared, workplace_of: Callable[..., Workplace]
) -> None:
    """‖z − h‖ is clamped to a multiple of ‖h‖, the stream that the list was read with."""
    performer, made = performed("memit", file, setup, workplace_of)
    streams = performer.outlook.listed.streams
    assert streams is not None
    lengths = made.written[0].residuals.norm(dim=1)
    clamp = performer.workplace.chosen.target.clamp_norm_factor
    assert bool((lengths <= clamp * streams[:BATCH] * (1 + 1e-4)).all())


def test_a_list_in_batches_resumes_to_the_same_document(
    setup: Prepared, file: Path, tmp_path: Path
) -> None:
    journal, options = tmp_path / "run.journal", {"method": "memit_seq", "batch": BATCH}
    options |= {"parameters": {"weight": 8.0}}
    whole_run = document(setup, file, journal, **options)
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 2 + 2 * 3
    for complete in (2, 3, 6):
        journal.write_bytes(b"".join(lines[:complete]) + lines[complete][:20])
        assert json.dumps(document(setup, file, journal, **options)) == json.dumps(whole_run)
    with pytest.raises(UserError, match=r"other settings \(batch\)"):
        document(setup, file, journal, **{**options, "batch": 3})
    with pytest.raises(UserError, match="no model after 3 edits to save: 5 were made, 2 at a time"):
        document(setup, file, journal, **options, save_model=str(tmp_path / "m"), save_after=3)
    saved = tmp_path / "saved"
    document(setup, file, journal, **options, save_model=str(saved), save_after=4)
    assert len(record.read_record(saved)["edits"]) == 4
    assert not torch.equal(load(saved, name="saved").output_weight(LAYER), weights(setup))
    record.undo(saved)
    assert torch.equal(load(saved, name="undone").output_weight(LAYER), weights(setup))
    found = validate(whole_run)
    assert (found["method"], found["batch"], found["parameters"]) == ("memit_seq", 2, {"weight": 8})
    assert set(found["editors"]) == set(COUPLED)
    assert len(found["forecast"]["damage"]) == len(found["edits"]) == N
    assert found["contexts"]["n"] == 3
    for edit in found["edits"]:
        assert 0 < edit["response"] < 2  # of the bare key; λ leaves a part at the one between


def test_an_edit_without_a_new_object_leaves_its_batch(
    setup: Prepared, file: Path, workplace_of: Callable[..., Workplace]
) -> None:
    cases = list(read_edits(file, limit=4).cases)
    cases[1] = dataclasses.replace(
        cases[1], request=dataclasses.replace(cases[1].request, target_new=None)
    )
    found = sequence(
        cases, method="memit", batch=BATCH, parameters={"weight": 8.0}, model=setup.model,
        layer=LAYER, prefixes=list(PREFIXES), second_moment=setup.moment, quiet=True,
        performing=Performing(), **SETTINGS,
    ).document  # fmt: skip
    performance = found["performance"]
    assert performance["failed"] == [{"index": 1, "reason": "it has no new object"}]
    assert performance["made"] == len(cases) - 1
    assert [point["edits"] for point in found["checkpoints"]] == [1, 3]
