"""ROME's update equation: one rank-one change, whatever editor makes it, and its denominators.

The update is derived for one key k: ΔW = C⁻¹k (v* − v)ᵀ / (kᵀC⁻¹k) makes W map k to v*. The
published code takes its direction from the mean key k̄ but its denominator from k̄ and the
unprefixed key k_u, so the denominator is no squared length: it can be near zero, or negative.
Which key and value an editor puts where is a row of :data:`rome_diagnosis.editors.EDITORS`.

Everything here is a pure function of keys in float64; row 0 of ``keys`` is the bare prompt's.
Source: Meng et al. 2022 (ROME), equation 2; Yang et al. 2024 (The Fall of ROME), section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probes.second_moment.moment import SecondMoment
from rome_diagnosis.editors import EDITORS, Editor, Key


@dataclass(frozen=True)
class Split:
    """ρ = D_rome / D_c_rome, and the two factors it is exactly the product of.

    Attributes:
        ratio: ρ = k̄ᵀC⁻¹k_u / k̄ᵀC⁻¹k̄, free of every scale.
        length_ratio: ‖k_u‖ / ‖k̄‖ in the C⁻¹ metric: how short the unprefixed key is.
        cosine: cos(k_u, k̄) in the C⁻¹ metric: how far it points elsewhere.
        norm_unprefixed: ‖k_u‖ in the C⁻¹ metric.
        norm_mean: ‖k̄‖ in the C⁻¹ metric.
        without_bare: ρ with k̄ over the prefixed keys alone, which the bare prompt's own share of
            k̄ does not prop up; ``None`` without prefixed keys.
    """

    ratio: float
    length_ratio: float
    cosine: float
    norm_unprefixed: float
    norm_mean: float
    without_bare: float | None


@dataclass(frozen=True)
class Denominators:
    """The denominators of one edit, and the split of the ratio of two of them.

    Attributes:
        raw: D of each editor, by name. Positive where the key of the direction is also the one
            divided by; signed, and possibly zero, where it is not.
        normalised: D over the length of the direction, as the reference code prints it.
        split: ρ and its factors.
        solved: C⁻¹k of the keys that editors write along, by the key's name.
    """

    raw: Mapping[str, float]
    normalised: Mapping[str, float]
    split: Split
    solved: Mapping[Key, Float[Tensor, " d_mlp"]]

    def direction(self, editor: Editor) -> Float[Tensor, " d_mlp"]:
        """The direction u = C⁻¹k that an editor writes along.

        Args:
            editor: A row of the table of editors.

        Returns:
            u, not normalised: the update does not depend on its length.
        """
        return self.solved[editor.along]


@dataclass(frozen=True)
class RankOne:
    """A rank-one change of W, kept as its factors: ΔW = u ⊗ r.

    Attributes:
        u: Direction in key space, ``[d_mlp]``: C⁻¹k.
        r: Change of the output for a key with u·k = 1, ``[d_model]``: (v* − v) / D.
        denominator: D.
    """

    u: Float[Tensor, " d_mlp"]
    r: Float[Tensor, " d_model"]
    denominator: float

    @property
    def norm(self) -> float:
        """Frobenius norm of ΔW."""
        return float(self.u.norm() * self.r.norm())

    def matrix(self) -> Float[Tensor, "d_mlp d_model"]:
        """ΔW itself, materialised."""
        return torch.outer(self.u, self.r)


def chosen(rows: Float[Tensor, "n_ctx d"], which: Key) -> Float[Tensor, " d"]:
    """The key or value that a row of the table of editors names.

    Args:
        rows: Keys or values under contexts 0…n; row 0 is the bare prompt's.
        which: ``"bare"`` for the bare prompt's, ``"mean"`` for the mean over all contexts.

    Returns:
        The vector.
    """
    return rows[0] if which == "bare" else rows.mean(0)


def denominators(keys: Float[Tensor, "n_ctx d_mlp"], moment: SecondMoment) -> Denominators:
    """Computes the denominator of every editor and splits ρ.

    Args:
        keys: Keys under contexts 0…n, float64; row 0 is the bare prompt's.
        moment: The second moment C.

    Returns:
        The denominators; ``split.ratio == split.length_ratio * split.cosine``.

    Raises:
        ValueError: If a key is zero, so that there is nothing to divide by.
    """
    named: dict[Key, Tensor] = {"bare": chosen(keys, "bare"), "mean": chosen(keys, "mean")}
    white = dict(zip(named, moment.whiten(torch.stack([*named.values()])), strict=True))
    bare, mean = (float(white[which] @ white[which]) for which in ("bare", "mean"))
    if bare == 0.0 or mean == 0.0:
        raise ValueError("a key is zero: the update equation has no direction")
    across = float(white["mean"] @ white["bare"])
    solved = dict(zip(named, moment.solve(torch.stack([*named.values()])), strict=True))
    lengths = {which: float(u.norm()) for which, u in solved.items()}
    raw = {
        name: float(white[editor.along] @ white[editor.divide_by])
        for name, editor in EDITORS.items()
    }
    return Denominators(
        raw=raw,
        normalised={name: raw[name] / lengths[editor.along] for name, editor in EDITORS.items()},
        split=Split(
            ratio=across / mean,
            length_ratio=(bare / mean) ** 0.5,
            cosine=across / (bare * mean) ** 0.5,
            norm_unprefixed=bare**0.5,
            norm_mean=mean**0.5,
            without_bare=(moment.ratio(named["bare"], keys[1:].mean(0)) if len(keys) > 1 else None),
        ),
        solved=solved,
    )


def direction(
    editor: Editor, keys: Float[Tensor, "n_ctx d_mlp"], moment: SecondMoment
) -> Float[Tensor, " d_mlp"]:
    """The direction u = C⁻¹k that an editor writes along.

    Args:
        editor: A row of the table of editors.
        keys: As in :func:`denominators`.
        moment: The second moment C.

    Returns:
        u, not normalised: the update does not depend on its length.
    """
    return moment.solve(chosen(keys, editor.along))


def rank_one(
    editor: Editor,
    keys: Float[Tensor, "n_ctx d_mlp"],
    values: Float[Tensor, "n_ctx d_model"],
    target: Float[Tensor, " d_model"],
    moment: SecondMoment,
) -> RankOne:
    """The update of one editor: ΔW = u ⊗ (v* − v) / D.

    Args:
        editor: A row of the table of editors.
        keys: As in :func:`denominators`.
        values: MLP outputs at the lookup token under the same contexts.
        target: v*.
        moment: The second moment C.

    Returns:
        The factors.

    Raises:
        ZeroDivisionError: If the denominator is exactly zero.
    """
    u = direction(editor, keys, moment)
    denominator = float(u @ chosen(keys, editor.divide_by))
    if denominator == 0.0:
        raise ZeroDivisionError(f"the denominator of {editor.short} is exactly zero")
    return RankOne(u, (target - chosen(values, editor.subtract)) / denominator, denominator)
