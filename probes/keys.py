"""Keys: the input of the edited MLP's output projection at the subject's last token.

Only what the answer needs is computed: blocks up to the edited one, tokens up to the subject's
last, and texts that several contexts share once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probes.model import LoadedModel
from probes.subject import Lookup

BATCH_TOKENS = 8192

Hook = tuple[str, Callable[[Tensor, Any], None]]


@dataclass(frozen=True)
class Keys:
    """Keys and values of one subject in several contexts, or of many lookups.

    Attributes:
        keys: Input of the output projection, ``[n, d_mlp]``, float64 on the CPU.
        values: Output of the MLP at the same token, ``[n, d_model]``, float64 on the CPU.
    """

    keys: Float[Tensor, "n d_mlp"]
    values: Float[Tensor, "n d_model"]


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


def capture(model: LoadedModel, lookups: Sequence[Lookup], layer: int) -> Keys:
    """Captures the key and the MLP's output at every lookup token.

    Args:
        model: The model.
        lookups: Where to look; equal token sequences are run once.
        layer: The edited block.

    Returns:
        One row for each lookup, in the order given.

    Raises:
        UserError: If the model has no such layer.
    """
    texts = [tuple(lookup.ids) for lookup in lookups]
    distinct = list(dict.fromkeys(texts))
    found: dict[str, dict[int, Tensor]] = {"key": {}, "value": {}}
    for batch in batches(distinct, model.device):

        def keep(site: str, batch: Batch = batch) -> Callable[[Tensor, Any], None]:
            def hook(activation: Tensor, hook: Any) -> None:
                at_subject = activation[torch.arange(len(batch.rows)), batch.last]
                found[site].update(zip(batch.rows, to_float64(at_subject), strict=True))

            return hook

        run_to(
            model,
            batch,
            layer,
            [(model.hook(layer, "key"), keep("key")), (model.hook(layer, "value"), keep("value"))],
        )
    order = {text: i for i, text in enumerate(distinct)}
    return Keys(
        keys=torch.stack([found["key"][order[text]] for text in texts]),
        values=torch.stack([found["value"][order[text]] for text in texts]),
    )


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
