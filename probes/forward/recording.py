"""What a pass over the unedited model leaves at the edited block, and where it waits for edits.

Keys are four times as wide as the stream: those of thirteen thousand tokens take a tenth of the
memory of GPT-2 large's weights. To read them from disk takes a hundredth of the time that the
blocks above take.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from probes.shelf import Shelf, Taken

# Bytes that stay in memory: about a thousand tokens of a small model, with which most edits settle.
AT_HAND = 1 << 24
WIDE = ("keys", "residual", "norm_input")


@dataclass(frozen=True)
class Recording:
    """What one full pass over right-padded rows left at the edited block.

    Attributes:
        ids: Token ids.
        mask: 1 for tokens, 0 for padding.
        residual: Residual stream after the block.
        norm_input: What enters the norm after the MLP; the MLP's output where there is none.
        output: The MLP's output: k @ W + b; like ``final`` and what no norm reads, at no position
            after :meth:`probes.edited.blocks_above.UpperBlocks.for_edits`.
        keys: Input of the MLP's output projection.
        past: For each block above, the attention's keys and values before the positions asked for,
            with room behind them; see :class:`probes.forward.above.Earlier`. Empty otherwise.
        final: What enters the unembedding, at all positions or at none.
    """

    ids: Int[Tensor, "row position"]
    mask: Int[Tensor, "row position"]
    residual: Float[Tensor, "row position d_model"]
    norm_input: Float[Tensor, "row _ d_model"]
    output: Float[Tensor, "row _ d_model"]
    keys: Float[Tensor, "row position d_mlp"]
    final: Float[Tensor, "row read d_embedding"]
    past: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)


@dataclass(frozen=True)
class Waiting:
    """A recording that waits.

    Attributes:
        taken: Gives it back.
    """

    taken: Callable[[], Recording]


class RecordingShelf:
    """Where recordings wait: their wide tensors on a :class:`probes.shelf.Shelf`."""

    def __init__(self) -> None:
        """Nothing waits yet."""
        self._shelf = Shelf(AT_HAND)

    def lay(self, recording: Recording) -> Waiting:
        """Puts a recording on the shelf.

        Args:
            recording: The recording.

        Returns:
            What gives it back, the same to the bit.
        """
        wide = self._shelf.lay({name: getattr(recording, name) for name in WIDE})
        small = {name: each for name, each in vars(recording).items() if name not in WIDE}
        return Waiting(partial(_taken, small, wide))


def _taken(small: Mapping[str, Any], wide: Taken) -> Recording:
    tensors: Mapping[str, Any] = wide()
    return Recording(**small, **tensors)
