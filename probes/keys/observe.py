"""Everything a diagnosis needs from the model, taken in one pass over the contexts of one edit.

What follows from an :class:`Observation` and a second moment needs no model any more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probes.forward.autocast import rounded
from probes.forward.batches import TokenBatch, batches
from probes.forward.bridge import Hook, run_to
from probes.keys.one_edit import at_last, distinct
from probes.keys.profile import Profile, Recorder
from probes.model.contribution import Contribution, contribution
from probes.model.loaded import LoadedModel, describe_model
from probes.request.commonness import Commonness, commonness
from probes.request.lookup import Lookup, lookup
from probes.request.request import Request
from rome_diagnosis.errors import UserError


@dataclass(frozen=True)
class Observation:
    """One edit as the model sees it, in contexts 0…n; context 0 is the bare prompt.

    Attributes:
        model: The model as documents describe it.
        layer: The edited block.
        hook: Name of the hook point its keys were read at.
        request: The edit.
        lookups: Where each context looks the subject up.
        tokens: The bare prompt's tokens up to the lookup token, as texts.
        common: How common the words are that it is written at.
        keys: Input of the output projection at the lookup token, float64.
        values: Its output there, float64.
        profile: The first position and its rivals, block by block.
        contribution: How a change of the output reaches the residual stream.
    """

    model: Mapping[str, Any]
    layer: int
    hook: str
    request: Request
    lookups: tuple[Lookup, ...]
    tokens: tuple[str, ...]
    common: Commonness
    keys: Float[Tensor, "n_ctx d_mlp"]
    values: Float[Tensor, "n_ctx d_model"]
    profile: Profile
    contribution: Contribution

    @property
    def prefixes(self) -> list[str]:
        """Contexts 1…n as texts."""
        return [at.prefix for at in self.lookups[1:]]


def observe(model: LoadedModel, edit: Request, layer: int, prefixes: Sequence[str]) -> Observation:
    """Runs the contexts of one edit, each distinct text once, up to the edited block.

    Args:
        model: The model.
        edit: The fact and its prompt.
        layer: The edited block.
        prefixes: Contexts 1…n.

    Returns:
        The observation.

    Raises:
        UserError: If a context cannot be looked up, there is no such layer, or what the model
            computes is not finite.
    """
    (observation,) = observe_layers(model, edit, [layer], prefixes)
    return observation


def observe_layers(
    model: LoadedModel,
    edit: Request,
    layers: Sequence[int],
    prefixes: Sequence[str],
    *,
    also: Callable[[TokenBatch], Sequence[Hook]] | None = None,
) -> list[Observation]:
    """What :func:`observe` gives for several layers, from one pass up to the last of them.

    Args:
        model: The model.
        edit: The fact and its prompt.
        layers: The blocks, any of which may be edited.
        prefixes: Contexts 1…n.
        also: Gives further hooks for a batch of the distinct texts.

    Returns:
        An observation for each layer.

    Raises:
        UserError: As :func:`observe`.
    """
    for layer in layers:
        model.check_layer(layer)
    lookups = tuple(lookup(model, edit, prefix) for prefix in ("", *prefixes))
    texts, rows = distinct(lookups)
    recorder = Recorder(model, max(layers))
    values: dict[int, dict[int, Tensor]] = {layer: {} for layer in layers}
    for batch in batches(texts, model):
        hooks = [(model.hook(at, "value"), at_last(batch, values[at])) for at in layers]
        hooks += also(batch) if also else ()
        with rounded(model):
            run_to(model, batch, max(layers), [*recorder.hooks(batch), *hooks])
    described, bare = describe_model(model), [model.token_text(token) for token in lookups[0].ids]
    observations = [
        Observation(
            model=described,
            layer=layer,
            hook=model.hook(layer, "key"),
            request=edit,
            lookups=lookups,
            tokens=tuple(bare),
            common=commonness(model, edit, lookups[0]),
            keys=torch.stack([recorder.key(row, layer) for row in rows]),
            values=torch.stack([values[layer][row] for row in rows]),
            profile=recorder.profile(rows, [texts[row] for row in rows], layer),
            contribution=contribution(model, layer),
        )
        for layer in layers
    ]
    for observation in observations:
        _refuse_not_finite(observation, model)
    return observations


def _refuse_not_finite(observation: Observation, model: LoadedModel) -> None:
    for name, tensor in (("keys", observation.keys), ("MLP outputs", observation.values)):
        if not torch.isfinite(tensor).all():
            raise UserError(
                f"the {name} of {model.name} are not finite in {model.computed_in}: use float32, "
                "or weights without NaN"
            )
