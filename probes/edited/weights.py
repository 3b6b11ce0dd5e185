"""Applying edits to a model's weights, rank one or more, and taking them back to the last bit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probes.forward.unhooked import plain
from probes.model.loaded import LoadedModel
from rome_diagnosis.disk import files
from rome_diagnosis.errors import UserError


class Factors(Protocol):
    """A rank-one change u ⊗ r of an output projection [d_mlp, d_model], kept as its factors."""

    @property
    def u(self) -> Tensor:
        """Direction in key space, [d_mlp]."""

    @property
    def r(self) -> Tensor:
        """Change of the output for a key with u·k = 1, [d_model]."""


@dataclass(frozen=True)
class Total:
    """Many changes added up: one matrix, however many there were.

    Attributes:
        matrix: Their sum, float64.
    """

    matrix: Float[Tensor, "d_mlp d_model"]


Change = Factors | Total


def balanced(
    factors: Factors, *, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The factors in the weights' type, u scaled to length 1 so that neither over- nor underflows.

    Args:
        factors: u and r, usually float64.
        device: Where to.
        dtype: The type to round to, after scaling.

    Returns:
        u / ‖u‖ and r·‖u‖.
    """
    u, r = factors.u.to("cpu", torch.float64), factors.r.to("cpu", torch.float64)
    length = u.norm()
    if length > 0:
        u, r = u / length, r * length
    return u.to(device, dtype), r.to(device, dtype)


@contextmanager
def edited(model: LoadedModel, factors: Sequence[Change], layer: int) -> Iterator[None]:
    """Adds changes to an MLP's output projection for as long as the block lasts.

    The weights are those of the bridge and of :func:`probes.forward.unhooked.plain` alike.
    Whatever is raised inside, they are afterwards what they were, bit for bit.

    Args:
        model: The loaded model.
        factors: The changes; several add up.
        layer: The edited block.

    Yields:
        Nothing.

    Raises:
        UserError: If the weights are stored in a type in which small changes are lost.
    """
    model.check_layer(layer)
    weight = writable(model, layer)
    original = weight.detach().clone()
    try:
        with torch.no_grad():
            for change in factors:
                if isinstance(change, Total):
                    weight.add_(change.matrix.to(weight.device, weight.dtype))
                    continue
                u, r = balanced(change, device=weight.device, dtype=weight.dtype)
                weight.addr_(u, r)
        yield
    finally:
        _restore(weight, original)


