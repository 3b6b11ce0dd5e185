"""All knowledge of layouts: hook points, what stands between an MLP and the stream, edit layers.

An architecture without a row in :data:`LAYOUTS` is taken to add its MLP's output to the residual
stream as it is. That is never believed: :mod:`probes.model.contribution` measures it before
anything rests on it. To add an architecture that does otherwise, add a row.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rome_diagnosis.errors import UserError

Site = Literal[
    "key", "value", "resid_pre", "attention", "resid_post", "before_norm", "pattern"
]  # fmt: skip
# Where an activation may be written as well as read: what attention and MLP compute, and the
# residual stream that enters each of them.
PatchSite = Literal["resid_pre", "attention", "mlp", "resid_mid"]

# TransformerLens' names; of several the first that a model has. `mlp.hook_out` is not among them:
# it holds the residual stream as well on BLOOM.
_HOOKS: Mapping[str, tuple[str, ...]] = {
    "key": ("mlp.out.hook_in",),
    "value": ("mlp.out.hook_out",),
    "mlp": ("mlp.out.hook_out",),
    "resid_pre": ("hook_in",),
    "resid_post": ("hook_out",),
    "before_norm": ("ln2.hook_in",),
    "pattern": ("attn.hook_pattern",),
    "attention": ("attn.o.hook_out", "attn.hook_out"),
    # Where attention and MLP stand side by side, what enters the block enters the MLP.
    "resid_mid": ("hook_resid_mid", "ln2.hook_in", "hook_in"),
}


@dataclass(frozen=True)
class Layout:
    """How a block's MLP output reaches the residual stream.

    Attributes:
        norm: Name, within the block, of a norm after the MLP's output projection; ``None`` where
            the output is added as it is.
        norm_takes_stream: Whether that norm acts on the sum of stream and output, as in the
            first transformers, and not on the output alone.
        config_factor: Name of the configuration's number that multiplies the output.
        block_factor: Name of the block's tensor that multiplies the stream after the addition.
        applies: Whether the row describes a model with the given configuration.
    """

    norm: str | None = None
    norm_takes_stream: bool = False
    config_factor: str | None = None
    block_factor: str | None = None
    applies: Callable[[Any], bool] = lambda config: True


_NORM_AFTER_MLP = Layout(norm="post_feedforward_layernorm")

# By ``model_type`` of the Hugging Face configuration.
LAYOUTS: Mapping[str, Layout] = {
    "exaone4": _NORM_AFTER_MLP,
    "gemma2": _NORM_AFTER_MLP,
    "gemma3_text": _NORM_AFTER_MLP,
    "gemma4_text": Layout(norm="post_feedforward_layernorm", block_factor="layer_scalar"),
    "glm4": Layout(norm="post_mlp_layernorm"),
    "granite": Layout(config_factor="residual_multiplier"),
    "olmo2": _NORM_AFTER_MLP,
    "olmo3": _NORM_AFTER_MLP,
    "opt": Layout(
        norm="final_layer_norm",
        norm_takes_stream=True,
        applies=lambda config: not config.do_layer_norm_before,
    ),
}

# Layers that published work edits (hyper-parameter files of ROME, MEMIT and EasyEdit): a pattern
# for the model's name, its number of blocks, the layer.
_LLAMA = r"(open[-_]?|meta[-_]?)?llama[-_]?"
PUBLISHED_EDIT_LAYERS: tuple[tuple[str, int, int], ...] = (
    (r"gpt2-medium", 24, 8),
    (r"gpt2-large", 36, 12),
    (r"gpt2-xl", 48, 17),
    (r"gpt-?j-6b", 28, 5),
    (r"gpt-?neox-20b", 44, 15),
    (_LLAMA + r"([12][-_])?7b", 32, 5),
    (_LLAMA + r"3(\.1)?[-_]8b", 32, 5),
    (_LLAMA + r"3\.2[-_]1b", 16, 5),
    (_LLAMA + r"3\.2[-_]3b", 28, 5),
    (r"mistral-7b", 32, 5),
    (r"qwen2(\.5)?-7b", 28, 5),
    (r"baichuan-7b", 32, 5),
    (r"internlm-7b", 32, 5),
)
# Of a model that nobody has edited, a quarter of the depth, rounded up. Published layers lie from
# a sixth (Llama's layout) to a third (GPT-2's). In SmolLM2, traced as in the ROME paper, the effect
# is largest at blocks 5 to 8 of 30, and v* reaches its object from block 8 on (docs/pretrained.md).
UNPUBLISHED_DEPTH = 0.25
# What the names of the same weights, or of weights tuned from them, end in.
_ENDING = re.compile(r"[-_](hf|chat|instruct|base|it|v\d+(\.\d+)*)$")


def text_config(config: Any) -> Any:
    """The configuration of the language model, where a model has others beside it."""
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def layout(config: Any) -> Layout:
    """How a model's MLP outputs reach its stream, according to :data:`LAYOUTS`.

    Args:
        config: The Hugging Face configuration.

    Returns:
        The row; plain addition for an architecture without one.
    """
    text = text_config(config)
    row = LAYOUTS.get(str(getattr(text, "model_type", "")), Layout())
    return row if row.applies(text) else Layout()


def hook_name(bridge: Any, layer: int, site: Site | PatchSite) -> str:
    """TransformerLens' name of a hook point.

    Args:
        bridge: The bridge.
        layer: The block, which must exist.
        site: ``key`` is the input of the MLP's output projection and ``value`` that projection's
            output; ``resid_pre`` and ``resid_post`` are the residual stream before and after the
            block, ``resid_mid`` that before the MLP, ``before_norm`` the input of a norm that
            takes the stream; ``attention`` and ``mlp`` are what the two compute, before any norm;
            ``pattern`` is the attention pattern.

    Returns:
        The name.

    Raises:
        UserError: If the model has no such hook point.
    """
    names = [f"blocks.{layer}.{name}" for name in _HOOKS[site]]
    if site == "resid_mid" and layout(bridge.original_model.config).norm_takes_stream:
        return f"blocks.{layer}.mlp.in.hook_in"  # their second norm comes after the MLP
    if len(names) == 1:
        return names[0]
    known = bridge.hook_dict
    for name in names:
        if name in known:
            return name
    raise UserError(f"TransformerLens has no hook for the {site} of block {layer}")


def is_parallel(bridge: Any) -> bool:
    """Whether attention and MLP stand side by side, so that block 0's key sees no attention."""
    return "blocks.0.hook_resid_mid" not in bridge.hook_dict


