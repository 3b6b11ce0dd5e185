"""The bridge engine: every hook point, on any weights, and the whole text every time.

It can show attention patterns and take interventions; what it computes is what the other engines
are held to.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probes.forward.batches import Place, Reader, TokenBatch, TokenIds, batches, padded
from probes.model.loaded import LoadedModel

Hook = tuple[str, Callable[[Tensor, Any], Any]]


@torch.no_grad()
def run_to(
    model: LoadedModel,
    batch: TokenBatch,
    layer: int,
    hooks: Sequence[Hook],
    *,
    attention_mask: Tensor | None = None,
    position_ids: Int[Tensor, "row position"] | None = None,
) -> None:
    """Runs a batch up to and including block ``layer``; its hooks are removed afterwards.

    Args:
        model: The model.
        batch: The texts.
        layer: The last block that is run.
        hooks: Names of hook points, and what to call with their activations.
        attention_mask: Instead of the batch's own; in four dimensions it is additive.
        position_ids: Instead of counting from 0.
    """
    positions = {} if position_ids is None else {"position_ids": position_ids}
    # After the last block the bridge does not stop: logits of every token would be most of the
    # memory and a part of the time, and nobody reads them.
    head = model.bridge.original_model.get_output_embeddings()
    narrowed = head.register_forward_pre_hook(lambda _, arguments: (arguments[0][:, :1],))
    try:
        model.bridge.run_with_hooks(
            batch.ids,
            attention_mask=batch.mask if attention_mask is None else attention_mask,
            fwd_hooks=list(hooks),
            stop_at_layer=layer + 1,
            return_type=None,
            **positions,
        )
    finally:
        narrowed.remove()


@torch.no_grad()
def last_logits(
    model: LoadedModel, ids: Int[Tensor, "row position"], hooks: Sequence[Hook]
) -> Float[Tensor, "row vocabulary"]:
    """Logits after the last token of rows of one length, with hooks that may change activations.

    Args:
        model: The model.
        ids: The texts.
        hooks: As :func:`run_to` takes them.

    Returns:
        The logits.
    """
    return model.bridge.run_with_hooks(ids, fwd_hooks=list(hooks), return_type="logits")[:, -1]


@dataclass(frozen=True)
class Bridge:
    """See :class:`probes.forward.engine.Engine`."""

    model: LoadedModel

    def read(self, batch: TokenBatch, readers: Mapping[Place, Reader]) -> None:
        """See :meth:`probes.forward.engine.Engine.read`."""
        device = self.model.device  # of a model that is spread, blocks may be on others
        hooks = [
            (self.model.hook(*place), _detached(reader, device))
            for place, reader in readers.items()
        ]
        run_to(self.model, batch, max(layer for layer, _ in readers), hooks)

    def after(self, prefixes: Sequence[TokenIds], layers: Sequence[int]) -> _WholeTexts:
        """See :meth:`probes.forward.engine.Engine.after`."""
        return _WholeTexts(self, prefixes, layers)

    def decode(self, rows: Sequence[Sequence[int]]) -> _WholeDecoder:
        """See :meth:`probes.forward.engine.Engine.decode`."""
        return _WholeDecoder(self.model, rows)


def _detached(reader: Reader, device: torch.device) -> Callable[[Tensor, Any], None]:
    return lambda activation, hook: reader(activation.detach().to(device))


@dataclass(frozen=True)
class _WholeTexts:
    """Nothing is kept of a prefix: it is run again with every text."""

    engine: Bridge
    prefixes: Sequence[TokenIds]
    layers: Sequence[int]

    def lay(self, texts: Sequence[TokenIds], most: int) -> Iterator[_Whole]:
        """See :meth:`probes.forward.engine.AfterPrefixes.lay`."""
        for batch in batches(texts, self.engine.model, batch_tokens=most):
            yield _Whole(self, batch.rows, batch.ids.numel(), [texts[row] for row in batch.rows])


@dataclass(frozen=True)
class _Whole:
    """See :class:`probes.forward.engine.Laid`."""

    after: _WholeTexts
    rows: list[int]
    tokens: int
    texts: list[TokenIds]

    def keys(self, prefixes: Sequence[int]) -> list[Float[Tensor, "prefix row d_mlp"]]:
        """See :meth:`probes.forward.engine.Laid.keys`."""
        engine, layers = self.after.engine, self.after.layers
        complete = [(*self.after.prefixes[i], *text) for i in prefixes for text in self.texts]
        read: dict[int, dict[int, Tensor]] = {layer: {} for layer in layers}
        for batch in batches(complete, engine.model):

            def keep(keys: Tensor, of: dict[int, Tensor], batch: TokenBatch = batch) -> None:
                at_last = keys[torch.arange(len(batch.rows)), batch.last]
                of.update(zip(batch.rows, at_last, strict=True))

            engine.read(
                batch,
                {(layer, "key"): functools.partial(keep, of=of) for layer, of in read.items()},
            )
        every = [torch.stack([of[i] for i in range(len(complete))]) for of in read.values()]
        return [keys.unflatten(0, (len(prefixes), -1)) for keys in every]


class _WholeDecoder:
    """See :class:`probes.forward.engine.Decoder`."""

    def __init__(self, model: LoadedModel, rows: Sequence[Sequence[int]]) -> None:
        self._model = model
        self._ids, self._mask = padded(rows, model.device, left=True)

    def logits(self) -> Float[Tensor, "row vocabulary"]:
        """See :meth:`probes.forward.engine.Decoder.logits`."""
        mask = None if bool(self._mask.all()) else self._mask
        logits: Tensor = self._model.bridge(self._ids, attention_mask=mask, return_type="logits")[
            :, -1
        ]
        return logits

    def append(self, tokens: Int[Tensor, "row 1"]) -> None:
        """See :meth:`probes.forward.engine.Decoder.append`."""
        self._ids = torch.cat([self._ids, tokens.to(self._ids)], dim=1)
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)

    def keep(self, rows: Sequence[int]) -> None:
        """See :meth:`probes.forward.engine.Decoder.keep`."""
        self._ids, self._mask = self._ids[list(rows)], self._mask[list(rows)]
