"""Runs that a model would not make by itself: other positions, other attention, other activations.

A run says which tokens stand where, at which positions the model believes them to be, and which of
them each token may attend to. Attention is governed by a four-dimensional mask and positions by
``position_ids``, because edits of hooked attention patterns are discarded on several
architectures. Every run checks the patterns it got: a mask that was ignored raises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from probes.forward.batches import TokenBatch, batches, tokens_at_once
from probes.forward.bridge import Hook, run_to
from probes.model import architecture
from probes.model.architecture import PatchSite
from probes.model.loaded import LoadedModel
from rome_diagnosis.errors import UserError

Place = tuple[int, PatchSite]


@dataclass(frozen=True)
class Reading:
    """One text, and how the model shall read it.

    Attributes:
        ids: Token ids.
        read: Index of the token whose key is read.
        tail: How many tokens, the last of them at ``read``, are what the run is about: the
            prompt up to the subject's last token, without what comes before it.
        positions: Position of each token as the model is to count it; from 0 by default.
        sees: Which token (row) may attend to which (column); causal by default.
    """

    ids: list[int]
    read: int
    tail: int
    positions: list[int] | None = None
    sees: Bool[Tensor, "token token"] | None = None

    @property
    def start(self) -> int:
        """Index of the tail's first token."""
        return self.read + 1 - self.tail


@dataclass(frozen=True)
class Patch:
    """Activations written over a run's own at its tail.

    Attributes:
        place: Block and site.
        values: For each run, ``[tail, d_model]``; runs' tails differ in length.
    """

    place: Place
    values: Sequence[Float[Tensor, "_ d_model"]]


def causal(n: int) -> Bool[Tensor, "n n"]:
    """Every token attends to itself and to all before it."""
    return torch.ones(n, n, dtype=torch.bool).tril()


def perform_readings(
    model: LoadedModel, runs: Sequence[Reading], layer: int, *, patches: Sequence[Patch] = ()
) -> Float[Tensor, "run d_mlp"]:
    """Performs runs and reads the keys.

    Args:
        model: The model.
        runs: What to run; not empty.
        layer: The block whose keys are read, the last one run.
        patches: What to write over the runs' own activations, in every run.

    Returns:
        The key at each run's ``read`` token, float64.

    Raises:
        UserError: If there is no such block, a text is too long, or the model attended where it
            was forbidden to or did not where it was allowed to.
    """
    keys, _ = _perform(model, runs, [layer], patches, ())
    return keys[layer].double()


def keys_everywhere(
    model: LoadedModel, runs: Sequence[Reading], layers: Sequence[int]
) -> dict[int, Float[Tensor, "run d_mlp"]]:
    """Performs runs once and reads the keys of several blocks.

    Args:
        model: The model.
        runs: What to run; not empty.
        layers: The blocks.

    Returns:
        For each block the key at each run's ``read`` token, float32 unless the weights are wider.

    Raises:
        UserError: As :func:`perform_readings`.
    """
    keys, _ = _perform(model, runs, layers, (), ())
    return keys


def record(
    model: LoadedModel, runs: Sequence[Reading], layer: int, places: Sequence[Place]
) -> dict[Place, list[Float[Tensor, "tail d_model"]]]:
    """Performs runs and keeps activations of their tails, to be patched into others.

    Args:
        model: The model.
        runs: What to run.
        layer: The last block that is run.
        places: What to keep.

    Returns:
        For each place one tensor a run, in the model's own type.

    Raises:
        UserError: As :func:`perform_readings`, or if the model has no such site.
    """
    _, recorded = _perform(model, runs, [layer], (), places)
    return recorded


def hook_name(model: LoadedModel, place: Place) -> str:
    """The bridge's name for a place.

    Where attention and MLP stand side by side (GPT-J, GPT-NeoX), what enters the MLP is what
    enters the block.

    Raises:
        UserError: If the model has no such block.
    """
    block, site = place
    model.check_layer(block)
    return architecture.hook_name(model.bridge, block, site)


def is_parallel(model: LoadedModel) -> bool:
    """Whether attention and MLP stand side by side, so that block 0's key sees no attention."""
    return architecture.is_parallel(model.bridge)


def _perform(
    model: LoadedModel,
    runs: Sequence[Reading],
    layers: Sequence[int],
    patches: Sequence[Patch],
    places: Sequence[Place],
) -> tuple[dict[int, Tensor], dict[Place, list[Tensor]]]:
    for layer in layers:
        model.check_layer(layer)
    for run in runs:
        _check(model, run)
    width = int(model.config.d_mlp)
    wide = torch.promote_types(torch.float32, next(iter(model.state_dict.values())).dtype)
    keys = {layer: torch.empty(len(runs), width, dtype=wide) for layer in layers}
    recorded: dict[Place, dict[int, Tensor]] = {place: {} for place in places}
    # Masks grow with the square of the length: fewer rows at a time than where keys are captured.
    some = tokens_at_once(model) // 2
    for batch in batches([run.ids for run in runs], model, batch_tokens=some):
        chosen = [runs[row] for row in batch.rows]
        hooks: list[Hook] = [
            (hook_name(model, patch.place), _write(patch, batch, chosen)) for patch in patches
        ]
        hooks += [
            (hook_name(model, place), _read(recorded[place], batch, chosen)) for place in places
        ]
        at = torch.tensor([run.read for run in chosen], device=model.device)

        allowed = _allowed(batch, chosen)
        watched: list[Tensor] = []
        hooks += [(model.hook(i, "key"), _key(keys[i], batch, at)) for i in layers]
        hooks.append((model.hook(0, "pattern"), _watch(watched)))
        run_to(
            model,
            batch,
            max(layers),
            hooks,
            attention_mask=_additive(allowed, model),
            position_ids=_positions(batch, chosen),
        )
        _check_attention(model, allowed, watched, batch)
    order = range(len(runs))
    return keys, {place: [rows[i] for i in order] for place, rows in recorded.items()}


