"""What an update changes in the residual stream, at ordinary tokens, before or after it is made.

An update u ⊗ r moves the MLP's output for key k by φ(k)·(v* − v), with φ(k) = u·k / D. Where the
output reaches the residual stream times a number, the root mean square of its change is in closed
form: |scale| · ‖v* − v‖ · √(uᵀCu) / |D|. Where a norm stands in between, the change is passed
through that norm at each of the corpus keys beside C, and depends on the direction of v* − v.
Before v* is optimised only its length is known, so the largest change is taken over the directions
that the norm amplifies most: they depend on the layer, not on the edit, and are sought once.

Numbers are in units of the median norm of the residual stream after the block over later tokens.
That holds for first tokens too: a sink can make their own norm hundreds of times longer, in a few
coordinates that no later block reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from diag.mathematics.response import root_mean_square, share
from probes.model.contribution import Contribution, Mover
from probes.second_moment.moment import SecondMoment

How = Literal["closed form", "sampled"]
# Directions are sought for changes of the output of these sizes, over its typical norm. From each
# start the ascent has converged to three digits after a dozen steps.
SIZES = (0.1, 1.0, 10.0)
STARTS, STEPS = 2, 16


@dataclass(frozen=True)
class StreamChange:
    """Root mean square changes in units of a hidden state's norm.

    Attributes:
        corpus: Over all tokens of the corpus.
        first_tokens: Over first tokens alone; ``None`` without a sample of them.
    """

    corpus: float
    first_tokens: float | None


@dataclass(frozen=True)
class Stream:
    """The residual stream of one layer, as far as it can be changed by an edit.

    Attributes:
        moment: The second moment C, with the samples that lie beside it.
        contribution: How the layer's MLP output reaches the stream.
    """

    moment: SecondMoment
    contribution: Contribution

    @property
    def why_not(self) -> str | None:
        """Why no change can be given; ``None`` where it can."""
        background = self.moment.background
        if self.moment.is_identity:
            return "C is the identity: without a corpus moment there is no average to damage"
        if self.contribution.unknown is not None:
            return self.contribution.unknown
        if background is None:
            return "no residual norm comes with this second moment"
        if self.contribution.takes_stream and background.later_streams is None:
            return (
                "the block normalises the sum of stream and MLP output, and no such sums lie "
                "beside this second moment: estimate it again"
            )
        if self.how == "sampled" and not len(background.later_keys):
            return "no sample of ordinary keys comes with this second moment"
        return None

    @property
    def how(self) -> How:
        """How changes are computed."""
        return "sampled" if self.contribution.scale is None else "closed form"

    @property
    def unit(self) -> float | None:
        """Median norm of the stream after the block; ``None`` where no change can be given."""
        background = self.moment.background
        return None if background is None or self.why_not else background.residual_norm

    @property
    def times_first_moment(self) -> Callable[[Tensor], Tensor] | None:
        """Keys times E[k kᵀ] over the sampled first tokens; ``None`` without a sample of them."""
        first = self._first
        return None if first is None else lambda keys: (keys @ first.T) @ first / len(first)

    def change(
        self,
        u: Float[Tensor, " d_mlp"],
        denominator: float,
        wanted: float | Float[Tensor, " d_model"],
    ) -> StreamChange | None:
        """What an update changes.

        Args:
            u: Its direction.
            denominator: D.
            wanted: v* − v, or its length: then the direction that changes most is taken.

        Returns:
            The change; ``None`` where :attr:`why_not` says why or D is exactly zero.
        """
        if self.why_not or denominator == 0.0 or self.unit is None:
            return None
        scale = self.contribution.scale
        if scale is not None:
            length = wanted if isinstance(wanted, float) else float(wanted.norm())
            return self._closed_form(u, denominator, abs(scale) * length)
        return self._sampled(u, denominator, wanted)

    def changes(
        self,
        u: Float[Tensor, "m d_mlp"],
        denominators: Float[Tensor, " m"],
        lengths: Float[Tensor, " m"],
        moved: Float[Tensor, " m"],
    ) -> Float[Tensor, "2 m"] | None:
        """:meth:`change` of many updates of which only the length of v* − v is known.

        Args:
            u: Their directions.
            denominators: Their D; infinite changes for 0.
            lengths: ‖v* − v‖ of each.
            moved: Root mean square change of the MLP's output over the corpus, as it is known.

        Returns:
            Change over the corpus and over first tokens, NaN where there is no sample of these;
            ``None`` where :attr:`why_not` says why.
        """
        if self.why_not or self.unit is None:
            return None
        scale, first = self.contribution.scale, self._first
        if scale is not None:
            shares = torch.full_like(lengths, torch.nan)
            if first is not None:
                shares = (first @ u.T / denominators).square().mean(0).sqrt()
            return torch.stack([moved, lengths * shares]) * (abs(scale) / self.unit)
        rows = []
        for one in zip(u, denominators.tolist(), lengths.tolist(), strict=True):
            change = self.change(*one)
            rows.append(
                (torch.inf, torch.inf)
                if change is None
                else (
                    change.corpus,
                    torch.nan if change.first_tokens is None else change.first_tokens,
                )
            )
        return torch.tensor(rows, dtype=torch.float64).T

    def alone(
        self, w: Float[Tensor, "m d_mlp"], lengths: Float[Tensor, " m"]
    ) -> Float[Tensor, "2 m"] | None:
        """:meth:`changes` of edits that are made one at a time, each w ⊗ r with ‖r‖ known.

        Args:
            w: A row of M⁻¹KᵀG for each edit (:mod:`diag.mathematics.steps`).
            lengths: ‖r‖ of each.

        Returns:
            As :meth:`changes`; ``None`` without a corpus moment too.
        """
        if self.moment.moment is None:
            return None
        moved = lengths * ((w @ self.moment.moment) * w).sum(1).clamp(min=0.0).sqrt()
        return self.changes(w, torch.ones_like(lengths), lengths, moved)

    def of_matrix(self, change: Float[Tensor, "d_mlp d_model"]) -> StreamChange | None:
        """What a change of the matrix changes, whatever edits it is made of.

        Args:
            change: ΔW.

        Returns:
            The change; ``None`` where :attr:`why_not` says why.
        """
        if self.why_not or self.unit is None:
            return None
        scale, moment = self.contribution.scale, self.moment.moment
        if scale is None:
            return self._over_samples(
                {
                    name: float(move(keys @ change).square().sum(-1).mean())
                    for name, (keys, move) in self._samples.items()
                }
            )
        assert moment is not None
        unit = abs(scale) / self.unit
        first = None if self._first is None else (self._first @ change).square().sum(1).mean()
        return StreamChange(
            corpus=max(float((change * (moment @ change)).sum()), 0.0) ** 0.5 * unit,
            first_tokens=None if first is None else float(first) ** 0.5 * unit,
        )

    def _closed_form(self, u: Tensor, denominator: float, length: float) -> StreamChange:
        assert self.moment.moment is not None and self.unit is not None
        spread = rms_spread(u, self.moment.moment)
        shares = None if self._first is None else share(self._first, u, denominator)
        first = root_mean_square(shares)
        return StreamChange(
            corpus=length * spread / abs(denominator) / self.unit,
            first_tokens=None if first is None else length * first / self.unit,
        )

    def _sampled(self, u: Tensor, denominator: float, wanted: float | Tensor) -> StreamChange:
        directions = self._directions * wanted if isinstance(wanted, float) else wanted[None]
        sizes = {}
        for name, (keys, move) in self._samples.items():
            shares = share(keys, u, denominator)
            changes = (mean_square(move, shares, direction) for direction in directions)
            sizes[name] = max(float(change) for change in changes)
        return self._over_samples(sizes)

    def _over_samples(self, squares: dict[str, float]) -> StreamChange:
        """The change over all tokens, from mean squares over first and over later ones."""
        assert self.unit is not None
        sizes = {name: square**0.5 / self.unit for name, square in squares.items()}
        provenance = self.moment.provenance
        part = (provenance.position0_share or 0.0) if provenance else 0.0
        first, later = sizes.get("first"), sizes["later"]
        corpus = part * (first or 0.0) ** 2 + (1.0 - part) * later**2
        return StreamChange(corpus=corpus**0.5, first_tokens=first)

    @property
    def _first(self) -> Tensor | None:
        background = self.moment.background
        if background is None or not len(background.first_keys):
            return None
        return background.first_keys.to(torch.float64)

    @cached_property
    def _samples(self) -> dict[str, tuple[Tensor, Mover]]:
        background = self.moment.background
        assert background is not None
        samples = {
            "first": (background.first_keys, background.first_streams),
            "later": (background.later_keys, background.later_streams),
        }
        return {
            name: (keys.to(torch.float64), self.contribution.mover(keys, streams))
            for name, (keys, streams) in samples.items()
            if len(keys)
        }

    @cached_property
    def _directions(self) -> Float[Tensor, "n d_model"]:
        """Directions of the output in which the norm amplifies a change most, of length 1."""
        chosen: list[Tensor] = []
        for keys, move in self._samples.values():
            typical = float(move.norm_input.norm(dim=-1).median())
            for size in SIZES:
                amounts = torch.full((len(keys),), size * typical, dtype=torch.float64)
                chosen.append(steepest(move, amounts))
        both = torch.stack(chosen)
        return torch.cat([both, -both])


def mean_square(move: Mover, amounts: Tensor, direction: Tensor) -> Tensor:
    """Mean over tokens of the squared change of the stream.

    Args:
        move: From a change of the output at each token to that of the stream.
        amounts: How much of the direction the output changes by at each token.
        direction: The direction.

    Returns:
        The mean square, a scalar; gradients pass through.
    """
    return move(torch.outer(amounts, direction)).square().sum(-1).mean()


def steepest(move: Mover, amounts: Tensor) -> Tensor:
    """The direction of the output whose change moves the stream most.

    It is sought by the generalised power method (Journée et al. 2010), whose step goes all the way
    to the gradient's direction.

    Args:
        move: From a change of the output at each token to that of the stream.
        amounts: How much of the direction the output changes by at each token.

    Returns:
        The best direction met, of length 1.
    """
    generator = torch.Generator().manual_seed(0)
    best, largest = None, -1.0
    for start in torch.randn(STARTS, move.width, generator=generator, dtype=torch.float64):
        direction = start / start.norm()
        for _ in range(STEPS):
            direction = direction.detach().requires_grad_(True)
            size = mean_square(move, amounts, direction)
            if size.item() > largest:
                best, largest = direction.detach(), size.item()
            (gradient,) = torch.autograd.grad(size, direction)
            if not float(gradient.norm()) > 0:
                break
            direction = gradient / gradient.norm()
    assert best is not None
    return best


def rms_spread(u: Float[Tensor, " d_mlp"], corpus_moment: Float[Tensor, "d_mlp d_mlp"]) -> float:
    """√(uᵀCu): the root mean square of u·k over corpus tokens.

    Args:
        u: A direction of key space.
        corpus_moment: C without ridge.

    Returns:
        The spread.
    """
    return max(float(u @ corpus_moment @ u), 0.0) ** 0.5
