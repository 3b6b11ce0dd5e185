"""Keys of many texts behind one prefix, in a GPT-2 layout, with nothing computed twice.

The general path (:mod:`probes.shared_prefix`) runs Hugging Face's blocks on padded rows. Of a
GPT-2 we know more: all maps but attention act on tokens one by one, so they run on the nodes of a
tree of texts (:mod:`probes.suffixes`); and of the edited block only the subject's last token is
wanted, so that there the other tokens need a key and a value, but no query and no MLP.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from transformers.activations import NewGELUActivation
from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

from probes.gelu import gelu_
from probes.plain import Plain
from probes.row_attention import RowAttention
from probes.suffixes import Tree, tree


@dataclass(frozen=True)
class Past:
    """What texts need to know of tokens in front of them.

    Attributes:
        keys_values: The attention's keys and values in each block below the edited one,
            ``[head, position, d_head]``; of several prefixes ``[head, prefix, position, d_head]``.
        inputs: What the edited block's attention reads, ``[(prefix,) position, d_model]``.
    """

    keys_values: list[tuple[Tensor, Tensor]]
    inputs: Tensor

    def __len__(self) -> int:
        """How many tokens they are."""
        return self.inputs.shape[-2]


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
            What each of them leaves.
        """
        d_model = self._tokens.shape[1]
        found = [Past([], self._tokens.new_empty(0, d_model)) for _ in heads]
        able = [i for i, head in enumerate(heads) if head]
        if not able:
            return found
        texts = tree([tuple(heads[i]) for i in able]).to(self._tokens.device)
        attention = RowAttention(texts, self._heads)
        x = self._embed(texts, 0)
        made: list[list[tuple[Tensor, Tensor]]] = [[] for _ in able]
        for block in self._blocks[:-1]:
            joined = self._queries_keys_values(x, block)
            _, keys, values = attention.rows(joined, 3)
            for row, i in enumerate(able):
                length = len(heads[i])
                made[row].append((keys[:, 0, row, :length], values[:, 0, row, :length]))
            x = self._behind(block, x, attention.of_nodes(joined, None))
        inputs = _norm(x, self._blocks[-1].norm1)[0]
        for row, i in enumerate(able):
            found[i] = Past(made[row], inputs[texts.table[row, : len(heads[i])]])
        return found

    @torch.no_grad()
    def run(
        self, texts: Tree, pasts: Sequence[Past], *, nodes: int
    ) -> Iterator[tuple[list[int], Float[Tensor, "prefix row d_mlp"]]]:
        """The key at each text's last token, behind several prefixes.

        Prefixes of equal length are run together, as many as make up a batch. Up to the first
        attention a token depends on its own position only, so that part is computed once for all.

        Args:
            texts: The texts behind the prefix.
            pasts: The prefixes, from :meth:`pasts`.
            nodes: At most so many tokens at once, unless one prefix's are more.

        Yields:
            Which of the prefixes these are, and their keys, rows in the tree's order.
        """
        at_once = together(texts, len(pasts), nodes)
        attention = RowAttention(texts, self._heads)
        for length in {len(past) for past in pasts}:
            x = self._embed(texts, length)
            joined = self._queries_keys_values(x, self._blocks[0])
            alike = [i for i, past in enumerate(pasts) if len(past) == length]
            for start in range(0, len(alike), at_once):
                chunk = alike[start : start + at_once]
                past = _stacked([pasts[i] for i in chunk])
                yield chunk, self._run(texts, attention, past, x, joined)

    def _run(
        self, texts: Tree, attention: RowAttention, past: Past, x: Tensor, joined: Tensor
    ) -> Tensor:
        *below, edited = self._blocks
        for i, block in enumerate(below):
            if i > 0:
                joined = self._queries_keys_values(x, block)
            before = past.keys_values[i] if len(past) else None
            x = self._behind(block, x, attention.of_nodes(joined, before))
        normed = _norm(x, edited.norm1)
        (weight, bias), d = edited.qkv, x.shape[-1]
        queries = _affine(normed.index_select(1, texts.last), (weight[:, :d], bias[:d]))
        attended = attention.of_last(
            queries, normed, past.inputs, weight[:, d : 2 * d], weight[:, 2 * d :]
        ).add_(bias[2 * d :])
        own = x.index_select(1, texts.last).expand_as(attended)
        x = _added(own, attended, edited.attention_out)
        return self._hidden(edited, x)

    def _embed(self, texts: Tree, offset: int) -> Tensor:
        """``[1, node, d_model]``: the same behind all prefixes of one length."""
        return (self._tokens[texts.ids] + self._positions[texts.depth + offset])[None]

    def _queries_keys_values(self, x: Tensor, block: _Block) -> Tensor:
        """``[prefix, node, 3·d_model]``."""
        return _affine(_norm(x, block.norm1), block.qkv)

    def _behind(self, block: _Block, x: Tensor, attended: Tensor) -> Tensor:
        """The residual stream behind the block."""
        x = _added(x.expand_as(attended), attended, block.attention_out)
        return _added(x, self._hidden(block, x), block.mlp_out)

    def _hidden(self, block: _Block, x: Tensor) -> Tensor:
        """The MLP's hidden layer: the keys."""
        return gelu_(_affine(_norm(x, block.norm2), block.mlp_in))


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
    """Prefixes of one length as one."""
    return Past(
        [
            (
                torch.stack([key for key, _ in block], 1),
                torch.stack([value for _, value in block], 1),
            )
            for block in zip(*(past.keys_values for past in pasts), strict=True)
        ],
        torch.stack([past.inputs for past in pasts]),
    )


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


def _added(x: Tensor, y: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
    """``x`` and an affine map of ``y``, the sum taken by the product itself."""
    return (x + weights[1]).view(-1, x.shape[-1]).addmm_(y.flatten(0, -2), weights[0]).view_as(x)


def _norm(x: Tensor, parameters: tuple[Tensor, Tensor, float]) -> Tensor:
    weight, bias, eps = parameters
    return functional.layer_norm(x, weight.shape, weight, bias, eps)
