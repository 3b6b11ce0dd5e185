"""Loading a model so that the numbers measured on it mean what they seem to mean.

Weights stay raw: TransformerLens' compatibility mode centres and folds them, which changes keys
and residual norms.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Literal

import torch

from probes.model.fingerprint import fingerprint
from probes.model.loaded import LoadedModel
from probes.model.locate import locate
from rome_diagnosis.errors import UserError

DType = Literal["float32", "float16", "bfloat16", "float64"]


DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}


def load(
    name_or_path: str | os.PathLike[str],
    *,
    name: str | None = None,
    device: str = "auto",
    dtype: DType = "float32",
    bos: bool | None = None,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Loads a causal language model, raw, for measuring and editing.

    Args:
        name_or_path: A local directory in Hugging Face layout, or a hub name.
        name: What to call the model in results; as it is given by default.
        device: ``"auto"`` (a GPU where there is one), or a torch device.
        dtype: Type of the weights. Small updates are lost in 16-bit storage: edit in float32.
        bos: Whether to prepend a begin-of-sequence token; ``None`` does what the plain tokenizer
            does, as the published editing code runs.
        trust_remote_code: Whether code shipped with the model may run.

    Returns:
        The loaded model.

    Raises:
        UserError: If the model cannot be found or read, or if measuring keys on it would give
            silently wrong numbers (encoder, mixture of experts, slow tokenizer).
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    source, local_only = locate(str(name_or_path))
    name = name or str(name_or_path)
    if dtype not in DTYPES:
        raise UserError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    target = _device(device)
    options: dict[str, Any] = {
        "local_files_only": local_only,
        "trust_remote_code": trust_remote_code,
    }
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(source, **options)
        refuse_unsuitable(config, name)
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=DTYPES[dtype], **options)
    except UserError:
        raise
    except Exception as error:  # the libraries raise OSError, ValueError, KeyError, SafetensorError
        raise UserError(f"cannot load model {name!r}: {_one_line(error)}") from error
    try:
        model.to(target)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"cannot use device {device!r}: {_one_line(error)}") from error
    return wrap(model, tokenizer, name=name, path=source, bos=bos)


def wrap(
    model: Any, tokenizer: Any, *, name: str, path: str, bos: bool | None = None
) -> LoadedModel:
    """Puts a Hugging Face model that is already in memory behind the bridge, in place.

    Args:
        model: A causal language model; it is set to evaluation mode and wrapped in place.
        tokenizer: Its fast tokenizer, with a ``name_or_path`` it can be loaded from again.
        name: What to call the model in results.
        path: Where it comes from.
        bos: As in :func:`load`.

    Returns:
        The loaded model.

    Raises:
        UserError: As in :func:`load`.
    """
    from transformer_lens.model_bridge import TransformerBridge

    refuse_unsuitable(model.config, name)
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(
            f"the tokenizer of {name} is a slow one and gives no character offsets, so the "
            "subject's last token cannot be found reliably: install its fast version"
        )
    state_dict = dict(model.state_dict())
    model.eval().requires_grad_(False)
    try:
        # The bridge prints a notice about device maps and the like; none of it is ours to show.
        with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
            bridge = TransformerBridge.boot_transformers(
                path, hf_model=model, tokenizer=tokenizer, dtype=model.dtype, device=model.device
            )
    except Exception as error:
        raise UserError(f"TransformerLens cannot wrap {name}: {_one_line(error)}") from error
    bridge.eval().requires_grad_(False)
    bridge.cfg.default_prepend_bos = False
    return from_bridge(bridge, tokenizer, name=name, path=path, bos=bos, state_dict=state_dict)


def from_bridge(
    bridge: Any,
    tokenizer: Any,
    *,
    name: str,
    path: str = "",
    bos: bool | None = None,
    state_dict: dict[str, torch.Tensor] | None = None,
) -> LoadedModel:
    """Uses a ``TransformerBridge`` the caller has booted, if its weights are raw.

    Args:
        bridge: The bridge.
        tokenizer: The plain tokenizer (``AutoTokenizer.from_pretrained``), not the bridge's own.
        name: What to call the model in results.
        path: Where it comes from.
        bos: As in :func:`load`.
        state_dict: The Hugging Face model's state before wrapping, needed to save edited models.

    Returns:
        The loaded model.

    Raises:
        UserError: If the weights were folded or centred, or keys cannot be hooked.
    """
    if getattr(bridge, "compatibility_mode", False) or getattr(
        bridge.cfg, "layer_norm_folding", False
    ):
        raise UserError(
            f"the weights of {name} were folded by enable_compatibility_mode(): its keys and "
            "residual norms are not the model's own; boot the bridge without it"
        )
    hooks = bridge.hook_dict
    for layer in range(int(bridge.cfg.n_layers)):
        if f"blocks.{layer}.mlp.out.hook_in" not in hooks:
            raise UserError(
                f"block {layer} of {name} has no single MLP output projection (mixture of "
                "experts, or no MLP): there is no one key vector to measure"
            )
    prepended = _prepends_bos(tokenizer) if bos is None else bos
    if prepended and tokenizer.bos_token_id is None:
        raise UserError(
            f"--bos was asked for, but the tokenizer of {name} has no begin-of-sequence token"
        )
    if state_dict is None:
        state_dict = dict(bridge.original_model.state_dict())
    return LoadedModel(
        bridge=bridge,
        tokenizer=tokenizer,
        name=name,
        path=path or name,
        bos=prepended,
        fingerprint=fingerprint(state_dict),
        state_dict=state_dict,
    )


def refuse_unsuitable(config: Any, name: str) -> None:
    """Raises ``UserError`` for an architecture on which a key would not be ROME's key."""
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
        getattr(config, field, None)
        for field in ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
    ]
    if any(isinstance(count, int) and count > 1 for count in experts):
        raise UserError(
            f"{name} is a mixture of experts: each token's MLP input is split over experts, "
            "so there is no one key vector to measure"
        )


def _device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise UserError(f"{device!r} is not a torch device: try cpu, cuda or cuda:0") from error


def _prepends_bos(tokenizer: Any) -> bool:
    ids = tokenizer("a")["input_ids"]
    return bool(ids) and tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
