"""How well a second moment is known: how far the ratio ρ of a control set still moves.

C is estimated on a corpus and on every other chunk of it. ρ of the same requests by the two halves
differs by twice the standard error of ρ by all of it, if chunks are alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from jaxtyping import Float
from torch import Tensor

from probes import bundled
from probes.keys.many_edits import SharedPrefixes
from probes.model.loaded import LoadedModel
from probes.request.request import Request, request
from probes.second_moment.moment import SecondMoment, of_moment
from probes.second_moment.sums import Accumulator
from rome_diagnosis.errors import UserError

CONTROL_EDITS = 40
CONTROL_PREFIXES = ("The weather was fine that day. ", "They walked to the river. ", "I think so. ")


@dataclass(frozen=True)
class Convergence:
    """How far ρ of a control set moves between two halves of a corpus.

    Attributes:
        n: Number of requests.
        median: Median of |ρ by one half − ρ by the other| / 2.
        largest: The largest of these.
        typical: Median of |ρ| by the whole corpus.
        halves: ρ of each request by one half and by the other.
    """

    n: int
    median: float
    largest: float
    typical: float
    halves: tuple[tuple[float, float], ...] = ()

    def describe(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def control(model: LoadedModel) -> list[Request]:
    """Requests that any English tokenizer can look up, half of them at the first token.

    Args:
        model: Says which of them it can.

    Returns:
        At most :data:`CONTROL_EDITS`.
    """
    requests: list[Request] = []
    for i, fact in enumerate(bundled.facts()[::7]):
        if len(requests) == CONTROL_EDITS:
            break
        prompt = fact["prompt"] if i % 2 else "In short, " + fact["prompt"]
        try:
            requests.append(request(fact["subject"], prompt))
        except UserError:
            continue
    return requests


def keys(
    model: LoadedModel, layers: Sequence[int], requests: Sequence[Request] | None = None
) -> dict[int, tuple[Tensor, Tensor]]:
    """The control set's keys: the bare prompt's and the mean, float64.

    Args:
        model: The model.
        layers: The blocks.
        requests: The control set; :func:`control` by default.

    Returns:
        By layer, ``[request, d_mlp]`` each.
    """
    requests = control(model) if requests is None else requests
    captured: dict[int, tuple[Tensor, Tensor]] = {}
    for layer in layers:
        shared = SharedPrefixes(model, layer, CONTROL_PREFIXES)
        placed = [at for at in shared.place(requests) if not isinstance(at, UserError)]
        if not placed:
            continue
        every = shared.capture(placed).of()
        captured[layer] = every[:, 0], every.mean(1)
    return captured


def measure_convergence(
    sums: Accumulator,
    every: SecondMoment,
    bare: Float[Tensor, "request d_mlp"],
    mean: Float[Tensor, "request d_mlp"],
) -> Convergence | None:
    """How far ρ moves between the halves.

    Args:
        sums: Over the corpus, with a half, which is used up; its Σ k kᵀ is not read.
        every: C of all of it; its ridge is what the halves' solves add as well.
        bare: Keys of the bare prompts.
        mean: Mean keys.

    Returns:
        The figure, or ``None`` where one half has no text.
    """
    rest = sums.n_tokens - sums.n_half
    if sums.half is None or not sums.n_half or not rest:
        return None
    assert every.moment is not None
    # One after the other: each is a matrix of d_mlp² with its factor, which goes with a copy of
    # ``every`` here, and the second half takes the first one's place.
    overall = _ratios(replace(every), bare, mean)
    half = sums.half.div_(sums.n_half)
    first = _ratios(_ridged(half, every.ridge), bare, mean)
    half.mul_(-sums.n_half).add_(every.moment, alpha=sums.n_tokens).div_(rest)
    second = _ratios(_ridged(half, every.ridge), bare, mean)
    moved = (first - second).abs() / 2
    return Convergence(
        len(bare), float(moved.median()), float(moved.max()), float(overall.abs().median()),
        tuple(zip(first.tolist(), second.tolist(), strict=True)),
    )  # fmt: skip


def _ridged(half: Tensor, ridge: float) -> SecondMoment:
    return replace(of_moment(half, source="half"), least_ridge=ridge)


def _ratios(moment: SecondMoment, bare: Tensor, mean: Tensor) -> Tensor:
    white_bare, white_mean = moment.whiten(bare), moment.whiten(mean)
    return (white_bare * white_mean).sum(1) / white_mean.square().sum(1)
