"""The attention sink over depth: where the first position's stream grows, and in which coordinates.

In many decoders some early block's MLP writes a few enormous coordinates at the first position
("massive activations", Sun et al. 2024), whatever token stands there; later tokens then park their
attention on it (Xiao et al. 2024). A key read there is a first token's key from that block on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probes.forward.batches import TokenBatch, to_float64
from probes.forward.bridge import Hook
from probes.model.loaded import LoadedModel

COORDINATES = 3  # massive activations are this few (Sun et al. 2024)


@dataclass(frozen=True)
class FirstPosition:
    """The first position at one block, averaged over texts.

    Attributes:
        block: The block.
        norm: Norm of the residual stream that enters it.
        written: Norm of what its MLP outputs there.
        coordinates: Indices of the stream's largest coordinates.
        share: Share of the stream's squared norm that these carry, 0 to 1.
    """

    block: int
    norm: float
    written: float
    coordinates: list[int]
    share: float


@dataclass
class SinkRecorder:
    """Keeps the first position's stream and MLP output in a pass that somebody else runs.

    Attributes:
        model: The model, for the names of its hook points.
        last: The last block.
        streams: For each block the stream that enters it, by row.
        outputs: For each block its MLP's output, by row.
    """

    model: LoadedModel
    last: int
    streams: dict[int, dict[int, Tensor]] = field(default_factory=dict)
    outputs: dict[int, dict[int, Tensor]] = field(default_factory=dict)

    def hooks(self, batch: TokenBatch) -> list[Hook]:
        """Hooks for one batch.

        Args:
            batch: The texts.

        Returns:
            Names of hook points, and what to call with their activations.
        """

        def at_first(into: dict[int, Tensor]) -> Callable[[Tensor, Any], None]:
            def keep(activation: Tensor, hook: Any) -> None:
                into.update(zip(batch.rows, to_float64(activation[:, 0]), strict=True))

            return keep

        hooks: list[Hook] = []
        for block in range(self.last + 1):
            streams = self.streams.setdefault(block, {})
            outputs = self.outputs.setdefault(block, {})
            hooks.append((self.model.hook(block, "resid_pre"), at_first(streams)))
            hooks.append((self.model.hook(block, "value"), at_first(outputs)))
        return hooks

    def first_positions(self) -> list[FirstPosition]:
        """The first position at every block."""
        return [
            _first_position(block, _stacked(self.streams[block]), _stacked(self.outputs[block]))
            for block in range(self.last + 1)
        ]


def writers(ratios: Sequence[float | None], least: float) -> list[int]:
    """The blocks that write a sink: some models write it, erase it, and write it again.

    Args:
        ratios: For each block the norm of the stream that enters it at the first position, over
            the median at later ones.
        least: From which ratio on the first position is a sink.

    Returns:
        Each block that is entered by an ordinary stream and left by a sink's, among those whose
        successor is given; a sink that enters the first block is the embedding's own.
    """
    is_sink = [ratio is not None and ratio >= least for ratio in ratios]
    return [
        block for block, (before, after) in enumerate(pairwise(is_sink)) if after and not before
    ]


def _stacked(rows: dict[int, Tensor]) -> Float[Tensor, "row d_model"]:
    return torch.stack([rows[row] for row in sorted(rows)])


def _first_position(
    block: int, streams: Float[Tensor, "row d_model"], outputs: Float[Tensor, "row d_model"]
) -> FirstPosition:
    squares = streams.square().mean(0)
    largest = squares.topk(min(COORDINATES, len(squares)))
    total = float(squares.sum())
    return FirstPosition(
        block=block,
        norm=float(streams.norm(dim=-1).mean()),
        written=float(outputs.norm(dim=-1).mean()),
        coordinates=largest.indices.tolist(),
        share=float(largest.values.sum()) / total if total else 0.0,
    )
