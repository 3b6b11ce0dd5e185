"""What a batch of edits needs of the model: keys in every context and the stream at the target.

Keys of several layers, in the weights as they are at the moment: methods that edit layer after
layer measure again after each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probes.forward.batches import Reader, batches, to_float64
from probes.forward.engine import engine_for
from probes.keys.many_edits import SharedPrefixes
from probes.keys.one_edit import distinct
from probes.model.loaded import LoadedModel, Site
from probes.request.lookup import Lookup, lookup
from probes.request.request import Request
from rome_diagnosis.errors import UserError


@dataclass(frozen=True)
class BatchObservation:
    """A batch of edits as the model sees it.

    Attributes:
        lookups: Where each edit is looked up in its bare prompt.
        layers: The edited blocks, ascending.
        keys: For each of them the keys under contexts 0…n, ``[m, n_ctx, d_mlp]`` float64.
        stream: The residual stream after the last of them in the bare prompt, ``[m, d_model]``.
    """

    lookups: tuple[Lookup, ...]
    layers: tuple[int, ...]
    keys: dict[int, Float[Tensor, "m n_ctx d_mlp"]]
    stream: Float[Tensor, "m d_model"]


def observe_batch(
    model: LoadedModel, requests: Sequence[Request], layers: Sequence[int], prefixes: Sequence[str]
) -> BatchObservation:
    """Observes a batch.

    Args:
        model: The model.
        requests: The edits.
        layers: The blocks to be edited.
        prefixes: Contexts 1…n.

    Returns:
        The observation.

    Raises:
        UserError: If a request cannot be looked up in one of the contexts, or what the model
            computes is not finite.
    """
    lookups = tuple(lookup(model, request) for request in requests)
    keys = {layer: batch_keys(model, requests, layer, prefixes) for layer in layers}
    stream = stream_at(model, lookups, max(layers))
    for name, tensor in (("stream", stream), *((f"keys of block {k}", v) for k, v in keys.items())):
        if not torch.isfinite(tensor).all():
            raise UserError(
                f"the {name} of {model.name} are not finite in {model.computed_in}: use float32, "
                "or weights without NaN"
            )
    return BatchObservation(lookups, tuple(layers), keys, stream)


def batch_keys(
    model: LoadedModel, requests: Sequence[Request], layer: int, prefixes: Sequence[str]
) -> Float[Tensor, "m n_ctx d_mlp"]:
    """Keys of a batch under contexts 0…n, with the weights as they are now.

    Args:
        model: The model.
        requests: The edits.
        layer: The block whose keys are wanted.
        prefixes: Contexts 1…n.

    Returns:
        The keys, float64 on the CPU; context 0 is the bare prompt.

    Raises:
        UserError: If a request cannot be looked up in one of the contexts.
    """
    contexts = SharedPrefixes(model, layer, prefixes)
    placed = []
    for request, at in zip(requests, contexts.place(requests), strict=True):
        if isinstance(at, UserError):
            raise UserError(f"the edit of {request.subject!r}: {at}")
        placed.append(at)
    return contexts.capture(placed).of()


@torch.no_grad()
def stream_at(
    model: LoadedModel, lookups: Sequence[Lookup], layer: int, site: Site = "resid_post"
) -> Float[Tensor, "m d_model"]:
    """The residual stream after a block at each lookup token, with the weights as they are now.

    Args:
        model: The model.
        lookups: Where to look; equal token sequences are run once.
        layer: The block.
        site: Another of its activations instead, such as ``value``, the MLP's output.

    Returns:
        One row for each lookup, float64 on the CPU.
    """
    texts, rows = distinct(lookups)
    engine = engine_for(model)
    keys: dict[int, Tensor] = {}
    for batch in batches(texts, model):
        at = torch.arange(len(batch.rows), device=batch.last.device)
        read: list[Tensor] = []
        keep: Reader = read.append
        engine.read(batch, {(layer, site): keep})
        keys.update(zip(batch.rows, to_float64(read[0][at, batch.last]), strict=True))
    return torch.stack([keys[row] for row in rows])
