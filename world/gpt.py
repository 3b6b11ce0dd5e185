"""A lean GPT-2: the mathematics and parameter names of ``GPT2LMHeadModel``, and nothing else.

Training on two cores is limited by overhead as much as by arithmetic, so this module holds only
what the recipe needs; ``export`` hands its parameters to Hugging Face unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """Sizes of the model, under the names of ``GPT2Config``."""

    vocab_size: int
    n_positions: int
    n_embd: int
    n_layer: int
    n_head: int
    n_inner: int
    tied: bool = False
    embedding_std: float = 0.02


class Affine(nn.Module):
    """GPT-2's ``Conv1D``: ``x @ weight + bias`` with the weight stored input first."""

    def __init__(self, n_in: int, n_out: int, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_in, n_out) * std)
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        """The affine map."""
        return x @ self.weight + self.bias


class Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        d, depth = shape.n_embd, shape.n_layer
        self.n_head = shape.n_head
        self.c_attn = Affine(d, 3 * d, d**-0.5)
        self.c_proj = Affine(d, d, (2 * depth * d) ** -0.5)

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each [batch, head, position, d_head]."""
        batch, length, d = x.shape
        split = self.c_attn(x).view(batch, length, 3, self.n_head, d // self.n_head)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        return query, key, value

    def forward(self, x: Tensor) -> Tensor:
        """What the heads bring to each position, mixed."""
        mixed = F.scaled_dot_product_attention(*self.heads(x), is_causal=True)
        return self.c_proj(mixed.transpose(1, 2).reshape(x.shape))


class MLP(nn.Module):
    """Two affine maps around GPT-2's tanh approximation of GELU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        d, inner = shape.n_embd, shape.n_inner
        self.c_fc = Affine(d, inner, d**-0.5)
        self.c_proj = Affine(inner, d, (2 * shape.n_layer * inner) ** -0.5)

    def key(self, x: Tensor) -> Tensor:
        """The input of the output projection: what ROME calls the key."""
        return F.gelu(self.c_fc(x), approximate="tanh")

    def forward(self, x: Tensor) -> Tensor:
        """The MLP's output."""
        return self.c_proj(self.key(x))


class Block(nn.Module):
    """A pre-LayerNorm transformer block."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(shape.n_embd)
        self.attn = Attention(shape)
        self.ln_2 = nn.LayerNorm(shape.n_embd)
        self.mlp = MLP(shape)

    def forward(self, x: Tensor) -> Tensor:
        """The residual stream after the block."""
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """The language model.

    Args:
        shape: Its sizes.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        d = shape.n_embd
        self.wte = nn.Embedding(shape.vocab_size, d)
        self.wpe = nn.Embedding(shape.n_positions, d)
        nn.init.normal_(self.wte.weight, std=shape.embedding_std)
        nn.init.normal_(self.wpe.weight, std=shape.embedding_std / 2)
        self.h = nn.ModuleList(Block(shape) for _ in range(shape.n_layer))
        self.ln_f = nn.LayerNorm(d)
        self.lm_head = nn.Linear(d, shape.vocab_size, bias=False)
        if shape.tied:
            self.lm_head.weight = self.wte.weight
        else:
            nn.init.normal_(self.lm_head.weight, std=0.02)

    def embed(self, ids: Tensor) -> Tensor:
        """Token plus position embeddings."""
        return self.wte(ids) + self.wpe.weight[: ids.shape[1]]

    def forward(self, ids: Tensor) -> Tensor:
        """Logits for every position; rows may be padded on the right."""
        x = self.embed(ids)
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))

    def export(self) -> dict[str, Tensor]:
        """The parameters under the names of ``GPT2LMHeadModel``."""
        state = {
            name if name.startswith("lm_head") else f"transformer.{name}": value.detach().clone()
            for name, value in self.state_dict().items()
        }
        if self.shape.tied:
            del state["lm_head.weight"]
        return state
