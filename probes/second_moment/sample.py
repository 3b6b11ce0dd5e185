"""A uniform sample of a stream of tokens whose length is not known beforehand."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from probes.ranks import Ranks


class Sample:
    """A fixed number of tokens, each as likely as any other, with all that is kept of each.

    Every token draws a lot; those with the smallest are kept.

    Attributes:
        parts: What is kept, by name: tensors with one row for each sampled token.
        lots: The lots of the sampled tokens.
    """

    def __init__(
        self,
        size: int,
        generator: torch.Generator,
        shapes: Mapping[str, tuple[int, ...]],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """An empty sample.

        Args:
            size: Largest number of tokens.
            generator: Draws the lots.
            shapes: Name and shape, for one token, of each part.
            dtype: Type of the parts.
        """
        self.size, self.generator = size, generator
        self.parts = {name: torch.empty(0, *shape, dtype=dtype) for name, shape in shapes.items()}
        self.lots = torch.empty(0, dtype=torch.float64)

    def __len__(self) -> int:
        """Number of sampled tokens."""
        return len(self.lots)

    def draw(self, count: int) -> Float[Tensor, " count"]:
        """Draws a lot for each of ``count`` tokens."""
        return torch.rand(count, dtype=torch.float64, generator=self.generator)

    def add(
        self,
        rows: Mapping[str, Tensor],
        among: Tensor | None = None,
        *,
        lots: Float[Tensor, " n"] | None = None,
    ) -> None:
        """Samples more tokens.

        Args:
            rows: The parts of each token.
            among: Indices of the tokens that count; all of them by default.
            lots: Their lots; drawn here by default.
        """
        count = len(next(iter(rows.values()))) if among is None else len(among)
        lots = self.draw(count) if lots is None else lots
        # Most tokens of a long stream are not kept, and none of those is copied.
        full = len(self) == self.size
        drawn = (lots < self.lots.max()).nonzero()[:, 0] if full else torch.arange(count)
        chosen = drawn if among is None else among[drawn]
        self.lots = torch.cat([self.lots, lots[drawn]])
        excess = max(0, len(self.lots) - self.size)
        low = torch.ones(len(self.lots), dtype=torch.bool)
        low[self.lots.topk(excess).indices] = False
        self.lots = self.lots[low]
        for name, part in self.parts.items():
            self.parts[name] = torch.cat([part, rows[name][chosen].to(part)])[low]

    def gathered(self, ranks: Ranks) -> Sample:
        """The sample of all processes' streams, sorted by lot.

        Args:
            ranks: The processes; one that has seen nothing takes part too.
        """
        shapes = {name: tuple(part.shape[1:]) for name, part in self.parts.items()}
        dtype = next(iter(self.parts.values())).dtype
        every = Sample(self.size, self.generator, shapes, dtype)
        padding = self.size - len(self)
        unused = torch.full((padding,), torch.inf, dtype=torch.float64)
        lots = torch.cat(ranks.gather(torch.cat([self.lots, unused])))
        low = lots.argsort()[: self.size]
        low = low[lots[low].isfinite()]
        every.lots = lots[low]
        for name, part in self.parts.items():
            padded = torch.cat([part, part.new_zeros(padding, *shapes[name])])
            every.parts[name] = torch.cat(ranks.gather(padded))[low]
        return every

    def state(self) -> dict[str, Tensor]:
        """Everything, as tensors by name."""
        return {"lots": self.lots, **{n: part.contiguous() for n, part in self.parts.items()}}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Puts a :meth:`state` back."""
        self.lots = tensors["lots"]
        self.parts = {name: tensors[name] for name in self.parts}
