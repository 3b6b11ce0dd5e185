"""Attention of many short rows behind prefixes that they share.

All of a block but its attention acts on the nodes of a tree of texts
(:mod:`probes.forward.gpt2.prefix_tree`); attention needs rows. On rows this short, laying them out
costs as much as multiplying them. So where every node's attention is wanted, one gather takes
queries, keys and values from the nodes to where the products want them, heads first; scores have
their keys in front of their queries, which makes both the prefix's product and the softmax a walk
along memory; and a prefix's keys and values are multiplied with all queries of all rows at once and
copied to none. Where only the last tokens' is wanted, neither keys nor values are made.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from probes.forward.gpt2.prefix_tree import Tree

KeysValues = tuple[Tensor, Tensor]


class RowAttention:
    """The attention of one tree's texts, for any number of prefixes of one length."""

    def __init__(self, texts: Tree, heads: int) -> None:
        """Finds out who sees whom.

        Args:
            texts: The tree.
            heads: Attention heads.
        """
        self._texts, self._heads = texts, heads
        self._rows, self._width = texts.table.shape
        # [key, 1, query] and [row, key]: what a query must not see.
        position = torch.arange(self._width, device=texts.ids.device)
        self._causal = _mask(position[:, None, None] > position)
        self._padding = _mask(position >= texts.lengths[:, None])
        self._indices: dict[int, Tensor] = {}

    def of_nodes(
        self, joined: Float[Tensor, "own node three_d_model"], past: KeysValues | None
    ) -> Float[Tensor, "prefix node d_model"]:
        """Every node's attention over its own beginnings and the prefix.

        Args:
            joined: Queries, keys and values, for each prefix or once for all.
            past: The prefixes' keys and values, ``[head, prefix, position, d_head]``.

        Returns:
            What each node takes from the values, before the output projection.
        """
        queries, keys, values = self._split(joined)
        taken = self._attend(queries, keys, values, past)
        heads, prefixes, cells, d_head = taken.shape
        row = torch.arange(heads, device=joined.device) * prefixes
        at = row + torch.arange(prefixes, device=joined.device)[:, None]
        index = at[:, None] * cells + self._texts.place[:, None]
        return _take(taken, index).view(prefixes, -1, heads * d_head)

    def of_last(
        self,
        queries: Float[Tensor, "own row d_model"],
        inputs: Float[Tensor, "own node d_model"],
        past: Float[Tensor, "prefix position d_model"],
        key_weights: Float[Tensor, "d_model d_model"],
        value_weights: Float[Tensor, "d_model d_model"],
    ) -> Float[Tensor, "prefix row d_model"]:
        """The attention of each text's last token alone, for which no key or value is made.

        There are many nodes and few queries, and q·(Wx) = (Wᵀq)·x: the weights act on the queries,
        and on what these take from the inputs. Biases stay outside: that of the keys adds the same
        to all scores, which the softmax does not see, that of the values is added whole.

        Args:
            queries: Of those tokens.
            inputs: What keys and values are linear in, of each node.
            past: The same of each prefix's tokens.
            key_weights: ``[in, out]``, heads side by side in ``out``.
            value_weights: In the same way.

        Returns:
            What each of them takes from the values, their bias left out.
        """
        (prefixes, length, d_model), (_, nodes, _) = past.shape, inputs.shape
        scale = 1 / math.sqrt(d_model // self._heads)
        by_head = queries.mul(scale).expand(prefixes, -1, -1).unflatten(2, (self._heads, -1))
        of_keys = key_weights.unflatten(1, (self._heads, -1)).permute(1, 2, 0)
        asked = (by_head.flatten(0, 1).transpose(0, 1) @ of_keys).transpose(0, 1)
        # A prefix's tokens behind a row's own, so that one product serves both.
        seen = torch.cat([inputs.expand(prefixes, -1, -1), past], dim=1)
        ahead = nodes + torch.arange(length, device=seen.device).expand(self._rows, -1)
        first = torch.arange(prefixes, device=seen.device)[:, None] * (nodes + length)
        index = first + torch.cat([self._texts.table, ahead], dim=1).flatten()
        cells = _take(seen, index).view(prefixes * self._rows, -1, d_model)
        mask = functional.pad(self._padding.to(seen.dtype), (0, length)).repeat(prefixes, 1)
        pattern = torch.baddbmm(mask[:, None], asked, cells.mT).softmax(-1)
        of_values = value_weights.unflatten(1, (self._heads, -1)).transpose(0, 1)
        taken = (pattern @ cells).transpose(0, 1) @ of_values
        return taken.transpose(0, 1).reshape(prefixes, self._rows, d_model)

    def rows(
        self, joined: Float[Tensor, "own node three_d_model"]
    ) -> Float[Tensor, "three head own row position d_head"]:
        """Nodes laid out as rows; behind a text's end stands its last node again.

        Args:
            joined: Queries, keys and values of each node, side by side.

        Returns:
            All three by head.
        """
        return self._split(joined).unflatten(3, (self._rows, self._width))

    def _split(self, joined: Tensor) -> Tensor:
        """``[three, head, own, row · position, d_head]``."""
        own, _, size = joined.shape
        d_head = size // 3 // self._heads
        found = _take(joined.view(-1, d_head), self._index(own))
        return found.view(3, self._heads, own, self._rows * self._width, d_head)

    def _index(self, own: int) -> Tensor:
        """Where :meth:`_split` finds each head's part of each cell; the same in every block."""
        if own not in self._indices:
            device = self._texts.ids.device
            nodes = torch.arange(own, device=device)[:, None] * len(self._texts.ids)
            nodes = nodes + self._texts.table.flatten()
            head = torch.arange(self._heads, device=device)[:, None, None]
            part = torch.arange(3, device=device)[:, None, None, None]
            self._indices[own] = ((nodes * 3 + part) * self._heads + head).flatten()
        return self._indices[own]

    def _attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, past: KeysValues | None
    ) -> Tensor:
        """``[head, prefix, row · query, d_head]``."""
        (heads, own, cells, d_head), rows, width = queries.shape, self._rows, self._width
        scale, mask = 1 / math.sqrt(d_head), self._causal.to(queries.dtype)
        on_own = keys.view(-1, width, d_head) @ queries.view(-1, width, d_head).mT
        prefixes, length = past[0].shape[1:3] if past else (own, 0)
        scores = queries.new_empty(heads, prefixes, length + width, rows, width)
        on_own = on_own.view(heads, own, rows, width, width).transpose(2, 3)
        on_own = on_own.expand(-1, prefixes, -1, -1, -1)
        torch.add(mask, on_own, alpha=scale, out=scores[:, :, length:])
        if past:
            # Where queries are the same behind all prefixes, one product a head serves them all.
            flat = past[0].reshape(heads * own, -1, d_head) @ queries.flatten(0, 1).mT
            flat = flat.view(heads, prefixes, length, rows, width)
            torch.mul(flat, scale, out=scores[:, :, :length])
        pattern = scores.softmax(2)
        on_own = pattern[:, :, length:].permute(0, 1, 3, 4, 2).reshape(-1, width, width)
        values = values.expand(-1, prefixes, -1, -1).reshape(-1, width, d_head)
        if not past:
            return (on_own @ values).view(heads, prefixes, cells, d_head)
        on_prefix = pattern[:, :, :length].flatten(3).flatten(0, 1)
        taken = on_prefix.mT @ past[1].flatten(0, 1)
        taken = taken.view(-1, width, d_head).baddbmm_(on_own, values)
        return taken.view(heads, prefixes, cells, d_head)


def _mask(unseen: Tensor) -> Tensor:
    return torch.zeros(unseen.shape, device=unseen.device).masked_fill_(unseen, -math.inf)


def _take(x: Tensor, index: Tensor) -> Tensor:
    """Vectors of the last dimension, copied whole, in the order of ``index``."""
    return x.reshape(-1, x.shape[-1]).index_select(0, index.flatten())
