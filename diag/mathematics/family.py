"""Every locate-then-edit method as one equation: ΔWᵀ = R M⁻¹ KᵀG.

K holds the keys of the edits of one layer, R what each edit should change at its key, G is a metric
on keys and M the denominator matrix. ROME, C-ROME and EMMET take G = C⁻¹ and M = KᵀC⁻¹K (ROME with
another key on the right), MEMIT and PMET add λ to M's diagonal, ENCORE and MEMIT with history put
past keys into the metric, AlphaEdit projects on directions that ordinary keys hardly use.

So the same few quantities explain all of them: the response of a key, the damage over a corpus, and
the condition of M. Everything here is a pure function of float64 tensors.

Sources: Meng et al. 2022 (ROME), equation 2; Meng et al. 2023 (MEMIT), equation 14; Gupta et al.
2024 (EMMET); Li et al. 2024 (PMET); Fang et al. 2025 (AlphaEdit), equations 11 to 14; Gupta et al.
2025 (ENCORE).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

# Rows of keys in, rows of G·k out; G is symmetric.
Metric = Callable[[Float[Tensor, "n d_mlp"]], Float[Tensor, "n d_mlp"]]
SINGULAR = "what it inverts is singular: λ, λₙ or L₂ is too small"


@dataclass(frozen=True)
class Update:
    """The change that one batch of edits makes to one layer: ΔW = GK M⁻ᵀ Rᵀ, kept as factors.

    Attributes:
        directions: Gk of each edit, ``[m, d_mlp]``.
        matrix: M, ``[m, m]``.
        residuals: What each edit should change at its key, ``[m, d_model]``.
    """

    directions: Float[Tensor, "m d_mlp"]
    matrix: Float[Tensor, "m m"]
    residuals: Float[Tensor, "m d_model"]

    @cached_property
    def coefficients(self) -> Float[Tensor, "m d_model"]:
        """M⁻ᵀRᵀ: what a unit of each direction adds to the output."""
        return torch.linalg.solve(self.matrix.T, self.residuals)

    @cached_property
    def steps(self) -> Float[Tensor, "m d_mlp"]:
        """M⁻¹KᵀG, a row w for each edit: ΔW is Σ w ⊗ r, and w·q is the share that q receives."""
        return torch.linalg.solve(self.matrix, self.directions)

    def change(self) -> Float[Tensor, "d_mlp d_model"]:
        """ΔW itself, materialised."""
        return self.directions.T @ self.coefficients

    @property
    def norm(self) -> float:
        """Frobenius norm of ΔW."""
        return float(self.change().norm())

    def response(self, keys: Float[Tensor, "n d_mlp"]) -> Float[Tensor, "n m"]:
        """Which share of each edit's wanted change a key receives: [M⁻¹KᵀGq]_j.

        Args:
            keys: Keys q.

        Returns:
            For each key and each edit the share, 1 for all of it.
        """
        return torch.linalg.solve(self.matrix, self.directions @ keys.T).T

    def damage(self, corpus_moment: Float[Tensor, "d_mlp d_mlp"]) -> float:
        """Root mean square change of the output over corpus tokens.

        Args:
            corpus_moment: C, without ridge.

        Returns:
            √tr(ΔWᵀ C ΔW), in units of the output.
        """
        spread = self.directions @ corpus_moment @ self.directions.T
        gram = self.coefficients @ self.coefficients.T
        return max(float((spread * gram).sum()), 0.0) ** 0.5

    def sensitivity(self, corpus_moment: Float[Tensor, "d_mlp d_mlp"]) -> Float[Tensor, "m m"]:
        """A = M⁻¹KᵀGᵀ C GK M⁻ᵀ, whatever the residuals: damage² = tr(R A Rᵀ).

        With residuals of lengths b and no direction in common, damage² is Σ A_ii b_i²; with
        residuals as alike as they can be it is at most Σ |A_ij| b_i b_j.

        Args:
            corpus_moment: C, without ridge.

        Returns:
            A, symmetric.
        """
        return self.steps @ corpus_moment @ self.steps.T

    @property
    def condition_number(self) -> float:
        """Condition number of M: how much a small disagreement of the targets is magnified."""
        return float(torch.linalg.cond(self.matrix))


def update(
    keys: Float[Tensor, "m d_mlp"],
    residuals: Float[Tensor, "m d_model"],
    metric: Metric,
    *,
    regulariser: float = 0.0,
    divide_by: Float[Tensor, "m d_mlp"] | None = None,
) -> Update:
    """Builds the update of a batch.

    Args:
        keys: Keys K of the directions.
        residuals: R, one row an edit.
        metric: G.
        regulariser: λ on M's diagonal.
        divide_by: Keys on the right side of M, where they differ from ``keys`` (ROME as published).

    Returns:
        The update, as factors.

    Raises:
        ZeroDivisionError: If M is singular: the same key twice without a regulariser, or a
            published denominator of exactly zero.
    """
    directions = metric(keys)
    matrix = directions @ (keys if divide_by is None else divide_by).T
    matrix = matrix + regulariser * torch.eye(len(keys), dtype=keys.dtype)
    if float(torch.linalg.matrix_rank(matrix)) < len(keys):
        raise ZeroDivisionError(
            f"the denominator matrix of {len(keys)} edits is singular: "
            "two of their keys are parallel"
        )
    return Update(directions, matrix, residuals)


def inverse(matrix: Float[Tensor, "d_mlp d_mlp"], *, in_place: bool = False) -> Metric:
    """The metric A⁻¹ of a positive definite matrix, by its Cholesky factor.

    Args:
        matrix: A: C itself (ROME, EMMET, MEMIT), or λC + λₙI + S (MEMIT with history, ENCORE).
        in_place: Whether the factor may take the matrix's place.

    Returns:
        The metric.

    Raises:
        ZeroDivisionError: If the matrix is not positive definite.
    """
    factor = factored(matrix, in_place=in_place)
    return lambda keys: _solved(factor, keys.T).T


def factored(matrix: Float[Tensor, "n n"], *, in_place: bool = False) -> Float[Tensor, "n n"]:
    """The Cholesky factor of what a metric or M inverts.

    Args:
        matrix: Symmetric.
        in_place: Whether the factor may take the matrix's place.

    Returns:
        L, with LLᵀ the matrix.

    Raises:
        ZeroDivisionError: If the matrix is not positive definite.
    """
    try:
        columns = matrix.mT  # as LAPACK lays a matrix out, so that no copy is made of it
        return torch.linalg.cholesky(columns, out=columns if in_place else None)
    except torch.linalg.LinAlgError as error:
        raise ZeroDivisionError(SINGULAR) from error


def _solved(factor: Tensor, columns: Tensor) -> Tensor:
    """(LLᵀ)⁻¹ times columns; torch.cholesky_solve would copy L."""
    half = torch.linalg.solve_triangular(factor, columns, upper=False)
    return torch.linalg.solve_triangular(factor.T, half, upper=True)


def projector(
    corpus_moment: Float[Tensor, "d_mlp d_mlp"], threshold: float = 0.02
) -> Float[Tensor, "d_mlp rank"]:
    """AlphaEdit's null space: directions along which ordinary keys have nearly no second moment.

    Args:
        corpus_moment: C.
        threshold: Eigenvalues below it count as zero; 0.02 in the published code.

    Returns:
        An orthonormal basis U of that space; P = UUᵀ. Its rank is what is left to edit with.
    """
    values, vectors = torch.linalg.eigh(corpus_moment)
    return vectors[:, values < threshold]


def projected(
    basis: Float[Tensor, "d_mlp rank"],
    *,
    ridge: float = 1.0,
    history: Float[Tensor, "d_mlp d_mlp"] | None = None,
) -> Metric:
    """The metric P(PSP + L₂I)⁻¹ of AlphaEdit; P itself without history and with L₂ = 1.

    Args:
        basis: Orthonormal columns that span what P keeps, from :func:`projector`.
        ridge: L₂.
        history: S, the sum of kkᵀ over the keys of earlier edits.

    Returns:
        The metric.

    Raises:
        ZeroDivisionError: If PSP + L₂I is not positive definite.
    """
    if history is None:
        if not ridge > 0:
            raise ZeroDivisionError(SINGULAR)
        return lambda keys: (keys @ basis) @ basis.T / ridge
    inner = basis.T @ history @ basis
    inner.diagonal().add_(ridge)
    factor = factored(inner)
    return lambda keys: (basis @ _solved(factor, basis.T @ keys.T)).T


def memit_damage_bound(residuals: Float[Tensor, "m d_model"], weight: float) -> float:
    """MEMIT's damage at most: ‖R‖_F / (2√λ), whatever the keys.

    With A = L⁻¹K the whitened keys, damage is ‖A(λI + AᵀA)⁻¹Rᵀ‖_F, and σ/(λ + σ²) ≤ 1/(2√λ).

    Args:
        residuals: R.
        weight: λ, ``mom2_update_weight``.

    Returns:
        The bound, in units of the output.
    """
    return float(residuals.norm()) / (2 * weight**0.5)


def alphaedit_damage_bound(
    residuals: Float[Tensor, "m d_model"], ridge: float, threshold: float
) -> float:
    """AlphaEdit's damage at most: ‖R‖_F √τ / (2√L₂).

    Every direction left to it has a second moment below τ, and on them σ/(L₂ + σ²) ≤ 1/(2√L₂).

    Args:
        residuals: R.
        ridge: L₂.
        threshold: τ of :func:`projector`.

    Returns:
        The bound, in units of the output.
    """
    return float(residuals.norm()) * threshold**0.5 / (2 * ridge**0.5)


def alike(keys: Float[Tensor, "m d_mlp"], metric: Metric) -> Float[Tensor, "m m"]:
    """Cosines between the keys of a batch in its metric.

    Args:
        keys: Keys.
        metric: G.

    Returns:
        Cosines; near 1 or −1 off the diagonal where two edits make M ill conditioned.
    """
    gram = metric(keys) @ keys.T
    lengths = gram.diagonal().clamp(min=0.0).sqrt()
    scale = torch.outer(lengths, lengths)
    return torch.where(scale > 0, gram / scale, 0.0)
