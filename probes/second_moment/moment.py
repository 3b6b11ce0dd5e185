"""The second moment C = E[k kᵀ] of keys over corpus tokens, and the geometry it defines.

ROME calls it mom2. It is not centred. C⁻¹ measures how unlikely a direction is among the keys
the layer sees; the update equation's denominators are inner products in that metric, and the
ratio ρ of two of them lives here so that everything that measures keys can speak of it.

C is solved by a Cholesky factorisation in float64, never inverted. The corpus moment itself stays
free of ridge, because the damage an edit does is an average over that corpus.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probes import bundled
from probes.second_moment.rounding import gain, noise_floor
from probes.second_moment.spectrum import EPSILON, extremes, shifted
from rome_diagnosis.limits import REGULAR_CONDITION

# Rows of a matrix that are looked at together: what is computed of them is small beside it.
ROWS = 256

# Types of keys that a document names: what C is of was rounded before it was summed.
ROUGH = ("bfloat16", "float16")


@dataclass(frozen=True)
class Provenance:
    """Where a second moment comes from.

    Attributes:
        model: Name of the model.
        fingerprint: Its weights (:func:`probes.model.fingerprint.fingerprint`).
        layer: The block whose keys these are.
        bos: Whether every row began with a begin-of-sequence token.
        corpus: Name of the corpus.
        corpus_digest: SHA-256 of its documents.
        n_tokens: Number of tokens counted.
        row_length: Tokens in a row; ``None`` where that is not known (imported statistics).
        position0_share: Share of the tokens that were the first of their row, or ``None``.
        dtype: Type in which the keys were computed.
    """

    model: str
    fingerprint: str
    layer: int
    bos: bool
    corpus: str
    corpus_digest: str
    n_tokens: int
    row_length: int | None
    position0_share: float | None
    dtype: str


@dataclass(frozen=True)
class Background:
    """What ordinary tokens look like at the layer: the yardstick for one subject's key.

    Attributes:
        first_keys: Keys of first tokens of rows, a uniform sample, ``[m, d_mlp]`` float32.
        later_keys: Keys of all other tokens, a uniform sample, ``[m2, d_mlp]`` float32.
        residual_norm: Median norm of the residual stream after the block over tokens after
            position 0 (a sink at position 0 would dominate a mean).
        residual_norm_before: The same before the block.
        first_streams: For blocks that normalise the sum of stream and MLP output, that sum at the
            tokens of ``first_keys``, ``[m, d_model]``; ``None`` for other blocks.
        later_streams: The same at the tokens of ``later_keys``.
        first_norms: Norms of the residual stream before and after the block at the tokens of
            ``first_keys``, ``[m, 2]`` float32; ``None`` in files of earlier versions.
        later_norms: The same at the tokens of ``later_keys``.
    """

    first_keys: Float[Tensor, "m d_mlp"]
    later_keys: Float[Tensor, "m2 d_mlp"]
    residual_norm: float
    residual_norm_before: float
    first_streams: Float[Tensor, "m d_model"] | None = None
    later_streams: Float[Tensor, "m2 d_model"] | None = None
    first_norms: Float[Tensor, "m 2"] | None = None
    later_norms: Float[Tensor, "m2 2"] | None = None

    @property
    def samples(self) -> dict[str, Tensor]:
        """The tensors by name, without those that are missing."""
        named = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return dict(sorted(named.items()))


@dataclass(frozen=True)
class SecondMoment:
    """C, its factorisation and what was measured beside it.

    Attributes:
        moment: C, float64, without ridge, ``[d_mlp, d_mlp]``; ``None`` stands for the identity
            that some published forks use (``mom2_adjustment: false``).
        d_mlp: Its size.
        source: Where this object came from: ``"identity"``, ``"shipped"``,
            ``"estimated"`` or a file's path.
        provenance: The measurement; ``None`` for the identity.
        background: Ordinary tokens at this layer; ``None`` for the identity.
        eigenvalues: Smallest and largest eigenvalue of C.
        ridge_rule: How :attr:`least_ridge` was chosen; see
            :func:`probes.second_moment.shrinkage.ridge`.
        least_ridge: What the rule adds to C's diagonal in the solve, because few tokens were
            counted.
        fourth: Mean of ‖k‖⁴ over the counted tokens, which the rule and the error of C's trace are
            computed from; ``None`` where it is not known.
        other_text: Mean square in the C⁻¹ metric, over its expectation d_mlp, of keys of text that
            C was not measured on; ``None`` where that was not asked. See
            :func:`probes.second_moment.plausible.with_other_text`.
    """

    moment: Float[Tensor, "d_mlp d_mlp"] | None
    d_mlp: int
    source: str
    provenance: Provenance | None = None
    background: Background | None = None
    eigenvalues: tuple[float, float] = (1.0, 1.0)
    ridge_rule: str = "none"
    least_ridge: float = 0.0
    fourth: float | None = None
    other_text: float | None = None

    @classmethod
    def identity(cls, d_mlp: int) -> SecondMoment:
        """C = I: every direction is as likely as any other."""
        return cls(moment=None, d_mlp=d_mlp, source="identity")

    @property
    def is_identity(self) -> bool:
        """Whether C = I, which no corpus was measured for."""
        return self.moment is None

    @property
    def is_foreign(self) -> bool:
        """Whether C rests on the packaged text, which is the bundled model's, for another model.

        Other models read ordinary text, which uses directions that this text hardly does: along
        them C⁻¹ is too large, and damage over ordinary text larger than C says.
        """
        known = self.provenance
        return (
            known is not None
            and known.corpus == bundled.CORPUS_NAME
            and known.fingerprint != bundled.fingerprint()
        )

    @property
    def ridge(self) -> float:
        """What the solve adds to C's diagonal: 0 unless C is singular to working precision.

        Then it is the least that brings the condition number down to 10¹⁰; more where
        :attr:`least_ridge` is.
        """
        low, high = self.eigenvalues
        if low >= self.d_mlp * EPSILON * high:
            return self.least_ridge
        condition = REGULAR_CONDITION.value
        needed = (high - low * condition) / (condition - 1)
        return max(needed, self.least_ridge)

    @property
    def condition_number(self) -> float:
        """Condition number of C as it is solved with, ridge included."""
        low, high = self.eigenvalues
        return (high + self.ridge) / (low + self.ridge)

    @property
    def solved(self) -> Float[Tensor, "d_mlp d_mlp"]:
        """C as it is solved with, ridge included; C itself where there is none."""
        if self.moment is None:
            return torch.eye(self.d_mlp, dtype=torch.float64)
        return shifted(self.moment, self.ridge) if self.ridge else self.moment

    @cached_property
    def factor(self) -> Float[Tensor, "d_mlp d_mlp"]:
        """Lower Cholesky factor of C + ridge·I, float64."""
        # The identity is its own factor.
        return self.solved if self.moment is None else torch.linalg.cholesky(self.solved)

    def solve(self, keys: Float[Tensor, "*n d_mlp"]) -> Float[Tensor, "*n d_mlp"]:
        """C⁻¹k for each key.

        Args:
            keys: Keys, float64.

        Returns:
            The solutions, in the same shape.
        """
        # Not torch.cholesky_solve, which copies the factor.
        return self.unwhiten(self.whiten(keys))

    def whiten(self, keys: Float[Tensor, "*n d_mlp"]) -> Float[Tensor, "*n d_mlp"]:
        """Keys in coordinates in which the C⁻¹ metric is the ordinary one.

        Args:
            keys: Keys, float64.

        Returns:
            L⁻¹k with C = LLᵀ: ``whiten(x) @ whiten(y)`` is ``x C⁻¹ y``.
        """
        if self.moment is None:
            return keys.clone()
        flat = keys.reshape(-1, self.d_mlp)
        whitened = torch.linalg.solve_triangular(self.factor, flat.T, upper=False)
        return whitened.T.reshape(keys.shape)

    @cached_property
    def white_samples(self) -> dict[str, Tensor]:
        """The sampled keys of ordinary tokens, whitened, by their names in :class:`Background`."""
        if self.background is None:
            return {}
        keys = {"first_keys": self.background.first_keys, "later_keys": self.background.later_keys}
        return {name: self.whiten(sample.to(torch.float64)) for name, sample in keys.items()}

    def unwhiten(self, white: Float[Tensor, "*n d_mlp"]) -> Float[Tensor, "*n d_mlp"]:
        """C⁻¹k of a whitened key: the second half of :meth:`solve`.

        Args:
            white: What :meth:`whiten` gives for k.

        Returns:
            L⁻ᵀ of it, in the same shape.
        """
        if self.moment is None:
            return white.clone()
        flat = white.reshape(-1, self.d_mlp)
        solved = torch.linalg.solve_triangular(self.factor.T, flat.T, upper=True)
        return solved.T.reshape(white.shape)

    def inner(self, x: Float[Tensor, " d_mlp"], y: Float[Tensor, " d_mlp"]) -> float:
        """The inner product x C⁻¹ y of two keys."""
        return float(self.whiten(x) @ self.whiten(y))

    def norm(self, x: Float[Tensor, " d_mlp"]) -> float:
        """The length ‖x‖ in the C⁻¹ metric."""
        return float(self.whiten(x).norm())

    def ratio(self, unprefixed: Float[Tensor, " d_mlp"], mean: Float[Tensor, " d_mlp"]) -> float:
        """ρ: the published denominator over the consistent one.

        Args:
            unprefixed: k_u, the bare prompt's key.
            mean: k̄, the mean key over all contexts.

        Returns:
            k̄ᵀC⁻¹k_u / k̄ᵀC⁻¹k̄; ROME's damage is C-ROME's times 1/|ρ| at equal residual.
        """
        return self.inner(mean, unprefixed) / self.inner(mean, mean)

    @cached_property
    def rounding_gain(self) -> float:
        """How much rounding errors of keys grow: see :mod:`probes.second_moment.rounding`."""
        return gain(self)

    def describe(self, dtype: str = "float32") -> dict[str, Any]:
        """What a result says about C (the contract's ``second_moment`` object).

        Args:
            dtype: Type in which keys are computed.

        Returns:
            The object.
        """
        known = asdict(self.provenance) if self.provenance else {}
        return {
            "source": self.source,
            "n_tokens": known.get("n_tokens"),
            "ridge": self.ridge,
            "condition_number": self.condition_number,
            "noise_floor": noise_floor(self, getattr(torch, dtype)),
            "position0_share": known.get("position0_share"),
            "row_length": known.get("row_length"),
            "bos": known.get("bos"),
            "corpus": known.get("corpus"),
            "corpus_digest": known.get("corpus_digest"),
            "foreign_text": self.is_foreign,
            **({} if self.other_text is None else {"other_text": self.other_text}),
            **({"keys_in": known["dtype"]} if known.get("dtype") in ROUGH else {}),
        }


def of_moment(
    moment: Float[Tensor, "row column"],
    *,
    source: str,
    provenance: Provenance | None = None,
    background: Background | None = None,
    fourth: float | None = None,
) -> SecondMoment:
    """The second moment of a matrix, which is made symmetric; eigenvalues are computed.

    Args:
        moment: The average of k kᵀ, float64. One that is symmetric already is not copied: leave it
            as it is.
        source: See :class:`SecondMoment`.
        provenance: See :class:`SecondMoment`.
        background: See :class:`SecondMoment`.
        fourth: See :class:`SecondMoment`.

    Returns:
        The second moment, without a ridge of a rule.

    Raises:
        ValueError: If the matrix is not square, not finite, zero, or has a negative eigenvalue.
    """
    if moment.dim() != 2 or moment.shape[0] != moment.shape[1]:
        raise ValueError(f"a second moment is a square matrix, not {tuple(moment.shape)}")
    if not all(torch.isfinite(rows).all() for rows in moment.split(ROWS)):
        raise ValueError("the second moment holds values that are not finite")
    if not torch.equal(moment, moment.T):  # a matrix of d_mlp² is not copied without need
        moment = (moment + moment.T).div_(2)
    if not (moment.diagonal() > 0).any():
        raise ValueError("the second moment has no positive diagonal entry")
    low, high, factor = extremes(moment)
    whole = SecondMoment(
        moment=moment,
        d_mlp=moment.shape[0],
        source=source,
        provenance=provenance,
        background=background,
        eigenvalues=(low, high),
        fourth=fourth,
    )
    if factor is not None and not whole.ridge:
        whole.__dict__["factor"] = factor  # which takes d_mlp³ operations
    return whole
