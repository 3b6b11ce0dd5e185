"""Lists that are made: one edit after another, resumed, taken back, and the culprit named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from diag.apply import undo
from diag.batch import perform as written
from diag.batch.settings import Workplace
from diag.mathematics.update import RankOne
from diag.sequence import sequence
from diag.sequence.checkpoints import Checkpoints
from diag.sequence.perform import MadeEdits, WrittenBatch, _first_collapsed
from diag.sequence.performance import Performer
from diag.sequence.run import EditList, Performing, foresee
from diag.verify.one_edit import Bench
from diag.verify.settings import Facts, Settings, Texts
from probes import bundled
from probes.edited.weights import Total, edited
from probes.model.load import load
from probes.request.cases import fact, from_record
from probes.setup import Prepared
from probes.target_value.hyperparameters import Hyperparameters
from rome_diagnosis.errors import UserError
from tests import tiny
from tests.diag.sequence.listing import LAYER, PREFIXES, RECORDS

N = 5
SETTINGS = {
    "hyperparameters": Hyperparameters(evaluations=4),
    "texts": Texts.given(tiny.TRAINING_TEXT[:12]),
    "facts": Facts("test", tuple(fact(record) for record in RECORDS[:6])),
    "generated_tokens": 3,
}


@pytest.fixture(scope="module")
def performer(file: Path, setup: Prepared, workplace_of: Callable[..., Workplace]) -> Performer:
    workplace = workplace_of("c_rome", evaluations=4)
    outlook = foresee(EditList.of(file, workplace.chosen, limit=N), workplace)
    return Performer(Bench(setup, Settings(**SETTINGS)), outlook, workplace)


@pytest.fixture(scope="module")
def made(performer: Performer) -> MadeEdits:
    results: dict[str, Any] = {}
    return performer.run((results, results.__setitem__))


def document(
    setup: Prepared, file: Path, journal: Path, *, method: str = "c_rome", batch: int = 1,
    parameters: dict[str, float] | None = None, **options: Any,
) -> dict[str, Any]:  # fmt: skip
    result = sequence(
        file, method=method, batch=batch, parameters=parameters, model=setup.model, layer=LAYER,
        prefixes=list(PREFIXES), second_moment=setup.moment, quiet=True, limit=N,
        performing=Performing(str(journal), **options), **SETTINGS,
    )  # fmt: skip
    return dict(result.document)


def test_each_target_is_optimised_on_the_model_as_the_earlier_ones_left_it(
    made: MadeEdits, performer: Performer, setup: Prepared
) -> None:
    bench, before = performer.bench, weights(setup)
    changes: list[RankOne] = []
    for case, change in zip(performer.outlook.listed.cases, made.changes, strict=True):
        with edited(setup.model, changes, LAYER):
            (target,) = bench.target_values([case])
            again = bench.factors(bench.observe(case), target)["c_rome"]
        assert torch.allclose(again.matrix(), change.matrix(), rtol=1e-3, atol=1e-7)
        changes.append(change)
    assert len(changes) == N
    # The control: on the unedited model the last one comes out otherwise.
    (alone,) = bench.target_values([performer.outlook.listed.cases[-1]])
    other = bench.factors(bench.observe(performer.outlook.listed.cases[-1]), alone)["c_rome"]
    assert not torch.allclose(other.matrix(), changes[-1].matrix(), rtol=1e-3, atol=1e-7)
    assert torch.equal(weights(setup), before)


def test_the_damage_of_the_list_is_the_measured_change(
    made: MadeEdits, performer: Performer
) -> None:
    texts = performer.bench.texts
    measured = texts.rms_change([Total(made.total)])
    keys = torch.cat(
        [
            batch.recording.taken().keys[batch.recording.taken().mask.bool()].double()
            for i in range(len(texts._bounds))
            for batch in texts._portion(i).batches
        ]
    )
    moment = keys.T @ keys / len(keys)
    predicted = float((made.total * (moment @ made.total)).sum()) ** 0.5
    assert measured == pytest.approx(predicted, rel=1e-3)
    assert measured == pytest.approx(texts.rms_change(made.changes), rel=1e-3)
    assert measured != pytest.approx(texts.rms_change(made.changes[:-1]), rel=1e-3)


def test_a_checkpoint_measures_the_model_as_it_is_then(
    made: MadeEdits, performer: Performer
) -> None:
    bench = performer.bench
    assert [point["edits"] for point in made.checkpoints] == list(range(1, N + 1))
    for n, point in enumerate(made.checkpoints, 1):
        compared = bench.perplexity(made.changes[:n])
        assert point["ratio"] == pytest.approx(compared["ratio"], rel=1e-4)
        change = sum(change.matrix() for change in made.changes[:n])
        assert isinstance(change, torch.Tensor)
        original = bench.model.output_weight(LAYER).double()
        values = torch.linalg.svdvals(original + change)
        largest = float(torch.linalg.svdvals(original)[0])
        assert point["top_singular_value"] == pytest.approx(float(values[0]) / largest)
        assert point["weight_norm_ratio"] == pytest.approx(float(change.norm() / original.norm()))
        assert point["logits_finite"] is True


def weights(setup: Prepared) -> torch.Tensor:
    return setup.model.output_weight(LAYER).detach().clone()


def test_a_run_that_was_killed_anywhere_ends_with_the_same_document(
    setup: Prepared, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "run.journal"
    before = weights(setup)
    whole_run = document(setup, file, journal)
    assert torch.equal(weights(setup), before)
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 2 + 2 * N  # a head, when it began, and an edit and a checkpoint each
    optimised = 0
    target_values = written.target_values

    def counted(workplace: Workplace, requests: Any) -> Any:
        nonlocal optimised
        optimised += len(requests)
        return target_values(workplace, requests)

    monkeypatch.setattr(written, "target_values", counted)
    for complete in (1, 3, 4, 7):
        optimised = 0
        journal.write_bytes(b"".join(lines[:complete]) + lines[complete][:20])
        again = document(setup, file, journal)
        assert again["created"] == (whole_run["created"] if complete > 1 else again["created"])
        again["created"] = whole_run["created"]
        assert json.dumps(again) == json.dumps(whole_run)
        edits_done = sum(b'"w"' in line for line in lines[:complete])
        assert optimised == N - edits_done


def test_a_journal_of_another_run_is_not_continued(
    setup: Prepared, file: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "run.journal"
    document(setup, file, journal)
    with pytest.raises(UserError, match=r"other settings \(method\)"):
        sequence(
            file, method="p_rome", model=setup.model, layer=LAYER, prefixes=list(PREFIXES),
            second_moment=setup.moment, quiet=True, limit=N,
            performing=Performing(str(journal)), **SETTINGS,
        )  # fmt: skip


def test_the_model_after_some_edits_is_saved_and_taken_back(
    setup: Prepared, file: Path, tmp_path: Path, made: MadeEdits
) -> None:
    target = tmp_path / "edited"
    document(setup, file, tmp_path / "j", save_model=str(target), save_after=2)
    saved = load(target, name="saved").output_weight(LAYER)
    expected = weights(setup).double() + made.after(2)
    assert torch.allclose(saved.double(), expected, atol=1e-6)
    assert not torch.allclose(saved.double(), weights(setup).double(), atol=1e-6)
    undo(target)
    assert torch.equal(load(target, name="restored").output_weight(LAYER), weights(setup))
    with pytest.raises(UserError, match="no model after 9 edits to save: 5 were made"):
        document(setup, file, tmp_path / "j", save_model=str(tmp_path / "x"), save_after=9)


class Counting(Checkpoints):
    """Calls a change a collapse when it is large enough."""

    def __init__(self, limit: float) -> None:
        self.limit, self.asked = limit, 0

    def collapsed(self, change: torch.Tensor) -> bool:
        self.asked += 1
        return float(change.norm()) >= self.limit


@pytest.mark.parametrize("culprit", range(4, 12))
def test_the_culprit_is_found_by_halving(culprit: int) -> None:
    unit = torch.tensor([1.0, 0.0], dtype=torch.float64)
    sizes = [1000.0 if i + 1 == culprit else 1.0 for i in range(11)]
    made = MadeEdits(torch.zeros(2, 2, dtype=torch.float64))
    for i, size in enumerate(sizes):
        made.add(WrittenBatch((i,), unit[None], size * unit[None]))
    made.checkpoints = [{"edits": 3}, {"edits": 11}]
    measured = Counting(500.0)
    assert _first_collapsed(made, measured) == culprit
    assert measured.asked == 3


def test_an_edit_that_cannot_be_made_is_listed(
    performer: Performer, monkeypatch: pytest.MonkeyPatch
) -> None:
    target_values = written.target_values

    def refusing(workplace: Workplace, requests: Any) -> Any:
        if requests[0] is performer.outlook.listed.cases[2].request:
            raise UserError("its text is too long")
        return target_values(workplace, requests)

    monkeypatch.setattr(written, "target_values", refusing)
    results: dict[str, Any] = {}
    found = performer.run((results, results.__setitem__))
    assert [one.index for one in found.failed] == [2]
    assert found.places == [0, 1, 3, 4]
    described = performer.describe(found)["performance"]
    assert described["failed"] == [{"index": 2, "reason": "its text is too long"}]
    assert described["made"] == 4


def test_the_forecast_names_the_edit_that_breaks_the_bundled_model() -> None:
    facts = bundled.facts()
    turkey = next(one for one in facts if one["subject"] == "Turkey")
    later = [one for one in facts if " " in one["subject"]][:3]
    cases = [from_record(one) for one in (*later[:2], turkey, later[2])]
    found = sequence(
        cases, perform=True, quiet=True, texts=bundled.texts()[:20], generated_tokens=3
    ).document  # fmt: skip
    assert [one["index"] for one in found["forecast"]["dangerous"]] == [2]
    assert found["forecast"]["collapse_at"] == found["collapse_at"] == 3
    culprit = found["performance"]["culprit"]
    assert (culprit["index"], culprit["subject"], culprit["alone"]) == (2, "Turkey", True)
    assert found["checkpoints"][-1]["outcome"] == "collapsed"
    assert found["checkpoints"][1]["outcome"] != "collapsed"
