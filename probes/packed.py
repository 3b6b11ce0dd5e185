"""Keys of many texts behind one prefix, in a GPT-2 layout, with nothing computed twice.

The general path (:mod:`probes.shared_prefix`) runs Hugging Face's blocks on padded rows. Of a
GPT-2 we know more: all maps but attention act on tokens one by one, so they run on the nodes of a
tree of texts (:mod:`probes.suffixes`); and of the edited block only the subject's last token is
wanted, so that there the other tokens need a key and a value, but no query and no MLP.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers.activations import NewGELUActivation
from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

from probes.plain import Plain
from probes.suffixes import Tree, tree

Past = list[tuple[Tensor, Tensor]]


def applies(whole: Plain) -> bool:
    """Whether a model is a plain GPT-2.

    Args:
        whole: The model.

    Returns:
        Whether :class:`PackedBlocks` computes what the model does.
    """
    config = whole.model.config
    return (
        type(whole.model) is GPT2LMHeadModel
        and bool(config.scale_attn_weights)
        and not config.scale_attn_by_inverse_layer_idx
        and not config.reorder_and_upcast_attn
        and not config.add_cross_attention
        and isinstance(whole.block(0).get_submodule("mlp.act"), NewGELUActivation)
    )


@dataclass(frozen=True)
class _Block:
    """One block's weights, [in, out]."""

    norm1: tuple[Tensor, Tensor, float]
    qkv: tuple[Tensor, Tensor]
    attention_out: tuple[Tensor, Tensor]
    norm2: tuple[Tensor, Tensor, float]
    mlp_in: tuple[Tensor, Tensor]
    mlp_out: tuple[Tensor, Tensor]


