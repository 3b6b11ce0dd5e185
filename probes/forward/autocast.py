"""Passes over text in bfloat16, on weights that stay as they are.

``torch.autocast`` rounds what enters a matrix product to bfloat16, which a GPU (and a CPU with
units for it) multiplies several times faster. Only reading does so: prefixes are sampled and
answers generated as without it, and whoever reads gets float32 and computes in what it likes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from probes.forward.batches import Place, Reader, TokenBatch, TokenIds
from probes.model.loaded import LoadedModel

if TYPE_CHECKING:
    from probes.forward.engine import AfterPrefixes, Decoder, Engine, Laid


def rounded(model: LoadedModel) -> AbstractContextManager[None]:
    """Matrix products in the type that the model's passes are asked to run in, or as they are."""
    dtype = None if model.autocast is None else getattr(torch, model.autocast)
    # Without a cache of rounded weights: an edit may change them between two passes.
    return torch.autocast(
        model.device.type, dtype=dtype, enabled=dtype is not None, cache_enabled=False
    )


@dataclass(frozen=True)
class Autocast:
    """See :class:`probes.forward.engine.Engine`.

    Attributes:
        model: The model that is run.
        passes: What reads, in bfloat16.
        exact: What samples and generates, as without autocast.
    """

    model: LoadedModel
    passes: Engine
    exact: Engine

    def read(self, batch: TokenBatch, readers: Mapping[Place, Reader]) -> None:
        """See :meth:`probes.forward.engine.Engine.read`."""
        with rounded(self.model):
            self.passes.read(
                batch, {place: self._outside(reader) for place, reader in readers.items()}
            )

    def after(self, prefixes: Sequence[TokenIds], layers: Sequence[int]) -> AfterPrefixes:
        """See :meth:`probes.forward.engine.Engine.after`."""
        with rounded(self.model):
            return _After(self.model, self.passes.after(prefixes, layers))

    def decode(self, rows: Sequence[Sequence[int]]) -> Decoder:
        """See :meth:`probes.forward.engine.Engine.decode`."""
        return self.exact.decode(rows)

    def _outside(self, reader: Reader) -> Reader:
        """A reader that is called outside of autocast, with float32."""

        def read(activation: Tensor) -> None:
            with torch.autocast(self.model.device.type, enabled=False):
                reader(activation.float())

        return read


@dataclass(frozen=True)
class _After:
    """See :class:`probes.forward.engine.AfterPrefixes`."""

    model: LoadedModel
    prefixes: AfterPrefixes

    def lay(self, texts: Sequence[TokenIds], most: int) -> Iterator[_Laid]:
        """See :meth:`probes.forward.engine.AfterPrefixes.lay`."""
        for laid in self.prefixes.lay(texts, most):
            yield _Laid(self.model, laid)


@dataclass(frozen=True)
class _Laid:
    """See :class:`probes.forward.engine.Laid`."""

    model: LoadedModel
    laid: Laid

    @property
    def rows(self) -> list[int]:
        """Index of each text among the texts given."""
        return self.laid.rows

    @property
    def tokens(self) -> int:
        """How many tokens are run for each prefix."""
        return self.laid.tokens

    def keys(self, prefixes: Sequence[int]) -> list[Float[Tensor, "prefix row d_mlp"]]:
        """See :meth:`probes.forward.engine.Laid.keys`."""
        with rounded(self.model):
            return [keys.float() for keys in self.laid.keys(prefixes)]
