"""Batches written for real: what keys receive, layer after layer, and nothing left behind."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from diag.batch.check import check_batch
from diag.batch.perform import performed, target_values
from diag.mathematics.metrics import combined
from probes.edited.weights import edited_layers
from probes.keys.batch import batch_keys, observe_batch, stream_at
from probes.keys.one_edit import capture
from probes.request.lookup import lookup
from rome_diagnosis.errors import UserError
from rome_diagnosis.methods import METHODS
from tests.diag.batch.conftest import CASES, PREFIXES

REQUESTS = [case.request for case in CASES]


def every_lookup(model):
    """Each edit in each context, edit by edit."""
    return [lookup(model, edit, prefix) for edit in REQUESTS for prefix in ("", *PREFIXES)]


@pytest.mark.parametrize("name", METHODS)
def test_every_prompt_receives_the_share_that_its_key_says(workplace_of, name: str) -> None:
    """φ from keys, before; the change of the MLP's output in the edited model, after."""
    workplace = workplace_of(name)
    model, layer = workplace.model, workplace.layers[0]
    at = every_lookup(model)
    before = capture(model, at, layer)
    found = check_batch(workplace, REQUESTS)
    with performed(workplace, REQUESTS) as made:
        after = capture(model, at, layer)
        first = made.layers[0]
    torch.testing.assert_close(after.keys, before.keys, atol=1e-12, rtol=1e-10)
    moved = after.values - before.values
    shares = first.update.response(before.keys)
    expected = shares @ first.update.residuals
    assert float((moved - expected).norm() / expected.norm()) < 1e-5
    # What the pre-flight said before any target was known is φ of the edit that was made.
    assert found.layers[0].cross is not None and found.layers[0].shares is not None
    bare = shares[:: 1 + len(PREFIXES)]
    torch.testing.assert_close(found.layers[0].cross, bare, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.layers[0].shares.bare, bare.diagonal(), atol=1e-5, rtol=1e-5)
    assert float(expected.norm()) > 1e-3  # the control: something was written
    assert float((moved - first.update.residuals.repeat_interleave(4, 0)).norm()) > 1e-3


@pytest.mark.parametrize("name", METHODS)
def test_damage_done_is_within_the_bounds_foretold(workplace_of, name: str) -> None:
    """The bounds know the clamp alone; the update that is made knows its target."""
    workplace = workplace_of(name)
    found = check_batch(workplace, REQUESTS).layers[0].damage
    moment = workplace.moments[workplace.layers[0]].moment
    assert moment is not None and found.bound is not None
    with performed(workplace, REQUESTS) as made:
        update = made.layers[0].update
    done = update.damage(moment)
    assert 0 < done <= found.bound * (1 + 1e-9)
    if found.whatever_keys is not None:
        assert done <= found.whatever_keys * (1 + 1e-9)
    # The control: residuals that no clamp holds pass the bound.
    unclamped = dataclasses.replace(update, residuals=1e4 * update.residuals)
    assert unclamped.damage(moment) > found.bound


