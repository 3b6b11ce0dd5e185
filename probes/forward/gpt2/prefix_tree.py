"""Texts that differ only behind a common beginning, as a tree whose nodes are computed once.

A token's activations depend on the tokens up to it. Two subjects that begin alike, or one prompt
in front of many subjects, therefore share work token by token: of the texts of a batch every
distinct beginning is one node, and matrices are multiplied with nodes, not with padded rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from probes.forward.batches import TokenIds

# Texts of up to so many different lengths stand side by side: longer rows cost attention on
# padding, and a batch for each length would share fewer beginnings.
LENGTH_STEP = 4
# A tree of fewer nodes goes on to longer texts all the same.
FEWEST_NODES = 256


@dataclass(frozen=True)
class Tree:
    """Token sequences, their common beginnings merged.

    Attributes:
        rows: Which of the sequences given these are.
        ids: Token of each node, ``[node]``.
        depth: Its index in its sequences, ``[node]``.
        table: Node of each sequence at each position, ``[row, position]``; behind a sequence's
            end its last node again.
        place: For each node one position of ``table``, flattened, that holds it, ``[node]``.
        last: Node of each sequence's last token, ``[row]``.
        lengths: Tokens of each sequence, ``[row]``.
    """

    rows: list[int]
    ids: Int[Tensor, " node"]
    depth: Int[Tensor, " node"]
    table: Int[Tensor, "row position"]
    place: Int[Tensor, " node"]
    last: Int[Tensor, " row"]
    lengths: Int[Tensor, " row"]

    def to(self, device: torch.device) -> Tree:
        """The same on another device."""
        moved = (
            getattr(self, name).to(device)
            for name in ("ids", "depth", "table", "place", "last", "lengths")
        )
        return Tree(self.rows, *moved)


def trees(texts: Sequence[TokenIds], *, nodes: int) -> Iterator[Tree]:
    """Sorts sequences so that those of similar length and equal beginning are neighbours.

    Args:
        texts: Token sequences, none empty.
        nodes: At most so many nodes a tree, unless a single sequence has more.

    Yields:
        Trees that together hold every sequence once.
    """
    order = sorted(range(len(texts)), key=lambda i: (_step(texts[i]), texts[i]))
    start = 0
    while start < len(order):
        stop, count = start, 0
        while stop < len(order):
            text = texts[order[stop]]
            shared = _common(text, texts[order[stop - 1]]) if stop > start else 0
            if stop > start and count + len(text) - shared > nodes:
                break
            if count >= FEWEST_NODES and _step(text) > _step(texts[order[stop - 1]]):
                break
            count += len(text) - shared
            stop += 1
        yield tree([texts[i] for i in order[start:stop]], order[start:stop])
        start = stop


def tree(texts: Sequence[TokenIds], rows: Sequence[int] | None = None) -> Tree:
    """Merges the beginnings of sequences of which equal ones are neighbours.

    Args:
        texts: Token sequences in lexicographic order within runs.
        rows: What to call them; by default their indices.

    Returns:
        The tree.
    """
    longest = max(len(text) for text in texts)
    ids: list[int] = []
    depth: list[int] = []
    place: list[int] = []
    table: list[list[int]] = []
    before: TokenIds = ()
    path: list[int] = []
    for i, text in enumerate(texts):
        shared = _common(text, before)
        path = path[:shared]
        for position in range(shared, len(text)):
            path.append(len(ids))
            ids.append(text[position])
            depth.append(position)
            place.append(i * longest + position)
        table.append(path + [path[-1]] * (longest - len(path)))
        before = text
    lengths = torch.tensor([len(text) for text in texts])
    grid = torch.tensor(table)
    return Tree(
        rows=list(range(len(texts)) if rows is None else rows),
        ids=torch.tensor(ids),
        depth=torch.tensor(depth),
        table=grid,
        place=torch.tensor(place),
        last=grid[:, -1].clone(),
        lengths=lengths,
    )


def _step(text: TokenIds) -> int:
    return -(-len(text) // LENGTH_STEP)


def _common(x: TokenIds, y: TokenIds) -> int:
    """Length of the common beginning."""
    if x == y:
        return len(x)
    for i, (a, b) in enumerate(zip(x, y, strict=False)):
        if a != b:
            return i
    return min(len(x), len(y))
