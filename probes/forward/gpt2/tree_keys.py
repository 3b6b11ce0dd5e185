"""Keys of many texts after prefixes, in GPT-2's layout, with nothing computed twice.

The general engine runs Hugging Face's blocks on padded rows. Here the blocks run on the nodes of a
tree of texts (:mod:`probes.forward.gpt2.prefix_tree`); up to the first attention a node's
activations depend on its position only, so they are computed once for all prefixes of one length;
and in the last block only the texts' last tokens need more than what attention reads. Keys of lower
blocks are read on the way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from probes.forward.batches import TokenIds, by_length
from probes.forward.gpt2.blocks import Block, affine, embed, normed
from probes.forward.gpt2.prefix_tree import Tree, trees
from probes.forward.unhooked import Plain

Pair = tuple[
    Float[Tensor, "prefix head position d_head"], Float[Tensor, "prefix head position d_head"]
]


@dataclass(frozen=True)
class Past:
    """What texts need to know of prefixes of one length.

    Attributes:
        keys_values: The attention's keys and values in each block below the last one.
        inputs: What the last block's attention reads.
    """

    keys_values: list[Pair]
    inputs: Float[Tensor, "prefix position d_model"]

    def of(self, prefixes: Sequence[int]) -> Past:
        """The same for some of the prefixes."""
        at = torch.tensor(prefixes, device=self.inputs.device)
        return Past([(keys[at], values[at]) for keys, values in self.keys_values], self.inputs[at])


class TreesAfterPrefixes:
    """See :class:`probes.forward.engine.AfterPrefixes`."""

    def __init__(
        self, unhooked: Plain, prefixes: Sequence[TokenIds], layers: Sequence[int]
    ) -> None:
        """Runs the prefixes.

        Args:
            unhooked: The model; :func:`probes.model.architecture.is_gpt2` holds.
            prefixes: Token ids of each, possibly none.
            layers: The blocks whose keys are read, ascending.
        """
        self.unhooked, self.layers = unhooked, layers
        self.blocks = [Block.of(unhooked.block(i)) for i in range(layers[-1] + 1)]
        self.heads = int(unhooked.model.config.n_head)
        self._device = self.blocks[0].mlp_in[0].device
        self._at: dict[int, tuple[int, int]] = {}
        self._pasts: dict[int, Past] = {}
        for length, indices in by_length(prefixes).items():
            self._at |= {i: (length, row) for row, i in enumerate(indices)}
            self._pasts[length] = self._run([prefixes[i] for i in indices])

    def lay(self, texts: Sequence[TokenIds], most: int) -> Iterator[LaidTree]:
        """See :meth:`probes.forward.engine.AfterPrefixes.lay`."""
        for tree in trees(texts, nodes=most):
            yield LaidTree(self, tree.to(self._device))

    def past(self, prefixes: Sequence[int]) -> Past:
        """What is kept of some prefixes of one length."""
        length = self._at[prefixes[0]][0]
        return self._pasts[length].of([self._at[i][1] for i in prefixes])

    @torch.no_grad()
    def _run(self, prefixes: Sequence[TokenIds]) -> Past:
        """Runs prefixes of one length."""
        ids = torch.tensor(prefixes, dtype=torch.long, device=self._device)
        x = embed(self.unhooked, ids, torch.arange(ids.shape[1], device=self._device))
        pairs: list[Pair] = []
        for block in self.blocks[:-1]:
            queries, keys, values = _by_head(block.queries_keys_values(x), self.heads)
            pairs.append((keys, values))
            if ids.numel():
                attended = scaled_dot_product_attention(queries, keys, values, is_causal=True)
                x = block.after(x, _joined(attended))
        return Past(pairs, normed(x, self.blocks[-1].norm1))


class LaidTree:
    """Texts as a tree; see :class:`probes.forward.engine.Laid`."""

    def __init__(self, prefixes: TreesAfterPrefixes, texts: Tree) -> None:
        self._prefixes, self._texts = prefixes, texts
        self._embedded: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def rows(self) -> list[int]:
        """Index of each text among the texts given."""
        return self._texts.rows

    @property
    def tokens(self) -> int:
        """How many nodes are run for each prefix."""
        return len(self._texts.ids)

    @torch.no_grad()
    def keys(self, prefixes: Sequence[int]) -> list[Float[Tensor, "prefix row d_mlp"]]:
        """See :meth:`probes.forward.engine.Laid.keys`."""
        *below, last = self._prefixes.blocks
        past, ends = self._prefixes.past(prefixes), self._texts.last
        x, mask = self._embed(past.inputs.shape[1])
        read: list[Tensor] = []
        for layer, (block, pair) in enumerate(zip(below, past.keys_values, strict=True)):
            # Before the first attention, x is the same for all prefixes.
            joined = _by_head(block.queries_keys_values(x), self._prefixes.heads)
            queries, keys, values = joined.expand(-1, len(prefixes), -1, -1, -1)
            attended = scaled_dot_product_attention(
                queries,
                torch.cat([pair[0], keys], dim=2),
                torch.cat([pair[1], values], dim=2),
                attn_mask=mask,
            )
            x, hidden = block.after_and_keys(x, _joined(attended))
            if layer in self._prefixes.layers:
                read.append(hidden[:, ends])
        inputs = normed(x, last.norm1).expand(len(prefixes), -1, -1)
        seen = torch.cat([past.inputs, inputs], dim=1)
        attended = self._attend_last(last, inputs[:, ends], seen, mask[ends])
        return [*read, last.keys(last.add_attention(x[:, ends], attended))]

    def _embed(self, length: int) -> tuple[Tensor, Tensor]:
        """The stream before the first block after prefixes of a length, and an additive mask."""
        if length not in self._embedded:
            texts = self._texts
            x = embed(self._prefixes.unhooked, texts.ids, texts.depth + length)[None]
            mask = x.new_zeros(len(texts.ids), length + len(texts.ids))
            mask[:, length:].masked_fill_(~texts.sees, -math.inf)
            self._embedded[length] = x, mask
        return self._embedded[length]

    def _attend_last(
        self,
        block: Block,
        asking: Float[Tensor, "prefix row d_model"],
        seen: Float[Tensor, "prefix token d_model"],
        mask: Float[Tensor, "row token"],
    ) -> Float[Tensor, "prefix row d_model"]:
        """Attention of the texts' last tokens, for which no key and no value is computed.

        There are many tokens and few queries, and q·(Wx) = (Wᵀq)·x: the weights act on the
        queries, and on what these take from the inputs. A bias of the keys adds the same to all
        scores, which the softmax does not see; that of the values is added once.
        """
        heads, (weight, bias), d = self._prefixes.heads, block.qkv, asking.shape[-1]
        of_keys = weight[:, d : 2 * d].unflatten(1, (heads, -1)).permute(1, 2, 0)
        of_values = weight[:, 2 * d :].unflatten(1, (heads, -1)).transpose(0, 1)
        queries = affine(asking, (weight[:, :d], bias[:d])).unflatten(2, (heads, -1))
        scale = 1 / math.sqrt(d // heads)
        # One product a head for the queries of all prefixes, then one a prefix for all its heads.
        asked = queries.mul(scale).permute(2, 0, 1, 3).flatten(1, 2) @ of_keys
        asked = asked.unflatten(1, asking.shape[:2]).transpose(0, 1).flatten(1, 2)
        pattern = torch.baddbmm(mask.repeat(heads, 1), asked, seen.mT).softmax(-1)
        taken = (pattern @ seen).unflatten(1, (heads, -1)).transpose(0, 1)
        values = taken.flatten(1, 2) @ of_values
        return values.unflatten(1, asking.shape[:2]).permute(1, 2, 0, 3).flatten(2) + bias[2 * d :]


def _by_head(
    joined: Float[Tensor, "row token three_d_model"], heads: int
) -> Float[Tensor, "three row head token d_head"]:
    """Queries, keys and values apart, each by head."""
    return joined.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)


def _joined(attended: Float[Tensor, "row head token d_head"]) -> Float[Tensor, "row token d_model"]:
    """What the heads have taken, side by side."""
    return attended.transpose(1, 2).flatten(2)