def output_projection(bridge: Any, layer: int) -> nn.Module:
    """The Hugging Face module that maps keys to MLP outputs: k @ W + b.

    Args:
        bridge: The bridge.
        layer: The block.

    Returns:
        The module itself, without TransformerLens' wrapper.
    """
    return bridge.blocks[layer].mlp.out.original_component


def attention_weight(bridge: Any, layer: int) -> Tensor | None:
    """The weight of a block's attention output projection; ``None`` where there is no such matrix.

    Args:
        bridge: The bridge.
        layer: The block.

    Returns:
        The weight itself.
    """
    module: Any = bridge.blocks[layer]
    for name in ("attn", "o", "original_component", "weight"):
        module = getattr(module, name, None)
    return module if isinstance(module, Tensor) else None


def output_weight(bridge: Any, layer: int) -> Float[Tensor, "d_mlp d_model"]:
    """W of a block's output projection, a view: writing to it edits the model.

    Args:
        bridge: The bridge.
        layer: The block.

    Returns:
        The view, whichever way round the model stores its weight.

    Raises:
        UserError: If the weights are quantised or off-loaded, so that there is no such matrix.
    """
    module = output_projection(bridge, layer)
    weight = getattr(module, "weight", None)
    if (
        not isinstance(weight, Tensor)
        or weight.dim() != 2
        or weight.is_meta
        or not weight.is_floating_point()
    ):
        raise UserError(
            "the weights of the MLP's output projection are quantised or off-loaded, so they "
            "cannot be read or changed in place: load the model unquantised, on one device"
        )
    # Only GPT-2's Conv1D stores [in, out].
    return weight.detach() if hasattr(module, "nf") else weight.detach().T


def in_rows(
    activation: Float[Tensor, "*token width"], ids: Int[Tensor, "row position"]
) -> Float[Tensor, "row position width"]:
    """An activation of every token, in rows: OPT's blocks lay all tokens of a batch in one list.

    Args:
        activation: What a hook within a block's MLP sees.
        ids: The batch.

    Returns:
        The same values.
    """
    return activation.view(*ids.shape, activation.shape[-1])


