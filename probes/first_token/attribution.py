"""The change that a prefix makes to a key, divided among what it changes about the run.

A prefix does three things to the subject's token: it gives it another form (``␣Apple`` for
``Apple``), another position, and something to attend to. All eight combinations are performed.
With k̄ and C fixed, ρ is linear in the substituted key, so each combination has its ρ, and their
Shapley values add up to Δρ = ρ(prefixed key) − ρ(bare key) exactly, whatever the interactions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, permutations, product

import torch
from jaxtyping import Float
from torch import Tensor

from probes.first_token.subjects import Subject
from probes.forward.counterfactual import perform_readings
from probes.model.loaded import LoadedModel
from probes.statistics import Estimate, estimate_mean
from rome_diagnosis.errors import UserError
from rome_diagnosis.limits import SAME_RHO

FACTORS = ("token form", "position", "attention")


@dataclass(frozen=True)
class Attribution:
    """Δρ from the bare to the prefixed key, attributed.

    Attributes:
        delta: Δρ.
        shapley: For each factor its share of Δρ; they add up to it.
        alone: For each factor the change of ρ if it alone is switched on in the bare run.
        last: For each factor the change if it is switched on last.
        interactions: For two or three factors what they do together beyond what all of their
            parts do; with ``alone`` these too add up to Δρ.
        combinations: ρ of each performed combination, named by its factors joined with `` + ``.
        subjects: For each subject Δρ and the Shapley values.
        efficiency_error: Largest difference between Δρ and the sum of a subject's Shapley values.
        reproduction_error: Largest difference in ρ between the runs with no and with all factors
            and the bare and the prefixed keys, captured another way.
        n_runs: How many runs were performed.
    """

    delta: Estimate
    shapley: dict[str, Estimate]
    alone: dict[str, Estimate]
    last: dict[str, Estimate]
    interactions: dict[str, Estimate]
    combinations: dict[str, Estimate]
    subjects: list[dict[str, float | str]]
    efficiency_error: float
    reproduction_error: float
    n_runs: int


def shapley(values: Float[Tensor, "two two two ..."]) -> Float[Tensor, "player ..."]:
    """Shapley values of a game of three players.

    Args:
        values: ``values[a, b, c]`` is the worth of the coalition of those whose index is 1.

    Returns:
        For each player the mean, over all orders of joining, of what its joining adds.
    """
    n = 3
    total = torch.zeros((n, *values.shape[n:]), dtype=values.dtype)
    orders = list(permutations(range(n)))
    for order in orders:
        present = [0] * n
        for player in order:
            before = values[tuple(present)]
            present[player] = 1
            total[player] += values[tuple(present)] - before
    return total / len(orders)


def dividends(
    values: Float[Tensor, "two two two ..."],
) -> dict[tuple[int, ...], Tensor]:
    """What each coalition does beyond what all of its parts do (Harsanyi, 1963).

    Args:
        values: As for :func:`shapley`.

    Returns:
        The dividend of each non-empty coalition. All of them add up to what all players do
        together, and a player's Shapley value is its share of those it takes part in.
    """
    by_members: dict[tuple[int, ...], Tensor] = {}
    for size in (1, 2, 3):
        for members in combinations(range(3), size):
            worth = values[tuple(int(i in members) for i in range(3))] - values[0, 0, 0]
            for smaller, dividend in by_members.items():
                if set(smaller) < set(members):
                    worth = worth - dividend
            by_members[members] = worth
    return by_members


def attribute(
    model: LoadedModel, subjects: Sequence[Subject], layer: int, *, seed: int = 0
) -> Attribution:
    """Performs all eight combinations for every subject after some prefixes.

    Args:
        model: The model.
        subjects: The measured subjects.
        layer: The edited block.
        seed: Seed of the bootstrap over subjects.

    Returns:
        The attribution, each subject's prefixes averaged.

    Raises:
        UserError: If the run with all three factors is not the prefixed one, or the run with none
            is not the bare one: then the model silently ignores an intervention.
    """
    owner = torch.tensor([i for i, subject in enumerate(subjects) for _ in subject.pairs])
    each = _perform_all(model, subjects, layer, owner)
    error = _reproduction_error(each, subjects, owner)
    if error > SAME_RHO.value:
        raise UserError(
            f"switching form, position and attention together does not reproduce the prefixed key "
            f"of {model.name} (ρ is off by {error:.2g}): it ignores one of them"
        )
    worth = _by_subject(each, owner, len(subjects))
    values = shapley(worth)
    parts = dividends(worth)
    delta = worth[1, 1, 1] - worth[0, 0, 0]
    over = partial(_over, seed=seed)
    return Attribution(
        delta=over(delta),
        shapley={factor: over(values[i]) for i, factor in enumerate(FACTORS)},
        alone={factor: over(parts[(i,)]) for i, factor in enumerate(FACTORS)},
        last={
            factor: over(worth[1, 1, 1] - worth[tuple(int(j != i) for j in range(3))])
            for i, factor in enumerate(FACTORS)
        },
        interactions={
            _joined(members): over(part) for members, part in parts.items() if len(members) > 1
        },
        combinations={
            _joined([i for i in range(3) if on[i]]): over(worth[on])
            for on in product((0, 1), repeat=3)
        },
        subjects=[
            _row(subject.case.subject, delta[i], values[:, i]) for i, subject in enumerate(subjects)
        ],
        efficiency_error=float((values.sum(0) - delta).abs().max()),
        reproduction_error=error,
        n_runs=8 * len(owner),
    )


def _perform_all(
    model: LoadedModel, subjects: Sequence[Subject], layer: int, owner: Tensor
) -> Float[Tensor, "two two two pair"]:
    """ρ of every pair with every combination of form, position and attention."""
    pairs = [pair for subject in subjects for pair in subject.pairs]
    directions = torch.stack([subject.direction for subject in subjects])[owner]
    worth = torch.zeros(2, 2, 2, len(pairs), dtype=torch.float64)
    for form, position, attention in product((False, True), repeat=3):
        runs = [pair.run(form=form, position=position, attention=attention) for pair in pairs]
        keys = perform_readings(model, runs, layer)
        worth[int(form), int(position), int(attention)] = (keys * directions).sum(-1)
    return worth


def _reproduction_error(worth: Tensor, subjects: Sequence[Subject], owner: Tensor) -> float:
    """Largest difference in ρ from the bare and the prefixed keys that were captured before."""
    prefixed = [
        _prefixed_rho(subject, i) for subject in subjects for i in range(len(subject.pairs))
    ]
    return max(
        float((worth[1, 1, 1] - torch.tensor(prefixed, dtype=torch.float64)).abs().max()),
        float((worth[0, 0, 0] - torch.tensor([s.rho for s in subjects])[owner]).abs().max()),
    )


def _over(values: Tensor, seed: int) -> Estimate:
    """Mean over subjects with its interval."""
    over = estimate_mean(values.tolist(), seed=seed)
    assert over is not None
    return over


def _joined(members: Sequence[int]) -> str:
    """The name of a combination of factors."""
    return " + ".join(FACTORS[i] for i in members) or "none"


def in_words(attribution: Attribution) -> str:
    """The attribution as a sentence."""
    delta = attribution.delta.mean
    order = sorted(FACTORS, key=lambda factor: -abs(attribution.shapley[factor].mean))

    def share(factor: str) -> str:
        part = attribution.shapley[factor].mean
        return f"{factor} {part:+.3f}" + (f" ({part / delta:.0%})" if delta else "")

    strongest = max(
        attribution.interactions, key=lambda name: abs(attribution.interactions[name].mean)
    )
    together = attribution.interactions[strongest].mean
    return (
        f"A prefix moves ρ by {delta:+.3f} on average ({attribution.delta.low:+.3f} to "
        f"{attribution.delta.high:+.3f}): {', '.join(share(factor) for factor in order)}. "
        f"Switched on alone, {order[0]} moves it by {attribution.alone[order[0]].mean:+.3f}; "
        f"the strongest interaction is {strongest}, {together:+.3f}."
    )


def _row(subject: str, delta: Tensor, values: Tensor) -> dict[str, float | str]:
    """Δρ of one subject and its Shapley values."""
    row: dict[str, float | str] = {"subject": subject, "delta": float(delta)}
    row.update(zip(FACTORS, values.tolist(), strict=True))
    return row


def _prefixed_rho(subject: Subject, pair: int) -> float:
    """ρ of the key captured after the same prefix."""
    wanted = [*subject.pairs[pair].head, *subject.pairs[pair].prefix, *subject.pairs[pair].spaced]
    row = next(i for i, at in enumerate(subject.lookups) if i and at.ids == wanted)
    return float(subject.keys[row] @ subject.direction)


def _by_subject(worth: Tensor, owner: Tensor, n: int) -> Tensor:
    """Mean over each subject's pairs."""
    total = torch.zeros(*worth.shape[:-1], n, dtype=worth.dtype)
    total.index_add_(-1, owner, worth)
    return total / torch.bincount(owner, minlength=n)
