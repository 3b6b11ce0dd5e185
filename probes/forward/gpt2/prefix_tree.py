"""Texts as a tree: beginnings that several of them share are nodes that are computed once.

A token's activations depend on the tokens up to it. Two subjects that begin alike, or one prompt
before many subjects, therefore share work token by token: of the texts of a batch every distinct
beginning is one node, matrices are multiplied with nodes instead of padded rows, and a mask says
which nodes come before which.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from probes.forward.batches import TokenIds


@dataclass(frozen=True)
class Tree:
    """Token sequences, their common beginnings merged.

    Attributes:
        rows: Index of each sequence among those given.
        ids: Token of each node.
        depth: Its index in its sequences.
        sees: Whether a node (row) comes after another (column) in a sequence, or is the same.
        last: Node of each sequence's last token.
    """

    rows: list[int]
    ids: Int[Tensor, " node"]
    depth: Int[Tensor, " node"]
    sees: Bool[Tensor, "node node"]
    last: Int[Tensor, " row"]

    def to(self, device: torch.device) -> Tree:
        """The same on another device."""
        moved = (getattr(self, name).to(device) for name in ("ids", "depth", "sees", "last"))
        return Tree(self.rows, *moved)


def trees(texts: Sequence[TokenIds], *, nodes: int) -> Iterator[Tree]:
    """Merges sequences that begin alike, some at a time.

    Args:
        texts: Token sequences, none empty.
        nodes: Most nodes of a tree; a longer sequence is a tree by itself.

    Yields:
        Trees that together hold every sequence once.
    """
    order = sorted(range(len(texts)), key=lambda i: texts[i])
    start = 0
    while start < len(order):
        stop, count = start, 0
        while stop < len(order):
            text = texts[order[stop]]
            added = len(text) - (_common(text, texts[order[stop - 1]]) if stop > start else 0)
            if stop > start and count + added > nodes:
                break
            count += added
            stop += 1
        yield _tree([texts[i] for i in order[start:stop]], order[start:stop])
        start = stop


def _tree(texts: Sequence[TokenIds], rows: list[int]) -> Tree:
    """Merges the beginnings of sequences in lexicographic order."""
    ids: list[int] = []
    depth: list[int] = []
    after: list[int] = []  # where the nodes that come after a node end, with it the first of them
    last: list[int] = []
    before: TokenIds = ()
    path: list[int] = []
    for text in texts:
        shared = _common(text, before)
        for node in path[shared:]:
            after[node] = len(ids)
        del path[shared:]
        for position in range(shared, len(text)):
            path.append(len(ids))
            ids.append(text[position])
            depth.append(position)
            after.append(0)
        last.append(path[-1])
        before = text
    for node in path:
        after[node] = len(ids)
    nodes = torch.arange(len(ids))
    sees = (nodes[:, None] >= nodes) & (nodes[:, None] < torch.tensor(after))
    return Tree(rows, torch.tensor(ids), torch.tensor(depth), sees, torch.tensor(last))


def _common(x: TokenIds, y: TokenIds) -> int:
    """Length of the common beginning."""
    for i, (a, b) in enumerate(zip(x, y, strict=False)):
        if a != b:
            return i
    return min(len(x), len(y))
