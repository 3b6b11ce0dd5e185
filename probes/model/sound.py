"""Proof that a model's weights are all there, finite, and the ones its files hold.

Libraries fill missing weights with random numbers and leave surplus ones out, which would turn a
damaged download into a confident diagnosis of another model.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch

from rome_diagnosis.errors import UserError

# Causal masks and rotary frequencies, which older versions saved among the weights.
_CONSTANT = re.compile(r"\.(attn|attention)\.(bias|masked_bias|rotary_emb\.inv_freq)$")
_NAMED = 3  # tensors that a message names before it counts the others


def refuse_incomplete(info: Mapping[str, Any], model: Any, name: str) -> None:
    """Refuses a model whose files do not hold exactly the weights that its configuration asks for.

    Tied weights are accounted for by ``from_pretrained`` already; masks and frequencies that follow
    from the configuration may be surplus.

    Args:
        info: What ``from_pretrained(output_loading_info=True, ignore_mismatched_sizes=True)``
            returns beside the model.
        model: The model.
        name: What to call the model.

    Raises:
        UserError: Naming the tensors.
    """
    mismatched = sorted(info.get("mismatched_keys") or ())
    if mismatched:
        tensor, came, expected = mismatched[0]
        raise UserError(
            f"the weights of {name} do not fit its config.json: {tensor} has shape "
            f"{_shape(came)} where {_shape(expected)} is expected"
            f"{_others(mismatched)}: get the model's files again"
        )
    unexpected = [key for key in info.get("unexpected_keys") or () if not _CONSTANT.search(key)]
    for kind, keys in (("lack", info.get("missing_keys") or ()), ("hold unexpected", unexpected)):
        if names := sorted(keys):
            raise UserError(
                f"the weights of {name} {kind} {', '.join(names[:_NAMED])}"
                f"{_others(names, _NAMED)}: its files and its config.json do not belong together, "
                "or a download was interrupted; get the model's files again"
            )
    if errors := info.get("error_msgs"):
        raise UserError(f"the weights of {name} could not be read: {' '.join(errors)[:300]}")
    _refuse_untied(model, name)


def refuse_whole_numbers(folder: Path, model: Any, name: str) -> None:
    """Refuses files that hold whole numbers where the model has real ones.

    Quantised weights whose configuration no longer says so are such files: they would be taken
    for weights without a word.

    Args:
        folder: Where the model's safetensors files are; other formats are not examined.
        model: The model as it was loaded.
        name: What to call the model.

    Raises:
        UserError: Naming a tensor.
    """
    if getattr(model.config, "quantization_config", None) is not None:
        return
    real = {key for key, value in model.state_dict().items() if value.is_floating_point()}
    for path in sorted(folder.glob("*.safetensors")):
        with safetensors.safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118
                dtype = file.get_slice(key).get_dtype()
                if dtype.startswith(("I", "U", "BOOL")) and key in real:
                    raise UserError(
                        f"the weights of {name} hold whole numbers ({dtype}) in {key}: they are "
                        "quantised in a way that their config.json does not say"
                    )


def refuse_left_out(state_dict: Mapping[str, torch.Tensor], name: str) -> None:
    """Refuses weights that are nowhere: a model on the meta device has shapes and no values.

    Args:
        state_dict: The model's parameters and buffers.
        name: What to call the model.

    Raises:
        UserError: Naming the first.
    """
    for tensor_name, tensor in state_dict.items():
        if tensor.is_meta and tensor.numel():
            raise UserError(
                f"{tensor_name} of {name} has no values (it is on the meta device): load the "
                "model's weights before it is measured"
            )


def refuse_not_finite(state_dict: Mapping[str, torch.Tensor], name: str) -> None:
    """Refuses weights with NaN or infinity anywhere.

    Args:
        state_dict: The model's parameters and buffers.
        name: What to call the model.

    Raises:
        UserError: Naming the tensor.
    """
    for tensor_name, tensor in state_dict.items():
        if not tensor.is_floating_point() or tensor.is_meta or tensor.numel() == 0:
            continue
        # A sum is one pass without a copy; one that overflows has to be looked at again.
        if not torch.isfinite(tensor.sum(dtype=torch.float32)) and not tensor.isfinite().all():
            count = int((~tensor.isfinite()).sum())
            raise UserError(
                f"the weights of {name} are damaged: {tensor_name} holds {count:,} "
                f"{'value that is' if count == 1 else 'values that are'} not finite"
            )


def refuse_logits(logits: torch.Tensor, name: str, dtype: str) -> None:
    """Refuses a model that does not compute finite logits on a short text.

    Args:
        logits: Its logits.
        name: What to call the model.
        dtype: The weights' type.

    Raises:
        UserError: If one is not finite.
    """
    if not torch.isfinite(logits).all():
        way_out = "" if dtype in ("float32", "float64") else ": load it with --dtype float32"
        raise UserError(
            f"the logits of {name} on a short text are not finite in {dtype}{way_out}, so nothing "
            "measured on it would mean anything"
        )


def _refuse_untied(model: Any, name: str) -> None:
    """Where the configuration says that embedding and unembedding are one, they must be."""
    if not getattr(model.config.get_text_config(), "tie_word_embeddings", False):
        return
    embedding, unembedding = model.get_input_embeddings(), model.get_output_embeddings()
    one, other = getattr(embedding, "weight", None), getattr(unembedding, "weight", None)
    if one is None or other is None or one is other or one.shape != other.shape:
        return
    if one.data_ptr() != other.data_ptr() and not torch.equal(one, other):
        raise UserError(
            f"the config.json of {name} says that its unembedding is its embedding "
            "(tie_word_embeddings), but its files hold two different ones"
        )


def _shape(shape: Any) -> str:
    return "×".join(str(size) for size in shape) or "a scalar"


def _others(names: Collection[Any], named: int = 1) -> str:
    more = len(names) - named
    return f" and {more} other{'s' if more > 1 else ''}" if more > 0 else ""
