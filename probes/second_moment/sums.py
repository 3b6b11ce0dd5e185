"""Sums over corpus tokens, for one layer or several in one pass.

Keys are multiplied and added in float64 as they come. Uniform samples of first-token and later
keys and of the residual stream's norms are drawn beside the sums. Both can be saved, restored bit
for bit, and added up over processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probes.forward import activations
from probes.forward.batches import batches, to_float64, tokens_at_once
from probes.model.loaded import LoadedModel, Site
from probes.ranks import Ranks
from probes.second_moment.moment import Background
from probes.second_moment.sample import Sample
from rome_diagnosis.errors import UserError

SAMPLED_FIRST, SAMPLED_LATER, SAMPLED_NORMS = 256, 768, 65_536
# n blocks of columns save (1 − 1/n)/2 of a product with itself; narrower ones are slow.
GRAM_BLOCKS = 8
# Numbers of keys that a CPU holds at once: in float64, and several times over on the way to them.
KEYS_AT_ONCE = 1 << 21
NORMS: tuple[Site, Site] = ("resid_pre", "resid_post")

Progress = Callable[[int], None]
Shapes = Mapping[str, tuple[int, ...]]


def token_shapes(model: LoadedModel) -> Shapes:
    """Names and shapes of what is sampled of a token; see :func:`token_parts`."""
    width = activations.stream_width(model)
    return {"keys": (int(model.config.d_mlp),), "norms": (2,)} | (
        {"streams": (width,)} if width else {}
    )


def token_parts(seen: Mapping[Site, Tensor]) -> dict[str, Tensor]:
    """What is sampled of tokens, ``[row, token, …]``, where the activations are.

    Args:
        seen: Activations of one layer.

    Returns:
        Keys; norms of the stream before and after the block; where a block normalises the sum of
        stream and MLP output, that sum.
    """
    norms = [_wide(seen[site]).norm(dim=-1) for site in NORMS]
    parts = {"keys": seen["key"], "norms": torch.stack(norms, -1)}
    if "before_norm" in seen:
        parts["streams"] = seen["before_norm"]
    return parts


def _wide(activation: Tensor) -> Tensor:
    """In float64, on its own device where that has the type."""
    on_cpu = activation.device.type == "mps"
    return to_float64(activation) if on_cpu else activation.to(torch.float64)


@dataclass
class Accumulator:
    """Sums over the tokens seen so far, for one layer.

    Attributes:
        total: Σ k kᵀ, float64, ``[d_mlp, d_mlp]``.
        first: Sample of first tokens of rows; see :func:`token_parts`.
        later: Sample of all other tokens.
        norms_before: Norms of the stream before the block at a larger sample of later tokens.
        norms_after: The same after the block.
        half: Σ k kᵀ over every other chunk of text, or ``None`` where that is not asked for:
            the distance between the two halves says how well the sum is known.
        fourth: Σ ‖k‖⁴, from which the error of ``total`` is estimated.
        n_half: Number of tokens in ``half``.
        n_tokens: Number of tokens seen.
        n_first: Number of them that were the first of their row.
    """

    total: Tensor
    first: Sample
    later: Sample
    norms_before: Sample
    norms_after: Sample
    half: Tensor | None = None
    fourth: float = 0.0
    n_half: int = 0
    n_tokens: int = 0
    n_first: int = 0

    @classmethod
    def empty(cls, shapes: Shapes, seed: int, *, halves: bool = False) -> Accumulator:
        """Sums over nothing.

        Args:
            shapes: What is sampled of a token; see :func:`token_shapes`.
            seed: Seed of the samples.
            halves: Whether to keep the sum over every other chunk too.
        """
        generator = torch.Generator().manual_seed(seed)
        (d_mlp,) = shapes["keys"]
        norm: Shapes = {"norm": ()}
        return cls(
            total=torch.zeros(d_mlp, d_mlp, dtype=torch.float64),
            first=Sample(SAMPLED_FIRST, generator, shapes),
            later=Sample(SAMPLED_LATER, generator, shapes),
            norms_before=Sample(SAMPLED_NORMS, generator, norm, torch.float64),
            norms_after=Sample(SAMPLED_NORMS, generator, norm, torch.float64),
            half=torch.zeros(d_mlp, d_mlp, dtype=torch.float64) if halves else None,
        )

    @property
    def samples(self) -> dict[str, Sample]:
        """The samples by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Sample)}

    def draw_by(self, seed: int) -> None:
        """Makes what is drawn next depend on this number alone."""
        self.first.generator.manual_seed(seed)  # all samples share it

    def draw(self, mask: Tensor) -> dict[str, list[Tensor]]:
        """Lots for a batch of tokens, so that they do not depend on how many are run at once.

        Args:
            mask: 1 for tokens, 0 for padding, ``[row, token]``.

        Returns:
            For each sample the lots of its tokens in each row.
        """
        rows = len(mask)
        later = (mask.sum(1) - 1).tolist()
        return {
            name: list(sample.draw(rows).split(1))
            if name == "first"
            else list(sample.draw(sum(later)).split(later))
            for name, sample in self.samples.items()
        }

    def add(
        self,
        seen: Mapping[Site, Tensor],
        mask: Tensor,
        lots: Mapping[str, Sequence[Tensor]],
        *,
        in_half: bool = False,
    ) -> None:
        """Adds a batch of activations ``[row, token, …]``; padding is masked out.

        Args:
            seen: The activations at each site.
            mask: 1 for tokens, 0 for padding.
            lots: What :meth:`draw` returned for these rows.
            in_half: Whether the rows belong to the half.
        """
        own = {name: torch.cat([*of_rows]) for name, of_rows in lots.items()}
        real = mask.bool()
        later = real.clone()
        later[:, 0] = False
        keys = seen["key"].flatten(0, 1)
        if not real.all():
            keys = keys[real.flatten().to(keys.device)]
        wide = _wide(keys)
        # The sums stay where the keys are: a square of d_mlp is slow to fetch from a GPU.
        self.total = self.total.to(wide.device)
        to = [self.total]
        if in_half and self.half is not None:
            self.half = self.half.to(wide.device)
            to.append(self.half)
            self.n_half += len(keys)
        add_gram(to, wide)
        self.fourth += float(wide.norm(dim=1).pow(4).sum())
        self.n_tokens += len(keys)
        self.n_first += len(mask)
        tokens = token_parts(seen)
        among = later.flatten().nonzero()[:, 0]
        self.first.add({name: part[:, 0] for name, part in tokens.items()}, lots=own["first"])
        flat = {name: part.flatten(0, 1) for name, part in tokens.items()}
        self.later.add(flat, among, lots=own["later"])
        for i, name in enumerate(("norms_before", "norms_after")):
            norms = {"norm": tokens["norms"][..., i].flatten()}
            self.samples[name].add(norms, among, lots=own[name])

    def take_mean(self) -> Tensor:
        """C in place of the sum, which is given away: a matrix of d_mlp² is not held twice."""
        mean, self.total = self.total.div_(self.n_tokens), self.total.new_empty(0, 0)
        return mean

    def background(self) -> Background:
        """What ordinary tokens look like.

        Raises:
            UserError: If every row was one token long.
        """
        if not len(self.later):
            raise UserError("no row of the corpus has a second token: give it longer texts")
        first, later = self.first.parts, self.later.parts
        return Background(
            first_keys=first["keys"],
            later_keys=later["keys"],
            residual_norm=float(self.norms_after.parts["norm"].median()),
            residual_norm_before=float(self.norms_before.parts["norm"].median()),
            first_streams=first.get("streams"),
            later_streams=later.get("streams"),
            first_norms=first["norms"],
            later_norms=later["norms"],
        )

    def gathered(self, ranks: Ranks) -> Accumulator:
        """The sums of all processes."""
        counts = torch.tensor(
            [self.n_tokens, self.n_first, self.n_half, self.fourth], dtype=torch.float64
        )
        n_tokens, n_first, n_half, fourth = ranks.add(counts).tolist()
        return Accumulator(
            total=ranks.add(self.total.cpu()),
            half=None if self.half is None else ranks.add(self.half.cpu()),
            fourth=fourth,
            n_half=int(n_half),
            n_tokens=int(n_tokens),
            n_first=int(n_first),
            **{name: sample.gathered(ranks) for name, sample in self.samples.items()},
        )

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything, as tensors and plain values."""
        tensors = {"total": self.total.cpu()}
        if self.half is not None:
            tensors["half"] = self.half.cpu()
        for name, sample in self.samples.items():
            tensors |= {f"{name}.{part}": tensor for part, tensor in sample.state().items()}
        # A float is written so that it is read back to the last bit.
        names = ("n_tokens", "n_first", "n_half", "fourth")
        return tensors, {name: getattr(self, name) for name in names}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Puts a :meth:`state` back."""
        self.total, self.half = tensors["total"], tensors.get("half")
        for name, sample in self.samples.items():
            mark = f"{name}."
            sample.restore(
                {key.removeprefix(mark): t for key, t in tensors.items() if key.startswith(mark)}
            )
        for name, value in values.items():
            setattr(self, name, value)


