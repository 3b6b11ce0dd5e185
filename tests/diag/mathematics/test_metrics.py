"""Every method of the family as its row says it: identities, bounds, and the keys it takes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diag.mathematics import family
from diag.mathematics.metrics import Geometry, combined, left
from probes.second_moment.moment import SecondMoment, of_moment
from rome_diagnosis.methods import METHODS, PARAMETERS

D, OUT, CONTEXTS = 24, 9, 4
TOGETHER = [name for name, method in METHODS.items() if method.together]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def moment(seed: int = 0) -> SecondMoment:
    """Eigenvalues over four orders of magnitude, some of them below AlphaEdit's threshold."""
    basis, _ = torch.linalg.qr(random(D, D, seed=seed + 100))
    values = torch.logspace(-3, 1, D, dtype=torch.float64)
    return of_moment((basis * values) @ basis.T, source="test")


def batch(m: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return random(m, CONTEXTS, D, seed=seed), random(m, OUT, seed=seed + 1)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", METHODS)
def test_the_response_is_the_share_of_the_change_for_every_method(name: str) -> None:
    geometry, (keys, wanted) = Geometry(METHODS[name], moment()), batch(3)
    update, queries = geometry.update(keys, wanted), random(5, D, seed=9)
    shares = update.response(queries)
    assert relative(shares @ wanted, queries @ update.change()) < 1e-9
    assert relative(update.change(), queries[:1].T @ wanted[:1]) > 0.1  # the control


@pytest.mark.parametrize("name", METHODS)
def test_a_single_edit_is_m_of_one_by_one(name: str) -> None:
    method, (keys, wanted) = METHODS[name], batch(1)
    geometry = Geometry(method, moment())
    metric, regulariser = geometry.weighed(1)
    along, below = (combined(keys, which)[0] for which in (method.along, method.divide_by))
    direction = metric(along[None])[0]
    expected = torch.outer(direction, wanted[0]) / (direction @ below + regulariser)
    assert relative(geometry.update(keys, wanted).change(), expected) < 1e-9


def test_the_editors_are_methods_whose_edits_do_not_know_of_one_another() -> None:
    keys, wanted = batch(3)
    both = Geometry(METHODS["rome"], moment()).update(keys, wanted).change()
    alone = [
        Geometry(METHODS["rome"], moment()).update(keys[i : i + 1], wanted[i : i + 1]).change()
        for i in range(3)
    ]
    assert relative(both, sum(alone)) < 1e-10  # type: ignore[arg-type]
    coupled = Geometry(METHODS["emmet"], moment()).update(keys, wanted).change()
    apart = [
        Geometry(METHODS["emmet"], moment()).update(keys[i : i + 1], wanted[i : i + 1]).change()
        for i in range(3)
    ]
    assert relative(coupled, sum(apart)) > 1e-3  # type: ignore[arg-type]


def test_published_forms() -> None:
    c, (keys, wanted) = moment(), batch(3)
    matrix, half = c.moment, combined(keys, "half")
    assert matrix is not None
    identity = torch.eye(D, dtype=torch.float64)

    def primal(ground: torch.Tensor) -> torch.Tensor:
        return torch.linalg.solve(ground + half.T @ half, half.T @ wanted)

    def change(name: str, **parameters: float) -> torch.Tensor:
        return Geometry(METHODS[name], c, parameters).update(keys, wanted).change()

    assert relative(change("memit", weight=30.0), primal(30.0 * matrix)) < 1e-9
    assert relative(change("pmet", weight=30.0), primal(30.0 * matrix)) < 1e-9
    assert relative(change("memit_seq", weight=30.0), primal(30.0 * matrix)) < 1e-9
    encore = change("encore", weight=30.0, ridge=2.0)
    assert relative(encore, primal(30 * matrix + 2 * identity)) < 1e-9
    # EMMET's μλ₀ is MEMIT's λ; a batch of one has no μ, and its key gets all of the change.
    emmet = change("emmet", weight=300.0, damping=0.1)
    assert relative(emmet, change("memit", weight=30.0)) < 1e-9
    single = Geometry(METHODS["emmet"], c).update(keys[:1], wanted[:1]).change()
    assert relative(half[:1] @ single, wanted[:1]) < 1e-9
    basis = family.projector(matrix, 0.02)
    assert 0 < basis.shape[1] < D
    p = basis @ basis.T
    alphaedit = torch.linalg.solve(p @ half.T @ half + 10.0 * identity, p @ half.T @ wanted)
    assert relative(change("alphaedit"), alphaedit) < 1e-9
    assert Geometry(METHODS["alphaedit"], c).rank == basis.shape[1]


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].remembers])
def test_batches_with_history_are_one_batch(name: str) -> None:
    """At fixed keys and fixed values that W should give at them."""
    keys, values = batch(6)
    gentle = {"weight": 3.0, "l2": 0.5}
    own = {key: value for key, value in gentle.items() if key in METHODS[name].parameters}
    geometry = Geometry(METHODS[name], moment(), own)
    half, start = combined(keys, "half"), random(D, OUT, seed=2)
    together = geometry.update(keys, values - half @ start).change()

    def in_turn(*, remember: bool) -> torch.Tensor:
        weights, history = start.clone(), None
        for i in range(0, 6, 2):
            update = geometry.update(
                keys[i : i + 2], values[i : i + 2] - half[i : i + 2] @ weights, history
            )
            weights = weights + update.change()
            if remember:
                history = half[: i + 2]
        return weights - start

    # AlphaEdit's ridge pulls towards the weights before each batch, not before the first.
    if name != "alphaedit":
        assert relative(in_turn(remember=True), together) < 1e-8
    else:
        assert relative(in_turn(remember=True), together) < relative(
            in_turn(remember=False), together
        )
    assert relative(in_turn(remember=False), together) > 1e-3


