"""The plain Hugging Face model behind the bridge, on the very same weights.

The bridge's hook points cost some fifteen milliseconds a call. That is nothing for one capture
and most of the time for an optimisation of twenty steps, so whatever runs often — optimising,
generating, scoring, screening, passing over a corpus — runs on a model without hook points that
shares every weight with the bridge: an edit made through the bridge is an edit of this model too.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers.activations import NewGELUActivation

from probes.model import architecture
from probes.model.bridge import hook_left_on
from probes.model.loaded import LoadedModel
from rome_diagnosis.errors import UserError

_PLAIN: WeakKeyDictionary[Any, Plain | UserError] = WeakKeyDictionary()


class FusedGELU(NewGELUActivation):
    """GPT-2's activation in one operation; spelled out in eight it costs a matrix product."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """The tanh approximation of GELU."""
        return nn.functional.gelu(input, approximate="tanh")


@dataclass(frozen=True)
class Plain:
    """A Hugging Face model without hook points.

    Attributes:
        model: The causal language model, in evaluation mode, its parameters frozen.
        blocks: Dotted name of its list of blocks, e.g. ``transformer.h``.
        projection: Dotted name, within a block, of the MLP's output projection.
    """

    model: Any
    blocks: str
    projection: str

    def block(self, layer: int) -> nn.Module:
        """Block ``layer``."""
        return self.model.get_submodule(f"{self.blocks}.{layer}")

    def output_projection(self, layer: int) -> nn.Module:
        """The module whose input is the key and whose output is the MLP's."""
        return self.block(layer).get_submodule(self.projection)

    def weight_name(self, layer: int) -> str:
        """Name of the edited weight in the model's state dictionary."""
        return f"{self.blocks}.{layer}.{self.projection}.weight"


class Reached(Exception):
    """Raised in a hook where what was wanted of a model is there: nothing behind it is run."""


@contextlib.contextmanager
def until_reached(handles: Sequence[RemovableHandle]) -> Iterator[None]:
    """Ends at :class:`Reached`, and takes hooks off however it ends."""
    try:
        yield
    except Reached:
        pass
    finally:
        for handle in handles:
            handle.remove()


def plain(model: LoadedModel) -> Plain:
    """The model without hook points; made once per bridge, without copying a weight.

    Args:
        model: The loaded model.

    Returns:
        The plain model. Weights changed in place through the bridge change it too.

    Raises:
        UserError: If the weights cannot be matched with a plain model's, or hooks are left on the
            bridge, which the plain model would not run.
    """
    hooked = hook_left_on(model.bridge)
    if hooked is not None:
        raise UserError(
            f"a hook is left on {hooked} of {model.name}: take it off with "
            "bridge.reset_hooks(including_permanent=True), or edit its weights instead"
        )
    if model.bridge not in _PLAIN:
        try:
            _PLAIN[model.bridge] = _build(model)
        except UserError as error:
            # Without its traceback, which would hold the bridge for good.
            _PLAIN[model.bridge] = UserError(str(error))
    found = _PLAIN[model.bridge]
    if isinstance(found, UserError):
        raise UserError(str(found))
    return found


def _build(model: LoadedModel) -> Plain:
    from transformers import AutoModelForCausalLM

    wrapped = model.bridge.original_model
    config = copy.deepcopy(wrapped.config)
    # The bridge asks for eager attention, which it can hook; the class's own choice is faster. Only
    # a soft cap on the scores needs them one by one.
    config._attn_implementation = "eager" if architecture.score_soft_cap(config) else None
    state = {_own_name(key): value for key, value in model.state_dict.items()}
    if len({value.device for value in state.values()}) > 1:
        raise UserError(f"{model.name} is spread over several devices: load it on one")
    try:
        with torch.device("meta"):
            bare = AutoModelForCausalLM.from_config(config)
        bare.load_state_dict(state, strict=False, assign=True)
        bare.tie_weights()
    except (RuntimeError, ValueError, TypeError) as error:  # quantised weights, for one
        raise UserError(
            f"the weights of {model.name} do not fit its Hugging Face class: "
            f"{' '.join(str(error).split())}"
        ) from error
    # Rotary frequencies and the like are computed at construction and stored nowhere.
    buffers = {_own_name(key): value for key, value in wrapped.named_buffers()}
    for name, value in list(bare.named_buffers()):
        if value.is_meta and name in buffers:
            owner, _, leaf = name.rpartition(".")
            setattr(bare.get_submodule(owner), leaf, buffers[name])
    missing = [
        name for name, value in [*bare.named_parameters(), *bare.named_buffers()] if value.is_meta
    ]
    if missing:
        raise UserError(
            f"the weights of {model.name} do not fit its Hugging Face class "
            f"({missing[0]} is missing): load it with probes.model.load.load"
        )
    for name, module in list(bare.named_modules()):
        if type(module) is NewGELUActivation:
            bare.set_submodule(name, FusedGELU())
    bare.eval().requires_grad_(False)
    edited = architecture.output_weight(model.bridge, 0).data_ptr()
    names = [name for name, value in bare.named_parameters() if value.data_ptr() == edited]
    blocks, marker, rest = names[0].partition(".0.") if names else ("", "", "")
    if not marker:
        raise UserError(
            f"the MLP output projection of {model.name} is not one matrix of its blocks, "
            "so it cannot be edited"
        )
    return Plain(bare, blocks, rest.removesuffix(".weight"))


def _own_name(name: str) -> str:
    """A parameter's name in the Hugging Face model, the bridge's wrappers taken out."""
    return name.replace("_original_component.", "")
