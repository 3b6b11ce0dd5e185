"""The update equation's theorems (each with a positive control), in exact float64."""

from __future__ import annotations

import math

import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

from diag.mathematics import damage, update
from probes.second_moment.moment import SecondMoment, of_moment

D_MLP, D_MODEL, N_CTX = 24, 10, 7


def close(x: float, y: float, tolerance: float = 1e-10) -> bool:
    return math.isclose(x, y, rel_tol=tolerance, abs_tol=tolerance)


@pytest.fixture(params=range(5))
def generator(request: pytest.FixtureRequest) -> torch.Generator:
    return torch.Generator().manual_seed(request.param)


def draw(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def corpus_moment(generator: torch.Generator) -> tuple[torch.Tensor, SecondMoment]:
    """Corpus keys, anisotropic and not centred as real ones are, and their second moment."""
    keys = draw(generator, 400, D_MLP) @ draw(generator, D_MLP, D_MLP) + draw(generator, D_MLP)
    return keys, of_moment(keys.T @ keys / len(keys), source="test")


def edit(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Keys and values under contexts, and a target."""
    return (
        draw(generator, N_CTX, D_MLP) + 2 * draw(generator, D_MLP),
        draw(generator, N_CTX, D_MODEL),
        draw(generator, D_MODEL),
    )


def test_denominators_are_the_formulas_with_an_explicit_inverse(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, _, _ = edit(generator)
    found = update.denominators(keys, moment)
    inverse = torch.linalg.inv(moment.moment)
    mean, bare = keys.mean(0), keys[0]
    assert close(found.rome, float(mean @ inverse @ bare))
    assert close(found.c_rome, float(mean @ inverse @ mean))
    assert close(found.p_rome, float(bare @ inverse @ bare))
    length = float((inverse @ mean).norm())
    assert close(found.rome_normalised, found.rome / length)
    assert close(found.c_rome_normalised, found.c_rome / length)
    prefixed = keys[1:].mean(0)
    assert close(
        found.ratio_without_bare,
        float(prefixed @ inverse @ bare) / float(prefixed @ inverse @ prefixed),
    )


def test_ratio_splits_exactly_into_length_and_angle(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, _, _ = edit(generator)
    found = update.denominators(keys, moment)
    assert close(found.ratio, found.length_ratio * found.cosine, 1e-13)
    assert abs(found.cosine) <= 1
    # Positive control: the split is not trivial, both factors differ from 1.
    assert abs(found.length_ratio - 1) > 1e-3
    assert abs(found.cosine - 1) > 1e-3


def test_ratio_is_free_of_the_scale_of_keys_and_moment(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, _, _ = edit(generator)
    plain = update.denominators(keys, moment)
    scaled = update.denominators(1e3 * keys, of_moment(1e-4 * moment.moment, source="test"))
    assert close(plain.ratio, scaled.ratio)
    assert not close(plain.rome, scaled.rome)


def test_consistent_denominators_are_positive_and_the_published_one_need_not_be(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, _, _ = edit(generator)
    found = update.denominators(keys, moment)
    assert found.c_rome > 0
    assert found.p_rome > 0
    keys[0] = -keys[1:].mean(0)
    flipped = update.denominators(keys, moment)
    assert flipped.rome < 0 < flipped.c_rome


def test_the_edited_map_takes_the_key_in_the_denominator_to_the_target(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, values, target = edit(generator)
    weight = draw(generator, D_MLP, D_MODEL)
    values = keys @ weight  # v belongs to its key, as in a real MLP without bias
    for variant, key in (("c_rome", keys.mean(0)), ("p_rome", keys[0]), ("rome", keys[0])):
        change = update.rank_one(variant, keys, values, target, moment)
        assert torch.allclose(key @ (weight + change.matrix()), target, atol=1e-9)
        other = draw(generator, D_MLP)
        assert not torch.allclose(other @ (weight + change.matrix()), target, atol=1e-3)


def test_published_update_misses_the_mean_key_where_the_keys_disagree(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, _, target = edit(generator)
    weight = draw(generator, D_MLP, D_MODEL)
    change = update.rank_one("rome", keys, keys @ weight, target, moment)
    moved = keys.mean(0) @ change.matrix()
    # What the mean key receives is what was meant for it, times 1/ρ.
    wanted = target - keys[0] @ weight
    assert torch.allclose(moved, wanted / update.denominators(keys, moment).ratio, rtol=1e-8)


def test_updates_have_rank_one_and_vanish_with_their_residual(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, values, target = edit(generator)
    for variant in update.VARIANTS:
        change = update.rank_one(variant, keys, values, target, moment)
        assert int(torch.linalg.matrix_rank(change.matrix())) == 1
        assert close(change.norm, float(change.matrix().norm()))
        nothing = update.rank_one(
            variant, keys, values, update.present_value(variant, values), moment
        )
        assert float(nothing.matrix().norm()) == 0.0
    # Without any δ, v* = v_u: the published c_rome still edits, because it subtracts v̄.
    assert update.rank_one("rome", keys, values, values[0], moment).norm == 0.0
    assert update.rank_one("c_rome", keys, values, values[0], moment).norm > 0.0


def test_identity_gives_the_plain_outer_product(generator) -> None:
    identity = SecondMoment.identity(D_MLP)
    keys, values, target = edit(generator)
    change = update.rank_one("p_rome", keys, values, target, identity)
    plain = torch.outer(keys[0], target - values[0]) / float(keys[0] @ keys[0])
    assert torch.allclose(change.matrix(), plain)
    _, moment = corpus_moment(generator)
    whitened = update.rank_one("p_rome", keys, values, target, moment)
    assert not torch.allclose(whitened.matrix(), plain, atol=1e-3)


def test_one_context_makes_the_variants_equal(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, values, target = edit(generator)
    one = [
        update.rank_one(v, keys[:1], values[:1], target, moment).matrix() for v in update.VARIANTS
    ]
    assert torch.allclose(one[0], one[1])
    assert torch.allclose(one[0], one[2])
    assert update.denominators(keys[:1], moment).ratio == pytest.approx(1.0, abs=1e-14)
    assert update.denominators(keys[:1], moment).ratio_without_bare is None
    several = [update.rank_one(v, keys, values, target, moment).matrix() for v in update.VARIANTS]
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
    assert abs(update.denominators(keys, moment).ratio) > 10


def test_damage_is_the_root_mean_square_over_the_corpus(generator) -> None:
    corpus, moment = corpus_moment(generator)
    keys, values, target = edit(generator)
    for variant in update.VARIANTS:
        change = update.rank_one(variant, keys, values, target, moment)
        residual = float((target - update.present_value(variant, values)).norm())
        measured = float((corpus @ change.matrix()).square().sum(1).mean().sqrt())
        predicted = damage.rms_change(residual, change.u, change.denominator, moment.moment)
        assert close(measured, predicted, 1e-9)
    assert damage.rms_change(1.0, change.u, 0.0, moment.moment) == math.inf


def test_published_damage_is_the_consistent_one_over_rho(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, _, _ = edit(generator)
    found = update.denominators(keys, moment)
    u = update.direction("rome", keys, moment)
    rome = damage.rms_change(1.0, u, found.rome, moment.moment)
    c_rome = damage.rms_change(1.0, u, found.c_rome, moment.moment)
    assert close(rome, c_rome / abs(found.ratio))
    # Solved with the corpus' own moment, uᵀCu is the consistent denominator itself.
    assert close(float(u @ moment.moment @ u), found.c_rome)


def test_damage_with_another_metric_in_the_solve_uses_the_general_form(generator) -> None:
    corpus, moment = corpus_moment(generator)
    keys, values, target = edit(generator)
    identity = SecondMoment.identity(D_MLP)
    change = update.rank_one("rome", keys, values, target, identity)
    measured = float((corpus @ change.matrix()).square().sum(1).mean().sqrt())
    residual = float((target - values[0]).norm())
    predicted = damage.rms_change(residual, change.u, change.denominator, moment.moment)
    assert close(measured, predicted, 1e-9)
    assert not close(float(change.u @ moment.moment @ change.u), change.denominator, 1e-2)


def test_bounds_hold_for_every_value_inside_the_clamp(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, values, _ = edit(generator)
    clamp = 3.0
    found = update.denominators(keys, moment)
    bounds = damage.bounds(keys, values, found, moment, clamp=clamp, residual_norm=2.0)
    for variant in update.VARIANTS:
        worst = 0.0
        against = update.present_value(variant, values) - values[0]
        directions = [draw(generator, D_MODEL) for _ in range(50)]
        if float(against.norm()) > 0:
            directions.append(-against)  # the worst case for the published c_rome
        for delta in directions:
            delta = delta / delta.norm() * clamp * values[0].norm()
            change = update.rank_one(variant, keys, values, values[0] + delta, moment)
            size = damage.rms_change(
                float((values[0] + delta - update.present_value(variant, values)).norm()),
                change.u, change.denominator, moment.moment,
            )  # fmt: skip
            worst = max(worst, size)
        assert worst <= bounds[variant].bound * (1 + 1e-12)
        assert worst >= bounds[variant].bound * (1 - 1e-9)  # the bound is attained
        assert close(bounds[variant].relative_bound, bounds[variant].bound / 2.0)
    none = damage.bounds(keys, values, found, SecondMoment.identity(D_MLP))
    assert all(bound.bound is None and bound.relative_bound is None for bound in none.values())


def test_ratio_interval_is_a_bootstrap_over_prefixed_contexts(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, _, _ = edit(generator)
    found = update.ratio_interval(keys, moment, draws=500, seed=3)
    # The same resamples, with the mean keys formed in full.
    again = torch.Generator().manual_seed(3)
    drawn = torch.randint(N_CTX - 1, (500, N_CTX - 1), generator=again)
    ratios = [
        moment.ratio(keys[0], torch.cat([keys[:1], keys[1:][rows]]).mean(0)) for rows in drawn
    ]
    quantiles = torch.tensor(ratios, dtype=torch.float64).quantile(
        torch.tensor([0.025, 0.975], dtype=torch.float64)
    )
    assert found == pytest.approx(quantiles.tolist(), rel=1e-9)
    assert found[0] < found[1]
    same = torch.cat([keys[:1], keys[1:2].expand(N_CTX - 1, -1)])
    low, high = update.ratio_interval(same, moment)
    assert close(low, high)
    assert update.ratio_interval(keys[:2], moment) is None


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
        for name in ("denominators", "ratio_interval", "direction", "present_value", "rank_one")
    }
    checked["denominators"](keys, moment)
    checked["ratio_interval"](keys, moment)
    checked["direction"]("rome", keys, moment)
    checked["present_value"]("rome", values)
    checked["rank_one"]("rome", keys, values, target, moment)
    with pytest.raises(TypeCheckError):
        checked["denominators"](keys[0], moment)
    with pytest.raises(TypeCheckError):
        checked["present_value"]("rome", values[0])
