"""Each edit by itself under a method of the family: damage, response and verdict.

The closed forms of a batch, for batches of one.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diag.judgement.verdict import Grounds, verdict_with
from diag.mathematics.damage import Optimiser, lengths
from diag.mathematics.metrics import Geometry, combined
from diag.mathematics.steps import steps
from diag.mathematics.stream import Stream
from diag.screen.table import NUMBERS, column
from rome_diagnosis.editors import PUBLISHED
from rome_diagnosis.methods import Method


def numbers(
    geometry: Geometry,
    stream: Stream,
    keys: Float[Tensor, "request context d_mlp"],
    start: Float[Tensor, " request"],
    apart: Float[Tensor, " request"],
    optimiser: Optimiser,
) -> dict[str, Float[Tensor, " request"]]:
    """The :data:`NUMBERS` of edits, each made by itself.

    Args:
        geometry: The layer under the method.
        stream: The residual stream after the layer.
        keys: Keys under contexts 0…n; context 0 is the bare prompt's.
        start: Length of what δ is added to.
        apart: How far what is subtracted from the target lies from it.
        optimiser: How long a δ gets.

    Returns:
        By name, NaN where it was not checked; ``bare`` and ``prefixed`` are φ there, signed.

    Raises:
        ZeroDivisionError: If the method has no metric.
    """
    method = geometry.method
    along, below = (combined(keys, which) for which in (method.along, method.divide_by))
    w = steps(geometry, along, below, remember=False)
    longest, share = lengths(optimiser, start, apart)
    alone = stream.alone(w, longest)
    if alone is None:
        alone = torch.full((2, len(w)), math.nan, dtype=w.dtype)
    response = torch.einsum("rd,rcd->rc", w, keys)
    values = (*alone, share, response[:, 0], response[:, 1:].mean(1))
    return dict(zip(NUMBERS, values, strict=True))


def columns(
    method: Method, figures: dict[str, float], rho: float, margin: float, *, can_redraw: bool
) -> dict[str, Any]:
    """One edit's columns of a method.

    Args:
        method: The method.
        figures: Its :data:`NUMBERS`.
        rho: ρ of the edit.
        margin: How many times larger damage may be than it is computed.
        can_redraw: Whether there are contexts enough to draw from anew.

    Returns:
        Values by column; those that the published editor has already are not among them.
    """
    known = {name: value if math.isfinite(value) else None for name, value in figures.items()}
    bare, prefixed = known["bare"], known["prefixed"]
    if method.name == PUBLISHED:
        return {column("bare", PUBLISHED): bare, column("prefixed", PUBLISHED): prefixed}
    grounds = Grounds(
        rho, known["relative_bound"], known["relative_bound_first_tokens"], margin,
        figures["expected_share"],
    )  # fmt: skip
    interval = (rho, rho) if method.over_layers or can_redraw else None
    named = known | {"verdict": verdict_with(method, grounds, interval)}
    return {column(name, method.name): value for name, value in named.items()}
