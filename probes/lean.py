"""GPT-2's upper blocks with nothing in them that the optimisation of v* does not need.

The general path (:mod:`probes.upper`) runs Hugging Face's blocks on every position behind the
subject. Of a GPT-2 layout we know more. In the first block above the edited one all positions but
the subject's still carry a constant residual stream, so their queries, keys and values are
computed once. In the last block only the positions that the loss reads need a query and an MLP.
And the blocks' own arithmetic is a dozen operations, which the modules spread over many more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

from probes.plain import Plain


def applies(whole: Plain, layer: int) -> bool:
    """Whether the upper part is a plain GPT-2's with at least one block.

    Args:
        whole: The model.
        layer: The edited block.

    Returns:
        Whether :class:`LeanBlocks` computes what the model does.
    """
    config = whole.model.config
    return (
        type(whole.model) is GPT2LMHeadModel
        and layer + 1 < config.n_layer
        and bool(config.scale_attn_weights)
        and not config.scale_attn_by_inverse_layer_idx
        and not config.reorder_and_upcast_attn
        and not config.add_cross_attention
        and config.activation_function == "gelu_new"
    )


@dataclass(frozen=True)
class _Block:
    """One block's weights, [in, out], and how it attends."""

    heads: int
    norm1: tuple[Tensor, Tensor, float]
    qkv: tuple[Tensor, Tensor]
    attention_out: tuple[Tensor, Tensor]
    norm2: tuple[Tensor, Tensor, float]
    mlp_in: tuple[Tensor, Tensor]
    mlp_out: tuple[Tensor, Tensor]

    def normed_qkv(self, residual: Tensor) -> Tensor:
        """Queries, keys and values of [n, d_model] positions, side by side."""
        return _affine(_norm(residual, self.norm1), self.qkv)

    def split(self, joined: Tensor, rows: int) -> tuple[Tensor, ...]:
        """[rows·positions, m·d_model] as m times [rows, head, position, d_head]."""
        width = self.qkv[0].shape[0]
        parts = joined.shape[-1] // width
        shape = (rows, -1, parts, self.heads, width // self.heads)
        return joined.view(shape).permute(2, 0, 3, 1, 4).unbind(0)

    def attend(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        past: tuple[Tensor, Tensor],
        mask: Tensor,
    ) -> Tensor:
        """The attention's output before its projection, [rows·queries, d_model]."""
        earlier_keys, earlier_values = past
        scale = 1 / math.sqrt(queries.shape[-1])
        queries = queries * scale
        scores = torch.cat(
            [queries @ earlier_keys.transpose(-1, -2), queries @ keys.transpose(-1, -2)], dim=-1
        )
        pattern = (scores + mask).softmax(-1)
        # Parts by split() and unbind(), not by slicing, whose gradient fills a tensor for each.
        before, own = pattern.split([earlier_keys.shape[2], keys.shape[2]], dim=-1)
        mixed = before @ earlier_values + own @ values
        return mixed.transpose(1, 2).reshape(-1, self.qkv[0].shape[0])

    def finish(self, residual: Tensor, attended: Tensor) -> Tensor:
        """Adds the attention's output and the MLP's to the residual stream, [n, d_model]."""
        residual = residual + _affine(attended, self.attention_out)
        hidden = functional.gelu(
            _affine(_norm(residual, self.norm2), self.mlp_in), approximate="tanh"
        )
        return residual + _affine(hidden, self.mlp_out)


class LeanBlocks:
    """The blocks above one block's MLP, for texts that differ only at their first position."""

    def __init__(
        self,
        whole: Plain,
        layer: int,
        *,
        residual: Float[Tensor, "row position d_model"],
        mask: Float[Tensor, "row 1 position key_position"],
        past: dict[int, tuple[Tensor, Tensor]],
        read: tuple[Int[Tensor, " n"], Int[Tensor, " n"]],
    ) -> None:
        """Computes what no step changes.

        Args:
            whole: The model; :func:`applies` holds.
            layer: The edited block.
            residual: The unedited stream behind it; position 0 is the subject's last token.
            mask: Additive, each row's own earlier positions first.
            past: Keys and values of earlier positions, for each block above.
            read: Rows and positions whose logits are wanted.
        """
        model = whole.model
        self._blocks = [_weights(whole.block(i)) for i in range(layer + 1, model.config.n_layer)]
        self._past = [past[i] for i in range(layer + 1, model.config.n_layer)]
        final = model.get_submodule(whole.blocks.rpartition(".")[0]).ln_f
        self._final = (final.weight, final.bias, final.eps)
        self._head = model.get_output_embeddings().weight
        self._mask = mask
        self._rows, self._width, self._d_model = residual.shape
        self._later = residual[:, 1:]
        first = self._blocks[0]
        with torch.no_grad():
            joined = first.normed_qkv(self._later.reshape(-1, self._d_model))
            self._later_qkv = joined.view(self._rows, self._width - 1, joined.shape[1])
        # A row reads at few positions: slots for as many as any row has, filled up with repeats.
        row, position = read
        count = torch.bincount(row, minlength=self._rows)
        slots = int(count.max())
        order = row.argsort(stable=True)
        slot = torch.empty_like(row)
        slot[order] = (
            torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row[order]]
        )
        self._places = position.new_zeros(self._rows, slots)
        self._places[row, slot] = position
        self._chosen = row * slots + slot
        everyone = torch.arange(self._rows, device=row.device)[:, None]
        self._flat = (everyone * self._width + self._places).flatten()
        self._read_mask = mask[everyone, 0, self._places][:, None]

    def logits(self, subject: Float[Tensor, "row d_model"]) -> Float[Tensor, "n vocabulary"]:
        """Runs the blocks.

        Args:
            subject: The residual stream behind the edited block at position 0.

        Returns:
            Logits at the positions to read, in their order.
        """
        rows, width = self._rows, self._width
        residual = torch.cat([subject[:, None], self._later], dim=1).view(-1, self._d_model)
        for i, block in enumerate(self._blocks):
            if i == 0:
                own = block.normed_qkv(subject)[:, None]
                joined = torch.cat([own, self._later_qkv], dim=1).view(rows * width, -1)
            elif i == len(self._blocks) - 1:
                return self._last(block, residual, i)
            else:
                joined = block.normed_qkv(residual)
            queries, keys, values = block.split(joined, rows)
            if i == len(self._blocks) - 1:  # first and last in one
                return self._read(block, residual, queries, keys, values, i)
            attended = block.attend(queries, keys, values, self._past[i], self._mask)
            residual = block.finish(residual, attended)
        raise AssertionError("there is no block above the edited one")

    def _last(self, block: _Block, residual: Tensor, i: int) -> Tensor:
        """The last block: keys and values everywhere, the rest where the loss reads."""
        normed = _norm(residual, block.norm1)
        weight, bias = block.qkv
        d = self._d_model
        keys, values = block.split(_affine(normed, (weight[:, d:], bias[d:])), self._rows)
        queries = block.split(_affine(normed[self._flat], (weight[:, :d], bias[:d])), self._rows)[0]
        attended = block.attend(queries, keys, values, self._past[i], self._read_mask)
        return self._unembed(block.finish(residual[self._flat], attended))

    def _read(
        self, block: _Block, residual: Tensor, queries: Tensor, keys: Tensor, values: Tensor, i: int
    ) -> Tensor:
        places = self._places[:, None, :, None].expand(-1, queries.shape[1], -1, queries.shape[3])
        attended = block.attend(
            queries.gather(2, places), keys, values, self._past[i], self._read_mask
        )
        return self._unembed(block.finish(residual[self._flat], attended))

    def _unembed(self, residual: Tensor) -> Tensor:
        return _norm(residual[self._chosen], self._final) @ self._head.T


def _weights(block: Any) -> _Block:
    def linear(module: Any) -> tuple[Tensor, Tensor]:
        return module.weight, module.bias

    def norm(module: Any) -> tuple[Tensor, Tensor, float]:
        return module.weight, module.bias, module.eps

    return _Block(
        heads=block.attn.num_heads,
        norm1=norm(block.ln_1),
        qkv=linear(block.attn.c_attn),
        attention_out=linear(block.attn.c_proj),
        norm2=norm(block.ln_2),
        mlp_in=linear(block.mlp.c_fc),
        mlp_out=linear(block.mlp.c_proj),
    )


def _affine(x: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
    return torch.addmm(weights[1], x, weights[0])


def _norm(x: Tensor, parameters: tuple[Tensor, Tensor, float]) -> Tensor:
    weight, bias, eps = parameters
    return functional.layer_norm(x, weight.shape, weight, bias, eps)
