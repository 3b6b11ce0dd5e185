"""A list of edits by any method, batch after batch: ΔW = Σ w ⊗ r, with every w known beforehand.

A method turns the keys of a batch into the rows w of M⁻¹KᵀG (:mod:`diag.mathematics.family`), and
keys at the edited layer do not depend on earlier edits. So a list by any method that edits one
layer is a list of rank-one edits, with all that :mod:`diag.mathematics.forgetting` says of these.

A method that remembers needs no new metric for each batch. With G the metric before the first, and
LLᵀ = I + KᵀGK over the keys of the whole list, the rows of batch b are those of

    L_bb⁻ᵀ (L⁻¹KᵀG)_b,

for the Cholesky factor's blocks are what is left of M once earlier keys are in the metric. The
factor is taken of a chunk of batches at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from diag.mathematics.family import factored
from diag.mathematics.metrics import Geometry

CHUNK = 1024  # edits whose M is factored together


def batches(edits: int, size: int) -> list[slice]:
    """The batches of a list, in order; the last may be smaller.

    Args:
        edits: How many edits the list has.
        size: How many a batch has.

    Returns:
        Their places.
    """
    return [slice(start, min(start + size, edits)) for start in range(0, edits, size)]


def steps(
    geometry: Geometry,
    along: Float[Tensor, "m d_mlp"],
    divide_by: Float[Tensor, "m d_mlp"],
    *,
    batch: int = 1,
    remember: bool = True,
) -> Float[Tensor, "m d_mlp"]:
    """Computes w of each edit of a list.

    Args:
        geometry: The layer under the method.
        along: The keys K of the directions, in the order of the list.
        divide_by: The keys on the right of M; used by methods that solve each edit by itself.
        batch: How many edits are made together.
        remember: Whether methods that remember know the keys of earlier batches; without it each
            batch is made as the first.

    Returns:
        A row for each edit. Where a denominator is exactly zero it is as good as infinite.

    Raises:
        ZeroDivisionError: If a batch's M is singular, or there is no metric.
    """
    if not geometry.method.together:
        directions = geometry.weighed(1)[0](along)
        denominators = (directions * divide_by).sum(1)
        # Exactly zero is no edit, and as good as one that destroys the model.
        smallest = torch.finfo(torch.float64).tiny ** 0.25
        return directions / torch.where(denominators == 0, smallest, denominators)[:, None]
    if geometry.method.remembers and remember:
        parts = _remembering(geometry, along, batch)
    else:
        parts = _forgetting(geometry, along, batch)
    return torch.cat(list(parts))


def _forgetting(geometry: Geometry, keys: Tensor, batch: int) -> Iterator[Tensor]:
    """Each batch by itself; all of one size are solved at once."""
    full = len(keys) // batch * batch
    for some, size in ((keys[:full], batch), (keys[full:], len(keys) - full)):
        if not len(some):
            continue
        metric, regulariser = geometry.weighed(size)
        apart = some.unflatten(0, (-1, size))
        directions = metric(some).unflatten(0, (-1, size))
        matrix = directions @ apart.mT + regulariser * torch.eye(size, dtype=keys.dtype)
        if regulariser == 0 and bool((torch.linalg.matrix_rank(matrix) < size).any()):
            raise ZeroDivisionError("two keys of a batch are parallel")
        yield torch.linalg.solve(matrix, directions).flatten(0, 1)


def _remembering(geometry: Geometry, keys: Tensor, batch: int) -> Iterator[Tensor]:
    """Batch after batch, earlier keys in the metric."""
    for chunk in batches(len(keys), max(1, CHUNK // batch) * batch):
        own = keys[chunk]
        metric, regulariser = geometry.weighed(batch, keys[: chunk.start])
        directions = metric(own)
        matrix = directions @ own.T + regulariser * torch.eye(len(own), dtype=keys.dtype)
        factor = factored(matrix)
        solved = torch.linalg.solve_triangular(factor, directions, upper=False)
        for at in batches(len(own), batch):
            yield torch.linalg.solve_triangular(factor[at, at].T, solved[at], upper=True)
