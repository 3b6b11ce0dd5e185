"""Attention sinks and massive activations, block by block, at position 0 and anywhere else.

Later tokens of many trained decoders spend their attention on the first one, whose residual
stream a few coordinates make many times longer than any other's. The share of heads that do so is
the sink rate; it is reported with the coordinates that carry the stream and the other positions
that act as sinks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probes.forward.batches import TokenBatch, batches, to_float64, tokens_at_once
from probes.forward.bridge import run_to
from probes.model.loaded import LoadedModel, Site
from rome_diagnosis.limits import SINK_NORM, SINK_QUERIES, SINK_SHARE

COORDINATES = 5


@dataclass(frozen=True)
class Coordinate:
    """A coordinate of the residual stream at the first token.

    Attributes:
        index: Its index.
        magnitude: Its mean absolute value.
        share: Its share of the stream's squared length, over all texts.
    """

    index: int
    magnitude: float
    share: float


@dataclass(frozen=True)
class OtherSink:
    """A token after position 0 that acts as a sink.

    Attributes:
        token: Its text.
        index: The position at which it most often acts as one.
        count: How often it does.
        attention: The largest attention it received from later tokens, averaged over heads.
        length: The largest length of its stream over the median later one.
        massive: Largest over median magnitude of its stream's coordinates, at its largest.
    """

    token: str
    index: int
    count: int
    attention: float
    length: float
    massive: float


@dataclass(frozen=True)
class SinkStatistics:
    """One block's sinks.

    Attributes:
        layer: The block.
        attention_to_first: What later tokens pay to position 0, averaged over texts, queries and
            heads.
        sink_rate: Share of heads whose mean attention to position 0 exceeds 0.3.
        length_first: Mean length of the residual stream entering at position 0.
        length_later: Median length at all later positions.
        massive_first: Largest over median magnitude of its coordinates at position 0, mean over
            texts; ``None`` where a median is 0.
        massive_later: The same at later positions, median.
        coordinates: Those that carry the stream at position 0, largest first.
        others: Other positions that act as sinks, the most frequent first.
    """

    layer: int
    attention_to_first: float
    sink_rate: float
    length_first: float
    length_later: float
    massive_first: float | None
    massive_later: float
    coordinates: list[Coordinate]
    others: list[OtherSink]


@dataclass
class _Sums:
    """What is collected at one block, text by text."""

    attention: Tensor  # of each head to position 0, summed over texts
    first: list[Tensor]
    lengths: list[Tensor]
    massive: list[Tensor]
    received: list[Tensor]


def measure_sinks(
    model: LoadedModel, texts: Sequence[Sequence[int]], layers: Sequence[int]
) -> list[SinkStatistics]:
    """Measures the sinks of several blocks in one pass.

    Args:
        model: The model.
        texts: Token ids; those of fewer than two tokens are left out.
        layers: The blocks.

    Returns:
        One entry per block.

    Raises:
        ValueError: If no text has two tokens.
    """
    rows = [list(text)[: model.n_ctx] for text in texts if len(text) > 1]
    if not rows:
        raise ValueError("sinks need texts of two tokens or more")
    sums: dict[int, _Sums] = {}
    tokens: list[list[int]] = []
    # Attention patterns of all blocks exist at once: few rows at a time.
    for batch in batches(rows, model, batch_tokens=tokens_at_once(model) // 4):
        tokens += [rows[row] for row in batch.rows]
        hooks = []
        for layer in layers:
            for site, hook in _hooks(sums, layer, batch):
                hooks.append((model.hook(layer, site), hook))
        run_to(model, batch, max(layers), hooks)
    return [_statistics(model, layer, sums[layer], tokens) for layer in layers]


def _hooks(
    sums: dict[int, _Sums], layer: int, batch: TokenBatch
) -> list[tuple[Site, Callable[[Tensor, Any], None]]]:
    """Hooks that add one batch to the sums of a block."""
    last = batch.last.cpu()

    def of(heads: int = 0) -> _Sums:
        if layer not in sums:
            sums[layer] = _Sums(torch.zeros(heads, dtype=torch.float64), [], [], [], [])
        return sums[layer]

    def on_stream(activation: Tensor, hook: Any) -> None:
        stream = to_float64(activation)
        magnitudes = stream.abs()
        massive = magnitudes.max(-1).values / magnitudes.median(-1).values
        for i, n in enumerate(last.tolist()):
            of().first.append(stream[i, 0].clone())  # a view would keep every stream
            of().lengths.append(stream[i, : n + 1].norm(dim=-1))
            of().massive.append(massive[i, : n + 1])

    def on_pattern(activation: Tensor, hook: Any) -> None:
        pattern = to_float64(activation)
        of_block = of()
        if not len(of_block.attention):
            of_block.attention = torch.zeros(pattern.shape[1], dtype=torch.float64)
        for i, n in enumerate(last.tolist()):
            of_block.attention += pattern[i, :, 1 : n + 1, 0].mean(-1)
            mean = pattern[i, :, : n + 1, : n + 1].mean(0)
            # Below the diagonal: what each position receives from later ones.
            n_later = torch.arange(n, -1, -1, dtype=torch.float64)
            attention = mean.tril(-1).sum(0) / n_later.clamp(min=1)
            of_block.received.append(torch.where(n_later >= SINK_QUERIES.value, attention, 0.0))

    return [("resid_pre", on_stream), ("pattern", on_pattern)]


def _statistics(
    model: LoadedModel, layer: int, sums: _Sums, tokens: Sequence[Sequence[int]]
) -> SinkStatistics:
    """One block's sinks."""
    heads = sums.attention / len(tokens)
    later = torch.cat([lengths[1:] for lengths in sums.lengths])
    massive = torch.stack([of_text[0] for of_text in sums.massive])
    typical = float(later.median())
    return SinkStatistics(
        layer=layer,
        attention_to_first=float(heads.mean()),
        sink_rate=float((heads > SINK_SHARE.value).double().mean()),
        length_first=float(torch.stack([lengths[0] for lengths in sums.lengths]).mean()),
        length_later=typical,
        massive_first=float(massive.mean()) if bool(massive.isfinite().all()) else None,
        massive_later=float(torch.cat([of_text[1:] for of_text in sums.massive]).median()),
        coordinates=carriers(torch.stack(sums.first)),
        others=_others(model, sums, tokens, typical),
    )


