"""What one layer's update would do, before any target is optimised: M, φ, damage.

Everything follows from keys, the second moment and the lengths that residuals can have at most.
At the first edited layer the keys are those of the unedited model, and it is exact; above it they
will have moved a little by the time they are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diag.mathematics.family import Update, alike
from diag.mathematics.metrics import Geometry, combined, left
from diag.mathematics.stream import Stream
from rome_diagnosis.methods import Method


@dataclass(frozen=True)
class Shares:
    """φ: the share of each edit's change that keys receive, ``[m]`` each; ``None`` without keys.

    Attributes:
        bare: At its own bare prompt, signed.
        prefixed: At its own prefixed prompts, signed, mean over contexts 1…n.
        first_tokens: At first tokens of ordinary text, root mean square over a sample.
        later_tokens: At later tokens of ordinary text, root mean square over a sample.
    """

    bare: Float[Tensor, " m"]
    prefixed: Float[Tensor, " m"] | None
    first_tokens: Float[Tensor, " m"] | None
    later_tokens: Float[Tensor, " m"] | None


@dataclass(frozen=True)
class DamageForecast:
    """Root mean square changes before targets are known.

    Attributes:
        expected: RMS change of the MLP's output over the corpus, with residuals as long as they
            usually get and no direction in common; ``None`` without a corpus moment.
        bound: At most, whatever the residuals' directions.
        whatever_keys: The method's own bound, whatever the keys; ``None`` where it has none.
        relative_expected: ``expected`` in the residual stream, in units of its median norm.
        relative_bound: The smaller of the two bounds there.
        relative_first_tokens: At most at first tokens, whatever the residuals' directions.
        relative_expected_first_tokens: What is expected there, as ``expected`` is.
        not_checked: Why nothing relative can be given; ``None`` where it can.
    """

    expected: float | None
    bound: float | None
    whatever_keys: float | None
    relative_expected: float | None
    relative_bound: float | None
    relative_first_tokens: float | None
    relative_expected_first_tokens: float | None
    not_checked: str | None


@dataclass(frozen=True)
class LayerCheck:
    """One layer of a batch.

    Attributes:
        layer: The block.
        regulariser: What stands on M's diagonal beside KᵀGK.
        condition_number: Condition number of M; infinite where M is singular.
        cosines: Between the edits' keys in the metric, ``[m, m]``.
        lengths: kᵀGk of each edit, ``[m]``: what the regulariser is read against.
        shares: φ of each edit; ``None`` where M is singular.
        cross: Share of edit j's change that the bare prompt of edit i receives, ``[i, j]``.
        damage: What it does to ordinary tokens.
        rank: Directions left to write in, where the metric projects.
    """

    layer: int
    regulariser: float
    condition_number: float
    cosines: Float[Tensor, "m m"]
    lengths: Float[Tensor, " m"]
    shares: Shares | None
    cross: Float[Tensor, "m m"] | None
    damage: DamageForecast
    rank: int | None


def check_layer(
    keys: Float[Tensor, "m n_ctx d_mlp"],
    longest: Float[Tensor, " m"],
    likely: Float[Tensor, " m"],
    expected_share: Float[Tensor, " m"],
    geometry: Geometry,
    stream: Stream,
    *,
    layer: int,
) -> LayerCheck:
    """Checks one layer.

    Args:
        keys: Each edit's keys under contexts 0…n.
        longest: The length each edit's residual can have at most.
        likely: The same, less what lower layers will have written.
        expected_share: The share of either that a usual δ reaches.
        geometry: The layer under the method.
        stream: The residual stream after the layer.
        layer: The block.

    Returns:
        What was found.
    """
    metric, regulariser = geometry.weighed(len(keys))
    along = combined(keys, geometry.method.along)
    condition, cosines = float("inf"), alike(along, metric)
    lengths = (metric(along) * along).sum(1)
    shares: Shares | None = None
    cross: Tensor | None = None
    update: Update | None = None
    try:
        update = geometry.update(keys, likely.diag())
    except ZeroDivisionError:
        damage = DamageForecast(
            None, None, None, None, None, None, None,
            "M is singular: two keys are parallel and nothing stands on its diagonal",
        )  # fmt: skip
    else:
        condition = update.condition_number if geometry.method.together else 1.0
        shares, cross = shares_of(update, keys, stream), update.response(keys[:, 0])
        damage = damage_of(update, longest, likely, expected_share, geometry, stream)
    return LayerCheck(
        layer, regulariser, condition, cosines, lengths, shares, cross, damage, geometry.rank
    )


def shares_of(update: Update, keys: Float[Tensor, "m n_ctx d_mlp"], stream: Stream) -> Shares:
    """φ of each edit at its own prompts, and at ordinary first and later tokens.

    Args:
        update: The update.
        keys: Each edit's keys under contexts 0…n.
        stream: Has the samples of ordinary keys.

    Returns:
        The shares.
    """
    m, contexts, _ = keys.shape
    own = torch.arange(m)
    at_own = update.response(keys.flatten(0, 1)).unflatten(0, (m, contexts))[own, :, own]
    background = stream.moment.background
    first, later = (
        None if sample is None or not len(sample) else _rms(update.response(sample.double()))
        for sample in (
            (background.first_keys, background.later_keys) if background else (None, None)
        )
    )
    return Shares(at_own[:, 0], at_own[:, 1:].mean(1) if contexts > 1 else None, first, later)


def damage_of(
    update: Update,
    longest: Float[Tensor, " m"],
    likely: Float[Tensor, " m"],
    expected_share: Float[Tensor, " m"],
    geometry: Geometry,
    stream: Stream,
) -> DamageForecast:
    """Damage before targets are known, from the lengths that residuals can have.

    Args:
        update: The update.
        longest: The length each edit's residual can have at most.
        likely: The same, less what lower layers will have written.
        expected_share: The share of either that a usual δ reaches.
        geometry: The layer under the method.
        stream: The residual stream after the layer.

    Returns:
        The damage.
    """
    moment, background = stream.moment.moment, stream.moment.background
    factor = geometry.damage_factor(len(longest))
    whatever_keys = None if factor is None else factor * float(longest.norm())
    why_not = stream.why_not
    scale = stream.contribution.scale
    if why_not is None and scale is None:
        why_not = (
            "the block normalises its MLP's output: a batch's damage there depends on directions "
            "that are not known before targets are optimised"
        )
    if moment is None:
        return DamageForecast(None, None, whatever_keys, None, None, None, None, why_not)
    sensitivity = update.sensitivity(moment)
    pairs = torch.outer(longest, longest)
    usual = likely * expected_share
    expected = max(float((sensitivity.diagonal() * usual.square()).sum()), 0.0) ** 0.5
    bound = float((sensitivity.abs() * pairs).sum()) ** 0.5
    if why_not is not None or stream.unit is None or scale is None:
        return DamageForecast(expected, bound, whatever_keys, None, None, None, None, why_not)
    unit = abs(scale) / stream.unit
    first = expected_first = None
    if background is not None and len(background.first_keys):
        shares = update.response(background.first_keys.double()).abs()
        first = float((shares @ longest).square().mean().sqrt()) * unit
        expected_first = float((shares * usual).square().sum(1).mean().sqrt()) * unit
    tightest = bound if whatever_keys is None else min(bound, whatever_keys)
    return DamageForecast(
        expected, bound, whatever_keys,
        expected * unit, tightest * unit, first, expected_first, None,
    )  # fmt: skip


def received(method: Method, layers: Sequence[Float[Tensor, " m"]]) -> Float[Tensor, " m"]:
    """The share of z − h that arrives over all layers, each writing its part of what is left.

    A layer that is to write the part s of what is left, and whose key receives the share φ, leaves
    1 − φs of it. What lower layers change in upper ones on other ways is left out, so a target in
    the last layer's MLP output receives from that layer alone.

    Args:
        method: The method.
        layers: φ of each edit at the same kind of key, layer by layer.

    Returns:
        1 − Π(1 − φs).
    """
    writing = layers if method.in_stream else layers[-1:]
    rest = torch.ones_like(layers[0])
    for i, share in enumerate(writing):
        rest = rest * (1 - share * left(method.spread, len(writing), i))
    return 1 - rest


def _rms(shares: Float[Tensor, "n m"]) -> Float[Tensor, " m"]:
    return shares.square().mean(0).sqrt()
