"""What the loss of v* reads of the model at a δ, and the way back: gradients at what is added.

GPT-2's layout has a reader of its own (:mod:`probes.target_value.gpt2_gradient`); any other is read
by Hugging Face's blocks, whose steps a GPU replays (:mod:`probes.target_value.replayed`).
"""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from probes.edited.blocks_above import UpperBlocks
from probes.model.loaded import LoadedModel
from probes.target_value.constants import Reads, Suffixes


class Reader(Protocol):
    """From what is added to the MLP's output at each row's subject to what the loss reads."""

    def read(self, change: Float[Tensor, "row d_model"]) -> tuple[Tensor, Tensor]:
        """The targets' log-probabilities and each edit's Kullback–Leibler divergence."""

    def leads(self) -> Bool[Tensor, " n"]:
        """Where the target is the most probable token at the last ``change``."""

    def gradient(self, log_probs: Tensor, moved: Tensor) -> Float[Tensor, "row d_model"]:
        """The gradient at the last ``change`` from those at what was read, once."""


class General:
    """For any architecture: Hugging Face's blocks, PyTorch's gradient."""

    def __init__(
        self, upper: UpperBlocks, suffixes: Suffixes, reads: Reads, *, in_stream: bool
    ) -> None:
        """Takes what no step changes.

        Args:
            upper: The blocks.
            suffixes: The texts.
            reads: What is wanted.
            in_stream: See :class:`probes.target_value.constants.Constants`.
        """
        self._upper, self._suffixes, self._reads = upper, suffixes, reads
        self._in_stream, n = in_stream, suffixes.earlier
        self._past = {i: (k[:, :, :n], v[:, :, :n]) for i, (k, v) in suffixes.past.items()}
        self._at = (
            torch.cat([reads.row, reads.held]),
            torch.cat([reads.position, torch.zeros_like(reads.held)]),
        )

    @staticmethod
    def kept(model: LoadedModel, layer: int) -> int:
        """Numbers that PyTorch keeps of each position for the gradient.

        Args:
            model: The model.
            layer: The edited block.

        Returns:
            In each block above twelve times the stream's width and four times the MLP's: what a
            norm, attention and a gated MLP compute on the way, as Llama's do.
        """
        of_block = 12 * int(model.config.d_model) + 4 * int(model.config.d_mlp)
        return (model.n_layers - 1 - layer) * of_block

    @torch.enable_grad()
    def read(self, change: Float[Tensor, "row d_model"]) -> tuple[Tensor, Tensor]:
        """See :class:`Reader`."""
        texts, reads = self._suffixes, self._reads
        self._change = change.requires_grad_(True)
        at_subject = texts.residual[:, 0] + change
        if not self._in_stream:
            at_subject = self._upper.edited_residual(texts.residual[:, 0], texts.norm_input, change)
        final = self._upper.final(
            torch.cat([at_subject[:, None], texts.residual[:, 1:]], dim=1),
            texts.ids,
            texts.mask,
            self._at,
            position_ids=texts.position_ids,
            past=self._past,
        )
        logits = self._upper.head(final)
        log_probs = torch.log_softmax(logits.to(reads.initial), dim=-1)
        n = len(reads.target)
        moved = (log_probs[n:].exp() * (log_probs[n:] - reads.initial)).sum(-1)
        self._read = log_probs[:n].gather(1, reads.target[:, None])[:, 0], moved
        self._leads = logits[:n].detach().argmax(-1) == reads.target
        return self._read[0].detach(), self._read[1].detach()

    def leads(self) -> Bool[Tensor, " n"]:
        """See :class:`Reader`."""
        return self._leads

    def gradient(self, log_probs: Tensor, moved: Tensor) -> Float[Tensor, "row d_model"]:
        """See :class:`Reader`."""
        (gradient,) = torch.autograd.grad(self._read, self._change, (log_probs, moved))
        return gradient
