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

from probes.keys import Batch, batches, run_to, to_float64
from probes.model import LoadedModel
from probes.subject import Lookup


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
    """Activations of one context at one block, cut to its tokens."""

    key: Tensor
    residual: Tensor
    pattern: Tensor


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
        collected: dict[str, Tensor] = {}

        def keep(
            name: str, collected: dict[str, Tensor] = collected
        ) -> Callable[[Tensor, Any], None]:
            def hook(activation: Tensor, hook: Any) -> None:
                collected[name] = to_float64(activation)

            return hook

        names = [
            name
            for block in range(layer + 1)
            for name in (
                model.hook(block, "key"),
                model.hook(block, "resid_pre"),
                model.hook(block, "pattern"),
            )
        ]
        run_to(model, batch, layer, [(name, keep(name)) for name in names])
        for block in range(layer + 1):
            for i, row in enumerate(batch.rows):
                seen[block, row] = _cut(model, collected, batch, block, i)
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
                model.token_text(lookups[context].ids[index]),
                float(seen[layer, context].residual[index].norm()),
                _attention_to(seen[layer, context].pattern, index),
            )
            for context in contexts
            for index in range(len(lookups[context].ids))
        ],
    )


def _cut(
    model: LoadedModel, collected: dict[str, Tensor], batch: Batch, block: int, i: int
) -> _Seen:
    """One text's activations without its padding; of its keys only the lookup token's."""
    last = int(batch.last[i])
    return _Seen(
        key=collected[model.hook(block, "key")][i, last],
        residual=collected[model.hook(block, "resid_pre")][i, : last + 1],
        pattern=collected[model.hook(block, "pattern")][i, :, : last + 1, : last + 1],
    )


def _layer(block: int, contexts: list[_Seen]) -> LayerStatistics:
    unprefixed = contexts[0].key
    prefixed = torch.stack([c.key for c in contexts[1:]]) if len(contexts) > 1 else None
    first = torch.stack([c.residual[0] for c in contexts])
    later = torch.cat([c.residual[1:] for c in contexts]).norm(dim=-1)
    received = [a for c in contexts if (a := _attention_to(c.pattern, 0)) is not None]
    magnitudes = first.abs()
    median = magnitudes.median(-1).values
    return LayerStatistics(
        layer=block,
        key_norm_unprefixed=float(unprefixed.norm()),
        key_norm_prefixed=None if prefixed is None else float(prefixed.norm(dim=-1).mean()),
        cosine=None if prefixed is None else cosine(unprefixed, prefixed.mean(0)),
        residual_norm_first=float(first.norm(dim=-1).mean()),
        residual_norm_later=float(later.median()) if len(later) else None,
        # A begin-of-sequence embedding of zeros has no coordinate to compare with.
        massive_activation=(
            float((magnitudes.max(-1).values / median).mean()) if bool(median.all()) else None
        ),
        attention_to_first=sum(received) / len(received) if received else None,
    )


def _attention_to(pattern: Tensor, index: int) -> float | None:
    """Mean attention ``[head, query, key]`` that the tokens behind ``index`` pay to it."""
    later = pattern[:, index + 1 :, index]
    return float(later.mean()) if later.numel() else None


def cosine(x: Tensor, y: Tensor) -> float:
    """Cosine of the angle between two vectors; 0 where one is zero and has no direction."""
    lengths = float(x.norm() * y.norm())
    return float(x @ y) / lengths if lengths else 0.0
