"""The published way on any architecture: complete passes over every context, one task at a time.

What the published code does for one edit, without its module names: whole texts through the whole
model, logits and all, for keys, for each step of the optimisation and for each perplexity; and C
summed in float64, row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probes.forward.batches import batches_on, padded
from probes.forward.unhooked import plain
from probes.model.loaded import LoadedModel
from probes.target_value.constants import LossText
from probes.target_value.hyperparameters import Hyperparameters

AT_ONCE = 2048  # tokens of a corpus


class FullPasses:
    """A model and a layer, run the published way on the same weights."""

    def __init__(self, model: LoadedModel, layer: int) -> None:
        without_hooks = plain(model)
        self._model, self._projection = without_hooks.model, without_hooks.output_projection(layer)
        self._device = model.device

    @torch.no_grad()
    def keys(self, texts: Sequence[Sequence[int]]) -> Float[Tensor, "text d_mlp"]:
        """Keys at the last token of each text, and that of the first text once more."""
        last_keys: list[Tensor] = []
        for rows in (texts, texts[:1]):
            ids, mask = padded(rows, self._device)
            key = self._input_of_projection(ids, mask)
            last_keys.append(key[torch.arange(len(rows)), mask.sum(1) - 1])
        return last_keys[0]

    @torch.no_grad()
    def second_moment(self, rows: Sequence[Sequence[int]]) -> Float[Tensor, "d_mlp d_mlp"]:
        """E[k kᵀ] over all tokens of some rows."""
        total, n = None, 0
        for batch in batches_on(self._device, rows, batch_tokens=AT_ONCE):
            keys = self._input_of_projection(batch.ids, batch.mask)[batch.mask.bool()].double()
            product = keys.T @ keys
            total = product if total is None else total + product
            n += len(keys)
        assert total is not None
        return total / n

    def target_value(
        self, rows: Sequence[LossText], chosen: Hyperparameters
    ) -> Float[Tensor, " d_model"]:
        """δ of one edit; the last row is the one whose prediction must not move."""
        ids, mask = padded([row.ids for row in rows], self._device)
        every = torch.arange(len(rows))
        lookup = torch.tensor([row.lookup for row in rows])
        output: list[Tensor] = []

        def add(module: Any, arguments: Any, result: Tensor) -> Tensor:
            output.append(result[0, lookup[0]].detach())
            changed = result.clone()
            changed[every, lookup] = changed[every, lookup] + delta
            return changed

        handle = self._projection.register_forward_hook(add)
        with torch.no_grad():
            delta = torch.zeros(1, device=self._device)
            initial = self._model(ids, attention_mask=mask).logits.log_softmax(-1)
        delta = torch.zeros_like(output[0]).requires_grad_(True)
        held = initial[-1, lookup[-1]]
        adam = torch.optim.Adam([delta], lr=chosen.learning_rate)
        size = float(output[0].norm())
        for evaluation in range(chosen.evaluations):
            log_probs = self._model(ids, attention_mask=mask).logits.log_softmax(-1)
            nll = [
                -log_probs[i, row.positions, row.targets].mean() for i, row in enumerate(rows[:-1])
            ]
            now = log_probs[-1, lookup[-1]]
            moved = (now.exp() * (now - held)).sum()
            decay = chosen.weight_decay * delta.norm() / size**2
            loss = torch.stack(nll).mean() + chosen.kl_factor * moved + decay
            if float(loss.detach()) < chosen.stop_below or evaluation == chosen.evaluations - 1:
                break
            adam.zero_grad()
            loss.backward()
            adam.step()
            with torch.no_grad():
                longest = chosen.clamp_norm_factor * size
                delta.mul_(min(1.0, longest / float(delta.norm())))
        handle.remove()
        return delta.detach()

    @torch.no_grad()
    def loss(self, texts: Sequence[Sequence[int]]) -> float:
        """Mean loss over the tokens of some texts, one text at a time."""
        total, n = 0.0, 0
        for text in texts:
            ids = torch.tensor([text], device=self._device)
            log_probs = self._model(ids).logits[0, :-1].log_softmax(-1)
            total -= float(log_probs.gather(1, ids[0, 1:, None]).sum())
            n += len(text) - 1
        return total / n

    def _input_of_projection(self, ids: Tensor, mask: Tensor) -> Tensor:
        seen: list[Tensor] = []
        handle = self._projection.register_forward_pre_hook(
            lambda module, arguments: seen.append(arguments[0])
        )
        self._model(ids, attention_mask=mask)
        handle.remove()
        return seen[0].view(*ids.shape, -1)
