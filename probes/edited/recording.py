"""What a pass over the unedited model leaves at the edited block, and where it waits for edits.

Keys are four times as wide as the stream: those of thirteen thousand tokens take a tenth of the
memory of GPT-2 large's weights. To read them from disk takes a hundredth of the time that the
blocks above take.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

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
            after :meth:`UpperBlocks.for_edits`.
        keys: Input of the MLP's output projection.
        past: For each block above, the attention's keys and values; empty unless asked for.
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


class Shelf:
    """Where recordings wait: in memory while they are few, and on a GPU, else on disk."""

    def __init__(self) -> None:
        """Nothing waits yet."""
        self._room, self._n = AT_HAND, 0

    @cached_property
    def _folder(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="rome-diagnosis-")

    def lay(self, recording: Recording) -> Waiting:
        """Puts a recording on the shelf.

        Args:
            recording: The recording.

        Returns:
            What gives it back, the same to the bit.
        """
        wide = {name: getattr(recording, name) for name in WIDE}
        self._room -= sum(each.nbytes for each in wide.values())
        if self._room < 0 and recording.keys.device.type == "cpu":
            with contextlib.suppress(OSError):  # if there is no room on disk it stays in memory
                path = Path(self._folder.name, f"{self._n}.safetensors")
                # Copied where two are one tensor, which a file cannot hold.
                save_file({name: each.clone() for name, each in wide.items()}, path)
                self._n += 1
                small = {name: each for name, each in vars(recording).items() if name not in WIDE}
                return Waiting(partial(self._take, path, small))
        return Waiting(lambda: recording)

    def _take(self, path: Path, small: Mapping[str, Any]) -> Recording:
        wide: Mapping[str, Any] = load_file(path)
        return Recording(**small, **wide)
