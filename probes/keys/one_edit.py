"""Keys: the input of the edited MLP's output projection at the subject's last token.

Only what the answer needs is computed: blocks up to the edited one, tokens up to the subject's
last, and texts that several contexts share once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probes.forward.batches import TokenBatch, batches, to_float64
from probes.forward.bridge import run_to
from probes.model.loaded import LoadedModel, Site
from probes.request.lookup import Lookup


@dataclass(frozen=True)
class Keys:
    """Keys and values of one subject in several contexts, or of many lookups.

    Attributes:
        keys: Input of the output projection, ``[n, d_mlp]``, float64 on the CPU.
        values: Its output at the same token, ``[n, d_model]``, float64 on the CPU.
    """

    keys: Float[Tensor, "n d_mlp"]
    values: Float[Tensor, "n d_model"]


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
    texts, rows = distinct(lookups)
    sites: tuple[Site, ...] = ("key", "value")
    captured: dict[Site, dict[int, Tensor]] = {site: {} for site in sites}
    for batch in batches(texts, model):
        hooks = [(model.hook(layer, site), at_last(batch, captured[site])) for site in sites]
        run_to(model, batch, layer, hooks)
    return Keys(*(torch.stack([captured[site][row] for row in rows]) for site in sites))


def distinct(lookups: Sequence[Lookup]) -> tuple[list[tuple[int, ...]], list[int]]:
    """The texts that have to be run.

    Args:
        lookups: The lookups.

    Returns:
        Token ids of each distinct text, and for each lookup the index of its text.
    """
    every = [tuple(lookup.ids) for lookup in lookups]
    row = {text: i for i, text in enumerate(dict.fromkeys(every))}
    return list(row), [row[text] for text in every]


def at_last(batch: TokenBatch, into: dict[int, Tensor]) -> Callable[[Tensor, Any], None]:
    """A hook that keeps an activation at each text's last token.

    Args:
        batch: The texts.
        into: Where to: by row, float64 on the CPU.

    Returns:
        The hook.
    """

    def keep(activation: Tensor, hook: Any) -> None:
        rows = torch.arange(len(batch.rows), device=batch.last.device)
        into.update(zip(batch.rows, to_float64(activation[rows, batch.last]), strict=True))

    return keep