@given(m=st.integers(1, 6), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 60))
@settings(max_examples=30, deadline=None)
def test_damage_stays_below_the_methods_own_bound(m: int, scale: float, seed: int) -> None:
    c, (keys, wanted) = moment(seed), batch(m, seed)
    bounded = 0
    for method in METHODS.values():
        geometry = Geometry(method, c)
        factor = geometry.damage_factor(m)
        if factor is not None:
            damage = geometry.update(scale * keys, wanted).damage(c.moment)
            assert damage <= factor * float(wanted.norm()) * (1 + 1e-9), method.name
            bounded += 1
    assert bounded >= 5


def test_the_editors_have_no_bound_and_pass_memits() -> None:
    c, (keys, wanted) = moment(), batch(1)
    assert Geometry(METHODS["rome"], c).damage_factor(1) is None
    assert Geometry(METHODS["emmet"], c).damage_factor(1) is None
    u = c.solve(keys.mean(1))[0]
    keys[0, 0] -= (u @ keys[0, 0]) / (u @ u) * u * (1 - 1e-4)  # k_u nearly orthogonal to C⁻¹k̄
    memit = Geometry(METHODS["memit"], c, {"weight": 30.0})
    bound = (memit.damage_factor(1) or 0.0) * float(wanted.norm())
    rome = Geometry(METHODS["rome"], c)
    for _ in range(30):  # k̄ moves with k_u: again until D is tiny
        u = c.solve(keys.mean(1))[0]
        keys[0, 0] -= (u @ keys[0, 0]) / (u @ u) * u * (1 - 1e-6)
    assert rome.update(keys, wanted).damage(c.moment) > 10 * bound
    assert memit.update(keys, wanted).damage(c.moment) <= bound


def test_sensitivity_gives_the_damage_and_its_bounds() -> None:
    c, (keys, wanted) = moment(), batch(4)
    assert c.moment is not None
    update = Geometry(METHODS["memit"], c, {"weight": 5.0}).update(keys, wanted)
    a, lengths = update.sensitivity(c.moment), wanted.norm(dim=1)
    assert float((a * (wanted @ wanted.T)).sum()) ** 0.5 == pytest.approx(update.damage(c.moment))
    most = float((a.abs() * torch.outer(lengths, lengths)).sum()) ** 0.5
    assert update.damage(c.moment) <= most
    apart = Geometry(METHODS["memit"], c, {"weight": 5.0}).update(keys, lengths.diag())
    expected = float((a.diagonal() * lengths.square()).sum()) ** 0.5
    assert apart.damage(c.moment) == pytest.approx(expected)
    assert expected < most


def test_a_half_key_weighs_the_bare_prompt_as_much_as_all_prefixed_ones() -> None:
    keys = random(2, 6, D)
    expected = 0.5 * keys[:, 0] + 0.5 * keys[:, 1:].mean(1)
    torch.testing.assert_close(combined(keys, "half"), expected)
    assert relative(combined(keys, "mean"), expected) > 0.01
    torch.testing.assert_close(combined(keys[:, :1], "half"), keys[:, 0])


@pytest.mark.parametrize("layers", [1, 3, 5])
def test_an_even_spread_writes_equal_parts_and_leaves_nothing(layers: int) -> None:
    rest, parts = 1.0, []
    for i in range(layers):
        parts.append(rest * left("even", layers, i))
        rest -= parts[-1]
    assert parts == pytest.approx([1 / layers] * layers)
    assert rest == pytest.approx(0.0, abs=1e-12)
    assert left("root", layers, layers - 1) == 1.0
    assert left("root", 5, 0) > left("even", 5, 0)


def test_parallel_keys_stop_equality_constraints_and_not_least_squares() -> None:
    keys, wanted = batch(3)
    keys[2] = keys[1]
    with pytest.raises(ZeroDivisionError):
        Geometry(METHODS["emmet"], moment(), {"damping": 0.0}).update(keys, wanted)
    Geometry(METHODS["memit"], moment()).update(keys, wanted)
    zero = torch.zeros_like(keys[:1])
    with pytest.raises(ZeroDivisionError, match="C-ROME is exactly zero"):
        Geometry(METHODS["c_rome"], moment()).update(zero, wanted[:1])


def test_rows_name_what_is_there() -> None:
    for method in METHODS.values():
        assert set(method.parameters) <= set(PARAMETERS)
        assert method.over_layers == method.together
        assert method.over_layers or method.sites == ("value",)
        assert method.together or not method.parameters
    assert [name for name in METHODS if not METHODS[name].together] == [
        "rome", "c_rome", "p_rome", "r_rome",
    ]  # fmt: skip
    assert replace(METHODS["memit"], name="x").metric == "inverse"
