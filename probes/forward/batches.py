"""Texts as padded batches, and the pass of a batch through the blocks that are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probes.model.loaded import LoadedModel

BATCH_TOKENS = 8192


Hook = tuple[str, Callable[[Tensor, Any], None]]


@dataclass(frozen=True)
class Batch:
    """Right-padded token ids of texts of similar length.

    Attributes:
        rows: Which of the texts given these are.
        ids: Token ids, ``[len(rows), longest]``.
        mask: 1 for tokens, 0 for padding.
        last: Index of each text's last token.
    """

    rows: list[int]
    ids: Tensor
    mask: Tensor
    last: Tensor


def batches(
    texts: Sequence[Sequence[int]], device: torch.device, *, batch_tokens: int = BATCH_TOKENS
) -> Iterator[Batch]:
    """Sorts texts by length and pads them on the right, so that little is computed for padding.

    Args:
        texts: Token ids of each.
        device: Where the tensors go.
        batch_tokens: At most so many tokens a batch, padding counted in.

    Yields:
        Batches that together hold every text once.
    """
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and len(texts[order[stop]]) * (stop + 1 - start) <= batch_tokens:
            stop += 1
        rows = order[start:stop]
        longest = len(texts[rows[-1]])
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros(len(rows), longest, dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(texts[row])] = torch.tensor(texts[row], dtype=torch.long)
            mask[i, : len(texts[row])] = 1
        yield Batch(rows, ids.to(device), mask.to(device), (mask.sum(1) - 1).to(device))
        start = stop


@torch.no_grad()
def run_to(model: LoadedModel, batch: Batch, layer: int, hooks: Sequence[Hook]) -> None:
    """Runs a batch up to and including block ``layer`` with hooks that leave nothing behind.

    Args:
        model: The model.
        batch: The texts.
        layer: The last block that is run.
        hooks: Names of hook points, and what to call with their activations.
    """
    model.bridge.run_with_hooks(
        batch.ids,
        attention_mask=batch.mask,
        fwd_hooks=list(hooks),
        stop_at_layer=layer + 1,
        return_type=None,
    )


def to_float64(tensor: Tensor) -> Tensor:
    """A float64 copy on the CPU: not every accelerator has the type."""
    return tensor.detach().to("cpu").to(torch.float64)
