"""Sums over corpus tokens, for one layer or several in one pass.

Keys are multiplied and added in float64 as they come. Beside the sums stand uniform samples of
first-token and later keys and of the residual stream's norms. Sums and samples can be saved,
restored bit for bit, and added up over processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probes.forward import activations
from probes.forward.batches import batches, to_float64
from probes.model.loaded import LoadedModel, Site
from probes.second_moment.moment import Background
from probes.second_moment.ranks import Ranks

SAMPLED_FIRST, SAMPLED_LATER, SAMPLED_NORMS = 256, 768, 65_536
# n blocks of columns leave out (1 − 1/n)/2 of a product with itself; narrower ones are slow.
GRAM_BLOCKS = 8

Progress = Callable[[int], None]


class Sample:
    """A uniform sample of a stream whose length is not known beforehand.

    Every row draws a number; those with the smallest are kept.
    """

    def __init__(self, size: int, generator: torch.Generator) -> None:
        self.size = size
        self.generator = generator
        self.rows: Tensor | None = None
        self.lots = torch.empty(0, dtype=torch.float64)

    def add(self, rows: Tensor, among: Tensor | None = None) -> None:
        """Draws lots for more rows.

        Args:
            rows: The rows.
            among: Indices of those that count; all of them by default.
        """
        count = len(rows) if among is None else len(among)
        lots = torch.rand(count, dtype=torch.float64, generator=self.generator)
        # Most rows of a long stream are not kept, and none of those is copied.
        drawn = torch.arange(count) if len(self.lots) < self.size else self._low(lots)
        chosen = rows[drawn if among is None else among[drawn]]
        self.rows = chosen if self.rows is None else torch.cat([self.rows, chosen])
        self.lots = torch.cat([self.lots, lots[drawn]])
        excess = len(self.lots) - self.size
        if excess > 0:
            kept = torch.ones(len(self.lots), dtype=torch.bool)
            kept[self.lots.topk(excess).indices] = False
            self.rows, self.lots = self.rows[kept], self.lots[kept]

    def _low(self, lots: Tensor) -> Tensor:
        """Which lots are below the largest that is kept."""
        return (lots < self.lots.max()).nonzero()[:, 0]

    def gathered(self, ranks: Ranks, shape: tuple[int, ...]) -> Sample:
        """The sample of all processes' streams, sorted by lot.

        Args:
            ranks: The processes; one that has seen nothing takes part too.
            shape: Of a row.
        """
        dtype = torch.float64 if shape == () else torch.float32
        rows = torch.zeros(self.size, *shape, dtype=dtype)
        lots = torch.full((self.size,), torch.inf, dtype=torch.float64)
        if self.rows is not None:
            rows[: len(self.rows)], lots[: len(self.lots)] = self.rows, self.lots
        whole = Sample(self.size, self.generator)
        every = torch.cat(ranks.gather(lots))
        kept = every.argsort()[: self.size]
        kept = kept[every[kept].isfinite()]
        whole.rows, whole.lots = torch.cat(ranks.gather(rows))[kept], every[kept]
        return whole


@dataclass
class Accumulator:
    """Sums over the tokens seen so far, for one layer.

    Attributes:
        total: Σ k kᵀ, float64, ``[d_mlp, d_mlp]``.
        half: The same over every other chunk of text, or ``None`` where that is not asked for:
            how far the two halves are apart says how well the whole is known.
        fourth: Σ ‖k‖⁴, which the error of ``total`` is estimated by.
        n_half: Tokens in ``half``.
        n_tokens: Tokens seen.
        n_first: Those of them that were the first of their row.
        d_stream: Width of the stream that is sampled together with each key: where a block
            normalises the sum of stream and MLP output, an edit's effect depends on it.
    """

    total: Tensor
    first: Sample
    later: Sample
    norms_before: Sample
    norms_behind: Sample
    half: Tensor | None = None
    fourth: float = 0.0
    n_half: int = 0
    n_tokens: int = 0
    n_first: int = 0
    d_stream: int = 0

    @classmethod
    def empty(
        cls, d_mlp: int, seed: int, *, halves: bool = False, d_stream: int = 0
    ) -> Accumulator:
        """Nothing seen yet."""
        generator = torch.Generator().manual_seed(seed)
        return cls(
            total=torch.zeros(d_mlp, d_mlp, dtype=torch.float64),
            first=Sample(SAMPLED_FIRST, generator),
            later=Sample(SAMPLED_LATER, generator),
            norms_before=Sample(SAMPLED_NORMS, generator),
            norms_behind=Sample(SAMPLED_NORMS, generator),
            half=torch.zeros(d_mlp, d_mlp, dtype=torch.float64) if halves else None,
            d_stream=d_stream,
        )

    @property
    def samples(self) -> dict[str, Sample]:
        """The samples by name."""
        names = ("first", "later", "norms_before", "norms_behind")
        return {name: getattr(self, name) for name in names}

    def draw_by(self, seed: int) -> None:
        """Makes what is drawn next depend on this number alone."""
        self.first.generator.manual_seed(seed)  # all samples share it

    def add(self, seen: Mapping[Site, Tensor], mask: Tensor, *, in_half: bool = False) -> None:
        """Adds a batch of activations ``[row, token, …]``; padding is masked out."""
        real = mask.bool()
        later = real.clone()
        later[:, 0] = False
        keys = seen["key"].flatten(0, 1)
        if not real.all():
            keys = keys[real.flatten().to(keys.device)]
        wide = keys.to(torch.float64) if keys.device.type != "mps" else to_float64(keys)
        product = gram(wide).cpu()
        self.total += product
        self.fourth += float(wide.norm(dim=1).pow(4).sum())
        if in_half and self.half is not None:
            self.half += product
            self.n_half += len(keys)
        self.n_tokens += len(keys)
        self.n_first += len(mask)
        all_keys = seen["key"].to("cpu", torch.float32)
        if self.d_stream:
            all_keys = torch.cat([all_keys, seen["before_norm"].to("cpu", torch.float32)], dim=-1)
        among = later.flatten().nonzero()[:, 0]
        self.first.add(all_keys[:, 0])
        self.later.add(all_keys.flatten(0, 1), among)
        norms: dict[Site, Sample] = {
            "resid_pre": self.norms_before,
            "resid_post": self.norms_behind,
        }
        for site, sample in norms.items():
            sample.add(to_float64(seen[site]).norm(dim=-1).flatten(), among)

    def background(self) -> Background:
        """What ordinary tokens look like; there must have been some."""
        assert self.first.rows is not None and self.later.rows is not None
        assert self.norms_before.rows is not None and self.norms_behind.rows is not None
        d_mlp = len(self.total)
        first, later = self.first.rows, self.later.rows
        return Background(
            first_keys=first[:, :d_mlp],
            later_keys=later[:, :d_mlp],
            first_streams=first[:, d_mlp:] if self.d_stream else None,
            later_streams=later[:, d_mlp:] if self.d_stream else None,
            residual_norm=float(self.norms_behind.rows.median()),
            residual_norm_before=float(self.norms_before.rows.median()),
        )

    def gathered(self, ranks: Ranks) -> Accumulator:
        """The sums of all processes."""
        counts = torch.tensor(
            [self.n_tokens, self.n_first, self.n_half, self.fourth], dtype=torch.float64
        )
        n_tokens, n_first, n_half, fourth = ranks.add(counts).tolist()
        width = len(self.total) + self.d_stream
        return Accumulator(
            total=ranks.add(self.total),
            half=None if self.half is None else ranks.add(self.half),
            fourth=fourth,
            n_half=int(n_half),
            n_tokens=int(n_tokens),
            n_first=int(n_first),
            d_stream=self.d_stream,
            **{
                name: sample.gathered(ranks, () if name.startswith("norms") else (width,))
                for name, sample in self.samples.items()
            },
        )

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything, as tensors and plain values."""
        tensors = {"total": self.total}
        if self.half is not None:
            tensors["half"] = self.half
        for name, sample in self.samples.items():
            tensors[f"{name}.lots"] = sample.lots
            if sample.rows is not None:
                tensors[f"{name}.rows"] = sample.rows.contiguous()
        # A float is written so that it is read back to the last bit.
        names = ("n_tokens", "n_first", "n_half", "fourth")
        return tensors, {name: getattr(self, name) for name in names}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Puts a :meth:`state` back."""
        self.total, self.half = tensors["total"], tensors.get("half")
        for name, sample in self.samples.items():
            sample.lots, sample.rows = tensors[f"{name}.lots"], tensors.get(f"{name}.rows")
        for name, value in values.items():
            setattr(self, name, value)


def gram(x: Float[Tensor, "n d"]) -> Float[Tensor, "d d"]:
    """XᵀX, of which little more than one triangle is multiplied: the other is the same.

    Args:
        x: A matrix with many rows.

    Returns:
        The product, symmetric to the last bit outside the blocks on its diagonal.
    """
    d = x.shape[1]
    made, step = x.new_empty(d, d), -(-d // GRAM_BLOCKS)
    for start in range(0, d, step):
        stop = start + step
        part = x[:, start:stop].T @ x[:, start:]
        made[start:stop, start:] = part
        made[stop:, start:stop] = part[:, step:].T
    return made


def feed(
    model: LoadedModel,
    sums: Mapping[int, Accumulator],
    rows: Sequence[list[int]],
    *,
    batch_tokens: int,
    in_half: bool = False,
    progress: Progress | None = None,
) -> None:
    """Runs rows of tokens once, up to the highest layer asked for, and adds every layer's keys.

    Args:
        model: The model.
        sums: What to add to, by layer.
        rows: Token ids.
        batch_tokens: At most so many tokens at once.
        in_half: Whether these rows belong to the half.
        progress: Called with the number of tokens of each batch done.
    """
    read = activations.reader(model, list(sums))
    for batch in batches(rows, model.device, batch_tokens=batch_tokens):
        seen = read(batch)
        mask = batch.mask.cpu()
        for layer, accumulator in sums.items():
            accumulator.add(seen.pop(layer), mask, in_half=in_half)
        if progress:
            progress(int(mask.sum()))
