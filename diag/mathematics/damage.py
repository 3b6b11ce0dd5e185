"""What an update does to tokens it is not meant for, before it is made.

A corpus token with key k has its MLP output moved by (k·u)(v* − v)/D. Its root mean square over
the corpus is ‖v* − v‖ √(uᵀCu) / |D|, with C the corpus moment itself. Divided by the typical
norm of the residual stream that the output is added to, it reads: hidden states change by so much
of their norm.

The optimised value is clamped to ‖δ‖ ≤ clamp·‖v_u‖, so ‖v* − v‖ is bounded before anything is
optimised: that bound is the pre-flight check. Where ‖v_u‖ is large, Adam's steps end long before
the clamp, and what is to be expected is less than the bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from diag.mathematics.stream import Stream, rms_spread
from diag.mathematics.update import Denominators, chosen
from rome_diagnosis.editors import EDITORS, Editor


@dataclass(frozen=True)
class Optimiser:
    """How long a δ gets.

    Attributes:
        clamp: ‖δ‖ is clamped to this factor times ‖v_u‖.
        reach: How far its steps come where they are not clamped.
    """

    clamp: float
    reach: float


@dataclass(frozen=True)
class DamageBound:
    """The most one edit can do to the corpus' tokens, whatever v* the optimisation finds.

    Attributes:
        residual: Upper bound of ‖v* − v‖.
        expected_share: The share of it, and of the other bounds, that is expected; at most 1.
        bound: Upper bound of the RMS change of the MLP's output over corpus tokens; ``None``
            where no corpus moment is known.
        relative_bound: Upper bound of the RMS change of the residual stream, in units of its
            median norm after the block; ``None`` where it was not checked.
        relative_bound_first_tokens: The same over first tokens.
    """

    residual: float
    expected_share: float
    bound: float | None
    relative_bound: float | None
    relative_bound_first_tokens: float | None


def rms_change(
    residual: float,
    u: Float[Tensor, " d_mlp"],
    denominator: float,
    corpus_moment: Float[Tensor, "d_mlp d_mlp"],
) -> float:
    """Root mean square of the change of the MLP's output over corpus tokens.

    Args:
        residual: ‖v* − v‖.
        u: Direction of the update.
        denominator: D.
        corpus_moment: C without ridge.

    Returns:
        ‖v* − v‖ √(uᵀCu) / |D|, in units of the MLP's output; infinite for D = 0.
    """
    spread = rms_spread(u, corpus_moment)
    return residual * spread / abs(denominator) if denominator else float("inf")


def residuals(
    editor: Editor, values: Float[Tensor, "n_ctx d_model"], optimiser: Optimiser
) -> tuple[float, float]:
    """‖v* − v‖ before v* is optimised: its upper bound, and what is expected.

    Every editor writes v* = v_u + δ, so where it subtracts another value than v_u the distance of
    the two adds to the clamped ‖δ‖.

    Args:
        editor: A row of the table of editors.
        values: MLP outputs at the lookup token under contexts 0…n; row 0 is the bare prompt's.
        optimiser: How long a δ gets.

    Returns:
        Both.
    """
    distance = apart(editor, values)
    longest = optimiser.clamp * float(values[0].norm())
    return longest + distance, min(longest, optimiser.reach) + distance


def apart(editor: Editor, values: Float[Tensor, "n_ctx d_model"]) -> float:
    """‖v_u − v‖: how far the value that δ is added to lies from the one an editor subtracts.

    Args:
        editor: A row of the table of editors.
        values: As for :func:`residuals`.

    Returns:
        The distance; 0 for an editor that subtracts v_u.
    """
    return float((values[0] - chosen(values, editor.subtract)).norm())


def lengths(
    optimiser: Optimiser, start: Float[Tensor, " m"], apart: Float[Tensor, " m"]
) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
    """:func:`residuals` of many edits, whatever the method.

    Args:
        optimiser: How long a δ gets.
        start: Length of what δ is added to.
        apart: How far what is subtracted lies from it.

    Returns:
        ‖v* − v‖ or ‖z − h‖ at most, and the share of it that is expected.
    """
    delta = optimiser.clamp * start
    longest = delta + apart
    return longest, ((delta.clamp(max=optimiser.reach) + apart) / longest).nan_to_num(nan=1.0)


def bounds(
    values: Float[Tensor, "n_ctx d_model"],
    denominators: Denominators,
    stream: Stream,
    optimiser: Optimiser,
) -> Mapping[str, DamageBound]:
    """The damage bound of each editor.

    Args:
        values: MLP outputs under contexts 0…n.
        denominators: The denominators of the keys under the same contexts.
        stream: The residual stream of the edited layer, and its second moment.
        optimiser: How long a δ gets.

    Returns:
        A bound for each editor, by name.
    """
    moment = stream.moment
    result: dict[str, DamageBound] = {}
    for name, editor in EDITORS.items():
        residual, expected = residuals(editor, values, optimiser)
        u, d = denominators.direction(editor), denominators.raw[name]
        change = stream.change(u, d, residual)
        result[name] = DamageBound(
            residual,
            expected / residual if residual else 1.0,
            None if moment.moment is None else rms_change(residual, u, d, moment.moment),
            change.corpus if change else None,
            change.first_tokens if change else None,
        )
    return result
