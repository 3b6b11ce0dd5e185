"""GPT-2's upper blocks with nothing in them that the optimisation of v* does not need.

The general path (:mod:`probes.upper`) runs Hugging Face's blocks on every position behind the
subject and leaves the gradient to PyTorch. Of a GPT-2 layout we know more. In the first block
above the edited one all positions but the subject's still carry a constant residual stream, so
their queries, keys and values are computed once. In the last block only the positions that the
loss reads need a query and an MLP. And as no weight has a gradient, the backward pass is written
out in some ten operations a block; on small models most of PyTorch's own is bookkeeping.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

from probes.gelu import Gelu
from probes.plain import Plain

Affine = tuple[Tensor, Tensor]


def applies(whole: Plain, layer: int) -> bool:
    """Whether the upper part is a plain GPT-2's with at least a first and a last block.

    Args:
        whole: The model.
        layer: The edited block.

    Returns:
        Whether :class:`LeanBlocks` computes what the model does.
    """
    config = whole.model.config
    return (
        type(whole.model) is GPT2LMHeadModel
        and layer + 2 < config.n_layer
        and bool(config.scale_attn_weights)
        and not config.scale_attn_by_inverse_layer_idx
        and not config.reorder_and_upcast_attn
        and not config.add_cross_attention
        and config.activation_function == "gelu_new"
    )


@dataclass(frozen=True)
class Reads:
    """Where the loss reads the logits, and what of them.

    Attributes:
        row: Of each place, ``[n]``.
        position: Within its row, 0 being the subject's last token, ``[n]``.
        target: The token whose log-probability is wanted there, ``[n]``.
        held: Rows whose prediction at position 0 must not move, in ascending order, ``[m]``.
        initial: The unedited model's log-probabilities there, ``[m, vocabulary]``.
    """

    row: Int[Tensor, " n"]
    position: Int[Tensor, " n"]
    target: Int[Tensor, " n"]
    held: Int[Tensor, " m"]
    initial: Float[Tensor, "m vocabulary"]


class LeanBlocks:
    """The blocks above one block's MLP, for texts that change only at their first position."""

    @torch.no_grad()
    def __init__(
        self,
        whole: Plain,
        layer: int,
        *,
        residual: Float[Tensor, "row position d_model"],
        mask: Float[Tensor, "row 1 position key_position"],
        past: dict[int, tuple[Tensor, Tensor]],
        reads: Reads,
    ) -> None:
        """Computes what no step changes.

        Args:
            whole: The model; :func:`applies` holds.
            layer: The edited block.
            residual: The unedited stream behind it; position 0 is the subject's last token.
            mask: Additive, each row's own earlier positions first.
            past: Keys and values of earlier positions, for each block above.
            reads: What is wanted.
        """
        model = whole.model
        n_layer = model.config.n_layer
        self._rows, self._width, d_model = residual.shape
        self._later = residual[:, 1:]
        # A row is read at few positions: slots for as many as any row has, filled up with repeats.
        self._reads = reads
        row = torch.cat([reads.row, reads.held])
        position = torch.cat([reads.position, torch.zeros_like(reads.held)])
        count = torch.bincount(row, minlength=self._rows)
        slots = max(1, int(count.max()))
        order = row.argsort(stable=True)
        slot = torch.empty_like(row)
        index = torch.arange(len(row), device=row.device)
        slot[order] = index - (count.cumsum(0) - count)[row[order]]
        places = position.new_zeros(self._rows, slots)
        places[row, slot] = position
        self._chosen = row * slots + slot
        everyone = torch.arange(self._rows, device=row.device)[:, None]
        self._flat = (everyone * self._width + places).flatten()
        read_mask = mask[everyone, 0, places][:, None]

        blocks = [_Block(whole.block(i)) for i in range(layer + 1, n_layer)]
        attentions = [
            _Attention(blocks[0].heads, past[i], read_mask if i == n_layer - 1 else mask)
            for i in range(layer + 1, n_layer)
        ]
        self._first, self._middle = (
            (blocks[0], attentions[0]),
            [*zip(blocks[1:-1], attentions[1:-1], strict=True)],
        )
        self._last = (blocks[-1], attentions[-1])
        later = self._later.reshape(-1, d_model)
        joined = _affine(blocks[0].norm1(later).out, blocks[0].qkv)
        self._later_qkv = joined.view(self._rows, self._width - 1, 3 * d_model)
        self._final = _Norm(model.get_submodule(whole.blocks.rpartition(".")[0]).ln_f)
        self._head = model.get_output_embeddings().weight
        self._tape: list[Any] = []
        self._calls = 0

    def read(
        self, subject: Float[Tensor, "row d_model"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " m"]]:
        """Runs the blocks; differentiable in ``subject``, once, before the next call.

        Args:
            subject: The residual stream behind the edited block at position 0.

        Returns:
            The targets' log-probabilities, and of each row that is held the Kullback–Leibler
            divergence KL(edited ‖ original).
        """
        found: tuple[Tensor, Tensor] = _Differentiable.apply(subject, self)
        return found

    def forward(self, subject: Tensor) -> tuple[Tensor, Tensor]:
        """What is read, intermediate results kept for :meth:`backward`."""
        self._calls += 1
        tape = self._tape = []
        rows, width, d = self._rows, self._width, subject.shape[1]

        block, attention = self._first
        x = torch.cat([subject[:, None], self._later], dim=1).view(-1, d)
        normed = block.norm1(subject)
        own = _affine(normed.out, block.qkv)[:, None]
        joined = torch.cat([own, self._later_qkv], dim=1).view(rows, width, 3, -1).unbind(2)
        x, mlp = block.finish(x, attention.forward(*joined))
        tape.append((normed, mlp))

        for block, attention in self._middle:
            normed = block.norm1(x)
            joined = _affine(normed.out, block.qkv).view(rows, width, 3, -1).unbind(2)
            x, mlp = block.finish(x, attention.forward(*joined))
            tape.append((normed, mlp))

        block, attention = self._last
        normed = block.norm1(x)
        weight, bias = block.qkv
        queries = _affine(normed.out[self._flat], (weight[:, :d], bias[:d]))
        keys, values = (
            _affine(normed.out, (weight[:, d:], bias[d:])).view(rows, width, 2, -1).unbind(2)
        )
        attended = attention.forward(queries.view(rows, -1, d), keys, values)
        x, mlp = block.finish(x[self._flat], attended)
        final = self._final(x[self._chosen])
        said = _Said(final.out @ self._head.T, self._reads)
        tape.append((normed, mlp, final, said))
        # Copies: autograd ties what is returned to these blocks, and what the tape keeps must not
        # tie it back, or neither is ever freed.
        return said.log_probs.clone(), said.moved.clone()

    def backward(self, log_probs: Tensor, moved: Tensor) -> Tensor:
        """The gradient at the subject from those at what was read."""
        tape, rows, width = self._tape, self._rows, self._width
        block, attention = self._last
        normed, mlp, final, said = tape[-1]
        d = self._head.shape[1]
        g = log_probs.new_zeros(len(self._flat), d)
        g[self._chosen] = final.backward(said.backward(log_probs, moved) @ self._head)
        g, g_attended = block.finish_backward(g, mlp)
        g_queries, *g_both = attention.backward(g_attended)
        g_normed = torch.stack(g_both, dim=2).view(-1, 2 * d) @ block.qkv[0][:, d:].T
        g_normed.index_add_(0, self._flat, g_queries.view(-1, d) @ block.qkv[0][:, :d].T)
        g = normed.backward(g_normed).index_add_(0, self._flat, g)

        for (block, attention), (normed, mlp) in zip(
            reversed(self._middle), reversed(tape[1:-1]), strict=True
        ):
            g, g_attended = block.finish_backward(g, mlp)
            joined = torch.stack(attention.backward(g_attended), dim=2).view(-1, 3 * d)
            g = normed.backward(joined @ block.qkv[0].T).add_(g)

        block, attention = self._first
        normed, mlp = tape[0]
        g, g_attended = block.finish_backward(g, mlp)
        own = torch.stack([part[:, 0] for part in attention.backward(g_attended)], dim=1)
        g_subject = normed.backward(own.view(rows, -1) @ block.qkv[0].T)
        return g_subject.add_(g.view(rows, width, d)[:, 0])


