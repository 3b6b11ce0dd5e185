"""A model that is already in memory: used where it is, with its weights, and left as it was."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

from probes.model.bridge import from_bridge, wrap
from probes.model.exact_gelu import replace_gelus
from probes.model.gguf import weights_of
from probes.model.loaded import LoadedModel
from probes.model.spread import weights_maps
from rome_diagnosis.errors import UserError


def adopt(model: Any, tokenizer: Any = None, *, bos: bool | None = None) -> LoadedModel:
    """Makes a model in memory ready for measuring.

    Args:
        model: A :class:`LoadedModel`, a ``transformers`` model or a ``TransformerBridge``.
        tokenizer: The plain fast tokenizer; by default the one that belongs to the model's name.
        bos: As in :func:`probes.model.load.load`; ``None`` keeps a loaded model's.

    Returns:
        The model. A ``transformers`` model's weights are shared, so an edit of either is an edit
        of both, but its modules, names and settings stay untouched. A bridge is used itself, its
        GELUs replaced by the same function without cancellation.

    Raises:
        UserError: If it is something else, its tokenizer is not known, or it cannot be measured.
    """
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedModel

    if isinstance(model, LoadedModel):
        if bos is None or bos == model.bos:
            return model
        return from_bridge(
            model.bridge,
            model.tokenizer,
            name=model.name,
            path=model.path,
            bos=bos,
            state_dict=model.state_dict,
            weights=model.weights,
        )
    if isinstance(model, PreTrainedModel):
        path = model.name_or_path
        name = path or type(model).__name__
        plain = _tokenizer(path, tokenizer)
        return wrap(
            _twin(model),
            plain,
            name=name,
            path=path or plain.name_or_path,
            bos=bos,
            weights=weights_of(Path(path)),
        )
    if isinstance(model, TransformerBridge):
        path = str(getattr(model.original_model.config, "_name_or_path", ""))
        replace_gelus(model.original_model)
        plain = _tokenizer(path, tokenizer)
        return from_bridge(
            model,
            plain,
            name=path or "bridge",
            path=path or plain.name_or_path,
            bos=bos,
            weights=weights_of(Path(path)),
        )
    raise UserError(
        f"a model cannot be {type(model).__name__}: give a name, a directory, a transformers "
        "model or a TransformerBridge"
    )


def _twin(model: torch.nn.Module) -> Any:
    """A copy of the modules that shares every weight; wrapping changes modules in place."""
    shared: dict[int, Any] = {
        id(weight): torch.nn.Parameter(weight.detach(), requires_grad=False)
        for weight in model.parameters()
    }
    shared |= {id(buffer): buffer for buffer in model.buffers()}
    for module in model.modules():  # what accelerate keeps off the devices
        shared |= {id(weights): weights for weights in weights_maps(module)}
    return copy.deepcopy(model, shared)


def _tokenizer(path: str, given: Any) -> Any:
    if given is not None:
        return given
    from transformers import AutoTokenizer

    hint = "give the model's tokenizer as tokenizer=…"
    if not path:
        raise UserError(f"a model without a name has no tokenizer of its own: {hint}")
    try:
        return AutoTokenizer.from_pretrained(path)
    except Exception as error:  # as in probes.model.load: the libraries raise whatever they like
        raise UserError(f"cannot load the tokenizer of {path}: {hint}") from error
