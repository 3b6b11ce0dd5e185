"""How the first position differs, layer by layer, and which other positions act as it does.

In many trained decoders later tokens dump attention on the first position, whose residual stream
has grown far longer than any other ("attention sink", "massive activation"). A key read there is
distributed unlike any other. Now and then a first full stop or a newline plays the same part, so
every position of every context is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probes.forward.batches import Batch, batches, run_to, to_float64
from probes.model.loaded import LoadedModel, Site
from probes.request.lookup import Lookup
from probes.statistics import cosine


@dataclass(frozen=True)
class LayerStatistics:
    """One block's view of a subject with and without a prefix.

    Attributes:
        layer: The block.
        key_norm_unprefixed: ‖k_u‖.
        key_norm_prefixed: Mean norm of the prefixed keys; ``None`` without any.
        cosine: Of k_u and the mean prefixed key.
        residual_norm_first: Norm of the residual stream entering the block at the first token,
            averaged over contexts.
        residual_norm_later: Median norm entering it at all later tokens.
        massive_activation: Largest over median magnitude of that stream's coordinates at the
            first token, averaged over contexts; ``None`` where the median is 0.
        attention_to_first: Attention that later tokens pay to the first one, averaged over heads,
            tokens and contexts; ``None`` where nothing follows the first token.
    """

    layer: int
    key_norm_unprefixed: float
    key_norm_prefixed: float | None
    cosine: float | None
    residual_norm_first: float
    residual_norm_later: float | None
    massive_activation: float | None
    attention_to_first: float | None


@dataclass(frozen=True)
class Position:
    """One token of one context, as the edited block's attention sees it.

    Attributes:
        context: Row of the context; 0 is the bare prompt.
        index: The token's index.
        token: Its text.
        residual_norm: Norm of the residual stream entering the block there.
        attention: Attention it receives from later tokens, averaged over heads and tokens;
            ``None`` for the last token, which none follows.
    """

    context: int
    index: int
    token: str
    residual_norm: float
    attention: float | None


@dataclass(frozen=True)
class Profile:
    """What the blocks up to the edited one make of the first position.

    Attributes:
        layers: Statistics of each block from 0 to the edited one.
        positions: Every token of every context at the edited block.
    """

    layers: list[LayerStatistics]
    positions: list[Position]


@dataclass(frozen=True)
class _Seen:
    """What is kept of one context at one block.

    Attributes:
        key: At the lookup token, ``[d_mlp]``.
        norms: Of the residual stream entering the block, ``[position]``.
        massive: Largest over median magnitude of its coordinates at the first token; infinite or
            undefined where the median is 0.
        attention: What each position receives from later ones, ``[position - 1]``.
    """

    key: Tensor
    norms: Tensor
    massive: float
    attention: Tensor


def profile(model: LoadedModel, lookups: Sequence[Lookup], layer: int) -> Profile:
    """Measures every block up to ``layer`` in one pass over the contexts of one subject.

    Args:
        model: The model.
        lookups: The contexts, row 0 the bare prompt.
        layer: The edited block.

    Returns:
        The statistics.

    Raises:
        UserError: If the model has no such layer.
    """
    model.check_layer(layer)
    seen: dict[tuple[int, int], _Seen] = {}
    for batch in batches([lookup.ids for lookup in lookups], model.device):
        kept = _run(model, batch, layer)
        for block in range(layer + 1):
            keys, norms, massive, attention = (kept[block, site] for site in _REDUCED)
            for i, row in enumerate(batch.rows):
                last = int(batch.last[i])
                seen[block, row] = _Seen(
                    keys[i], norms[i, : last + 1], float(massive[i]), attention[i, :last]
                )
    contexts = range(len(lookups))
    return Profile(
        layers=[
            _layer(block, [seen[block, context] for context in contexts])
            for block in range(layer + 1)
        ],
        positions=[
            Position(
                context,
                index,
                model.token_text(token),
                float(seen[layer, context].norms[index]),
                float(seen[layer, context].attention[index])
                if index < lookups[context].index
                else None,
            )
            for context in contexts
            for index, token in enumerate(lookups[context].ids)
        ],
    )


_REDUCED = ("key", "norms", "massive", "attention")


def _run(model: LoadedModel, batch: Batch, layer: int) -> dict[tuple[int, str], Tensor]:
    """Runs a batch and reduces each block's activations as they come.

    Attention patterns grow with the square of the text's length: kept whole for all blocks, a
    long prompt's would not fit into memory.
    """
    kept: dict[tuple[int, str], Tensor] = {}
    rows = torch.arange(len(batch.rows), device=batch.last.device)

    def on_key(activation: Tensor, block: int) -> None:
        kept[block, "key"] = to_float64(activation[rows, batch.last])

    def on_residual(activation: Tensor, block: int) -> None:
        kept[block, "norms"] = to_float64(activation).norm(dim=-1)
        magnitudes = to_float64(activation[:, 0]).abs()
        kept[block, "massive"] = magnitudes.max(-1).values / magnitudes.median(-1).values

    def on_pattern(activation: Tensor, block: int) -> None:
        pattern = to_float64(activation.mean(1))
        # Queries behind the key's position, padding left out.
        query = torch.arange(pattern.shape[1])
        later = (query[:, None] > query) & (query <= batch.last.cpu()[:, None])[:, :, None]
        total = torch.where(later, pattern, 0.0).sum(1)
        kept[block, "attention"] = total / later.sum(1).clamp(min=1)

    def hook(reduce: Callable[[Tensor, int], None], block: int) -> Callable[[Tensor, Any], None]:
        return lambda activation, hook: reduce(activation.detach(), block)

    reductions: tuple[tuple[Site, Callable[[Tensor, int], None]], ...] = (
        ("key", on_key),
        ("resid_pre", on_residual),
        ("pattern", on_pattern),
    )
    hooks = [
        (model.hook(block, site), hook(reduce, block))
        for block in range(layer + 1)
        for site, reduce in reductions
    ]
    run_to(model, batch, layer, hooks)
    return kept


def _layer(block: int, contexts: list[_Seen]) -> LayerStatistics:
    unprefixed = contexts[0].key
    prefixed = torch.stack([c.key for c in contexts[1:]]) if len(contexts) > 1 else None
    later = torch.cat([c.norms[1:] for c in contexts])
    received = [float(c.attention[0]) for c in contexts if len(c.attention)]
    massive = torch.tensor([c.massive for c in contexts], dtype=torch.float64)
    return LayerStatistics(
        layer=block,
        key_norm_unprefixed=float(unprefixed.norm()),
        key_norm_prefixed=None if prefixed is None else float(prefixed.norm(dim=-1).mean()),
        cosine=None if prefixed is None else cosine(unprefixed, prefixed.mean(0)),
        residual_norm_first=float(torch.stack([c.norms[0] for c in contexts]).mean()),
        residual_norm_later=float(later.median()) if len(later) else None,
        # A begin-of-sequence embedding of zeros has no coordinate to compare with.
        massive_activation=float(massive.mean()) if bool(massive.isfinite().all()) else None,
        attention_to_first=sum(received) / len(received) if received else None,
    )
