"""Texts that grow token by token, on a Hugging Face model that keeps what it computed of them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicCache

from probes.forward.batches import padded


class CachedDecoder:
    """See :class:`probes.forward.engine.Decoder`."""

    def __init__(self, model: Any, rows: Sequence[Sequence[int]], device: torch.device) -> None:
        """Nothing is run yet.

        Args:
            model: The causal language model.
            rows: Token ids of each text.
            device: Where it is.
        """
        self._model = model
        self._ids, self._mask = padded(rows, device, left=True)
        self._positions = (self._mask.cumsum(1) - 1).clamp(min=0)
        self._cache = DynamicCache(config=model.config)
        # Without padding, neither is needed; some architectures take no positions.
        self._is_padded = not bool(self._mask.all())
        self._takes_positions = "position_ids" in inspect.signature(model.forward).parameters

    def logits(self) -> Float[Tensor, "row vocabulary"]:
        """See :meth:`probes.forward.engine.Decoder.logits`."""
        positions = {"position_ids": self._positions} if self._takes_positions else {}
        result = self._model(
            self._ids,
            attention_mask=self._mask,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
            **(positions if self._is_padded else {}),
        )
        return result.logits[:, -1]

    def append(self, tokens: Int[Tensor, "row 1"]) -> None:
        """See :meth:`probes.forward.engine.Decoder.append`."""
        self._ids = tokens.to(self._ids)
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
        self._positions = self._positions[:, -1:] + 1

    def keep(self, rows: Sequence[int]) -> None:
        """See :meth:`probes.forward.engine.Decoder.keep`."""
        at = torch.tensor(rows, device=self._ids.device)
        self._ids, self._mask, self._positions = self._ids[at], self._mask[at], self._positions[at]
        self._cache.batch_select_indices(at)
