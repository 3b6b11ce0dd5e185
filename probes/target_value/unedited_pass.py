"""What one pass of the unedited model leaves for an optimisation of v*.

Three things, each of some tokens only: the residual stream behind the edited block from the
subject's last token on, keys and values in the blocks above of the tokens in front of it, and, of
the texts whose prediction must not move, what stands in front of the unembedding. A GPT-2 computes
just that, and the beginnings that texts of one edit or several share are computed once; other
models, and long texts, run whole (:meth:`probes.edited.blocks_above.UpperBlocks.record`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from probes.edited.blocks_above import UpperBlocks
from probes.forward.gpt2 import blocks as gpt2
from probes.forward.gpt2.prefix_tree import Tree, tree
from probes.forward.gpt2.tree_attention import RowAttention

# Attention over rows holds all scores of all texts at once: the square of a text's length.
LONGEST = 128


@dataclass(frozen=True)
class Unedited:
    """Of several texts; positions behind a text's end hold anything finite.

    Attributes:
        residual: The stream behind the edited block; position 0 is the subject's last token.
        norm_input: What enters the norm after the MLP at that token; its output without one.
        output: The MLP's output at that token.
        past: For each block above, keys and values of the tokens before it.
        visible: Which of these are the row's own; the others are padding.
        final: What the unembedding reads at that token, of the texts asked for.
    """

    residual: Float[Tensor, "row position d_model"]
    norm_input: Float[Tensor, "row d_model"]
    output: Float[Tensor, "row d_model"]
    past: dict[int, tuple[Tensor, Tensor]]
    visible: Bool[Tensor, "row earlier"]
    final: Float[Tensor, "held d_model"]


@torch.no_grad()
def run(
    upper: UpperBlocks, texts: Sequence[Sequence[int]], lookups: Sequence[int], held: Sequence[int]
) -> Unedited:
    """Runs the unedited model.

    Args:
        upper: The model, divided at the edited block.
        texts: Token ids, none empty.
        lookups: Index of the subject's last token in each.
        held: The texts whose prediction at that token is wanted, one or more.

    Returns:
        What it leaves.
    """
    if gpt2.is_gpt2(upper.plain) and max(len(text) for text in texts) <= LONGEST:
        return _of_gpt2(upper, [tuple(text) for text in texts], lookups, held)
    recording = upper.record(texts, past=True)
    everyone = torch.arange(len(texts), device=upper.device)
    start = torch.tensor(lookups, device=upper.device)
    kept = torch.tensor(held, device=upper.device)
    own, earlier = _from(start, texts, recording.ids.shape[1]), max(lookups)
    # Right-aligned: some architectures take a key's place among the keys for its position.
    position = torch.arange(earlier, device=upper.device) - (earlier - start[:, None])

    def before(tensor: Tensor) -> Tensor:
        index = position.clamp(min=0)[:, None, :, None]
        return tensor.gather(2, index.expand(-1, tensor.shape[1], -1, tensor.shape[3]))

    return Unedited(
        residual=recording.residual[everyone[:, None], own],
        norm_input=recording.norm_input[everyone, start],
        output=recording.output[everyone, start],
        past={i: (before(keys), before(values)) for i, (keys, values) in recording.past.items()},
        visible=position >= 0,
        final=recording.final[kept, start[kept]],
    )


def _from(
    start: Int[Tensor, " row"], texts: Sequence[Sequence[int]], width: int
) -> Int[Tensor, "row position"]:
    """The positions from each row's lookup token on, none beyond the last column."""
    longest = max(len(text) - at for text, at in zip(texts, start.tolist(), strict=True))
    return (start[:, None] + torch.arange(longest, device=start.device)).clamp(max=width - 1)


def _of_gpt2(
    upper: UpperBlocks, texts: list[tuple[int, ...]], lookups: Sequence[int], held: Sequence[int]
) -> Unedited:
    whole, device = upper.plain, upper.device
    config = whole.model.config
    blocks = [gpt2.Block.of(whole.block(i)) for i in range(config.n_layer)]
    below, edited = blocks[: upper.layer], blocks[upper.layer]

    read = _sorted_tree(texts, range(len(texts))).to(device)
    attention = RowAttention(read, config.n_head)
    x = gpt2.embed(whole, read)
    for block in below:
        x = block.after(x, attention.of_nodes(block.queries_keys_values(x), None))
    x = edited.add_attention(x, attention.of_nodes(edited.queries_keys_values(x), None))
    output = gpt2.affine(edited.keys(x), edited.mlp_out)
    x, output = (x + output)[0], output[0]
    node = torch.empty_like(read.table)
    node[read.rows] = read.table
    start = torch.tensor(lookups, device=device)
    residual = x[node.gather(1, _from(start, texts, node.shape[1]))]
    output = output[node.gather(1, start[:, None])[:, 0]]

    # Above, only what stands in front of the subject counts, and where it is held, itself.
    ends = [at + (row in held) for row, at in enumerate(lookups)]
    front = _sorted_tree(
        [text[:end] for text, end in zip(texts, ends, strict=True)],
        [row for row, end in enumerate(ends) if end],
    ).to(device)
    row, position = front.place // front.table.shape[1], front.place % front.table.shape[1]
    x = x[node[torch.tensor(front.rows, device=device)[row], position]]
    shape = len(texts), max(lookups)
    past, final = _above(blocks[upper.layer + 1 :], x[None], front, shape, held, config.n_head)
    return Unedited(
        residual,
        output,
        output,
        dict(enumerate(past, upper.layer + 1)),
        torch.arange(max(lookups), device=device) < start[:, None],
        whole.model.transformer.ln_f(final),
    )


def _above(
    blocks: Sequence[gpt2.Block],
    x: Float[Tensor, "1 node d_model"],
    front: Tree,
    shape: tuple[int, int],
    held: Sequence[int],
    heads: int,
) -> tuple[list[tuple[Tensor, Tensor]], Float[Tensor, "held d_model"]]:
    """Keys and values of so many rows' beginnings of such a length, and the last block's output."""
    attention = RowAttention(front, heads)
    wanted = front.last[torch.tensor([front.rows.index(row) for row in held], device=x.device)]
    if not blocks:
        return [], x[0, wanted]
    rows, earlier = shape
    past = []
    for block in blocks:
        joined = block.queries_keys_values(x)
        laid = attention.rows(joined)[1:, :, 0].transpose(1, 2)[:, :, :, :earlier]
        both = x.new_zeros(2, rows, *laid.shape[2:])
        both[:, front.rows] = laid
        past.append((both[0], both[1]))
        attended = attention.of_nodes(joined, None)
        if block is blocks[-1]:
            x, attended = x[:, wanted], attended[:, wanted]
        x = block.after(x, attended)
    return past, x[0]


def _sorted_tree(texts: Sequence[tuple[int, ...]], rows: Sequence[int]) -> Tree:
    """The tree of some of the texts, equal beginnings side by side."""
    order = sorted(rows, key=lambda row: texts[row])
    return tree([texts[row] for row in order], order)
