"""The keys of a list of edits.

Keys at the edited layer do not depend on what earlier edits wrote there, so they are read once,
from the unedited model, before anything is forecast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diag.mathematics.intervals import FEWEST_PREFIXED
from diag.screen.shard import JUDGED_AT_ONCE, shard_size
from probes.keys.batch import stream_at
from probes.keys.many_edits import Placed, SharedPrefixes
from probes.request.cases import EditCase
from probes.request.lookup import Lookup
from probes.request.records import Edits, Refused
from probes.second_moment.moment import SecondMoment
from rome_diagnosis.errors import UserError
from rome_diagnosis.methods import MethodKey


@dataclass(frozen=True)
class Listed:
    """A list of edits with their keys, in the order in which they are made.

    Attributes:
        cases: The edits.
        indices: Where each stands in the list as it was given, from 0.
        lookups: Where each is looked up in its bare prompt.
        rho: ρ of each, ``[m]``.
        keys: By name, ``bare``, ``mean`` and ``half``, ``[m, d_mlp]``.
        values: The MLP's outputs at ``bare`` and ``mean``, ``[m, d_model]``.
        streams: ‖h‖ of the residual stream after the block, at the bare key; ``None`` where no
            method asked for it.
        refused: Records of the list that are no edits or have no key.
        can_redraw: Whether there are contexts enough to draw from anew.
    """

    cases: tuple[EditCase, ...]
    indices: tuple[int, ...]
    lookups: tuple[Lookup, ...]
    rho: Float[Tensor, " m"]
    keys: dict[MethodKey, Float[Tensor, "m d_mlp"]]
    values: dict[MethodKey, Float[Tensor, "m d_model"]]
    streams: Float[Tensor, " m"] | None
    refused: tuple[Refused, ...]
    can_redraw: bool

    def __len__(self) -> int:
        """How many edits there are."""
        return len(self.cases)


def read(
    edits: Edits,
    order: Sequence[int],
    shared: SharedPrefixes,
    moment: SecondMoment,
    *,
    in_stream: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Listed:
    """Reads the keys of a list.

    Args:
        edits: The edits.
        order: The order in which they are made: indices of ``edits.cases``.
        shared: Model, layer and contexts.
        moment: The second moment of the layer's keys.
        in_stream: Whether to read the residual stream too.
        progress: Called with the edits read and all of them.

    Returns:
        The edits that have keys.

    Raises:
        UserError: If none has.
    """
    model = shared.model
    size = shard_size(len(shared.prefixes), int(model.config.d_mlp))
    places: list[int] = []
    lookups: list[Lookup] = []
    refused = list(edits.refused)
    both: list[Tensor] = []
    for start in range(0, len(order), size):
        some = order[start : start + size]
        for i, at, keys in _keys(shared, edits, some):
            if isinstance(at, Placed) and keys is not None:
                places.append(i)
                lookups.append(at.bare)
                both.append(keys)
            else:
                refused.append(Refused(edits.index(i), str(at), "key"))
        progress(min(start + size, len(order)), len(order))
    if not places:
        raise UserError(f"not one edit of the list has a key: {refused[0].reason}")
    bare, mean = torch.stack(both).unbind(1)
    named = _named(bare.contiguous(), mean.contiguous(), len(shared.prefixes))
    white = moment.whiten(mean)
    rho = (white * moment.whiten(bare)).sum(1) / white.square().sum(1)
    streams = stream_at(model, lookups, shared.layer).norm(dim=1) if in_stream else None
    return Listed(
        cases=tuple(edits.cases[i] for i in places),
        indices=tuple(edits.index(i) for i in places),
        lookups=tuple(lookups),
        rho=rho,
        keys=named,
        values={name: model.mlp_output(named[name], shared.layer) for name in ("bare", "mean")},
        streams=streams,
        refused=tuple(refused),
        can_redraw=len(shared.prefixes) >= FEWEST_PREFIXED,
    )


def _named(bare: Tensor, mean: Tensor, prefixes: int) -> dict[MethodKey, Tensor]:
    """Every key that a method may take, from the bare prompt's and the mean over all contexts."""
    prefixed = mean + (mean - bare) / prefixes if prefixes else bare
    return {"bare": bare, "mean": mean, "half": (bare + prefixed) / 2}


def _keys(
    shared: SharedPrefixes, edits: Edits, some: Sequence[int]
) -> list[tuple[int, Placed | str, Tensor | None]]:
    """The bare and the mean key of some edits, or why one has none."""
    placed = shared.place([edits.cases[i].request for i in some])
    able = [at for at in placed if isinstance(at, Placed)]
    captured = shared.capture(able)
    keys = torch.empty(len(able), 2, captured.distinct.shape[1], dtype=torch.float64)
    for start in range(0, len(able), JUDGED_AT_ONCE):  # few stay in the caches
        here = slice(start, start + JUDGED_AT_ONCE)
        in_contexts = captured.of(here)
        keys[here, 0], keys[here, 1] = in_contexts[:, 0], in_contexts.mean(1)
    own = zip(
        keys, keys.isfinite().all(2).all(1).tolist(), keys.any(2).all(1).tolist(), strict=True
    )
    read: list[tuple[int, Placed | str, Tensor | None]] = []
    for i, at in zip(some, placed, strict=True):
        if isinstance(at, UserError):
            read.append((i, str(at), None))
            continue
        key, is_finite, is_long = next(own)
        why_not = None
        if not is_finite:
            why_not = f"its keys are not finite in {shared.model.computed_in}: use float32"
        elif not is_long:
            why_not = f"its key in layer {shared.layer} is zero: there is no direction"
        read.append((i, why_not or at, None if why_not else key))
    return read
