"""GPT-2's upper blocks with nothing in them that the optimisation of v* does not need.

The general path (:mod:`probes.edited.blocks_above`) runs Hugging Face's blocks on every position
after the subject and leaves the gradient to PyTorch. Of a GPT-2 layout we know more. All maps but
attention act on tokens one by one, so they run on a list of cells: the tokens that there are, with
no padding among them. In the first block above the edited one all cells but the subjects' still
carry a constant residual stream, so their queries, keys and values are computed once. In the last
block only the cells that the loss reads need a query and an MLP. And as no weight has a gradient,
the backward pass is written out in some ten operations a block; on small models most of PyTorch's
own is bookkeeping.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from probes.forward.gpt2.blocks import Block, Norm, added, affine
from probes.forward.gpt2.gelu import gelu_and_slope
from probes.forward.unhooked import Plain
from probes.model import architecture
from probes.model.loaded import LoadedModel
from probes.target_value.constants import Reads, Suffixes


def applies(unhooked: Plain, layer: int) -> bool:
    """Whether the upper part is a plain GPT-2's with at least a first and a last block.

    Args:
        unhooked: The model.
        layer: The edited block.

    Returns:
        Whether :class:`LeanBlocks` computes what the model does.
    """
    return architecture.is_gpt2(unhooked.model) and layer + 2 < unhooked.model.config.n_layer


class LeanBlocks:
    """The blocks above one block's MLP, for texts that change only at their first position."""

    @torch.no_grad()
    def __init__(
        self,
        unhooked: Plain,
        layer: int,
        suffixes: Suffixes,
        reads: Reads,
    ) -> None:
        """Computes what no step changes.

        Args:
            unhooked: The model; :func:`applies` holds.
            layer: The edited block.
            suffixes: The texts; what is behind their earlier positions is written over.
            reads: What is wanted.
        """
        model, residual, mask = unhooked.model, suffixes.residual, suffixes.mask
        n_layer = model.config.n_layer
        rows, width, self._d = residual.shape
        device = residual.device
        blocks = [_Block(Block.of(unhooked.block(i))) for i in range(layer + 1, n_layer)]
        heads = int(model.config.n_head)
        there = torch.arange(width, device=device) < suffixes.lengths[:, None]
        self._constant = residual[there]
        table = torch.full((rows, width), len(self._constant), device=device)
        table[there] = torch.arange(len(self._constant), device=device)
        self._cells = _Cells(table, heads, self._constant)
        self._subjects = table[:, 0]

        row = torch.cat([reads.row, reads.held])
        position = torch.cat([reads.position, torch.zeros_like(reads.held)])
        self._reads, self._read_cells = reads, table[row, position]
        slot = _rank_in_row(row, rows)
        read_table = table.new_full((rows, int(slot.max()) + 1), len(row))
        read_table[row, slot] = torch.arange(len(row), device=device)
        self._read = _Cells(read_table, heads, self._constant[self._read_cells])
        places = position.new_zeros(read_table.shape)
        places[row, slot] = position
        read_mask = mask[torch.arange(rows, device=device)[:, None], 0, places][:, None]

        *others, last = [
            (
                block,
                _Attention(
                    suffixes.past[i], suffixes.earlier, read_mask if i == n_layer - 1 else mask
                ),
            )
            for i, block in enumerate(blocks, layer + 1)
        ]
        self._first, self._middle, self._last = others[0], others[1:], last
        # Every cell's, though the subjects' will not count.
        self._constant_qkv = affine(blocks[0].norm1(self._constant).out, blocks[0].qkv)
        final = model.transformer.ln_f
        self._final = _Norm((final.weight, final.bias, final.eps))
        self._head = model.get_output_embeddings().weight
        self._tape: list[Any] = []

    @staticmethod
    def kept(model: LoadedModel, layer: int) -> int:
        """Numbers that are kept of each position for the gradient.

        Args:
            model: The model.
            layer: The edited block.

        Returns:
            In each block above what enters and leaves two norms, the queries, what attention takes
            (its pattern is small beside it), and the slope of the activation.
        """
        of_block = 6 * int(model.config.d_model) + int(model.config.d_mlp)
        return (model.n_layers - 1 - layer) * of_block

    @torch.no_grad()
    def read(
        self, change: Float[Tensor, "row d_model"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " m"]]:
        """Runs the blocks; intermediate results are kept for one :meth:`gradient`.

        Args:
            change: What is added to the residual stream after the edited block at position 0.

        Returns:
            The targets' log-probabilities, and of each row that is held the Kullback–Leibler
            divergence KL(edited ‖ original).
        """
        tape = self._tape = []
        x = self._constant.index_add(0, self._subjects, change)

        block, attention = self._first
        normed = block.norm1(x.index_select(0, self._subjects))
        joined = self._constant_qkv.index_copy(0, self._subjects, affine(normed.out, block.qkv))
        attended = attention.forward(*self._cells.lay(joined, 3))
        x, mlp = block.finish(x, self._cells.collect(attended[None]))
        tape.append((normed, mlp))

        for block, attention in self._middle:
            normed = block.norm1(x)
            joined = affine(normed.out, block.qkv)
            attended = attention.forward(*self._cells.lay(joined, 3))
            x, mlp = block.finish(x, self._cells.collect(attended[None]))
            tape.append((normed, mlp))

        block, attention = self._last
        normed = block.norm1(x)
        (weight, bias), d = block.qkv, self._d
        queries = affine(normed.out.index_select(0, self._read_cells), (weight[:, :d], bias[:d]))
        joined = affine(normed.out, (weight[:, d:], bias[d:]))
        attended = attention.forward(*self._read.lay(queries, 1), *self._cells.lay(joined, 2))
        x, mlp = block.finish(
            x.index_select(0, self._read_cells), self._read.collect(attended[None])
        )
        final = self._final(x)
        readings = _Readings(final.out @ self._head.T, self._reads)
        tape.append((normed, mlp, final, readings))
        return readings.log_probs, readings.moved

    def leads(self) -> Bool[Tensor, " n"]:
        """Where the target is the most probable token, at the last :meth:`read`, if asked first."""
        return self._tape[-1][-1].leads()

    @torch.no_grad()
    def gradient(
        self, log_probs: Float[Tensor, " n"], moved: Float[Tensor, " m"]
    ) -> Float[Tensor, "row d_model"]:
        """The gradient with respect to the last :meth:`read`'s ``change``, once for each read.

        Args:
            log_probs: The gradient at the log-probabilities.
            moved: The gradient at the divergences.

        Returns:
            The gradient, with respect to ``change``, of any scalar computed from what was read.
        """
        tape, d = self._tape, self._d
        block, attention = self._last
        normed, mlp, final, readings = tape.pop()
        g = final.backward(readings.backward(log_probs, moved) @ self._head)
        g_read = block.finish_backward(g, mlp, self._read.gradient)
        g_queries, *g_both = attention.backward(self._read.lay_gradient())
        g_normed = self._cells.collect(torch.stack(g_both)) @ block.qkv[0][:, d:].T
        g_queries = self._read.collect(g_queries[None]) @ block.qkv[0][:, :d].T
        g_normed.index_add_(0, self._read_cells, g_queries)
        g = normed.backward(g_normed).index_add_(0, self._read_cells, g_read)

        for block, attention in reversed(self._middle):
            normed, mlp = tape.pop()
            g = block.finish_backward(g, mlp, self._cells.gradient)
            joined = self._cells.collect(
                torch.stack(attention.backward(self._cells.lay_gradient()))
            )
            g = normed.backward(joined @ block.qkv[0].T).add_(g)

        block, attention = self._first
        normed, mlp = tape.pop()
        g = block.finish_backward(g, mlp, self._cells.gradient)
        joined = self._cells.collect(torch.stack(attention.backward(self._cells.lay_gradient())))
        own = joined.index_select(0, self._subjects) @ block.qkv[0].T
        return normed.backward(own).add_(g.index_select(0, self._subjects))


