"""The update equation's theorems (each with a positive control), in exact float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

from diag.mathematics import damage, update
from diag.mathematics.response import responses
from probes.second_moment.moment import SecondMoment, of_moment
from rome_diagnosis.editors import EDITORS
from tests.diag.mathematics.drawn import (
    D_MLP,
    D_MODEL,
    N_CTX,
    close,
    corpus_moment,
    draw,
    edit,
    stream,
)


def test_denominators_are_the_formulas_with_an_explicit_inverse(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, _, _ = edit(generator)
    found = update.denominators(keys, moment)
    inverse = torch.linalg.inv(moment.moment)
    mean, bare = keys.mean(0), keys[0]
    assert close(found.raw["rome"], float(mean @ inverse @ bare))
    assert close(found.raw["c_rome"], float(mean @ inverse @ mean))
    assert close(found.raw["p_rome"], float(bare @ inverse @ bare))
    length = float((inverse @ mean).norm())
    assert close(found.normalised["rome"], found.raw["rome"] / length)
    assert close(found.normalised["c_rome"], found.raw["c_rome"] / length)
    prefixed = keys[1:].mean(0)
    assert close(
        found.split.without_bare,
        float(prefixed @ inverse @ bare) / float(prefixed @ inverse @ prefixed),
    )


def test_ratio_splits_exactly_into_length_and_angle(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, _, _ = edit(generator)
    found = update.denominators(keys, moment)
    assert close(found.split.ratio, found.split.length_ratio * found.split.cosine, 1e-13)
    assert abs(found.split.cosine) <= 1
    # Positive control: the split is not trivial, both factors differ from 1.
    assert abs(found.split.length_ratio - 1) > 1e-3
    assert abs(found.split.cosine - 1) > 1e-3


def test_ratio_is_free_of_the_scale_of_keys_and_moment(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, _, _ = edit(generator)
    plain = update.denominators(keys, moment)
    scaled = update.denominators(1e3 * keys, of_moment(1e-4 * moment.moment, source="test"))
    assert close(plain.split.ratio, scaled.split.ratio)
    assert not close(plain.raw["rome"], scaled.raw["rome"])


def test_consistent_denominators_are_positive_and_the_published_one_need_not_be(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, _, _ = edit(generator)
    found = update.denominators(keys, moment)
    assert found.raw["c_rome"] > 0
    assert found.raw["p_rome"] > 0
    keys[0] = -keys[1:].mean(0)
    flipped = update.denominators(keys, moment)
    assert flipped.raw["rome"] < 0 < flipped.raw["c_rome"]


def test_the_edited_map_takes_the_key_in_the_denominator_to_the_target(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, values, target = edit(generator)
    weight = draw(generator, D_MLP, D_MODEL)
    values = keys @ weight  # v belongs to its key, as in a real MLP without bias
    for name, key in (("c_rome", keys.mean(0)), ("p_rome", keys[0]), ("rome", keys[0])):
        change = update.rank_one(EDITORS[name], keys, values, target, moment)
        assert torch.allclose(key @ (weight + change.matrix()), target, atol=1e-9)
        other = draw(generator, D_MLP)
        assert not torch.allclose(other @ (weight + change.matrix()), target, atol=1e-3)


def test_published_update_misses_the_mean_key_where_the_keys_disagree(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, _, target = edit(generator)
    weight = draw(generator, D_MLP, D_MODEL)
    change = update.rank_one(EDITORS["rome"], keys, keys @ weight, target, moment)
    moved = keys.mean(0) @ change.matrix()
    # What the mean key receives is what was meant for it, times 1/ρ.
    wanted = target - keys[0] @ weight
    assert torch.allclose(moved, wanted / update.denominators(keys, moment).split.ratio, rtol=1e-8)


def test_updates_have_rank_one_and_vanish_with_their_residual(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, values, target = edit(generator)
    for editor in EDITORS.values():
        change = update.rank_one(editor, keys, values, target, moment)
        assert int(torch.linalg.matrix_rank(change.matrix())) == 1
        assert close(change.norm, float(change.matrix().norm()))
        nothing = update.rank_one(
            editor, keys, values, update.chosen(values, editor.subtract), moment
        )
        assert float(nothing.matrix().norm()) == 0.0
    # Without any δ, v* = v_u: the published c_rome still edits, because it subtracts v̄.
    assert update.rank_one(EDITORS["rome"], keys, values, values[0], moment).norm == 0.0
    assert update.rank_one(EDITORS["c_rome"], keys, values, values[0], moment).norm > 0.0


def test_identity_gives_the_plain_outer_product(generator) -> None:
    identity = SecondMoment.identity(D_MLP)
    keys, values, target = edit(generator)
    change = update.rank_one(EDITORS["p_rome"], keys, values, target, identity)
    plain = torch.outer(keys[0], target - values[0]) / float(keys[0] @ keys[0])
    assert torch.allclose(change.matrix(), plain)
    _, moment = corpus_moment(generator)
    whitened = update.rank_one(EDITORS["p_rome"], keys, values, target, moment)
    assert not torch.allclose(whitened.matrix(), plain, atol=1e-3)


def test_one_context_makes_the_editors_equal(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, values, target = edit(generator)
    one = [
        update.rank_one(v, keys[:1], values[:1], target, moment).matrix() for v in EDITORS.values()
    ]
    assert torch.allclose(one[0], one[1])
    assert torch.allclose(one[0], one[2])
    assert update.denominators(keys[:1], moment).split.ratio == pytest.approx(1.0, abs=1e-14)
    assert update.denominators(keys[:1], moment).split.without_bare is None
    several = [update.rank_one(v, keys, values, target, moment).matrix() for v in EDITORS.values()]
    assert not torch.allclose(several[0], several[1], atol=1e-3)


def test_single_edit_memit_denominator_cannot_vanish(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, _, _ = edit(generator)
    keys[0] = -keys[1:].mean(0) * (N_CTX - 1) * 0.999
    ridge = 15_000.0
    # MEMIT solves (λC + kkᵀ)x = k for its one key; by Sherman-Morrison that divides by λ + kᵀC⁻¹k.
    key = (keys[0] + keys[1:].mean(0)) / 2
    solved = torch.linalg.solve(ridge * moment.moment + torch.outer(key, key), key)
    expected = moment.solve(key) / (ridge + moment.inner(key, key))
    assert torch.allclose(solved, expected, rtol=1e-6)
    assert ridge + moment.inner(key, key) >= ridge
    # Positive control: for the same keys the published denominator is far off the consistent one.
    assert abs(update.denominators(keys, moment).split.ratio) > 10


def test_a_fourth_editor_is_one_row(generator, monkeypatch: pytest.MonkeyPatch) -> None:
    row = replace(EDITORS["rome"], name="other", along="bare", divide_by="mean", subtract="mean")
    monkeypatch.setitem(EDITORS, "other", row)
    _, moment = corpus_moment(generator)
    keys, values, target = edit(generator)
    found = update.denominators(keys, moment)
    bare, mean = keys[0], keys.mean(0)
    assert close(found.raw["other"], moment.inner(bare, mean))
    bound = damage.bounds(values, found, stream(moment), damage.Optimiser(4.0, 1e9))["other"]
    change = update.rank_one(row, keys, values, target, moment)
    assert close(change.denominator, found.raw["other"])
    residual = 4 * float(values[0].norm()) + float((values[0] - values.mean(0)).norm())
    assert close(bound.residual, residual)
    rate = damage.rms_change(1.0, change.u, change.denominator, moment.moment)
    assert close(bound.bound, residual * rate)
    assert close(responses(keys, found, moment)["other"].bare, change.u @ bare / found.raw["other"])


def test_a_ridge_is_added_only_where_it_is_needed(generator) -> None:
    _, moment = corpus_moment(generator)
    assert moment.ridge == 0.0
    few = draw(generator, 5, D_MLP)
    singular = of_moment(few.T @ few / 5, source="test")
    assert singular.ridge > 0
    assert singular.condition_number == pytest.approx(1e10, rel=1e-3)
    # Hard to solve with is not singular: Cholesky's answer is still the exact one's to many digits.
    steep = torch.diag(torch.logspace(0, -13, D_MLP, dtype=torch.float64))
    turn = torch.linalg.qr(draw(generator, D_MLP, D_MLP)).Q
    hard = of_moment(turn @ steep @ turn.T, source="test")
    assert hard.ridge == 0.0
    wanted = turn @ (torch.arange(D_MLP) + 1.0).double().sqrt()
    image = turn @ steep @ turn.T @ wanted
    assert hard.inner(image, wanted) == pytest.approx(float(wanted @ wanted), rel=1e-3)
    key = draw(generator, D_MLP)
    regular = singular.moment + singular.ridge * torch.eye(D_MLP, dtype=torch.float64)
    assert torch.allclose(regular @ singular.solve(key), key, atol=1e-3)


def test_a_zero_key_is_refused() -> None:
    with pytest.raises(ValueError, match="a key is zero"):
        update.denominators(torch.zeros(3, 4, dtype=torch.float64), SecondMoment.identity(4))


def test_shapes_are_what_the_signatures_say(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, values, target = edit(generator)
    checked = {
        name: jaxtyped(typechecker=beartype)(getattr(update, name))
        for name in ("denominators", "direction", "chosen", "rank_one")
    }
    checked["denominators"](keys, moment)
    checked["direction"](EDITORS["rome"], keys, moment)
    checked["chosen"](values, "mean")
    checked["rank_one"](EDITORS["rome"], keys, values, target, moment)
    with pytest.raises(TypeCheckError):
        checked["denominators"](keys[0], moment)
    with pytest.raises(TypeCheckError):
        checked["chosen"](values[0], "mean")
