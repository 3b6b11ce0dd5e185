"""Models that accelerate spreads: over several devices, or off them until a module runs.

``device_map`` gives each module a device of its own, and keeps what fits none in memory or on disk.
Such a model runs through its own modules only, which fetch their weights; here the weights are
read where they lie.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class SpreadState(Mapping[str, Tensor]):
    """A state dictionary whose values are fetched one by one, and not kept."""

    def __init__(
        self, here: Mapping[str, Tensor], elsewhere: Mapping[str, tuple[Mapping[str, Tensor], str]]
    ) -> None:
        """Takes what ``state_dict()`` gives, and where the values are that it lacks.

        Args:
            here: Parameters and buffers, on the meta device where they are off-loaded.
            elsewhere: For each of these accelerate's map of weights and the name in it.
        """
        self._here, self._elsewhere = here, elsewhere

    def __getitem__(self, name: str) -> Tensor:
        value = self._here[name]
        if not value.is_meta or name not in self._elsewhere:
            return value
        weights, key = self._elsewhere[name]
        return weights[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._here)

    def __len__(self) -> int:
        return len(self._here)

    @property
    def nbytes(self) -> int:
        """What all values take; none is fetched."""
        return sum(value.nbytes for value in self._here.values())


def state_of(model: nn.Module) -> Mapping[str, Tensor]:
    """A model's parameters and buffers under their names, those that are off-loaded too.

    Args:
        model: The model, before it is wrapped.

    Returns:
        Its state dictionary; a :class:`SpreadState` where it is not all on one device.
    """
    here = dict(model.state_dict())
    elsewhere = {
        f"{name}.{own}" if name else own: (weights, own)
        for name, module in model.named_modules()
        for weights in weights_maps(module)
        for own, _ in itertools.chain(module.named_parameters(), module.named_buffers())
    }
    devices = {value.device for value in here.values() if value.numel()}
    return SpreadState(here, elsewhere) if elsewhere or len(devices) > 1 else here


def weights_maps(module: nn.Module) -> list[Any]:
    """Where accelerate fetches a module's weights from, if they are off-loaded."""
    hook = getattr(module, "_hf_hook", None)
    hooks = getattr(hook, "hooks", [hook])
    maps = [getattr(each, "weights_map", None) for each in hooks]
    return [weights for weights in maps if weights is not None]


def device_of(state: Mapping[str, Tensor], module: nn.Module) -> torch.device:
    """Where texts go that a model is to run.

    Args:
        state: The model's parameters and buffers.
        module: One of its modules.

    Returns:
        The module's device; of a model that is spread the CPU, from which its own modules fetch.
    """
    if isinstance(state, SpreadState):
        return torch.device("cpu")
    return next(iter(module.parameters())).device