class _Cells:
    """A list of tokens, which attention needs in rows, one for each head.

    Attributes:
        gradient: Room for one vector a cell, ``[cell, d_model]``, that :meth:`lay_gradient` lays.
    """

    def __init__(
        self, table: Int[Tensor, "row slot"], heads: int, like: Float[Tensor, "cell d_model"]
    ) -> None:
        """Finds out what goes where.

        Args:
            table: The cell in each slot; as many as there are cells where there is none.
            heads: Attention heads.
            like: What cells hold.
        """
        n, d_model = like.shape
        self._slots, self._d_head = table.shape[1], d_model // heads
        part = torch.arange(3, device=like.device)[:, None, None, None]
        head = torch.arange(heads, device=like.device)[:, None]
        # Part p of m of cell i's head h is the vector (i·m + p)·heads + h. What stands in an empty
        # slot does not matter, as long as its gradient is zero.
        cell = table[:, None].clamp(max=n - 1)
        self._to_rows = [((cell * m + part[:m]) * heads + head).flatten() for m in (1, 2, 3)]
        self._gradient_to_rows = (table[:, None] * heads + head).flatten()
        row, slot = (table < n).nonzero().unbind(1)
        order = table[row, slot].argsort()
        vector = (row[order, None] * heads + head[:, 0]) * self._slots + slot[order, None]
        size = len(table) * heads * self._slots
        self._to_cells = [(vector[:, None] + part[:m, 0, :, 0] * size).flatten() for m in (1, 2, 3)]
        self._room = like.new_zeros(n + 1, d_model)  # the last one is what empty slots hold
        self.gradient = self._room[:n]

    def lay(
        self, joined: Float[Tensor, "cell parts_d_model"], parts: int
    ) -> Float[Tensor, "parts row_head slot d_head"]:
        """Cells in rows, ``parts`` vectors of each side by side."""
        vectors = joined.view(-1, self._d_head).index_select(0, self._to_rows[parts - 1])
        return vectors.view(parts, -1, self._slots, self._d_head)

    def lay_gradient(self) -> Float[Tensor, "row_head slot d_head"]:
        """:attr:`gradient` in rows, zero where there is no cell."""
        vectors = self._room.view(-1, self._d_head).index_select(0, self._gradient_to_rows)
        return vectors.view(-1, self._slots, self._d_head)

    def collect(
        self, laid: Float[Tensor, "parts row_head slot d_head"]
    ) -> Float[Tensor, "cell parts_d_model"]:
        """The way back from :meth:`lay`."""
        vectors = laid.view(-1, self._d_head).index_select(0, self._to_cells[len(laid) - 1])
        return vectors.view(len(self.gradient), -1)


