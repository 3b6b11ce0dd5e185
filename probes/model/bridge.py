"""Wrapping a Hugging Face model with TransformerLens, and proving that it is the same model.

Weights stay raw: TransformerLens' compatibility mode centres and folds them, which changes keys
and residual norms.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch

from probes.model import architecture
from probes.model.exact_gelu import replace_gelus
from probes.model.fingerprint import fingerprint
from probes.model.loaded import LoadedModel
from probes.model.messages import short_message
from probes.model.sound import refuse_left_out, refuse_logits, refuse_not_finite
from probes.model.spread import device_of, state_of
from probes.model.tokens import prepends_bos
from rome_diagnosis.errors import UserError
from rome_diagnosis.limits import LOGITS_APART

# The text a model is tried on: once alone and once shorter, padded beside the first.
PROBE_TEXT = "The first token of a text is unlike every other, and nothing said so before."
PROBE_TOKENS = 12


def wrap(
    model: Any,
    tokenizer: Any,
    *,
    name: str,
    path: str,
    bos: bool | None = None,
    weights: str | None = None,
) -> LoadedModel:
    """Wraps a Hugging Face model that is already in memory, in place.

    Args:
        model: A causal language model; it is set to evaluation mode and wrapped in place, its GELUs
            replaced by the same function without cancellation (:mod:`probes.model.exact_gelu`).
        tokenizer: Its fast tokenizer, with a ``name_or_path`` it can be loaded from again.
        name: What to call the model in results.
        path: Where it comes from.
        bos: Whether to prepend a begin-of-sequence token; ``None`` follows the plain tokenizer.
        weights: See :class:`probes.model.loaded.LoadedModel`.

    Returns:
        The loaded model.

    Raises:
        UserError: If keys measured on it would be silently wrong: an encoder, a mixture of
            experts, a slow tokenizer, weights that are not finite, an architecture that
            TransformerLens does not know or computes otherwise than Hugging Face.
    """
    architecture.refuse_unsuitable(model.config, name)
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(
            f"the tokenizer of {name} is a slow one and gives no character offsets, so the "
            "subject's last token cannot be located reliably: install its fast version"
        )
    state_dict = state_of(model)
    refuse_left_out(state_dict, name)
    refuse_not_finite(state_dict, name)
    device = device_of(state_dict, model)
    model.eval().requires_grad_(False)
    probe = probe_tokens(tokenizer, model.config)
    rows = [probe, probe[: max(1, len(probe) // 2)]]
    expected = _plain_logits(model, rows, name, device)
    replace_gelus(model)
    bridge = _boot(model, tokenizer, name, path, device)
    bridge.eval().requires_grad_(False)
    bridge.cfg.default_prepend_bos = False
    loaded = from_bridge(
        bridge, tokenizer, name=name, path=path, bos=bos, state_dict=state_dict, weights=weights
    )
    _refuse_other_logits(loaded, rows, expected)
    return loaded


def _boot(model: Any, tokenizer: Any, name: str, path: str, device: torch.device) -> Any:
    """The bridge around a model."""
    from transformer_lens.model_bridge import TransformerBridge

    try:
        # The bridge prints a notice about device maps and the like; none of it is ours to show.
        with (
            open(os.devnull, "w") as quiet,
            contextlib.redirect_stdout(quiet),
            _installing_nothing(),
            _copying_nothing(TransformerBridge),
        ):
            return TransformerBridge.boot_transformers(
                path, hf_model=model, tokenizer=tokenizer, dtype=model.dtype, device=device
            )
    except Exception as error:
        raise UserError(_cannot_wrap(model, name, error)) from error


def from_bridge(
    bridge: Any,
    tokenizer: Any,
    *,
    name: str,
    path: str = "",
    bos: bool | None = None,
    state_dict: Mapping[str, torch.Tensor] | None = None,
    weights: str | None = None,
) -> LoadedModel:
    """Uses a ``TransformerBridge`` the caller has booted, if its weights are raw.

    Args:
        bridge: The bridge.
        tokenizer: The plain tokenizer (``AutoTokenizer.from_pretrained``), not the bridge's own.
        name: What to call the model in results.
        path: Where it comes from.
        bos: As in :func:`wrap`.
        state_dict: The Hugging Face model's state before wrapping, needed to save edited models.
        weights: See :class:`probes.model.loaded.LoadedModel`.

    Returns:
        The loaded model.

    Raises:
        UserError: If the weights were folded or centred or are not finite, or keys cannot be
            hooked.
    """
    if getattr(bridge, "compatibility_mode", False) or getattr(
        bridge.cfg, "layer_norm_folding", False
    ):
        raise UserError(
            f"the weights of {name} were folded by enable_compatibility_mode(): its keys and "
            "residual norms are not the model's own; boot the bridge without it"
        )
    bridge.cfg.d_mlp = _key_size(bridge, name)
    prepended = prepends_bos(tokenizer) if bos is None else bos
    if prepended and tokenizer.bos_token_id is None:
        raise UserError(
            f"--bos was asked for, but the tokenizer of {name} has no begin-of-sequence token"
        )
    if state_dict is None:
        state_dict = state_of(bridge.original_model)
        refuse_left_out(state_dict, name)
        refuse_not_finite(state_dict, name)
    return LoadedModel(
        bridge=bridge,
        tokenizer=tokenizer,
        name=name,
        path=path or name,
        bos=prepended,
        fingerprint=fingerprint(state_dict),
        state_dict=state_dict,
        weights=weights,
    )


def hook_left_on(bridge: Any) -> str | None:
    """A hook point on which somebody has left a hook; those that TransformerLens sets do not count.

    Args:
        bridge: The bridge.

    Returns:
        The name of the first such hook point, or ``None``.
    """
    for name, point in bridge.hook_dict.items():
        for handle in point.fwd_hooks:
            owner = getattr(getattr(handle, "user_hook", None), "__module__", None) or ""
            if not owner.startswith("transformer_lens.model_bridge"):
                return str(name)
    return None


def _key_size(bridge: Any, name: str) -> int:
    """Length of a key, from the weights: configurations of OPT and XGLM give TransformerLens 4·d.

    Raises:
        UserError: If a block has no single output projection or no attention, or keys differ in
            size.
    """
    hooks = bridge.hook_dict
    sizes = []
    for layer in range(int(bridge.cfg.n_layers)):
        if architecture.hook_name(bridge, layer, "key") not in hooks:
            raise UserError(
                f"block {layer} of {name} ({_architecture(bridge.original_model)}) has no single "
                "MLP output projection (mixture of experts, or no MLP): there is no one key vector "
                "to measure"
            )
        if architecture.hook_name(bridge, layer, "pattern") not in hooks:
            raise UserError(
                f"block {layer} of {name} ({_architecture(bridge.original_model)}) has no softmax "
                "attention, which everything said about first tokens is about"
            )
        module = architecture.output_projection(bridge, layer)
        size = getattr(module, "in_features", None) or getattr(module, "nx", None)
        sizes.append(int(size if size is not None else bridge.cfg.d_mlp))
    if len(set(sizes)) > 1:
        raise UserError(
            f"the MLPs of {name} differ in width from block to block ({min(sizes)} to "
            f"{max(sizes)}), which this toolkit does not handle"
        )
    return sizes[0]


@contextlib.contextmanager
def _installing_nothing() -> Iterator[None]:
    """Keeps TransformerLens from running ``pip install torchvision`` for multimodal models.

    Their image processors are not needed here, and an installation that nobody asked for can
    replace the torch that is running.
    """
    from transformer_lens.model_bridge.sources.transformers import helpers

    original = helpers._ensure_torchvision
    helpers._ensure_torchvision = lambda: False
    try:
        yield
    finally:
        helpers._ensure_torchvision = original


@contextlib.contextmanager
def _copying_nothing(bridge_class: Any) -> Iterator[None]:
    """Keeps TransformerLens from copying both embeddings, where it reads every attribute for hooks.

    Of GPT-2 XL they are 330 MB, which nobody reads.
    """
    original = bridge_class.W_E_pos
    bridge_class.W_E_pos = None
    try:
        yield
    finally:
        bridge_class.W_E_pos = original


def probe_tokens(tokenizer: Any, config: Any) -> list[int]:
    """Token ids of the short text that a model is tried on.

    Args:
        tokenizer: The plain tokenizer.
        config: The Hugging Face configuration.

    Returns:
        One id or more, no more than the model reads.
    """
    ids = list(tokenizer(PROBE_TEXT, add_special_tokens=False)["input_ids"]) or [0]
    longest = getattr(architecture.text_config(config), "max_position_embeddings", None)
    return ids[: min(PROBE_TOKENS, longest or PROBE_TOKENS)]


@torch.no_grad()
def _plain_logits(
    model: Any, rows: Sequence[Sequence[int]], name: str, device: torch.device
) -> list[torch.Tensor]:
    """Logits of each row alone, as Hugging Face computes them, on the CPU."""
    try:
        logits = [
            model(torch.tensor([list(row)], device=device), use_cache=False).logits[0]
            for row in rows
        ]
    except Exception as error:
        raise UserError(
            f"{_architecture(model)} cannot run a short text: {short_message(error)}"
        ) from error
    for row in logits:
        refuse_logits(row, name, str(model.dtype).removeprefix("torch."))
    return [row.cpu() for row in logits]


@torch.no_grad()
def _refuse_other_logits(
    model: LoadedModel, rows: Sequence[Sequence[int]], expected: Sequence[torch.Tensor]
) -> None:
    """Refuses a model whose logits in a padded batch are not those of each text alone."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=model.device)
    mask = torch.tensor(
        [[1] * len(row) + [0] * (width - len(row)) for row in rows], device=model.device
    )
    who = f"{model.name} ({_architecture(model.bridge.original_model)})"
    try:
        logits = model.bridge(ids, attention_mask=mask, return_type="logits")
    except Exception as error:
        raise UserError(
            f"TransformerLens {version('transformer-lens')} cannot run {who}: "
            f"{short_message(error)}"
        ) from error
    tolerance = max(LOGITS_APART.value, 16 * torch.finfo(getattr(torch, model.dtype)).eps)
    for own, plain in zip(logits.cpu(), expected, strict=True):
        # Token by token: there is a logit for every word of the vocabulary.
        gaps = [(a.double() - b.double()).abs().max() for a, b in zip(own, plain, strict=False)]
        apart = float(torch.stack(gaps).max() / plain.abs().max().double())
        if not apart <= tolerance:
            raise UserError(
                f"TransformerLens {version('transformer-lens')} computes other logits for {who} "
                f"than Hugging Face does ({apart:.2g} of the largest apart), so its keys cannot be "
                "trusted"
            )


def _cannot_wrap(model: Any, name: str, error: BaseException) -> str:
    library = f"TransformerLens {version('transformer-lens')}"
    who = f"{name} ({_architecture(model)})"
    if "supported architecture" in str(error):
        return f"{library} does not know the architecture of {who}, so its keys cannot be read"
    return f"{library} cannot wrap {who}: {short_message(error)}"


def _architecture(model: Any) -> str:
    return type(model).__name__