@pytest.mark.parametrize(("name", "parts"), [("memit", 2.0), ("pmet", 2.0**0.5)])
def test_the_residuals_are_those_of_the_published_procedure(workplace_of, name, parts) -> None:
    """What z lacks after each layer, over the layers left; keys in the weights as they are then.

    MEMIT's z lies in the stream after the last layer, PMET's in that layer's MLP output.
    """
    workplace = workplace_of(name)
    model, (low, high) = workplace.model, workplace.layers

    def held():
        if name == "memit":
            return stream_at(model, at, high)
        return model.mlp_output(batch_keys(model, REQUESTS, high, ())[:, 0], high)

    targets = target_values(workplace, REQUESTS)
    at = [lookup(model, edit) for edit in REQUESTS]
    start = held()
    goal = torch.stack([target.value for target in targets])
    torch.testing.assert_close(torch.stack([t.initial for t in targets]), start, atol=1e-9, rtol=0)
    with performed(workplace, REQUESTS, targets=targets) as made:
        first, second = made.layers
        torch.testing.assert_close(
            first.update.residuals, (goal - start) / parts, atol=1e-9, rtol=0
        )
    with edited_layers(model, {low: [first.change]}):
        between = held()
        keys = batch_keys(model, REQUESTS, high, PREFIXES)
    torch.testing.assert_close(second.update.residuals, goal - between, atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(second.keys, keys, atol=1e-10, rtol=1e-8)
    assert float((goal - between - (goal - start)).norm()) > 1e-3  # the control
    unedited = batch_keys(model, REQUESTS, high, PREFIXES)
    assert float((keys - unedited).norm()) > 1e-6
    half = combined(keys, "half")
    metric = workplace.moments[high].moment
    ground = 40.0 * metric + half.T @ half
    expected = torch.linalg.solve(ground, half.T @ (goal - between))
    assert float((second.update.change() - expected).norm() / expected.norm()) < 1e-6


def test_the_model_is_restored_bit_for_bit_whatever_happens(workplace_of) -> None:
    workplace = workplace_of("memit")
    state = workplace.model.state_dict
    before = {name: value.clone() for name, value in state.items()}
    with performed(workplace, REQUESTS):
        changed = {name for name, value in state.items() if not torch.equal(value, before[name])}
    assert len(changed) == 2
    assert all(torch.equal(value, before[name]) for name, value in state.items())

    def interrupted() -> None:
        with performed(workplace, REQUESTS):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert all(torch.equal(value, before[name]) for name, value in state.items())


def test_what_was_received_is_near_what_was_foretold(workplace_of) -> None:
    workplace = workplace_of("memit", layers=(1,))
    found = check_batch(workplace, REQUESTS)
    with performed(workplace, REQUESTS) as made:
        received = made.received
    cross, wanted = found.layers[0].cross, made.wanted
    assert cross is not None
    # At one layer the stream moves by what all edits' changes add up to at the key.
    arrived = cross @ wanted
    expected = (arrived * wanted).sum(1) / wanted.square().sum(1)
    torch.testing.assert_close(received, expected, atol=1e-6, rtol=1e-5)
    assert found.bare is not None
    assert float((found.bare - received).abs().max()) < 0.5


def test_history_keeps_what_earlier_batches_wrote(workplace_of) -> None:
    """The next batch moves earlier edits' keys less when it remembers them."""
    moved = {}
    for remember in (True, False):
        workplace = workplace_of("memit_seq", layers=(1,), weight=1e-3)
        at = [lookup(workplace.model, edit) for edit in REQUESTS[:2]]
        with performed(workplace, REQUESTS[:2]) as one:
            assert set(one.remembered) == {1} and one.remembered[1].shape[0] == 2
            written = stream_at(workplace.model, at, 1)
            history = one.remembered if remember else None
            with performed(workplace, REQUESTS[2:], history) as two:
                moved[remember] = float((stream_at(workplace.model, at, 1) - written).norm())
                assert two.remembered[1].shape[0] == (4 if remember else 2)
    assert moved[True] < 0.5 * moved[False]
    with performed(workplace_of("memit", layers=(1,)), REQUESTS[:2]) as forgetful:
        assert forgetful.remembered == {}


def test_remembered_keys_are_those_after_all_layers_are_written(workplace_of) -> None:
    workplace = workplace_of("alphaedit")
    with performed(workplace, REQUESTS) as made:
        after = batch_keys(workplace.model, REQUESTS, 1, PREFIXES)
    unedited = batch_keys(workplace.model, REQUESTS, 1, PREFIXES)
    torch.testing.assert_close(made.remembered[1], combined(after, "half"), atol=1e-12, rtol=1e-10)
    assert float((after - unedited).norm()) > 1e-6  # the control: the layer below moved them


def test_a_batch_that_cannot_be_made_is_one_line(workplace_of) -> None:
    twice = [REQUESTS[0], dataclasses.replace(REQUESTS[0], after=" is in", target_new="Paris")]
    with (
        pytest.raises(UserError, match="EMMET cannot make this batch in block 0"),
        performed(workplace_of("emmet", damping=0.0), twice),
    ):
        pass
    with performed(workplace_of("memit"), twice) as made:
        assert made.layers[0].update.condition_number > 1
    with (
        pytest.raises(UserError, match="has no target"),
        performed(workplace_of("memit"), [dataclasses.replace(REQUESTS[0], target_new=None)]),
    ):
        pass


def test_keys_of_a_batch_are_those_of_its_edits(workplace_of) -> None:
    workplace = workplace_of("memit")
    found = observe_batch(workplace.model, REQUESTS, (0, 1), PREFIXES)
    own = capture(workplace.model, every_lookup(workplace.model), 1).keys
    torch.testing.assert_close(found.keys[1].flatten(0, 1), own, atol=1e-9, rtol=1e-7)
    assert [at.index for at in found.lookups] == [
        lookup(workplace.model, edit).index for edit in REQUESTS
    ]
