"""The blocks above the edited one, and what an edit gives them.

An edit of block L's MLP output leaves everything below it as it was. So the residual stream
after block L is recorded once, what the edit adds to it is added there, and only the blocks
above run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jaxtyping import Float, Int
from torch import Tensor

from probes.edited.weights import Change, change_of_output
from probes.forward.above import BlocksAbove
from probes.forward.recording import Recording, RecordingShelf, Waiting
from probes.model.loaded import LoadedModel


class UpperBlocks(BlocksAbove):
    """The part of a model above an edited block's MLP."""

    def __init__(self, model: LoadedModel, layer: int) -> None:
        """See :class:`probes.forward.above.BlocksAbove`."""
        super().__init__(model, layer)
        self._shelf = RecordingShelf()

    def for_edits(self, recording: Recording) -> Waiting:
        """Lays a recording aside, without what :meth:`edited_final` does not read."""
        # Copies: a view would keep all of it.
        final, output = (x[:, :0].clone() for x in (recording.final, recording.output))
        entering = output if self.contribution.norm is None else recording.norm_input
        read = replace(recording, final=final, output=output, norm_input=entering)
        return self._shelf.lay(read)

    def edited_residual(
        self,
        residual: Float[Tensor, "*position d_model"],
        norm_input: Float[Tensor, "... d_model"],
        change: Float[Tensor, "*position d_model"],
    ) -> Float[Tensor, "*position d_model"]:
        """The residual stream after the block when ``change`` is added to the MLP's output.

        Args:
            residual: The unedited stream.
            norm_input: See :class:`Recording`.
            change: What the edit adds to that output.

        Returns:
            The edited stream.
        """
        return residual + self.contribution.added(norm_input, change)

    def edited_final(
        self,
        recording: Recording,
        factors: Sequence[Change],
        at: tuple[Int[Tensor, " n"], Int[Tensor, " n"]],
    ) -> Float[Tensor, "n d_embedding"]:
        """What enters the unembedding in recorded texts after an edit of the block.

        Args:
            recording: What :meth:`record` returned.
            factors: The edit's rank-one changes; none leave the model as it is.
            at: Rows and positions whose logits are wanted.

        Returns:
            As :meth:`final`.
        """
        residual = recording.residual
        if factors:
            change = change_of_output(recording.keys, factors)
            residual = self.edited_residual(residual, recording.norm_input, change)
        return self.final(residual, recording.ids, recording.mask, at)
