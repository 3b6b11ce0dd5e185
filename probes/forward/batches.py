"""Token rows as padded batches, and what is read of a model that runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from probes.model.loaded import LoadedModel, Site

# Tokens that are run at once. A CPU is fastest while what an MLP makes of them stays in its caches:
# more make it slower and take memory, fewer leave it waiting for Python.
NUMBERS_ON_CPU, FEWEST_ON_CPU, MOST_ON_CPU = 2**20, 512, 2048
ON_ACCELERATOR = 8192


TokenIds = tuple[int, ...]
Place = tuple[int, Site]
"""A block, and where in it an activation is read."""
Reader = Callable[[Tensor], None]
"""Is called with an activation, ``[row, position, …]``, as it comes."""


@dataclass(frozen=True)
class TokenBatch:
    """Right-padded token ids of texts of similar length.

    Attributes:
        rows: Index of each text among the texts given, one a row.
        ids: Token ids.
        mask: 1 for tokens, 0 for padding.
        last: Index of each text's last token.
    """

    rows: list[int]
    ids: Int[Tensor, "row position"]
    mask: Int[Tensor, "row position"]
    last: Int[Tensor, " row"]

    def split(self, most: int) -> Iterator[TokenBatch]:
        """The same rows in order, fewer at a time.

        Args:
            most: Most tokens of a part, padding included; a longer row is a part by itself.

        Yields:
            The parts.
        """
        n = max(1, most // self.ids.shape[1])
        for start in range(0, len(self.rows), n):
            some = slice(start, start + n)
            width = int(self.last[some].max()) + 1
            yield TokenBatch(
                self.rows[some], self.ids[some, :width], self.mask[some, :width], self.last[some]
            )


def tokens_at_once(model: LoadedModel) -> int:
    """How many tokens are best run at once, by where a model is and how wide its MLPs are."""
    if model.device.type != "cpu":
        return ON_ACCELERATOR
    return min(MOST_ON_CPU, max(FEWEST_ON_CPU, NUMBERS_ON_CPU // int(model.config.d_mlp)))


def batches(
    texts: Sequence[Sequence[int]], model: LoadedModel, *, batch_tokens: int | None = None
) -> Iterator[TokenBatch]:
    """As :func:`batches_on`, for a model.

    Args:
        texts: Token ids of each text, none empty.
        model: What is to run them.
        batch_tokens: Most tokens of a batch; by default :func:`tokens_at_once`.

    Returns:
        Batches that together hold every text once.
    """
    most = tokens_at_once(model) if batch_tokens is None else batch_tokens
    return batches_on(model.device, texts, batch_tokens=most)


def batches_on(
    device: torch.device, texts: Sequence[Sequence[int]], *, batch_tokens: int
) -> Iterator[TokenBatch]:
    """Sorts texts by length and pads them on the right, so that little is computed for padding.

    Args:
        device: Where the tensors go.
        texts: Token ids of each text, none empty.
        batch_tokens: Most tokens of a batch, padding included; a longer text is a batch by itself.

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
        ids, mask = padded([texts[row] for row in rows], device)
        yield TokenBatch(rows, ids, mask, mask.sum(1) - 1)
        start = stop


def by_length(rows: Sequence[Sequence[int]]) -> dict[int, list[int]]:
    """Indices of the rows of each length."""
    alike: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        alike.setdefault(len(row), []).append(i)
    return alike


def padded(
    rows: Sequence[Sequence[int]], device: torch.device, *, left: bool = False
) -> tuple[Int[Tensor, "row position"], Int[Tensor, "row position"]]:
    """Rows of token ids as one tensor.

    Args:
        rows: Token ids.
        device: Where the tensors go.
        left: Whether the padding comes before the tokens, so that all rows end together.

    Returns:
        Ids, and a mask with 1 for tokens and 0 for padding.
    """
    width = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        at = slice(width - len(row), width) if left else slice(0, len(row))
        ids[i, at] = torch.tensor(row, dtype=torch.long)
        mask[i, at] = 1
    return ids.to(device), mask.to(device)


def to_float64(tensor: Tensor) -> Tensor:
    """A float64 copy on the CPU: not every accelerator has the type."""
    return tensor.detach().to("cpu").to(torch.float64)
