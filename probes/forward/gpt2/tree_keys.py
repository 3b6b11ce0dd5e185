"""Keys of many texts after prefixes, in GPT-2's layout, with nothing computed twice.

The general engine runs Hugging Face's blocks on padded rows. Here the blocks run on the nodes of a
tree of texts (:mod:`probes.forward.gpt2.prefix_tree`); up to the first attention a node's
activations depend on its position only, so they are computed once for all prefixes of one length;
and in the last block only the texts' last tokens need more than what attention reads of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probes.forward.batches import TokenIds, by_length
from probes.forward.gpt2.blocks import Block, affine, embed, normed
from probes.forward.gpt2.prefix_tree import Tree, tree, trees
from probes.forward.gpt2.tree_attention import RowAttention
from probes.forward.unhooked import Plain


@dataclass(frozen=True)
class Past:
    """What texts need to know of prefixes of one length.

    Attributes:
        keys_values: The attention's keys and values in each block below the last one.
        inputs: What the last block's attention reads.
    """

    keys_values: list[
        tuple[
            Float[Tensor, "head prefix position d_head"],
            Float[Tensor, "head prefix position d_head"],
        ]
    ]
    inputs: Float[Tensor, "prefix position d_model"]

    def of(self, prefixes: Sequence[int]) -> Past:
        """The same for some of the prefixes."""
        at = torch.tensor(prefixes, device=self.inputs.device)
        pairs = [(key[:, at], value[:, at]) for key, value in self.keys_values]
        return Past(pairs, self.inputs[at])


class TreesAfterPrefixes:
    """See :class:`probes.forward.engine.AfterPrefixes`."""

    def __init__(self, whole: Plain, prefixes: Sequence[TokenIds], layer: int) -> None:
        """Runs the prefixes.

        Args:
            whole: The model; :func:`probes.model.architecture.is_gpt2` holds.
            prefixes: Token ids of each, possibly none.
            layer: The block whose keys are read.
        """
        self.whole = whole
        self.blocks = [Block.of(whole.block(i)) for i in range(layer + 1)]
        self.heads = int(whole.model.config.n_head)
        self.place: dict[int, tuple[int, int]] = {}
        self.pasts: dict[int, Past] = {}
        for length, indices in by_length(prefixes).items():
            self.place |= {i: (length, row) for row, i in enumerate(indices)}
            self.pasts[length] = self._run([prefixes[i] for i in indices])

    def lay(self, texts: Sequence[TokenIds], most: int) -> Iterator[LaidTree]:
        """See :meth:`probes.forward.engine.AfterPrefixes.lay`."""
        device = self.blocks[0].mlp_in[0].device
        for texts_of_tree in trees(texts, nodes=most):
            yield LaidTree(self, texts_of_tree.to(device))

    @torch.no_grad()
    def _run(self, prefixes: Sequence[TokenIds]) -> Past:
        """Runs prefixes of one length."""
        weight = self.blocks[0].mlp_in[0]
        if not prefixes[0]:
            return Past([], weight.new_empty(len(prefixes), 0, len(weight)))
        texts = tree(prefixes).to(weight.device)
        attention = RowAttention(texts, self.heads)
        x = embed(self.whole, texts)
        pairs = []
        for block in self.blocks[:-1]:
            joined = block.queries_keys_values(x)
            _, keys, values = attention.rows(joined)[:, :, 0]
            pairs.append((keys, values))
            x = block.after(x, attention.of_nodes(joined, None))
        return Past(pairs, normed(x, self.blocks[-1].norm1)[0, texts.table])


class LaidTree:
    """Texts as a tree; see :class:`probes.forward.engine.Laid`."""

    def __init__(self, prefixes: TreesAfterPrefixes, texts: Tree) -> None:
        self._prefixes, self._texts = prefixes, texts
        self._attention = RowAttention(texts, prefixes.heads)
        self._embedded: dict[int, tuple[Tensor, Tensor | None]] = {}

    @property
    def rows(self) -> list[int]:
        """Index of each text among the texts given."""
        return self._texts.rows

    @property
    def tokens(self) -> int:
        """How many nodes are run for each prefix."""
        return len(self._texts.ids)

    @torch.no_grad()
    def keys(self, prefixes: Sequence[int]) -> Float[Tensor, "prefix row d_mlp"]:
        """See :meth:`probes.forward.engine.Laid.keys`."""
        texts, attention = self._texts, self._attention
        places = [self._prefixes.place[i] for i in prefixes]
        length = places[0][0]
        past = self._prefixes.pasts[length].of([row for _, row in places])
        *below, last = self._prefixes.blocks
        x, joined = self._embed(length)
        for i, block in enumerate(below):
            if i > 0 or joined is None:
                joined = block.queries_keys_values(x)
            x = block.after(x, attention.of_nodes(joined, past.keys_values[i] if length else None))
        inputs = normed(x, last.norm1)
        (weight, bias), d = last.qkv, x.shape[-1]
        queries = affine(inputs.index_select(1, texts.last), (weight[:, :d], bias[:d]))
        attended = attention.of_last(
            queries, inputs, past.inputs, weight[:, d : 2 * d], weight[:, 2 * d :]
        ).add_(bias[2 * d :])
        return last.keys(last.add_attention(x.index_select(1, texts.last), attended))

    def _embed(self, length: int) -> tuple[Tensor, Tensor | None]:
        """What does not depend on the prefix but on its length; computed once."""
        if length not in self._embedded:
            x = embed(self._prefixes.whole, self._texts, length)
            below = self._prefixes.blocks[:-1]
            self._embedded[length] = x, below[0].queries_keys_values(x) if below else None
        return self._embedded[length]
