"""Keys and residual streams of several blocks at every token of many texts, as fast as they come.

A pass over a corpus spends its time in the model. The plain Hugging Face model is a third faster
than the bridge on the same weights, so it is what runs here wherever it can be had.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from probes.forward.batches import Batch, run_to
from probes.forward.unhooked import Plain, Reached, plain, until_reached
from probes.model import architecture
from probes.model.loaded import LoadedModel, Site
from rome_diagnosis.errors import UserError

SITES: tuple[Site, ...] = ("key", "resid_pre", "resid_post")


def sites(model: LoadedModel) -> tuple[Site, ...]:
    """What is read: of blocks that normalise the sum of stream and MLP output, that sum too."""
    takes_stream = architecture.layout(model.hf_config).norm_takes_stream
    return (*SITES, "before_norm") if takes_stream else SITES


def stream_width(model: LoadedModel) -> int:
    """Width of what has to be sampled beside each key; 0 where keys are enough."""
    return int(model.config.d_model) if "before_norm" in sites(model) else 0


Activations = dict[int, dict[Site, Tensor]]


def reader(model: LoadedModel, layers: Sequence[int]) -> Callable[[Batch], Activations]:
    """Prepares to read activations.

    Args:
        model: The model.
        layers: The blocks.

    Returns:
        What gives, for a batch, each block's keys ``[row, token, d_mlp]`` and residual streams
        ``[row, token, d_model]`` at the other :func:`sites`, on the model's device.
    """
    try:
        whole = plain(model)
    except UserError:  # weights that are not one matrix: they can be measured all the same
        return lambda batch: _of_bridge(model, layers, batch)
    return lambda batch: _of_plain(whole, layers, batch)


@torch.no_grad()
def _of_plain(whole: Plain, layers: Sequence[int], batch: Batch) -> Activations:
    found: Activations = {layer: {} for layer in layers}
    highest = max(layers)

    def before(layer: int) -> Callable[..., None]:
        def hook(_: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            given = arguments[0] if arguments else named["hidden_states"]
            found[layer]["resid_pre"] = given

        return hook

    def key(layer: int) -> Callable[..., None]:
        def hook(_: Any, arguments: tuple[Any, ...]) -> None:
            found[layer]["key"] = architecture.in_rows(arguments[0], batch.ids)

        return hook

    def behind(layer: int) -> Callable[..., None]:
        def hook(_: Any, __: Any, result: Any) -> None:
            found[layer]["resid_post"] = result[0] if isinstance(result, tuple) else result
            if layer == highest:
                raise Reached

        return hook

    def before_norm(layer: int) -> Callable[..., None]:
        def hook(_: Any, arguments: tuple[Any, ...]) -> None:
            found[layer]["before_norm"] = architecture.in_rows(arguments[0], batch.ids)

        return hook

    handles = []
    layout = architecture.layout(whole.model.config)
    for layer in layers:
        block = whole.block(layer)
        if layout.norm is not None and layout.norm_takes_stream:
            norm = block.get_submodule(layout.norm)
            handles.append(norm.register_forward_pre_hook(before_norm(layer)))
        handles += [
            block.register_forward_pre_hook(before(layer), with_kwargs=True),
            whole.output_projection(layer).register_forward_pre_hook(key(layer)),
            block.register_forward_hook(behind(layer)),
        ]
    # Without padding attention needs no mask, and is faster without.
    mask = None if bool(batch.mask.all()) else batch.mask
    with until_reached(handles):
        whole.model.base_model(batch.ids, attention_mask=mask, use_cache=False)
    return found


def _of_bridge(model: LoadedModel, layers: Sequence[int], batch: Batch) -> Activations:
    found: Activations = {layer: {} for layer in layers}

    def keep(layer: int, site: Site) -> Callable[[Tensor, Any], None]:
        def hook(activation: Tensor, hook: Any) -> None:
            found[layer][site] = activation.detach()

        return hook

    hooks = [
        (model.hook(layer, site), keep(layer, site)) for layer in layers for site in sites(model)
    ]
    run_to(model, batch, max(layers), hooks)
    return found
