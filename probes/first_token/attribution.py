"""What a prefix changes about a key, shared out over what a prefix changes about the run.

A prefix does three things to the subject's token: it gives it another form (``␣Apple`` for
``Apple``), another position, and something to attend to. All eight combinations are performed.
With k̄ and C fixed, ρ is linear in the substituted key, so each combination has its ρ, and their
Shapley values add up to Δρ = ρ(prefixed key) − ρ(bare key) exactly, whatever the interactions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations, product

import torch
from jaxtyping import Float
from torch import Tensor

from probes.definitions import SAME_RHO
from probes.first_token.subjects import Subject
from probes.forward.counterfactual import perform
from probes.model.loaded import LoadedModel
from probes.statistics import Estimate, estimate
from rome_diagnosis.errors import UserError

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
        For each coalition that is not empty, its dividend. All of them add up to what the whole
        coalition does, and a player's Shapley value is its share of those it takes part in.
    """
    found: dict[tuple[int, ...], Tensor] = {}
    for size in (1, 2, 3):
        for members in combinations(range(3), size):
            worth = values[tuple(int(i in members) for i in range(3))] - values[0, 0, 0]
            for smaller, dividend in found.items():
                if set(smaller) < set(members):
                    worth = worth - dividend
            found[members] = worth
    return found


def attribute(
    model: LoadedModel, subjects: Sequence[Subject], layer: int, *, seed: int = 0
) -> Attribution:
    """Performs all eight combinations for every subject behind some prefixes.

    Args:
        model: The model.
        subjects: The measured subjects.
        layer: The edited block.
        seed: Of the bootstrap over subjects.

    Returns:
        The attribution, each subject's prefixes averaged.

    Raises:
        UserError: If the run with all three factors is not the prefixed one, or the run with none
            not the bare one: then the model silently ignores an intervention.
    """
    owner = torch.tensor([i for i, subject in enumerate(subjects) for _ in subject.pairs])
    pairs = [pair for subject in subjects for pair in subject.pairs]
    directions = torch.stack([subject.direction for subject in subjects])[owner]
    worth = torch.zeros(2, 2, 2, len(pairs), dtype=torch.float64)
    for form, position, attention in product((False, True), repeat=3):
        runs = [pair.run(form=form, position=position, attention=attention) for pair in pairs]
        keys = perform(model, runs, layer)
        worth[int(form), int(position), int(attention)] = (keys * directions).sum(-1)
    prefixed = [
        _prefixed_rho(subject, i) for subject in subjects for i in range(len(subject.pairs))
    ]
    error = max(
        float((worth[1, 1, 1] - torch.tensor(prefixed, dtype=torch.float64)).abs().max()),
        float((worth[0, 0, 0] - torch.tensor([s.rho for s in subjects])[owner]).abs().max()),
    )
    if error > SAME_RHO:
        raise UserError(
            f"switching form, position and attention together does not reproduce the prefixed key "
            f"of {model.name} (ρ is off by {error:.2g}): it ignores one of them"
        )
    worth = _by_subject(worth, owner, len(subjects))
    values = shapley(worth)
    parts = dividends(worth)
    delta = worth[1, 1, 1] - worth[0, 0, 0]

    def over(row: Tensor) -> Estimate:
        found = estimate(row.tolist(), seed=seed)
        assert found is not None
        return found

    def name(members: Sequence[int]) -> str:
        return " + ".join(FACTORS[i] for i in members) or "none"

    return Attribution(
        delta=over(delta),
        shapley={factor: over(values[i]) for i, factor in enumerate(FACTORS)},
        alone={factor: over(parts[(i,)]) for i, factor in enumerate(FACTORS)},
        last={
            factor: over(worth[1, 1, 1] - worth[tuple(int(j != i) for j in range(3))])
            for i, factor in enumerate(FACTORS)
        },
        interactions={
            name(members): over(part) for members, part in parts.items() if len(members) > 1
        },
        combinations={
            name([i for i in range(3) if on[i]]): over(worth[on])
            for on in product((0, 1), repeat=3)
        },
        subjects=[
            _row(subject.case.subject, delta[i], values[:, i]) for i, subject in enumerate(subjects)
        ],
        efficiency_error=float((values.sum(0) - delta).abs().max()),
        reproduction_error=error,
        n_runs=8 * len(pairs),
    )


def in_words(found: Attribution) -> str:
    """The attribution as a sentence."""
    delta = found.delta.mean
    order = sorted(FACTORS, key=lambda factor: -abs(found.shapley[factor].mean))

    def share(factor: str) -> str:
        part = found.shapley[factor].mean
        return f"{factor} {part:+.3f}" + (f" ({part / delta:.0%})" if delta else "")

    strongest = max(found.interactions, key=lambda name: abs(found.interactions[name].mean))
    together = found.interactions[strongest].mean
    return (
        f"A prefix moves ρ by {delta:+.3f} on average ({found.delta.low:+.3f} to "
        f"{found.delta.high:+.3f}): {', '.join(share(factor) for factor in order)}. Switched on "
        f"alone, {order[0]} moves it by {found.alone[order[0]].mean:+.3f}; the strongest "
        f"interaction is {strongest}, {together:+.3f}."
    )


def _row(subject: str, delta: Tensor, values: Tensor) -> dict[str, float | str]:
    row: dict[str, float | str] = {"subject": subject, "delta": float(delta)}
    row.update(zip(FACTORS, values.tolist(), strict=True))
    return row


def _prefixed_rho(subject: Subject, pair: int) -> float:
    """ρ of the key captured behind the same prefix."""
    wanted = [*subject.pairs[pair].head, *subject.pairs[pair].prefix, *subject.pairs[pair].spaced]
    row = next(i for i, at in enumerate(subject.lookups) if i and at.ids == wanted)
    return float(subject.keys[row] @ subject.direction)


def _by_subject(worth: Tensor, owner: Tensor, n: int) -> Tensor:
    total = torch.zeros(*worth.shape[:-1], n, dtype=worth.dtype)
    total.index_add_(-1, owner, worth)
    return total / torch.bincount(owner, minlength=n)
