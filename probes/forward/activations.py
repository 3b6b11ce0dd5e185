"""Keys and residual streams of several blocks at every token of many texts.

A pass over a corpus spends its time in the model, so the engine without hook points runs it
wherever the weights allow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from probes.forward.batches import Reader, TokenBatch
from probes.forward.engine import engine_for
from probes.model import architecture
from probes.model.loaded import LoadedModel, Site

SITES: tuple[Site, ...] = ("key", "resid_pre", "resid_post")

Activations = dict[int, dict[Site, Tensor]]


def sites(model: LoadedModel) -> tuple[Site, ...]:
    """What is read: of blocks that normalise the sum of stream and MLP output, that sum too."""
    takes_stream = architecture.layout(model.hf_config).norm_takes_stream
    return (*SITES, "before_norm") if takes_stream else SITES


def stream_width(model: LoadedModel) -> int:
    """Width of what has to be sampled beside each key; 0 where keys are enough."""
    return int(model.config.d_model) if "before_norm" in sites(model) else 0


def reader(model: LoadedModel, layers: Sequence[int]) -> Callable[[TokenBatch], Activations]:
    """Prepares to read activations.

    Args:
        model: The model.
        layers: The blocks.

    Returns:
        A function that gives, for a batch, each block's keys ``[row, token, d_mlp]`` and residual
        streams ``[row, token, d_model]`` at the other :func:`sites`, on the model's device.
    """
    chosen, wanted = engine_for(model), sites(model)

    @torch.no_grad()
    def read(batch: TokenBatch) -> Activations:
        seen: Activations = {layer: {} for layer in layers}

        def keep(layer: int, site: Site) -> Reader:
            def store(activation: Tensor) -> None:
                seen[layer][site] = activation

            return store

        chosen.read(
            batch, {(layer, site): keep(layer, site) for layer in layers for site in wanted}
        )
        return seen

    return read