def _rank_in_row(row: Int[Tensor, " n"], rows: int) -> Int[Tensor, " n"]:
    """How many earlier entries name the same row."""
    count = torch.bincount(row, minlength=rows)
    order = row.argsort(stable=True)
    rank = torch.empty_like(row)
    rank[order] = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row[order]]
    return rank


class _Readings:
    """What is read of logits, and its gradient; a vocabulary's width is gone over in place."""

    def __init__(self, logits: Tensor, reads: Reads) -> None:
        n = self._n = len(reads.target)
        self._targets = reads.target[:, None]
        probs = self._probs = logits.softmax(-1)
        # The normaliser from the largest of each, which no probability underflows.
        total = logits.amax(-1) - probs.amax(-1).log()
        self.log_probs = logits[:n].gather(1, self._targets)[:, 0] - total[:n]
        # log p − log p₀, whose mean under p is the divergence.
        self._apart = logits[n:] - total[n:, None] - reads.initial
        self.moved = (probs[n:] * self._apart).sum(-1)

    def leads(self) -> Tensor:
        return self._probs[: self._n].argmax(-1) == self._targets[:, 0]

    def backward(self, log_probs: Tensor, moved: Tensor) -> Tensor:
        g, n = self._probs, self._n
        g[:n].mul_(-log_probs[:, None])
        g[:n].scatter_add_(1, self._targets, log_probs[:, None])
        g[n:].mul_(self._apart.sub_(self.moved[:, None])).mul_(moved[:, None])
        return g