class PackedBlocks:
    """The blocks up to the edited one."""

    def __init__(self, whole: Plain, layer: int) -> None:
        """Looks the weights up; none is copied.

        Args:
            whole: The model; :func:`applies` holds.
            layer: The edited block.
        """
        transformer = whole.model.transformer
        self._tokens, self._positions = transformer.wte.weight, transformer.wpe.weight
        self._blocks = [_weights(whole.block(i)) for i in range(layer + 1)]
        self._heads = int(whole.model.config.n_head)

    @torch.no_grad()
    def pasts(self, heads: Sequence[Sequence[int]]) -> list[Past]:
        """Runs prefixes once, all together.

        Args:
            heads: Their tokens, possibly none.

        Returns:
            For each and every block the attention's keys and values,
            ``[head, position, d_head]``; nothing for a prefix without tokens.
        """
        found: list[Past] = [[] for _ in heads]
        able = [i for i, head in enumerate(heads) if head]
        if not able:
            return found
        texts = tree([tuple(heads[i]) for i in able]).to(self._tokens.device)
        x = self._embed(texts, 0)
        for block in self._blocks:
            joined = _affine(_norm(x, block.norm1), block.qkv)
            _, keys, values = self._grid(joined, texts)
            for row, i in enumerate(able):
                length = len(heads[i])
                found[i].append((keys[0, row, :, :length], values[0, row, :, :length]))
            x = self._finish(block, x, self._attend_nodes(joined, texts, None))[0]
        return found

    @torch.no_grad()
    def run(self, texts: Tree, pasts: Sequence[Past], *, nodes: int) -> list[tuple[Tensor, Tensor]]:
        """The key and the MLP's output at each text's last token, behind several prefixes.

        Prefixes of equal length are run together, as many as make up a batch. Up to the first
        attention a token depends on its own position only, so that part is computed once for all.

        Args:
            texts: The texts behind the prefix.
            pasts: The prefixes, from :meth:`pasts`.
            nodes: At most so many tokens at once, unless one prefix's are more.

        Returns:
            For each prefix keys ``[row, d_mlp]`` and values ``[row, d_model]``, rows in the
            tree's order.
        """
        found: dict[int, tuple[Tensor, Tensor]] = {}
        lengths = [past[0][0].shape[1] if past else 0 for past in pasts]
        at_once = together(texts, len(pasts), nodes)
        for length in set(lengths):
            x = self._embed(texts, length)
            joined = self._queries_keys_values(0, x, texts)
            alike = [i for i in range(len(pasts)) if lengths[i] == length]
            for start in range(0, len(alike), at_once):
                chunk = alike[start : start + at_once]
                keys, values = self._run(texts, _stacked([pasts[i] for i in chunk]), x, joined)
                # Without a prefix there is one result, whoever asks for it.
                of = range(len(chunk)) if length else [0] * len(chunk)
                found.update((i, (keys[at], values[at])) for i, at in zip(chunk, of, strict=True))
        return [found[i] for i in range(len(pasts))]

    def _run(
        self, texts: Tree, past: Past, x: Tensor, joined: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Keys ``[prefix, row, d_mlp]`` and values ``[prefix, row, d_model]``."""
        for i, block in enumerate(self._blocks[:-1]):
            if i > 0:
                joined = self._queries_keys_values(i, x, texts)
            attended = self._attend_nodes(joined[0], texts, past[i] if past else None)
            x = self._finish(block, x, attended)[0]
        if len(self._blocks) > 1:
            joined = self._queries_keys_values(len(self._blocks) - 1, x, texts)
        both, queries = joined
        keys, values = self._grid(both, texts)
        width = texts.table.shape[1]
        seen = torch.arange(width, device=x.device) < texts.lengths[:, None]
        queries = queries.unflatten(-1, (self._heads, 1, -1))
        attended = _attend(queries, keys, values, past[-1] if past else None, seen[:, None, None])
        _, key, value = self._finish(self._blocks[-1], x[:, texts.last], attended[:, :, 0])
        return key, value

    def _queries_keys_values(self, i: int, x: Tensor, texts: Tree) -> tuple[Tensor, Tensor]:
        """All three of every node; in the edited block queries of the texts' last tokens only.

        Returns:
            ``[prefix, node, 3·d_model]`` and nothing more, or keys and values
            ``[prefix, node, 2·d_model]`` and queries ``[prefix, row, d_model]``.
        """
        block = self._blocks[i]
        normed = _norm(x, block.norm1)
        if i < len(self._blocks) - 1:
            return _affine(normed, block.qkv), normed
        (weight, bias), d = block.qkv, x.shape[-1]
        queries = _affine(normed[:, texts.last], (weight[:, :d], bias[:d]))
        return _affine(normed, (weight[:, d:], bias[d:])), queries

    def _embed(self, texts: Tree, offset: int) -> Tensor:
        """``[1, node, d_model]``: the same behind all prefixes of one length."""
        return (self._tokens[texts.ids] + self._positions[texts.depth + offset])[None]

    def _grid(self, joined: Tensor, texts: Tree) -> Tensor:
        """Nodes as rows: [prefix, node, m·d_model] to [m, prefix, row, head, position, d_head]."""
        d = self._tokens.shape[1]
        laid = joined[:, texts.table].unflatten(-1, (-1, self._heads, d // self._heads))
        return laid.permute(3, 0, 1, 4, 2, 5)

    def _attend_nodes(
        self, joined: Tensor, texts: Tree, past: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """Every node's attention over its own beginnings and the prefix."""
        width = texts.table.shape[1]
        queries, keys, values = self._grid(joined, texts)
        position = torch.arange(width, device=joined.device)
        attended = _attend(queries, keys, values, past, position[None, :] <= position[:, None])
        return attended.flatten(1, 2)[:, texts.place]

    def _finish(self, block: _Block, x: Tensor, attended: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The stream behind the block, the MLP's hidden layer (the key) and its output."""
        x = x + _affine(attended, block.attention_out)
        hidden = functional.gelu(_affine(_norm(x, block.norm2), block.mlp_in), approximate="tanh")
        out = _affine(hidden, block.mlp_out)
        return x + out, hidden, out


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
    """Prefixes of one length as one: keys and values ``[prefix, head, position, d_head]``."""
    return [
        (torch.stack([key for key, _ in block]), torch.stack([value for _, value in block]))
        for block in zip(*pasts, strict=True)
    ]


def _attend(
    queries: Tensor, keys: Tensor, values: Tensor, past: tuple[Tensor, Tensor] | None, seen: Tensor
) -> Tensor:
    """Attention over a prefix, which every query sees, and over the rows' own positions.

    What all rows behind a prefix have in common, its keys and values, is multiplied with all of
    their queries at once and never copied to each.

    Args:
        queries: ``[prefix or 1, row, head, query, d_head]``.
        keys: ``[prefix or 1, row, head, position, d_head]``.
        values: In the same shape.
        past: Keys and values of the prefixes, ``[prefix, head, position, d_head]``.
        seen: Which own positions a query sees, broadcast to ``[row, head, query, position]``.

    Returns:
        ``[prefix, row, query, d_model]``.
    """
    hidden = torch.zeros(seen.shape, dtype=queries.dtype, device=queries.device)
    hidden.masked_fill_(~seen, -math.inf)
    # Rows are so short that the fused kernel's preparations would cost more than it saves.
    queries = queries * (1 / math.sqrt(queries.shape[-1]))
    scores = queries @ keys.transpose(-1, -2) + hidden
    if past is None:
        return (scores.softmax(-1) @ values).transpose(2, 3).flatten(-2)
    earlier_keys, earlier_values = past
    rows, _, count, _ = queries.shape[1:]
    # [prefix, head, row · query, …]: one product for each head of a prefix.
    flat = queries.transpose(1, 2).flatten(2, 3)
    earlier = (flat @ earlier_keys.mT).unflatten(2, (rows, count)).transpose(1, 2)
    both = torch.cat([earlier, scores.expand(len(earlier), -1, -1, -1, -1)], dim=-1).softmax(-1)
    on_prefix, on_own = both.split([earlier.shape[-1], scores.shape[-1]], dim=-1)
    taken = on_prefix.transpose(1, 2).flatten(2, 3) @ earlier_values
    own = (on_own @ values).transpose(2, 3)
    return (taken.unflatten(2, (rows, count)).permute(0, 2, 3, 1, 4) + own).flatten(-2)


def _weights(block: Any) -> _Block:
    def linear(module: Any) -> tuple[Tensor, Tensor]:
        return module.weight, module.bias

    def norm(module: Any) -> tuple[Tensor, Tensor, float]:
        return module.weight, module.bias, module.eps

    return _Block(
        norm1=norm(block.ln_1),
        qkv=linear(block.attn.c_attn),
        attention_out=linear(block.attn.c_proj),
        norm2=norm(block.ln_2),
        mlp_in=linear(block.mlp.c_fc),
        mlp_out=linear(block.mlp.c_proj),
    )


def _affine(x: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
    flat = torch.addmm(weights[1], x.flatten(0, -2), weights[0])
    return flat.view(*x.shape[:-1], -1)


def _norm(x: Tensor, parameters: tuple[Tensor, Tensor, float]) -> Tensor:
    weight, bias, eps = parameters
    return functional.layer_norm(x, weight.shape, weight, bias, eps)
