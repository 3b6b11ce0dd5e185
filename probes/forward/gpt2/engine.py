"""The fast engine: bare arithmetic on trees of texts, where GPT-2's layout allows it."""

from __future__ import annotations

from collections.abc import Sequence

from probes.forward.batches import TokenIds
from probes.forward.gpt2.tree_keys import TreesAfterPrefixes
from probes.forward.unhooked import Unhooked
from probes.model import architecture


class GPT2(Unhooked):
    """See :class:`probes.forward.engine.Engine`."""

    @staticmethod
    def applies(engine: Unhooked) -> bool:
        """Whether a model's blocks compute what :mod:`probes.forward.gpt2.blocks` does."""
        return architecture.is_gpt2(engine.plain.model)

    def after(self, prefixes: Sequence[TokenIds], layers: Sequence[int]) -> TreesAfterPrefixes:
        """See :meth:`probes.forward.engine.Engine.after`."""
        return TreesAfterPrefixes(self.plain, prefixes, layers)
