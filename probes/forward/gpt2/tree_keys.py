"""Keys of many texts behind one prefix, in a GPT-2 layout, with nothing computed twice.

The general path (:mod:`probes.keys.many_edits`) runs Hugging Face's blocks on padded rows. A
GPT-2's blocks (:mod:`probes.forward.gpt2.blocks`) run on the nodes of a tree of texts
(:mod:`probes.forward.gpt2.prefix_tree`) instead; and of the edited block only the
subject's last token is wanted, so that of the other tokens nothing but the residual stream is
needed there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probes.forward.gpt2.blocks import Block, affine, embed, normed
from probes.forward.gpt2.prefix_tree import Tree, tree
from probes.forward.gpt2.tree_attention import RowAttention
from probes.forward.unhooked import Plain


@dataclass(frozen=True)
class Past:
    """What texts need to know of tokens in front of them.

    Attributes:
        keys_values: The attention's keys and values in each block below the edited one,
            ``[head, position, d_head]``; of several prefixes ``[head, prefix, position, d_head]``.
        inputs: What the edited block's attention reads, ``[(prefix,) position, d_model]``.
    """

    keys_values: list[tuple[Tensor, Tensor]]
    inputs: Tensor

    @property
    def length(self) -> int:
        """How many tokens they are."""
        return self.inputs.shape[-2]


class PackedBlocks:
    """The blocks up to the edited one."""

    def __init__(self, whole: Plain, layer: int) -> None:
        """Looks the weights up; none is copied.

        Args:
            whole: The model; :func:`probes.forward.gpt2.blocks.is_gpt2` holds.
            layer: The edited block.
        """
        self._whole = whole
        self._blocks = [Block.of(whole.block(i)) for i in range(layer + 1)]
        self._heads = int(whole.model.config.n_head)

    @torch.no_grad()
    def pasts(self, heads: Sequence[Sequence[int]]) -> list[Past]:
        """Runs prefixes once, all together.

        Args:
            heads: Their tokens, possibly none.

        Returns:
            What each of them leaves.
        """
        weight = self._blocks[0].mlp_in[0]
        found = [Past([], weight.new_empty(0, len(weight))) for _ in heads]
        able = [i for i, head in enumerate(heads) if head]
        if not able:
            return found
        texts = tree([tuple(heads[i]) for i in able]).to(weight.device)
        attention = RowAttention(texts, self._heads)
        x = embed(self._whole, texts)
        made: list[list[tuple[Tensor, Tensor]]] = [[] for _ in able]
        for block in self._blocks[:-1]:
            joined = block.queries_keys_values(x)
            _, keys, values = attention.rows(joined)
            for row, i in enumerate(able):
                length = len(heads[i])
                made[row].append((keys[:, 0, row, :length], values[:, 0, row, :length]))
            x = block.behind(x, attention.of_nodes(joined, None))
        inputs = normed(x, self._blocks[-1].norm1)[0]
        for row, i in enumerate(able):
            found[i] = Past(made[row], inputs[texts.table[row, : len(heads[i])]])
        return found

    @torch.no_grad()
    def run(
        self, texts: Tree, pasts: Sequence[Past], *, nodes: int
    ) -> Iterator[tuple[list[int], Float[Tensor, "prefix row d_mlp"]]]:
        """The key at each text's last token, behind several prefixes.

        Prefixes of equal length are run together, as many as make up a batch. Up to the first
        attention a token depends on its own position only, so that part is computed once for all.

        Args:
            texts: The texts behind the prefix.
            pasts: The prefixes, from :meth:`pasts`.
            nodes: At most so many tokens at once, unless one prefix's are more.

        Yields:
            Which of the prefixes these are, and their keys, rows in the tree's order.
        """
        at_once = together(texts, len(pasts), nodes)
        attention = RowAttention(texts, self._heads)
        for length in {past.length for past in pasts}:
            x = embed(self._whole, texts, length)
            below = self._blocks[:-1]
            joined = below[0].queries_keys_values(x) if below else None
            alike = [i for i, past in enumerate(pasts) if past.length == length]
            for start in range(0, len(alike), at_once):
                chunk = alike[start : start + at_once]
                past = _stacked([pasts[i] for i in chunk])
                yield chunk, self._run(texts, attention, past, x, joined)

    def _run(
        self, texts: Tree, attention: RowAttention, past: Past, x: Tensor, joined: Tensor | None
    ) -> Tensor:
        *below, edited = self._blocks
        for i, block in enumerate(below):
            if i > 0 or joined is None:
                joined = block.queries_keys_values(x)
            before = past.keys_values[i] if past.length else None
            x = block.behind(x, attention.of_nodes(joined, before))
        inputs = normed(x, edited.norm1)
        (weight, bias), d = edited.qkv, x.shape[-1]
        queries = affine(inputs.index_select(1, texts.last), (weight[:, :d], bias[:d]))
        attended = attention.of_last(
            queries, inputs, past.inputs, weight[:, d : 2 * d], weight[:, 2 * d :]
        ).add_(bias[2 * d :])
        return edited.keys(edited.add_attention(x.index_select(1, texts.last), attended))


def together(texts: Tree, prefixes: int, nodes: int) -> int:
    """Behind how many of some prefixes a tree is run at once.

    Args:
        texts: The tree.
        prefixes: How many there are.
        nodes: At most so many tokens at once, unless one prefix's are more.

    Returns:
        At least 1.
    """
    return max(1, min(prefixes, nodes // len(texts.ids)))


def _stacked(pasts: Sequence[Past]) -> Past:
    """Prefixes of one length as one."""
    return Past(
        [
            (
                torch.stack([key for key, _ in block], 1),
                torch.stack([value for _, value in block], 1),
            )
            for block in zip(*(past.keys_values for past in pasts), strict=True)
        ],
        torch.stack([past.inputs for past in pasts]),
    )
