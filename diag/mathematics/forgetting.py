"""What later edits of a list do to earlier ones.

Keys at the edited layer depend only on the layers below it, so every direction, denominator and
response of the list is known before the first edit; only the residuals r_i = v*_i − v_i are not.
With w_i = u_i/D_i, edit i adds w_i ⊗ r_i, and so φ_i(k) r_i at a key k, with φ_i(k) = w_i·k. All
sums run in chunks, so ten thousand edits need no ten thousand by ten thousand matrix. The damage of
a list is in :mod:`diag.mathematics.expected`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

CHUNK = 1024  # edits taken together: a chunk of cross-responses is a few megabytes


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
    after: Tensor | None = None  # Σ s_j² w_j w_jᵀ, of edits in later chunks
    for start in reversed(range(0, len(steps), CHUNK)):
        own = slice(start, start + CHUNK)
        scaled = steps[own] * sizes[own, None]
        added[own] = (keys[own] @ scaled.T).square().triu(1).sum(1)
        if after is not None:
            added[own] += ((keys[own] @ after) * keys[own]).sum(1).clamp(min=0.0)
        if start:
            grown = scaled.T @ scaled
            after = grown if after is None else after.add_(grown)
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
