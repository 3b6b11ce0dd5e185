"""A batch, written for real: targets, then layer after layer what is left of them.

As the published code does it: z of every edit is optimised on the model as it is; then at each
layer keys and residuals are measured again, with the layers below already written, and the layer
writes its part of what is left. The weights are restored, bit for bit, when the block ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from diag.batch.settings import Workplace
from diag.mathematics.family import Update
from diag.mathematics.metrics import combined, left
from diag.mathematics.post import POST
from probes.edited.weights import Total, edited, writable
from probes.keys.batch import batch_keys, stream_at
from probes.request.lookup import lookup
from probes.request.request import Request
from probes.target_value.optimise import TargetValue, optimise
from rome_diagnosis.errors import UserError

History = Mapping[int, Float[Tensor, "n d_mlp"]]


@dataclass(frozen=True)
class WrittenLayer:
    """What was written into one layer.

    Attributes:
        layer: The block.
        keys: The edits' keys under contexts 0…n, the layers below already written.
        update: The update.
        change: ΔW as it was written: added up in float64, for its parts may be large and nearly
            opposite.
        post: The rule of :data:`diag.mathematics.post.POST` that ΔW went through, or ``None``.
    """

    layer: int
    keys: Float[Tensor, "m n_ctx d_mlp"]
    update: Update
    change: Total
    post: str | None = None

    @property
    def norm(self) -> float:
        """Frobenius norm of ΔW as it was written."""
        return float(self.change.matrix.norm())

    def damage(self, corpus_moment: Float[Tensor, "d_mlp d_mlp"]) -> float:
        """Root mean square change of the output over corpus tokens, √tr(ΔWᵀ C ΔW)."""
        if self.post is None:
            return self.update.damage(corpus_moment)
        change = self.change.matrix
        return float((change * (corpus_moment @ change)).sum().clamp(min=0).sqrt())

    @cached_property
    def received(self) -> Float[Tensor, " m"]:
        """The share of its residual that each edit's bare prompt received here."""
        wanted = self.update.residuals
        along = (self.keys[:, 0].double() @ self.change.matrix * wanted).sum(1)
        squares = wanted.square().sum(1)
        return torch.where(squares > 0, along / squares, 0.0)


@dataclass(frozen=True)
class PerformedBatch:
    """A batch that was written.

    Attributes:
        targets: The optimised target of each edit.
        wanted: What each edit should change where its target lies, ``[m, d_model]``: z − h of the
            stream, or v* − v of the last layer's MLP output.
        changed: What it did change there.
        layers: What was written, layer by layer.
        remembered: Keys to be remembered by later batches, for methods that do.
    """

    targets: tuple[TargetValue, ...]
    wanted: Float[Tensor, "m d_model"]
    changed: Float[Tensor, "m d_model"]
    layers: tuple[WrittenLayer, ...]
    remembered: History

    @property
    def changes(self) -> dict[int, list[Total]]:
        """The change of each block."""
        return {written.layer: [written.change] for written in self.layers}

    @cached_property
    def received(self) -> Float[Tensor, " m"]:
        """The share of what each edit wanted that its bare prompt received, measured."""
        squares = self.wanted.square().sum(1)
        along = (self.changed * self.wanted).sum(1)
        return torch.where(squares > 0, along / squares, 0.0)


@contextmanager
def performed(
    workplace: Workplace,
    requests: Sequence[Request],
    history: History | None = None,
    *,
    targets: Sequence[TargetValue] | None = None,
) -> Iterator[PerformedBatch]:
    """Writes a batch into the model for as long as the block lasts.

    Args:
        workplace: Model, method, layers, contexts and second moments.
        requests: The edits, each with a new object.
        history: Keys of earlier batches by layer, for methods that remember.
        targets: Targets that are known already; optimised if not given.

    Yields:
        What was written.

    Raises:
        UserError: If an edit cannot be looked up or optimised, M is singular, or the weights are of
            a type that rounds edits away.
    """
    model, layers, method = workplace.model, workplace.layers, workplace.method
    for layer in layers:
        writable(model, layer)
    if targets is None:
        targets = target_values(workplace, requests)
    at = [lookup(model, request) for request in requests]
    site = method.sites[-1]
    start = stream_at(model, at, layers[-1], site)
    wanted = torch.stack([target.delta for target in targets])
    goal = start + wanted
    with ExitStack() as stack:
        written: list[WrittenLayer] = []
        for i, layer in enumerate(layers):
            keys = batch_keys(model, requests, layer, workplace.prefixes)
            if method.subtract is not None:
                residuals = wanted = wanted + _apart(workplace, keys, layer)
            else:
                rest = goal - stream_at(model, at, layers[-1], site)
                residuals = rest * left(method.spread, len(layers), i)
            past = (history or {}).get(layer)
            try:
                update = workplace.geometries[layer].update(keys, residuals, past)
            except ZeroDivisionError as error:
                where = f"{method.short} cannot make this batch in block {layer}"
                raise UserError(f"{where}: {error}") from error
            change, post = update.change(), workplace.chosen.post
            if post is not None:
                change = POST[post](change, model.output_weight(layer))
            written.append(WrittenLayer(layer, keys, update, Total(change), post))
            stack.enter_context(edited(model, [written[-1].change], layer))
        yield PerformedBatch(
            targets=tuple(targets),
            wanted=wanted,
            changed=stream_at(model, at, layers[-1], site) - start,
            layers=tuple(written),
            remembered=_remember(workplace, written, history),
        )


def _apart(workplace: Workplace, keys: Tensor, layer: int) -> Float[Tensor, "m d_model"]:
    """How far the value that δ is added to lies from the one that is subtracted."""
    values, subtract = workplace.model.mlp_output(keys, layer), workplace.method.subtract
    if workplace.consistent or subtract is None:
        return torch.zeros_like(values[:, 0])
    return values[:, 0] - combined(values, subtract)


def target_values(workplace: Workplace, requests: Sequence[Request]) -> list[TargetValue]:
    """The targets: z in the stream after the last layer, or v* of its MLP's output.

    Args:
        workplace: As for :func:`performed`.
        requests: The edits.

    Returns:
        The targets.

    Raises:
        UserError: If one of them cannot be optimised.
    """
    return optimise(
        workplace.model,
        requests,
        workplace.prefixes,
        workplace.layers[-1],
        workplace.chosen.target,
        sites=workplace.method.sites,
    )


def _remember(
    workplace: Workplace, layers: Sequence[WrittenLayer], history: History | None
) -> dict[int, Tensor]:
    """Earlier keys and this batch's: a key depends on the layers below alone, all written by then.

    AlphaEdit's code measures them again after all layers are written, and gets the same ones.
    """
    if not workplace.method.remembers:
        return {}
    kept = {}
    for written in layers:
        own = combined(written.keys, workplace.method.along)
        past = (history or {}).get(written.layer)
        kept[written.layer] = own if past is None else torch.cat([past, own])
    return kept