class _Normed:
    """The output of a layer norm, and its gradient."""

    def __init__(self, x: Tensor, norm: _Norm) -> None:
        self._x, self._norm = x, norm
        self.out, self._mean, self._rstd = torch.native_layer_norm(
            x, norm.weight.shape, norm.weight, norm.bias, norm.eps
        )

    def backward(self, gradient: Tensor) -> Tensor:
        norm = self._norm
        # Autograd's own kernel: torch has no public function for it, and in public operations it
        # takes four passes over the activations instead of one.
        at_input: Tensor = torch.ops.aten.native_layer_norm_backward(
            gradient, self._x, norm.weight.shape, self._mean, self._rstd, norm.weight, norm.bias,
            [True, False, False],
        )[0]  # fmt: skip
        return at_input


class _Norm:
    """A layer norm."""

    def __init__(self, norm: Norm) -> None:
        self.weight, self.bias, self.eps = norm

    def __call__(self, x: Tensor) -> _Normed:
        return _Normed(x, self)


class _Block:
    """All of a block but its attention, and the way back through it."""

    def __init__(self, block: Block) -> None:
        self.norm1, self._norm2 = _Norm(block.norm1), _Norm(block.norm2)
        self.qkv, self._attention_out = block.qkv, block.attention_out
        self._mlp_in, self._mlp_out = block.mlp_in, block.mlp_out

    def finish(self, x: Tensor, attended: Tensor) -> tuple[Tensor, tuple[_Normed, Tensor]]:
        """Adds the attention's output and the MLP's to the residual stream, [n, d_model]."""
        x = added(x, attended, self._attention_out)
        normed = self._norm2(x)
        hidden, slope = gelu_and_slope(affine(normed.out, self._mlp_in))
        return added(x, hidden, self._mlp_out), (normed, slope)

    def finish_backward(self, g: Tensor, taped: tuple[_Normed, Tensor], attended: Tensor) -> Tensor:
        """The gradient at the residual stream; the one at what attention took is written."""
        normed, slope = taped
        hidden = (g @ self._mlp_out[0].T).mul_(slope)
        g = normed.backward(hidden @ self._mlp_in[0].T).add_(g)
        torch.mm(g, self._attention_out[0].T, out=attended)
        return g


class _Attention:
    """Attention of some positions over constant earlier ones and over each other."""

    def __init__(self, past: tuple[Tensor, Tensor], earlier: int, mask: Tensor) -> None:
        rows, heads, total, d_head = past[0].shape
        self._scale = 1 / math.sqrt(d_head)
        # Earlier positions come first and stay; own ones are written after them each time.
        self._keys, self._values = (each.view(rows * heads, total, d_head) for each in past)
        self._earlier = earlier
        self._mask = mask.expand(-1, heads, -1, -1).reshape(rows * heads, -1, total)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """What queries take from the values; all ``[row · head, slot, d_head]``."""
        self._keys[:, self._earlier :] = keys
        self._values[:, self._earlier :] = values
        self._queries = queries
        scores = torch.baddbmm(self._mask, queries, self._keys.mT, alpha=self._scale)
        self._pattern = scores.softmax(-1)
        return torch.bmm(self._pattern, self._values)

    def backward(self, mixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients at queries, keys and values from the one at what was taken."""
        pattern = self._pattern
        # Autograd's own kernel, which has no public name either.
        scores = torch.ops.aten._softmax_backward_data(
            torch.bmm(mixed, self._values.mT), pattern, -1, pattern.dtype
        ).mul_(self._scale)
        own = slice(self._earlier, None)
        return (
            torch.bmm(scores, self._keys),
            torch.bmm(scores[..., own].mT, self._queries),
            torch.bmm(pattern[..., own].mT, mixed),
        )