def score_soft_cap(config: Any) -> bool:
    """Whether attention scores are capped, which the fused kernels of attention cannot do."""
    return getattr(text_config(config), "attn_logit_softcapping", None) is not None


def attention_window(config: Any) -> int | None:
    """How many tokens a block with local attention sees; ``None`` where all blocks see all."""
    window = getattr(text_config(config), "sliding_window", None)
    return int(window) if window else None


def mask_in_rows(config: Any) -> bool:
    """Whether a model takes no four-dimensional mask: BLOOM counts positions in its mask."""
    return str(getattr(text_config(config), "model_type", "")) == "bloom"


def finish_logits(config: Any, logits: Tensor) -> Tensor:
    """What a model does to the output of its unembedding: factors and a soft cap.

    Args:
        config: The Hugging Face configuration.
        logits: The unembedding's output.

    Returns:
        The model's logits.
    """
    text = text_config(config)
    if (factor := getattr(text, "logit_scale", None)) and text.model_type.startswith("cohere"):
        logits = logits * factor
    if (divisor := getattr(text, "logits_scaling", None)) and text.model_type == "granite":
        logits = logits / divisor
    if (cap := getattr(text, "final_logit_softcapping", None)) is not None:
        logits = torch.tanh(logits / cap) * cap
    return logits


def is_gpt2(model: Any) -> bool:
    """Whether a Hugging Face model is a plain GPT-2, for which there is a fast path.

    Args:
        model: The causal language model, without hook points.

    Returns:
        Whether :class:`probes.forward.gpt2.blocks.Block` computes what its blocks do.
    """
    from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

    from probes.model.exact_gelu import TanhGELU

    config = model.config
    return (
        type(model) is GPT2LMHeadModel
        and bool(config.scale_attn_weights)
        and not config.scale_attn_by_inverse_layer_idx
        and not config.reorder_and_upcast_attn
        and not config.add_cross_attention
        and isinstance(model.transformer.h[0].mlp.act, TanhGELU)
    )


def published_edit_layer(names: Iterable[str], n_layers: int) -> int | None:
    """The layer that published work edits in a model.

    Args:
        names: What the model may be called: hub names or directories, a snapshot directory of a
            hub cache (``models--ORG--NAME/snapshots/…``) included.
        n_layers: Its number of blocks; one of that name with another number is another model.

    Returns:
        The layer; ``None`` where none is published.
    """
    for name in names:
        short = _short_name(name)
        for pattern, blocks, layer in PUBLISHED_EDIT_LAYERS:
            if blocks == n_layers and re.fullmatch(pattern, short):
                return layer
    return None


def unpublished_edit_layer(n_layers: int) -> int:
    """The layer to edit in a model that no published work has edited.

    Args:
        n_layers: Its number of blocks.

    Returns:
        The block at :data:`UNPUBLISHED_DEPTH` of the depth.
    """
    return min(math.ceil(UNPUBLISHED_DEPTH * n_layers), n_layers - 1)


def _short_name(name: str) -> str:
    """A model's own name, in small letters, without its owner and endings such as ``-hf``."""
    parts = [part for part in re.split(r"[/\\]", name) if part]
    cached = [part for part in parts if part.startswith("models--")]
    short = (cached[-1].split("--")[-1] if cached else parts[-1] if parts else "").lower()
    while (shorter := _ENDING.sub("", short)) != short:
        short = shorter
    return short


def refuse_unsuitable(config: Any, name: str) -> None:
    """Refuses an architecture on which a key would not be ROME's key.

    Args:
        config: The Hugging Face configuration.
        name: What to call the model.

    Raises:
        UserError: If it is an encoder, an encoder-decoder or a mixture of experts.
    """
    architectures = " ".join(getattr(config, "architectures", None) or [])
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(
            f"{name} is an encoder-decoder: ROME edits decoder-only models; "
            "probes.first_token has an encoder control"
        )
    if "MaskedLM" in architectures or architectures.endswith("ForPreTraining"):
        raise UserError(
            f"{name} is an encoder ({architectures}): every token sees every other, "
            "so first-token keys and ROME's update do not apply"
        )
    experts = [
        getattr(text_config(config), field, None)
        for field in ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
    ]
    if any(isinstance(count, int) and count > 1 for count in experts):
        raise UserError(
            f"{name} is a mixture of experts: each token's MLP input is split over experts, "
            "so there is no one key vector to measure"
        )
