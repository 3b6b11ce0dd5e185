"""The forecast of a list: each edit as it is judged alone, sums over the list, and its order."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from diag.batch.settings import Workplace
from diag.judgement.verdict import verdict_of
from diag.keys.run import diagnose
from diag.mathematics.damage import Optimiser
from diag.mathematics.stream import Stream
from diag.sequence import sequence
from diag.sequence.api import Order
from diag.sequence.forecast import forecast_list, reached
from diag.sequence.listed import Listed
from diag.sequence.outlook import places
from diag.sequence.plan import Plan
from diag.sequence.run import EditList, foresee
from probes.model.contribution import contribution
from probes.model.loaded import LoadedModel
from probes.request.records import read_edits
from probes.second_moment.moment import SecondMoment
from probes.setup import Prepared
from probes.target_value.hyperparameters import Hyperparameters
from probes.target_value.method_file import defaults
from rome_diagnosis.editors import EDITORS
from rome_diagnosis.errors import UserError
from rome_diagnosis.limits import SEQUENCE_COLLAPSE
from rome_diagnosis.methods import METHODS
from tests.diag.screen.test_shard import solvable
from tests.diag.sequence.listing import LAYER, PREFIXES, RECORDS

Workplaces = Callable[..., Workplace]


@pytest.fixture(scope="module")
def listed(file: Path, workplace_of: Workplaces) -> Listed:
    return foresee(asked(file), workplace_of()).listed


def asked(file: Path, order: Order = "given", method: str = "rome", batch: int = 1) -> EditList:
    return EditList.of(file, defaults(method), batch=batch, order=order, seed=5)


def document(setup: Prepared, file: Path, **options: Any) -> dict[str, Any]:
    result = sequence(
        file, model=setup.model, layer=LAYER,
        **{
            "prefixes": list(PREFIXES), "second_moment": setup.moment, "quiet": True, **options,
        },
    )  # fmt: skip
    return dict(result.document)


@pytest.mark.parametrize("method", EDITORS)
def test_an_edit_alone_is_what_its_diagnosis_says(
    method: str, setup: Prepared, listed: Listed, workplace_of: Workplaces
) -> None:
    stream = Stream(setup.moment, contribution(setup.model, LAYER))
    plan = Plan.all_by(listed, workplace_of().under(METHODS[method]))
    found = forecast_list(plan, stream, Optimiser(4.0, 100.0))
    assert found.alone.corpus is not None and found.alone.first_tokens is not None
    for i, case in enumerate(listed.cases):
        bound = diagnose(case.request, setup, hyperparameters=Hyperparameters()).document["damage"][
            method
        ]
        assert float(found.alone.corpus[i]) == pytest.approx(bound["relative_bound"], rel=1e-4)
        assert float(found.alone.first_tokens[i]) == pytest.approx(
            bound["relative_bound_first_tokens"], rel=1e-4
        )


@pytest.mark.parametrize("clamp", [0.2, 4.0])
def test_an_edits_verdict_is_the_one_of_its_diagnosis(
    clamp: float, setup: Prepared, file: Path
) -> None:
    target = Hyperparameters(clamp_norm_factor=clamp)
    cases = read_edits(file).cases
    alone = [diagnose(case.request, setup, hyperparameters=target).document for case in cases]
    for method in EDITORS:
        found = document(setup, file, method=method, hyperparameters=target)["edits"]
        assert [edit["verdict"] for edit in found] == [
            one["damage"][method]["verdict"] for one in alone
        ]


def test_another_draw_of_the_contexts_takes_back_a_safe_of_rome_alone(
    file: Path, workplace_of: Workplaces
) -> None:
    found = foresee(asked(file), workplace_of("rome", clamp_norm_factor=0.2)).editors
    taken_back = {
        name: sum(
            verdict_of(own) == "safe" != of
            for own, of in zip(editor.grounds, editor.verdicts, strict=True)
        )
        for name, editor in found.items()
    }
    assert taken_back == {"rome": 2, "c_rome": 0, "p_rome": 0}


def test_a_consistent_target_leaves_delta_alone(file: Path, workplace_of: Workplaces) -> None:
    published = workplace_of("c_rome", clamp_norm_factor=0.2)
    consistent = dataclasses.replace(published, consistent=True)
    asked_for = asked(file, method="c_rome")
    with_distance, without = (foresee(asked_for, place) for place in (published, consistent))
    values = without.listed.values
    longest = 0.2 * values["bare"].norm(dim=1)
    apart = (values["bare"] - values["mean"]).norm(dim=1)
    torch.testing.assert_close(without.chosen.bounds, longest)
    torch.testing.assert_close(with_distance.chosen.bounds, longest + apart)
    assert bool((apart > 0).all())
    # Each δ adds to what is there; what earlier edits wrote at its key is not taken back.
    alone, curve = without.chosen.alone.corpus, without.chosen.curve.corpus
    assert alone is not None and curve is not None and curve[0] == pytest.approx(alone[0])
    residuals = without.chosen.residuals
    w, moment = without.chosen.steps, published.moments[LAYER].moment
    squares = ((w @ moment) * w).sum(1) * residuals.square()
    unit = published.streams[LAYER].unit
    torch.testing.assert_close(curve * unit, squares.cumsum(0).sqrt())
    # Methods that subtract the bare value are what they were.
    for name in ("rome", "p_rome"):
        same = (of.editors[name].residuals for of in (with_distance, without))
        torch.testing.assert_close(*same)


def test_plans_take_each_methods_own_keys(listed: Listed, workplace_of: Workplaces) -> None:
    p_rome, c_rome = (workplace_of().under(METHODS[name]) for name in ("p_rome", "c_rome"))
    plan = Plan.all_by(listed, p_rome).with_method(c_rome, {2}).without({0})
    assert plan.chosen == tuple(range(1, len(listed)))
    rows = plan.rows(listed.keys, "divide_by")
    assert torch.equal(rows[1], listed.keys["mean"][2])
    assert torch.equal(rows[0], listed.keys["bare"][1])
    assert not torch.equal(listed.keys["mean"][2], listed.keys["bare"][2])
    own = [Plan.all_by(listed, by).steps for by in (p_rome, c_rome)]
    torch.testing.assert_close(plan.steps, torch.cat([own[0][1:2], own[1][2:3], own[0][3:]]))


def test_the_document_says_which_record_is_meant(setup: Prepared, file: Path) -> None:
    given, drawn = (document(setup, file, order=order) for order in ("given", "shuffled"))
    assert [edit["index"] for edit in given["edits"]] == [0, 1, 2, *range(4, 19)]
    assert [one["index"] for one in given["refused"]] == [3]
    indices = [edit["index"] for edit in drawn["edits"]]
    assert sorted(indices) == [edit["index"] for edit in given["edits"]] != indices
    for edit in drawn["edits"]:
        (same,) = (other for other in given["edits"] if other["index"] == edit["index"])
        record = RECORDS[edit["index"] - (edit["index"] > 3)]
        assert (edit["subject"], edit["prompt"]) == (record["subject"], record["prompt"])
        for name in ("damage", "rho", "verdict"):
            assert edit[name] == (
                same[name] if name == "verdict" else pytest.approx(same[name], rel=1e-4)
            )


def test_the_forecast_is_one_number_an_edit_and_says_where_it_reaches_the_limit(
    setup: Prepared, file: Path
) -> None:
    for method in EDITORS:
        found = document(setup, file, method=method)
        damage = found["forecast"]["damage"]
        assert len(damage) == len(found["edits"]) == 18
        assert found["forecast"]["collapse_at"] == reached(damage, SEQUENCE_COLLAPSE.value)
        assert found["editors"][method]["collapse_at"] == found["forecast"]["collapse_at"]
        for point in found["forecast"]["curve"]:
            ends = point["damage"]
            assert ends["low"] <= ends["expected"] <= ends["high"] * (1 + 1e-6)
        assert found["advice"] and found["checkpoints"] == [] and found["performance"] is None


def test_dangerous_edits_and_what_is_left_without_them(setup: Prepared, file: Path) -> None:
    found = document(setup, file)
    dangerous = {one["index"] for one in found["forecast"]["dangerous"]}
    alone = {
        edit["index"] for edit in found["edits"] if edit["verdict"].endswith("_risk")
    }  # fmt: skip
    assert dangerous == alone and 0 < len(dangerous) < 18
    assert found["forecast"]["without_dangerous"]["edits"] == 18 - len(dangerous)
    for one in found["forecast"]["dangerous"]:
        assert "limit" in one["reason"]


def test_the_same_edit_twice_is_a_pair_that_receives_all_of_it(setup: Prepared, file: Path) -> None:
    case = read_edits(file).cases[7]
    found = sequence(
        [case, case], method="p_rome", model=setup.model, layer=LAYER, prefixes=list(PREFIXES),
        second_moment=setup.moment, quiet=True,
        hyperparameters=Hyperparameters(clamp_norm_factor=1e-3),  # so that neither is dangerous
    ).document["forecast"]  # fmt: skip
    (pair,) = found["pairs"]
    assert (pair["earlier"], pair["later"]) == (0, 1)
    assert pair["share"] == pytest.approx(1.0)
    assert "both edit" in pair["reason"]
    assert found["forgetting"]["n_lost"] == 1


def test_without_a_corpus_moment_nothing_is_called_safe(setup: Prepared, file: Path) -> None:
    identity = SecondMoment.identity(setup.moment.d_mlp)
    found = document(setup, file, second_moment=identity)
    assert found["forecast"]["not_checked"] and found["forecast"]["damage"] == []
    assert found["forecast"]["collapse_at"] is None
    assert {edit["verdict"] for edit in found["edits"]} <= {"unclear", "collapse_risk"}
    assert "second moment" in found["advice"][0]


def test_where_a_norm_stands_behind_the_mlp_changes_are_sampled(
    tiny_model: Callable[[str], LoadedModel], file: Path
) -> None:
    model = tiny_model("olmo2")
    moment = solvable(model, LAYER)
    assert contribution(model, LAYER).scale is None
    found = sequence(
        file, model=model, layer=LAYER, prefixes=list(PREFIXES), second_moment=moment, quiet=True
    ).document  # fmt: skip
    damage = found["forecast"]["damage"]
    assert len(damage) == len(found["edits"])
    assert all(later >= earlier for earlier, later in itertools.pairwise(damage))


def test_places_are_dense_where_something_happens(workplace_of: Workplaces, file: Path) -> None:
    outlook = foresee(asked(file), workplace_of())
    assert places(outlook) == list(range(1, 19))
    some = places(outlook, 8)
    assert some[-1] == 18 and len(some) < 18 and some == sorted(set(some))
    assert outlook.dangerous[0] + 1 in some


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"method": "memo"}, "there is no method 'memo': known are rome"),
        ({"batch": 0}, "1 edit or more, not 0"),
        ({"order": "sorted"}, "given or shuffled"),
        ({"limit": 0}, "1 or more, not 0"),
    ],
)
def test_mistakes_are_named(
    options: dict[str, Any], complaint: str, setup: Prepared, file: Path
) -> None:
    with pytest.raises(UserError, match=complaint):
        document(setup, file, **options)
    with pytest.raises(UserError, match="no edits"):
        sequence([])


def test_cases_in_memory_are_a_list_too(setup: Prepared, file: Path) -> None:
    cases = read_edits(file).cases[:4]
    found = sequence(
        cases, model=setup.model, layer=LAYER, prefixes=list(PREFIXES),
        second_moment=setup.moment, quiet=True,
    )  # fmt: skip
    assert [edit["index"] for edit in found.document["edits"]] == [0, 1, 2, 3]
    assert "4 edits by rome" in repr(found)
    assert len(found.to_pandas()) == 4


def test_no_editor_is_called_safe_with_too_few_contexts_to_draw_from(
    setup: Prepared, file: Path
) -> None:
    small = Hyperparameters(clamp_norm_factor=0.001)
    for method in EDITORS:
        few, enough = (
            document(setup, file, method=method, hyperparameters=small, prefixes=list(some))
            for some in (PREFIXES[:1], PREFIXES)
        )
        assert {edit["verdict"] for edit in few["edits"]} == {"unclear"}
        assert "safe" in {edit["verdict"] for edit in enough["edits"]}
