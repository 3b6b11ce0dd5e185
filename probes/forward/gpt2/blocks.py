"""GPT-2's blocks as bare arithmetic on lists of tokens.

All maps of a block but its attention act on tokens one by one, so they need no rows and no
padding. For which tokens attention is computed, and how, the callers decide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from probes.forward.unhooked import Plain

Affine = tuple[Tensor, Tensor]
Norm = tuple[Tensor, Tensor, float]


@dataclass(frozen=True)
class Block:
    """One block's weights, [in, out], and what they do to ``[…, token, d_model]``."""

    norm1: Norm
    qkv: Affine
    attention_out: Affine
    norm2: Norm
    mlp_in: Affine
    activation: Callable[[Tensor], Tensor]
    mlp_out: Affine

    @classmethod
    def of(cls, block: Any) -> Block:
        """Looks the weights up; none is copied."""

        def linear(module: Any) -> Affine:
            return module.weight, module.bias

        def norm(module: Any) -> Norm:
            return module.weight, module.bias, module.eps

        return cls(
            norm1=norm(block.ln_1),
            qkv=linear(block.attn.c_attn),
            attention_out=linear(block.attn.c_proj),
            norm2=norm(block.ln_2),
            mlp_in=linear(block.mlp.c_fc),
            activation=block.mlp.act,
            mlp_out=linear(block.mlp.c_proj),
        )

    def queries_keys_values(self, x: Tensor) -> Tensor:
        """All three side by side, ``[…, token, 3·d_model]``."""
        return affine(normed(x, self.norm1), self.qkv)

    def add_attention(self, x: Tensor, attended: Tensor) -> Tensor:
        """The residual stream after the attention."""
        return added(x.expand_as(attended), attended, self.attention_out)

    def keys(self, x: Tensor) -> Tensor:
        """The MLP's hidden layer, from the residual stream before the MLP."""
        return self.activation(affine(normed(x, self.norm2), self.mlp_in))

    def after(self, x: Tensor, attended: Tensor) -> Tensor:
        """The residual stream after the block."""
        return self.after_and_keys(x, attended)[0]

    def after_and_keys(self, x: Tensor, attended: Tensor) -> tuple[Tensor, Tensor]:
        """The residual stream after the block, and the MLP's hidden layer."""
        x = self.add_attention(x, attended)
        keys = self.keys(x)
        return added(x, keys, self.mlp_out), keys


def embed(
    unhooked: Plain, ids: Int[Tensor, "*token"], positions: Int[Tensor, "*row"]
) -> Float[Tensor, "*token d_model"]:
    """The residual stream before the first block; one row of positions serves all rows of ids."""
    transformer = unhooked.model.transformer
    return transformer.wte.weight[ids] + transformer.wpe.weight[positions]


def affine(x: Tensor, weights: Affine) -> Tensor:
    """An affine map of the last dimension."""
    flat = torch.addmm(weights[1], x.flatten(0, -2), weights[0])
    return flat.unflatten(0, x.shape[:-1])


def normed(x: Tensor, norm: Norm) -> Tensor:
    """A layer norm."""
    weight, bias, eps = norm
    return functional.layer_norm(x, weight.shape, weight, bias, eps)


def added(x: Tensor, y: Tensor, weights: Affine) -> Tensor:
    """Adds an affine map of ``y`` to ``x``; the product itself takes the sum."""
    return (x + weights[1]).view(-1, x.shape[-1]).addmm_(y.flatten(0, -2), weights[0]).view_as(x)
