"""The smallest and the largest eigenvalue of a second moment, without the ones between.

All of them take several times as long as the Cholesky factor that C is solved with. The largest
comes from products with C, the smallest from solves with its factor, both by ARPACK's Lanczos
iteration from a fixed start, so that the same matrix gives the same figures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

# Below this size all eigenvalues are faster than an iteration.
SMALL = 64
# ARPACK's; an eigenvalue is known to about the square of it.
TOLERANCE = 1e-6
EPSILON = torch.finfo(torch.float64).eps

Vector = np.ndarray[tuple[int], np.dtype[np.float64]]


class Extremes(NamedTuple):
    """The ends of a spectrum, and what was computed on the way.

    Attributes:
        low: The smallest eigenvalue, known to ``d·ε`` of the largest, as by any method in float64.
        high: The largest.
        factor: The lower Cholesky factor, where it was needed and exists.
    """

    low: float
    high: float
    factor: Float[Tensor, "d d"] | None


def extremes(matrix: Float[Tensor, "d d"]) -> Extremes:
    """The smallest and the largest eigenvalue.

    Args:
        matrix: Symmetric and positive semidefinite up to rounding, float64.

    Returns:
        Both.

    Raises:
        ValueError: If an eigenvalue is negative beyond rounding.
    """
    d, factor = len(matrix), None
    if d < SMALL:
        values = torch.linalg.eigvalsh(matrix)
        low, high = float(values[0]), float(values[-1])
    else:
        rows = matrix.numpy()
        high = _largest(lambda x: rows @ x, d)
        low, factor = _smallest(matrix, high)
    if low < -d * EPSILON * high:
        raise ValueError("it has a negative eigenvalue")
    return Extremes(low, high, factor)


def shifted(matrix: Float[Tensor, "d d"], by: float) -> Float[Tensor, "d d"]:
    """A copy with something added to its diagonal.

    Args:
        matrix: The matrix.
        by: What is added.

    Returns:
        The copy; of a matrix of d_mlp² no other copies are needed on the way.
    """
    copy = matrix.clone()
    copy.diagonal().add_(by)
    return copy


def _smallest(matrix: Tensor, high: float) -> tuple[float, Tensor | None]:
    from scipy.linalg.blas import dtrsv

    shift = 0.0
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if failed:
        # Singular up to rounding, or indefinite: a shift of what rounding may do tells the two.
        del factor  # as large as the next one
        shift = 2 * len(matrix) * EPSILON * abs(high)
        factor, failed = torch.linalg.cholesky_ex(shifted(matrix, shift))
    if failed:
        raise ValueError("it has a negative eigenvalue")
    # BLAS counts columns first, and so does the factor as it comes: it is not copied.
    lower = np.asfortranarray(factor.numpy())

    def solve(x: Vector) -> Vector:
        return dtrsv(lower, dtrsv(lower, x, lower=1), lower=1, trans=1)

    low = 1 / _largest(solve, len(matrix)) - shift
    # What cannot be factorised as it is counts as singular, on whichever side rounding puts it.
    return (min(low, 0.0), None) if shift else (low, factor)


def _largest(times: Callable[[Vector], Vector], d: int) -> float:
    from scipy.sparse.linalg import LinearOperator, eigsh

    # Not a vector of ones: C may be zero in many coordinates, or have that very eigenvector.
    start = np.random.default_rng(0).standard_normal(d)
    operator = LinearOperator((d, d), matvec=lambda x: times(x.ravel()), dtype=np.float64)
    values = eigsh(operator, k=1, which="LA", v0=start, tol=TOLERANCE, return_eigenvectors=False)
    return float(values[0])
