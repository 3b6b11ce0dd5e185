"""A list of rank-one edits of one layer: its damage, and what later edits do to earlier ones.

Keys at the edited layer depend only on the layers below it, so every direction, denominator and
response of the list is known before the first edit; only the residuals r_i = v*_i − v_i are not.
With w_i = u_i/D_i, edit i adds w_i ⊗ r_i. After t edits the change is ΔW_t = Σ w_i ⊗ r_i and

    damage_t² = tr(ΔW_tᵀ C ΔW_t) = Σ_ij (w_iᵀCw_j)(r_i·r_j).

Before editing, residuals have an expected length s_i and an expected cosine a between two of them:

    E[damage_t²] = (1 − a) Σ s_i² w_iᵀCw_i + a ‖Σ s_i w_i‖²_C.

With a = 0 the squares add up, as in a random walk; the triangle inequality gives the most there can
be. All sums run in chunks, so ten thousand edits need no ten thousand by ten thousand matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

CHUNK = 1024  # edits taken together: a chunk of cross-responses is a few megabytes


@dataclass(frozen=True)
class Growth:
    """How damage grows along a list, in units of the MLP's output.

    Attributes:
        alone: Damage of each edit by itself, ``[m]``.
        expected: Cumulative damage after each edit, ``[m]``.
        most: What the cumulative damage cannot exceed: the sum of all that came before, ``[m]``.
    """

    alone: Float[Tensor, " m"]
    expected: Float[Tensor, " m"]
    most: Float[Tensor, " m"]

    def first_at_or_above(self, limit: float) -> int | None:
        """Number of edits after which the expected damage reaches a limit; ``None`` if never."""
        reached = (self.expected >= limit).nonzero()
        return int(reached[0]) + 1 if len(reached) else None


def growth(
    steps: Float[Tensor, "m d_mlp"],
    sizes: Float[Tensor, " m"],
    corpus_moment: Float[Tensor, "d_mlp d_mlp"],
    *,
    alignment: float = 0.0,
) -> Growth:
    """Forecasts the damage of a list of edits from expected residuals.

    Args:
        steps: w = u/D of each edit, in the order of the list.
        sizes: Expected ‖v* − v‖ of each edit.
        corpus_moment: C, without ridge.
        alignment: Expected cosine between the residuals of two edits, from 0 to 1.

    Returns:
        Damage alone, expected and at most.

    Raises:
        ValueError: If the alignment is not between 0 and 1.
    """
    if not 0.0 <= alignment <= 1.0:
        raise ValueError(f"the alignment is a cosine between 0 and 1, not {alignment}")
    squares, along = [], []
    total = torch.zeros(steps.shape[1], dtype=steps.dtype)
    for start in range(0, len(steps), CHUNK):
        scaled = steps[start : start + CHUNK] * sizes[start : start + CHUNK, None]
        squares.append(((scaled @ corpus_moment) * scaled).sum(1))
        sums = total + scaled.cumsum(0)
        along.append(((sums @ corpus_moment) * sums).sum(1))
        total = sums[-1]
    alone = torch.cat(squares).clamp(min=0.0)
    together = (1 - alignment) * alone.cumsum(0) + alignment * torch.cat(along)
    return Growth(alone.sqrt(), together.clamp(min=0.0).sqrt(), alone.sqrt().cumsum(0))


def damage(
    steps: Float[Tensor, "m d_mlp"],
    residuals: Float[Tensor, "m d_model"],
    corpus_moment: Float[Tensor, "d_mlp d_mlp"],
) -> Float[Tensor, " m"]:
    """Cumulative damage of performed edits, exactly.

    Args:
        steps: w = u/D of each edit.
        residuals: r = v* − v of each edit.
        corpus_moment: C, without ridge.

    Returns:
        √tr(ΔW_tᵀ C ΔW_t) after each edit, in units of the MLP's output.
    """
    # The t-th square adds row t of the lower triangle twice and its diagonal once.
    gram = (steps @ corpus_moment @ steps.T) * (residuals @ residuals.T)
    added = 2 * gram.tril(-1).sum(1) + gram.diagonal()
    return added.cumsum(0).clamp(min=0.0).sqrt()


def forgetting(
    keys: Float[Tensor, "m d_mlp"], steps: Float[Tensor, "m d_mlp"], sizes: Float[Tensor, " m"]
) -> Float[Tensor, " m"]:
    """What later edits add at each edit's own key, relative to what the edit wrote there.

    Edit j adds φ_j(k_i) r_j at key i, with φ_j(k_i) = w_j·k_i; residuals of unknown direction
    add up by squares.

    Args:
        keys: The key at which each edit is asked for, ``[m, d_mlp]``.
        steps: w = u/D of each edit.
        sizes: Expected ‖v* − v‖ of each edit.

    Returns:
        √Σ_{j>i} φ_j(k_i)² s_j² / s_i for each edit i; near 1 the edit is as good as forgotten.
    """
    added = torch.zeros(len(keys), dtype=keys.dtype)
    after = torch.zeros(keys.shape[1], keys.shape[1], dtype=keys.dtype)  # Σ s_j² w_j w_jᵀ
    for start in reversed(range(0, len(steps), CHUNK)):
        own = slice(start, start + CHUNK)
        scaled = steps[own] * sizes[own, None]
        added[own] = ((keys[own] @ after) * keys[own]).sum(1).clamp(min=0.0)
        added[own] += (keys[own] @ scaled.T).square().triu(1).sum(1)
        if start:
            after.addmm_(scaled.T, scaled)
    return added.sqrt() / sizes


def entangled(
    steps: Float[Tensor, "m d_mlp"], keys: Float[Tensor, "m d_mlp"], *, most: int = 20
) -> list[tuple[int, int, float]]:
    """The pairs of edits that disturb each other most.

    Args:
        steps: w = u/D of each edit.
        keys: The key at which each edit is asked for.
        most: How many pairs to return at most.

    Returns:
        ``(i, j, share)`` with i < j: the share of edit j's change that arrives at edit i's key, the
        largest magnitudes first.
    """
    worst: list[tuple[int, int, float]] = []
    # Seven digits order the pairs as well as sixteen, in half the time and memory.
    coarse_steps, coarse_keys = steps.float(), keys.float()
    for start in range(0, len(steps), CHUNK):
        stop = min(start + CHUNK, len(steps))
        size = (coarse_keys[:stop] @ coarse_steps[start:stop].T).abs_()
        # Of the chunk's own edits only the earlier ones count; a pair is no pair of the other.
        own = torch.ones(stop - start, stop - start, dtype=torch.bool).tril()
        size[start:].masked_fill_(own, -1.0)
        # A large topk is slow: first the best partner of each edit, of which few can matter.
        best = size.amax(1).topk(min(most, stop)).indices
        values, places = size[best].flatten().topk(min(most, len(best) * (stop - start)))
        width = stop - start
        for value, place in zip(values.tolist(), places.tolist(), strict=True):
            i, j = int(best[place // width]), start + place % width
            if value >= 0:
                worst.append((i, j, float(keys[i] @ steps[j])))
    return sorted(worst, key=lambda pair: -abs(pair[2]))[:most]