@contextmanager
def edited_by_row(
    model: LoadedModel, edits: Sequence[Sequence[Change]], layer: int
) -> Iterator[None]:
    """Runs several edited models at once: each has an equal part of every batch's rows.

    The weights stay as they are. What an edit would add to the MLP's output is added to its own
    rows, so that the weights of all other layers are read once for all edits.

    Args:
        model: The loaded model, run by its class without hook points while the block lasts.
        edits: The changes of each edited model; none is the unedited one.
        layer: The edited block.

    Yields:
        Nothing.

    Raises:
        UserError: If there is no such block, or the weights fit no class without hook points.
    """
    model.check_layer(layer)

    def add(_: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
        # Some architectures hand the MLP its tokens as one long row; the order is the same.
        parts = zip(output.chunk(len(edits)), arguments[0].chunk(len(edits)), edits, strict=True)
        return torch.cat(
            [part + change_of_output(keys, own) if own else part for part, keys, own in parts]
        )

    handle = plain(model).output_projection(layer).register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def edited_layers(model: LoadedModel, changes: Mapping[int, Sequence[Change]]) -> Iterator[None]:
    """As :func:`edited`, in several blocks at once.

    Args:
        model: The loaded model.
        changes: The changes of each edited block.

    Yields:
        Nothing.

    Raises:
        UserError: As :func:`edited`.
    """
    with ExitStack() as stack:
        for layer, factors in changes.items():
            stack.enter_context(edited(model, factors, layer))
        yield


def change_of_output(
    keys: Float[Tensor, "*position d_mlp"], factors: Sequence[Change]
) -> Float[Tensor, "*position d_model"]:
    """What changes add to the MLP's output: Σ (k·u) r.

    Args:
        keys: Inputs of the output projection.
        factors: The changes.

    Returns:
        The sum, in the keys' type.
    """
    total: Tensor | None = None
    for change in factors:
        if isinstance(change, Total):
            added = keys @ change.matrix.to(keys.device, keys.dtype)
        else:
            u, r = balanced(change, device=keys.device, dtype=keys.dtype)
            added = (keys @ u)[..., None] * r
        total = added if total is None else total + added
    if total is None:
        raise ValueError("no factors: there is no change to compute")
    return total


def relative_norm(model: LoadedModel, factors: Factors, layer: int) -> float:
    """‖ΔW‖ / ‖W‖, Frobenius norms.

    Args:
        model: The unedited model.
        factors: The change.
        layer: The edited block.

    Returns:
        The ratio.
    """
    size = float(factors.u.norm() * factors.r.norm())
    return size / float(model.output_weight(layer).double().norm())


def save_edited(
    model: LoadedModel,
    factors: Sequence[Change],
    layer: int,
    directory: str | os.PathLike[str],
    *,
    beside: Callable[[Path], None] = lambda folder: None,
) -> Path:
    """Writes the edited model as a directory that ``from_pretrained`` loads.

    It is complete or absent: everything is written beside it and then renamed.

    Args:
        model: The unedited model; it stays so.
        factors: The changes.
        layer: The edited block.
        directory: Where to; must not exist, or be an empty directory.
        beside: Writes what else belongs into the directory, before it gets its name.

    Returns:
        The directory.

    Raises:
        UserError: If it exists or cannot be written.
    """
    return save_edited_layers(model, {layer: factors}, directory, beside=beside)


def save_edited_layers(
    model: LoadedModel,
    changes: Mapping[int, Sequence[Change]],
    directory: str | os.PathLike[str],
    *,
    beside: Callable[[Path], None] = lambda folder: None,
) -> Path:
    """As :func:`save_edited`, with changes of several blocks.

    Args:
        model: The unedited model; it stays so.
        changes: The changes of each edited block.
        directory: Where to; must not exist, or be an empty directory.
        beside: Writes what else belongs into the directory, before it gets its name.

    Returns:
        The directory.

    Raises:
        UserError: If it exists or cannot be written.
    """
    for layer in changes:
        writable(model, layer)
    with files.atomic_folder(directory) as folder:
        unwrapped = plain(model)
        state = {name: value.detach() for name, value in unwrapped.model.state_dict().items()}
        with edited_layers(model, changes):
            for name in map(unwrapped.weight_name, changes):
                state[name] = state[name].clone()
        unwrapped.model.save_pretrained(folder, state_dict=state)
        model.tokenizer.save_pretrained(folder)
        beside(folder)
    return files.expanded(directory).resolve()


def writable(model: LoadedModel, layer: int) -> Float[Tensor, "d_mlp d_model"]:
    """The weights an edit is written to, if it can be.

    Args:
        model: The loaded model.
        layer: The block to be edited.

    Returns:
        W of its output projection, a view.

    Raises:
        UserError: If there is no such matrix, or its type is one in which small changes are lost.
    """
    weight = model.output_weight(layer)
    if weight.dtype not in (torch.float32, torch.float64):
        raise UserError(
            f"the weights of {model.name} are stored as {model.dtype}, in which a small edit is "
            "rounded away: load it with --dtype float32"
        )
    return weight


def _restore(weight: Tensor, original: Tensor) -> None:
    """Puts the weights back, even when interrupted while doing so."""
    interrupted: KeyboardInterrupt | None = None
    while True:
        try:
            with torch.no_grad():
                weight.copy_(original)
            break
        except KeyboardInterrupt as error:
            interrupted = error
    if interrupted is not None:
        raise interrupted