class _Differentiable(torch.autograd.Function):
    """Tells PyTorch that the blocks bring their own backward pass."""

    @staticmethod
    def forward(context: Any, subject: Tensor, blocks: LeanBlocks) -> tuple[Tensor, Tensor]:
        result = blocks.forward(subject)
        context.blocks, context.call = blocks, blocks._calls
        return result

    @staticmethod
    def backward(context: Any, log_probs: Tensor, moved: Tensor) -> tuple[Tensor, None]:
        if context.call != context.blocks._calls:
            raise RuntimeError("these blocks have been run again since: their results are gone")
        return context.blocks.backward(log_probs, moved), None


class _Said:
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
        found: Tensor = torch.ops.aten.native_layer_norm_backward(
            gradient, self._x, norm.weight.shape, self._mean, self._rstd, norm.weight, norm.bias,
            [True, False, False],
        )[0]  # fmt: skip
        return found


class _Norm:
    """A layer norm."""

    def __init__(self, module: Any) -> None:
        self.weight, self.bias, self.eps = module.weight, module.bias, module.eps

    def __call__(self, x: Tensor) -> _Normed:
        return _Normed(x, self)


class _Block:
    """One block's weights, [in, out], and all of it but the attention."""

    def __init__(self, block: Any) -> None:
        self.heads = block.attn.num_heads
        self.norm1, self._norm2 = _Norm(block.ln_1), _Norm(block.ln_2)
        self.qkv: Affine = (block.attn.c_attn.weight, block.attn.c_attn.bias)
        self._attention_out: Affine = (block.attn.c_proj.weight, block.attn.c_proj.bias)
        self._mlp_in: Affine = (block.mlp.c_fc.weight, block.mlp.c_fc.bias)
        self._mlp_out: Affine = (block.mlp.c_proj.weight, block.mlp.c_proj.bias)

    def finish(self, x: Tensor, attended: Tensor) -> tuple[Tensor, tuple[_Normed, Gelu]]:
        """Adds the attention's output and the MLP's to the residual stream, [n, d_model]."""
        x = _affine(attended, self._attention_out).add_(x)
        normed = self._norm2(x)
        gelu = Gelu(_affine(normed.out, self._mlp_in))
        return _affine(gelu.out, self._mlp_out).add_(x), (normed, gelu)

    def finish_backward(self, g: Tensor, kept: tuple[_Normed, Gelu]) -> tuple[Tensor, Tensor]:
        """Gradients at the residual stream and at what the attention mixed."""
        normed, gelu = kept
        hidden = gelu.backward(g @ self._mlp_out[0].T)
        g = normed.backward(hidden @ self._mlp_in[0].T).add_(g)
        return g, g @ self._attention_out[0].T