def carriers(streams: Float[Tensor, "text d_model"]) -> list[Coordinate]:
    """Which coordinates carry a residual stream.

    Args:
        streams: The stream at one position of several texts.

    Returns:
        The largest coordinates by mean magnitude.
    """
    magnitudes = streams.abs().mean(0)
    shares = streams.square().sum(0) / streams.square().sum().clamp(min=1e-300)
    top = magnitudes.topk(min(COORDINATES, len(magnitudes))).indices.tolist()
    return [Coordinate(i, float(magnitudes[i]), float(shares[i])) for i in top]


def _others(
    model: LoadedModel, sums: _Sums, tokens: Sequence[Sequence[int]], typical: float
) -> list[OtherSink]:
    """Later positions that act as sinks, the most frequent first."""
    by_token: dict[int, list[tuple[int, float, float, float]]] = {}
    for text, lengths, massive, received in zip(
        tokens, sums.lengths, sums.massive, sums.received, strict=True
    ):
        sinks = (received > SINK_SHARE.value) | (lengths > SINK_NORM.value * typical)
        for index in range(1, len(text)):
            if sinks[index]:
                by_token.setdefault(text[index], []).append(
                    (
                        index,
                        float(received[index]),
                        float(lengths[index]) / typical,
                        float(massive[index]),
                    )
                )
    most = sorted(by_token.items(), key=lambda entry: (-len(entry[1]), entry[0]))[:COORDINATES]
    return [
        OtherSink(
            token=model.token_text(token),
            index=Counter(at[0] for at in places).most_common(1)[0][0],
            count=len(places),
            attention=max(at[1] for at in places),
            length=max(at[2] for at in places),
            massive=max(at[3] for at in places),
        )
        for token, places in most
    ]
