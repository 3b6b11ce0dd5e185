"""How the first position differs, layer by layer, and which other positions act as it does.

In many trained decoders later tokens spend their attention on the first position, whose residual
stream is far longer than any other ("attention sink", "massive activation"). A key read there is
distributed unlike any other. Now and then a first full stop or a newline plays the same part, so
every position of every context is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probes.forward.batches import TokenBatch, to_float64
from probes.forward.bridge import Hook
from probes.model.loaded import LoadedModel, Site
from probes.statistics import cosine


@dataclass(frozen=True)
class LayerStatistics:
    """One block's view of a subject with and without a prefix.

    Attributes:
        layer: The block.
        key_norm_unprefixed: ‖k_u‖.
        key_norm_prefixed: Mean norm of the prefixed keys; ``None`` without any.
        cosine: Cosine of k_u and the mean prefixed key; ``None`` without any.
        residual_norm_first: Norm of the residual stream that enters the block at the first
            token, averaged over contexts.
        residual_norm_later: Median norm of the stream that enters it at later tokens.
        massive_activation: Largest over median magnitude of that stream's coordinates at the
            first token, averaged over contexts; ``None`` where the median is 0.
        attention_to_first: Attention that later tokens pay to the first, averaged over heads,
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
        residual_norm: Norm of the residual stream that enters the block there.
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
    """The first position and its rivals, in every block up to the edited one.

    Attributes:
        layers: Statistics of each block from 0 to the edited one.
        positions: Every token of every context at the edited block.
    """

    layers: list[LayerStatistics]
    positions: list[Position]


# For each name one tensor a row. What is recorded of a text at a block: its ``key``, the
# ``norms`` of the stream at each position, ``massive``, the largest over the median magnitude at
# the first, and the ``attention`` that each position but the last receives from later ones.
Reduced = Mapping[str, Sequence[Tensor]]


@dataclass
class Recorder:
    """Reduces activations as they come, block by block, in a pass that somebody else runs.

    Attention patterns grow with the square of the text's length: those of all blocks, complete,
    would not fit into memory for a long prompt.

    Attributes:
        model: The model, for the names of its hook points.
        layer: The last block.
        rows: What was recorded of each text at each block, by name.
    """

    model: LoadedModel
    layer: int
    rows: dict[tuple[int, int], dict[str, Tensor]] = field(default_factory=dict)

    def hooks(self, batch: TokenBatch) -> list[Hook]:
        """Hooks for one batch, to run it with up to :attr:`layer`.

        Args:
            batch: Texts, each ending with its lookup token.

        Returns:
            Names of hook points, and what to call with their activations.
        """
        at = torch.arange(len(batch.rows), device=batch.last.device)
        ends = batch.last.tolist()

        def on_key(activation: Tensor) -> Reduced:
            return {"key": list(to_float64(activation[at, batch.last]))}

        def on_residual(activation: Tensor) -> Reduced:
            norms = to_float64(activation).norm(dim=-1)
            magnitudes = to_float64(activation[:, 0]).abs()
            massive = magnitudes.max(-1).values / magnitudes.median(-1).values
            return {
                "norms": [row[: end + 1] for row, end in zip(norms, ends, strict=True)],
                "massive": list(massive),
            }

        def on_pattern(activation: Tensor) -> Reduced:
            received = attention_received(to_float64(activation.mean(1)), batch.last.cpu())
            return {"attention": [row[:end] for row, end in zip(received, ends, strict=True)]}

        def hook(reduce: Callable[[Tensor], Reduced], block: int) -> Callable[..., None]:
            def keep(activation: Tensor, hook: Any) -> None:
                for name, values in reduce(activation.detach()).items():
                    for row, value in zip(batch.rows, values, strict=True):
                        self.rows.setdefault((block, row), {})[name] = value

            return keep

        reductions: tuple[tuple[Site, Callable[[Tensor], Reduced]], ...] = (
            ("key", on_key),
            ("resid_pre", on_residual),
            ("pattern", on_pattern),
        )
        return [
            (self.model.hook(block, site), hook(reduce, block))
            for block in range(self.layer + 1)
            for site, reduce in reductions
        ]

    def key(self, row: int, layer: int) -> Float[Tensor, " d_mlp"]:
        """Key of a text at a block."""
        return self.rows[layer, row]["key"]

    def profile(
        self, contexts: Sequence[int], texts: Sequence[Sequence[int]], layer: int
    ) -> Profile:
        """What was recorded, for one subject.

        Args:
            contexts: For each context, the bare prompt first, the row of its text.
            texts: Token ids of each context.
            layer: The edited block.

        Returns:
            The statistics.
        """
        edited = [self.rows[layer, row] for row in contexts]
        return Profile(
            layers=[
                _layer(block, [self.rows[block, row] for row in contexts])
                for block in range(layer + 1)
            ],
            positions=[
                Position(
                    context,
                    index,
                    self.model.token_text(token),
                    float(seen["norms"][index]),
                    float(seen["attention"][index]) if index < len(text) - 1 else None,
                )
                for context, (text, seen) in enumerate(zip(texts, edited, strict=True))
                for index, token in enumerate(text)
            ],
        )


def attention_received(
    pattern: Float[Tensor, "row query key"], last: Tensor
) -> Float[Tensor, "row key"]:
    """What each position receives from the later ones of its own text, on average.

    Args:
        pattern: Attention, averaged over heads; texts padded on the right.
        last: Index of each text's last token.

    Returns:
        The mean over later queries; 0 where there are none.
    """
    query = torch.arange(pattern.shape[1])
    later = (query[:, None] > query) & (query <= last[:, None])[:, :, None]
    total = torch.where(later, pattern, 0.0).sum(1)
    return total / later.sum(1).clamp(min=1)


def _layer(block: int, contexts: Sequence[Mapping[str, Tensor]]) -> LayerStatistics:
    unprefixed = contexts[0]["key"]
    prefixed = torch.stack([c["key"] for c in contexts[1:]]) if len(contexts) > 1 else None
    later = torch.cat([c["norms"][1:] for c in contexts])
    received = [float(c["attention"][0]) for c in contexts if len(c["attention"])]
    massive = torch.stack([c["massive"] for c in contexts])
    return LayerStatistics(
        layer=block,
        key_norm_unprefixed=float(unprefixed.norm()),
        key_norm_prefixed=None if prefixed is None else float(prefixed.norm(dim=-1).mean()),
        cosine=None if prefixed is None else cosine(unprefixed, prefixed.mean(0)),
        residual_norm_first=float(torch.stack([c["norms"][0] for c in contexts]).mean()),
        residual_norm_later=float(later.median()) if len(later) else None,
        # A begin-of-sequence embedding of zeros has no coordinate to compare with.
        massive_activation=float(massive.mean()) if bool(massive.isfinite().all()) else None,
        attention_to_first=sum(received) / len(received) if received else None,
    )