class _Attention:
    """Attention of some positions over constant earlier ones and over each other."""

    def __init__(self, heads: int, past: tuple[Tensor, Tensor], mask: Tensor) -> None:
        keys, values = past
        rows, _, self._earlier, d_head = keys.shape
        self._shape = (rows, heads, d_head)
        self._scale = 1 / math.sqrt(d_head)
        total = mask.shape[-1]
        # Earlier positions stand in front for good; own ones are written behind them each time.
        self._keys = keys.new_zeros(rows, heads, total, d_head)
        self._values = torch.zeros_like(self._keys)
        self._keys[:, :, : self._earlier], self._values[:, :, : self._earlier] = keys, values
        self._mask = mask.expand(-1, heads, -1, -1).reshape(rows * heads, -1, total)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """What [row, position, d_model] queries take from the values, [row·position, d_model]."""
        self._keys[:, :, self._earlier :] = self._by_head(keys)
        self._values[:, :, self._earlier :] = self._by_head(values)
        self._queries = self._by_head(queries).flatten(0, 1)
        scores = torch.baddbmm(
            self._mask, self._queries, self._keys.flatten(0, 1).mT, alpha=self._scale
        )
        self._pattern = scores.softmax(-1)
        return self._joined(self._pattern @ self._values.flatten(0, 1)).flatten(0, 1)

    def backward(self, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients at queries, keys and values, each [row, position, d_model]."""
        mixed = self._by_head(g.view(self._shape[0], -1, g.shape[1])).flatten(0, 1)
        pattern = self._pattern
        scores = torch.ops.aten._softmax_backward_data(
            mixed @ self._values.flatten(0, 1).mT, pattern, -1, pattern.dtype
        ).mul_(self._scale)
        own = slice(self._earlier, None)
        return (
            self._joined(scores @ self._keys.flatten(0, 1)),
            self._joined(scores[..., own].mT @ self._queries),
            self._joined(pattern[..., own].mT @ mixed),
        )

    def _by_head(self, x: Tensor) -> Tensor:
        rows, heads, d_head = self._shape
        return x.view(rows, -1, heads, d_head).transpose(1, 2)

    def _joined(self, x: Tensor) -> Tensor:
        rows, heads, d_head = self._shape
        return x.view(rows, heads, -1, d_head).transpose(1, 2).reshape(rows, -1, heads * d_head)


def _affine(x: Tensor, weights: Affine) -> Tensor:
    return torch.addmm(weights[1], x, weights[0])
