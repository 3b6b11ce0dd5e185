"""Damage before an edit: a root mean square in closed form, and a bound that is attained."""

from __future__ import annotations

import math
from dataclasses import replace

from diag.mathematics import damage, update
from diag.mathematics.damage import Optimiser
from probes.second_moment.moment import SecondMoment
from rome_diagnosis.editors import EDITORS
from tests.diag.mathematics.drawn import D_MLP, D_MODEL, close, corpus_moment, draw, edit, stream


def test_damage_is_the_root_mean_square_over_the_corpus(generator) -> None:
    corpus, moment = corpus_moment(generator)
    keys, values, target = edit(generator)
    for editor in EDITORS.values():
        change = update.rank_one(editor, keys, values, target, moment)
        residual = float((target - update.chosen(values, editor.subtract)).norm())
        measured = float((corpus @ change.matrix()).square().sum(1).mean().sqrt())
        predicted = damage.rms_change(residual, change.u, change.denominator, moment.moment)
        assert close(measured, predicted, 1e-9)
    assert damage.rms_change(1.0, change.u, 0.0, moment.moment) == math.inf


def test_published_damage_is_the_consistent_one_over_rho(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, _, _ = edit(generator)
    found = update.denominators(keys, moment)
    u = update.direction(EDITORS["rome"], keys, moment)
    rome = damage.rms_change(1.0, u, found.raw["rome"], moment.moment)
    c_rome = damage.rms_change(1.0, u, found.raw["c_rome"], moment.moment)
    assert close(rome, c_rome / abs(found.split.ratio))
    # Solved with the corpus' own moment, uᵀCu is the consistent denominator itself.
    assert close(float(u @ moment.moment @ u), found.raw["c_rome"])


def test_damage_with_another_metric_in_the_solve_uses_the_general_form(generator) -> None:
    corpus, moment = corpus_moment(generator)
    keys, values, target = edit(generator)
    identity = SecondMoment.identity(D_MLP)
    change = update.rank_one(EDITORS["rome"], keys, values, target, identity)
    measured = float((corpus @ change.matrix()).square().sum(1).mean().sqrt())
    residual = float((target - values[0]).norm())
    predicted = damage.rms_change(residual, change.u, change.denominator, moment.moment)
    assert close(measured, predicted, 1e-9)
    assert not close(float(change.u @ moment.moment @ change.u), change.denominator, 1e-2)


def test_bounds_hold_for_every_value_inside_the_clamp(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, values, _ = edit(generator)
    clamp = 3.0
    optimiser = Optimiser(clamp, math.inf)
    found = update.denominators(keys, moment)
    bounds = damage.bounds(values, found, stream(moment), optimiser)
    for name, editor in EDITORS.items():
        worst = 0.0
        against = update.chosen(values, editor.subtract) - values[0]
        directions = [draw(generator, D_MODEL) for _ in range(50)]
        if float(against.norm()) > 0:
            directions.append(-against)  # the worst case for the published c_rome
        for delta in directions:
            delta = delta / delta.norm() * clamp * values[0].norm()
            change = update.rank_one(editor, keys, values, values[0] + delta, moment)
            size = damage.rms_change(
                float((values[0] + delta - update.chosen(values, editor.subtract)).norm()),
                change.u, change.denominator, moment.moment,
            )  # fmt: skip
            worst = max(worst, size)
        assert worst <= bounds[name].bound * (1 + 1e-12)
        assert worst >= bounds[name].bound * (1 - 1e-9)  # the bound is attained
        assert close(bounds[name].relative_bound, bounds[name].bound / 2.0)
    none = damage.bounds(values, found, stream(SecondMoment.identity(D_MLP)), optimiser)
    assert all(bound.bound is None and bound.relative_bound is None for bound in none.values())


def test_where_steps_end_before_the_clamp_less_is_expected_than_is_possible(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, values, _ = edit(generator)
    found, length = update.denominators(keys, moment), float(values[0].norm())
    longest = damage.bounds(values, found, stream(moment), Optimiser(3.0, math.inf))
    for reach in (0.5 * length, 2.0 * length, 3.0 * length):
        bounds = damage.bounds(values, found, stream(moment), Optimiser(3.0, reach))
        for name, editor in EDITORS.items():
            # The bounds promise, so they know nothing of the steps; what is expected is the damage
            # of a δ that is as long as these come.
            assert replace(bounds[name], expected_share=1.0) == longest[name]
            apart = float((values[0] - update.chosen(values, editor.subtract)).norm())
            u, d = found.direction(editor), found.raw[name]
            expected = damage.rms_change(reach + apart, u, d, moment.moment)
            assert close(bounds[name].bound * bounds[name].expected_share, expected)
    assert all(bound.expected_share == 1.0 for bound in longest.values())