def _watch(into: list[Tensor]) -> Callable[[Tensor, Any], None]:
    def hook(activation: Tensor, hook: Any) -> None:
        into.append(activation.detach())

    return hook


def _key(into: Tensor, batch: TokenBatch, at: Tensor) -> Callable[[Tensor, Any], None]:
    def hook(activation: Tensor, hook: Any) -> None:
        read = activation[torch.arange(len(batch.rows), device=activation.device), at]
        into[batch.rows] = read.detach().to(into)

    return hook


def _write(
    patch: Patch, batch: TokenBatch, runs: Sequence[Reading]
) -> Callable[[Tensor, Any], Tensor]:
    def hook(activation: Tensor, hook: Any) -> Tensor:
        changed = activation.clone()
        for i, (row, run) in enumerate(zip(batch.rows, runs, strict=True)):
            changed[i, run.start : run.read + 1] = patch.values[row].to(changed)
        return changed

    return hook


def _read(
    into: dict[int, Tensor], batch: TokenBatch, runs: Sequence[Reading]
) -> Callable[[Tensor, Any], None]:
    def hook(activation: Tensor, hook: Any) -> None:
        for i, (row, run) in enumerate(zip(batch.rows, runs, strict=True)):
            into[row] = activation[i, run.start : run.read + 1].detach().clone()

    return hook


def _allowed(batch: TokenBatch, runs: Sequence[Reading]) -> Bool[Tensor, "row token token"]:
    longest = batch.ids.shape[1]
    allowed = torch.eye(longest, dtype=torch.bool).repeat(len(runs), 1, 1)
    for i, run in enumerate(runs):
        n = len(run.ids)
        allowed[i, :n, :n] = causal(n) if run.sees is None else run.sees
    return allowed


def _additive(allowed: Tensor, model: LoadedModel) -> Tensor:
    dtype = next(iter(model.bridge.blocks[0].parameters())).dtype
    mask = torch.zeros(allowed.shape, dtype=dtype)
    mask.masked_fill_(~allowed, torch.finfo(dtype).min)
    return mask[:, None].to(model.device)


def _positions(batch: TokenBatch, runs: Sequence[Reading]) -> Tensor:
    positions = torch.zeros_like(batch.ids)
    for i, run in enumerate(runs):
        own = range(len(run.ids)) if run.positions is None else run.positions
        positions[i, : len(run.ids)] = torch.tensor(list(own), device=positions.device)
    return positions


def _check(model: LoadedModel, run: Reading) -> None:
    n = len(run.ids)
    if not 0 < run.tail <= run.read + 1 <= n:
        raise ValueError(f"a run of {n} tokens cannot be read at {run.read} ({run.tail} of tail)")
    if run.positions is not None and len(run.positions) != n:
        raise ValueError(f"{len(run.positions)} positions for {n} tokens")
    if run.sees is not None and not bool(run.sees.diagonal().all()):
        raise ValueError("every token must see itself")
    if architecture.mask_in_rows(model.hf_config):
        raise UserError(
            f"{model.name} ({model.hf_config.model_type}) counts positions in its attention mask, "
            "so interventions on its attention cannot be performed"
        )
    # A mask given in four dimensions replaces the model's own, sliding windows included.
    longest = min(model.n_ctx, architecture.attention_window(model.hf_config) or model.n_ctx)
    if n > longest or max(run.positions or [0]) >= model.n_ctx:
        raise UserError(f"a text of {n} tokens is too long: {model.name} attends to {longest}")


def _check_attention(
    model: LoadedModel, allowed: Tensor, watched: Sequence[Tensor], batch: TokenBatch
) -> None:
    """Raises unless the model attended exactly where it was allowed to."""
    if not watched:
        raise UserError(
            f"{model.name} shows no attention patterns, so it cannot be checked that an "
            "intervention on its attention took effect: load it with eager attention"
        )
    pattern = watched[0].float()
    real = batch.mask.bool()[:, None, :, None].to(pattern.device)
    may = allowed[:, None].to(pattern.device)
    leaked = float(torch.where(~may & real, pattern, 0.0).max())
    beyond = may & real & ~causal(may.shape[-1]).to(may)
    unused = bool(beyond.any()) and float(torch.where(beyond, pattern, 0.0).max()) == 0.0
    if leaked > 1e-6 or unused:
        raise UserError(
            f"{model.name} ignores attention masks: it pays {leaked:.2g} of a token's attention "
            "where that is forbidden, or none where it is allowed, so interventions on attention "
            "cannot be performed"
        )
