"""What a list of rank-one edits is expected to do, before any target value is known.

Edit t writes r_t = δ_t + (v_u − v), where v_u and v are what the model gives *then*: with
p = k_u − k, k the key whose value is subtracted,

    ΔW_t = ΔW_{t−1} + w_t (δ_t + a_t + p_tᵀΔW_{t−1}),    a_t = v_u − v of the unedited model.

Keys, w, p and a are known beforehand; of δ only a length is, as v* may move by a multiple of the
present value's length and no farther than the optimiser reaches. With directions of δ that have
nothing to do with one another, S = E[ΔW ΔWᵀ] follows from itself:

    x = S p,    E‖r‖² = pᵀx + ‖a‖² + min(c² E‖v_u‖², reach²),    E‖v_u‖² = ‖v‖² + k_uᵀ S k_u,
    S ← S + w xᵀ + x wᵀ + E‖r‖² w wᵀ,

and the expected damage is √tr(C S). An editor that subtracts the value it divides by takes back
what earlier edits wrote at its key; one that does not adds to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diag.mathematics.steps import batches

CHUNK = 256  # edits between two updates of S, which is as large as C
# A square beyond which the model is long gone: it keeps the sums finite.
LARGEST_SQUARE = 1e100
# Keys times a second moment, which may be known as a matrix or as the keys it is the mean of.
Product = Callable[[Float[Tensor, "n d_mlp"]], Float[Tensor, "n d_mlp"]]


@dataclass(frozen=True)
class Prior:
    """What is known of a list of edits beforehand.

    Attributes:
        steps: w = u/D of each edit, in their order.
        keys: k_u of each: where v_u is read.
        apart_keys: p = k_u − k of each; zero where the bare value is subtracted.
        values: ‖v_u‖ of each on the unedited model.
        apart: ‖v_u − v‖ of each on the unedited model.
    """

    steps: Float[Tensor, "m d_mlp"]
    keys: Float[Tensor, "m d_mlp"]
    apart_keys: Float[Tensor, "m d_mlp"]
    values: Float[Tensor, " m"]
    apart: Float[Tensor, " m"]


@dataclass(frozen=True)
class Expected:
    """What is expected after each edit.

    Attributes:
        residuals: √E‖v* − v‖² of each edit, ``[m]``.
        damage: √tr(M S) after each edit, for each moment M that was asked for, ``[n, m]``.
    """

    residuals: Float[Tensor, " m"]
    damage: Float[Tensor, "n m"]


def expected(
    prior: Prior,
    moments: Sequence[Product],
    *,
    clamp: float,
    reach: float = float("inf"),
    enough: float = float("inf"),
    batch: int = 1,
) -> Expected:
    """Follows a list of edits in expectation.

    Args:
        prior: The list.
        moments: Products with the second moments of the keys over which damage is averaged.
        clamp: c: ‖δ‖ is clamped to this factor times ‖v_u‖.
        reach: The longest δ that the optimiser can make.
        enough: Damage over the first of the moments from which on the model is gone: later edits
            are taken as unrelated to the earlier ones.
        batch: How many edits are made together: each is optimised on the model as it was before
            the first of them.

    Returns:
        Residuals and damage.
    """
    spread: Tensor | None = None  # S, once edits are made
    residuals: list[Tensor] = []
    added: list[Tensor] = []
    total = 0.0
    for own in batches(len(prior.steps), max(1, CHUNK // batch) * batch):
        steps = prior.steps[own]
        if total < enough**2:
            taken, squares = _chunk(prior, own, spread, clamp=clamp, reach=reach, batch=batch)
        else:
            least = float(residuals[-1].max()) ** 0.5
            longest = (clamp * prior.values[own]).clamp(min=least).clamp(max=reach)
            taken, squares = torch.zeros_like(steps), longest.square() + prior.apart[own].square()
        residuals.append(squares)
        # tr(M(w xᵀ + x wᵀ + g w wᵀ)) of each edit.
        moved = 2 * taken + squares[:, None] * steps
        rows = [(times(steps) * moved).sum(1) for times in moments]
        added.append(torch.stack(rows) if rows else steps.new_zeros(0, len(steps)))
        total += float(added[-1][0].sum()) if len(moments) else 0.0
        if total >= enough**2 or own.stop >= len(prior.steps):
            continue  # S is not asked for again
        half = steps.T @ (taken + squares[:, None] / 2 * steps)
        half = half + half.T
        spread = half if spread is None else spread.add_(half)
        spread.nan_to_num_(nan=LARGEST_SQUARE, posinf=LARGEST_SQUARE).clamp_(
            -LARGEST_SQUARE, LARGEST_SQUARE
        )
    squared = torch.cat(added, dim=1).nan_to_num(posinf=LARGEST_SQUARE).cumsum(1)
    return Expected(torch.cat(residuals).sqrt(), squared.clamp(0.0, LARGEST_SQUARE).sqrt())


def _chunk(
    prior: Prior, own: slice, spread: Tensor | None, *, clamp: float, reach: float, batch: int
) -> tuple[Float[Tensor, "c d_mlp"], Float[Tensor, " c"]]:
    """X and E‖r‖² of some edits, S being known before the first of them."""
    rows, keys_of, apart_of = prior.steps[own], prior.keys[own], prior.apart_keys[own]
    # In NumPy, whose small products begin at once: a list has thousands of them, one by one.
    steps, keys, apart_keys = rows.numpy(), keys_of.numpy(), apart_of.numpy()
    values, apart = prior.values[own].square().tolist(), prior.apart[own].square().tolist()
    subtracts = bool(apart_of.any())
    at_key, at_apart = (keys_of @ rows.T).numpy(), (apart_of @ rows.T).numpy()  # φ_i(k_t), φ_i(p_t)
    at_key_squared = at_key**2
    before, taken = [0.0] * len(rows), np.zeros_like(apart_keys)
    if spread is not None:
        before = ((keys_of @ spread) * keys_of).sum(1).tolist()
        taken = (apart_of @ spread).numpy()
    squares = np.zeros(len(rows))
    with np.errstate(over="ignore", invalid="ignore"):  # the model is gone: see below
        for t in range(len(rows)):
            n_made = t - t % batch  # edits of the chunk that were made before this one's batch
            g = squares[:n_made]
            grown, further = before[t] + at_key_squared[t, :n_made] @ g, 0.0
            if subtracts:
                x = taken[:n_made]
                grown += 2 * at_key[t, :n_made] @ (x @ keys[t])
                weights = x @ apart_keys[t] + g * at_apart[t, :n_made]
                taken[t] += at_apart[t, :n_made] @ x + weights @ steps[:n_made]
                further = taken[t] @ apart_keys[t]
            delta = min(clamp**2 * (values[t] + max(grown, 0.0)), reach**2)
            square = delta + apart[t] + max(further, 0.0)
            squares[t] = min(square, LARGEST_SQUARE) if square == square else LARGEST_SQUARE
    return torch.from_numpy(taken), torch.from_numpy(squares)