def add_gram(to: Sequence[Float[Tensor, "d d"]], x: Float[Tensor, "n d"]) -> None:
    """Adds XᵀX, of which little more than one triangle is computed: the other is the same.

    A block of columns is added as soon as it is known, so that no second square of d exists.

    Args:
        to: What to add it to, in place; symmetric to the last bit outside the blocks on the
            diagonal if they were so before.
        x: A matrix with many rows.
    """
    d = x.shape[1]
    step = -(-d // GRAM_BLOCKS)
    for start in range(0, d, step):
        stop = start + step
        part = x[:, start:stop].T @ x[:, start:]
        for sums in to:
            sums[start:stop, start:] += part
            sums[stop:, start:stop] += part[:, step:].T


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
        batch_tokens: Largest number of tokens that draw lots together. Fewer are run at once where
            :func:`~probes.forward.batches.tokens_at_once` says so.
        in_half: Whether these rows belong to the half.
        progress: Called with the number of tokens of each batch when it is done.
    """
    read = activations.reader(model, list(sums))
    most = tokens_at_once(model)
    if model.device.type == "cpu":  # wide keys keep it busy a few at a time
        most = min(most, KEYS_AT_ONCE // int(model.config.d_mlp))
    for batch in batches(rows, model, batch_tokens=batch_tokens):
        lots = {layer: accumulator.draw(batch.mask.cpu()) for layer, accumulator in sums.items()}
        start = 0
        for part in batch.split(most):
            seen = read(part)
            mask = part.mask.cpu()
            stop = start + len(mask)
            for layer, accumulator in sums.items():
                own = {name: of_rows[start:stop] for name, of_rows in lots[layer].items()}
                accumulator.add(seen.pop(layer), mask, own, in_half=in_half)
            start = stop
            if progress:
                progress(int(mask.sum()))
