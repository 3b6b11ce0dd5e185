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

from diag.mathematics.intervals import FEWEST_PREFIXED, ratio_intervals
from probes.keys.batch import stream_at
from probes.keys.many_edits import Placed, SharedPrefixes
from probes.keys.shard_size import JUDGED_AT_ONCE, shard_size
from probes.request.cases import EditCase
from probes.request.commonness import Commonness, commonness
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
        common: How common the words are that each is written at.
        rho: ρ of each, ``[m]``.
        intervals: Interval of ρ over draws of the contexts, ``[m, 2]``; ``None`` with too few, or
            where no method asked for it.
        keys: By name, ``bare``, ``mean`` and ``half``, ``[m, d_mlp]``.
        values: The MLP's outputs at ``bare`` and ``mean``, ``[m, d_model]``.
        streams: ‖h‖ of the residual stream after the block, at the bare key; ``None`` where no
            method asked for it.
        refused: Records of the list that are no edits or have no key.
    """

    cases: tuple[EditCase, ...]
    indices: tuple[int, ...]
    lookups: tuple[Lookup, ...]
    common: tuple[Commonness, ...]
    rho: Float[Tensor, " m"]
    intervals: Float[Tensor, "m 2"] | None
    keys: dict[MethodKey, Float[Tensor, "m d_mlp"]]
    values: dict[MethodKey, Float[Tensor, "m d_model"]]
    streams: Float[Tensor, " m"] | None
    refused: tuple[Refused, ...]

    def __len__(self) -> int:
        """How many edits there are."""
        return len(self.cases)


def read_keys(
    edits: Edits,
    order: Sequence[int],
    shared: SharedPrefixes,
    moment: SecondMoment,
    *,
    over_layers: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Listed:
    """Reads the keys of a list.

    Args:
        edits: The edits.
        order: The order in which they are made: indices of ``edits.cases``.
        shared: Model, layer and contexts.
        moment: The second moment of the layer's keys.
        over_layers: Whether methods that may spread an edit over layers ask, for which the residual
            stream is read; the others ask how far ρ moves over draws of the contexts.
        seed: Seed of these draws.
        progress: Called with the edits read and all of them.

    Returns:
        The edits that have keys.

    Raises:
        UserError: If none has.
    """
    model = shared.model
    size = shard_size(len(shared.prefixes), int(model.config.d_mlp))
    draws = None if over_layers or len(shared.prefixes) < FEWEST_PREFIXED else (moment, seed)
    # Texts that begin alike are read together, wherever in the list they stand.
    reading = sorted(order, key=lambda i: edits.cases[i].request.text)
    parts: list[_Keys] = []
    for start in range(0, len(reading), size):
        some = reading[start : start + size]
        parts.append(_keys(shared, edits, some, draws))
        progress(start + len(some), len(order))
    own = _in_order(parts, order)
    refused = [*edits.refused]
    refused += [Refused(edits.index(i), own.without[i], "key") for i in order if i in own.without]
    if not own.lookups:
        raise UserError(f"not one edit of the list has a key: {refused[0].reason}")
    bare, mean = own.bare_and_mean.unbind(1)
    named = _named(bare.contiguous(), mean.contiguous(), len(shared.prefixes))
    white, lookups = moment.whiten(mean), tuple(own.lookups.values())
    return Listed(
        cases=tuple(edits.cases[i] for i in own.lookups),
        indices=tuple(edits.index(i) for i in own.lookups),
        lookups=lookups,
        common=tuple(
            commonness(model, edits.cases[i].request, at) for i, at in own.lookups.items()
        ),
        rho=(white * moment.whiten(bare)).sum(1) / white.square().sum(1),
        intervals=None if draws is None else own.intervals,
        keys=named,
        values={name: model.mlp_output(named[name], shared.layer) for name in ("bare", "mean")},
        streams=stream_at(model, lookups, shared.layer).norm(dim=1) if over_layers else None,
        refused=tuple(refused),
    )


@dataclass(frozen=True)
class _Keys:
    """What is kept of the keys of some edits.

    Attributes:
        lookups: Where each edit that has keys is looked up, by its place in the file.
        bare_and_mean: The two keys that methods take, in the order of ``lookups``.
        intervals: How far ρ moves over draws of the contexts; NaN where none were asked for.
        without: Why others have none.
    """

    lookups: dict[int, Lookup]
    bare_and_mean: Float[Tensor, "m 2 d_mlp"]
    intervals: Float[Tensor, "m 2"]
    without: dict[int, str]


def _in_order(parts: Sequence[_Keys], order: Sequence[int]) -> _Keys:
    """All parts as one, in an order of places."""
    lookups = {i: at for part in parts for i, at in part.lookups.items()}
    row = {i: row for row, i in enumerate(lookups)}
    places = [i for i in order if i in lookups]
    at = torch.tensor([row[i] for i in places], dtype=torch.long)
    return _Keys(
        lookups={i: lookups[i] for i in places},
        bare_and_mean=torch.cat([part.bare_and_mean for part in parts])[at],
        intervals=torch.cat([part.intervals for part in parts])[at],
        without={i: reason for part in parts for i, reason in part.without.items()},
    )


def _named(bare: Tensor, mean: Tensor, prefixes: int) -> dict[MethodKey, Tensor]:
    """Every key that a method may take, from the bare prompt's and the mean over all contexts."""
    prefixed = mean + (mean - bare) / prefixes if prefixes else bare
    return {"bare": bare, "mean": mean, "half": (bare + prefixed) / 2}


def _keys(
    shared: SharedPrefixes,
    edits: Edits,
    some: Sequence[int],
    draws: tuple[SecondMoment, int] | None,
) -> _Keys:
    """Reads the keys of some edits."""
    placed = dict(zip(some, shared.place([edits.cases[i].request for i in some]), strict=True))
    without = {i: str(at) for i, at in placed.items() if isinstance(at, UserError)}
    able = {i: at for i, at in placed.items() if isinstance(at, Placed)}
    captured = shared.capture([*able.values()])
    keys = torch.empty(len(able), 2, captured.distinct.shape[1], dtype=torch.float64)
    intervals = torch.full((len(able), 2), torch.nan, dtype=torch.float64)
    for start in range(0, len(able), JUDGED_AT_ONCE):  # few stay in the caches
        here = slice(start, start + JUDGED_AT_ONCE)
        in_contexts = captured.of(here)
        keys[here, 0], keys[here, 1] = in_contexts[:, 0], in_contexts.mean(1)
        if draws is not None:
            moment, seed = draws
            white = moment.whiten(in_contexts)
            intervals[here] = ratio_intervals(white @ white.mT, seed=seed)
    finite = keys.isfinite().flatten(1).all(1)
    usable = finite & keys.any(2).all(1)
    for i, is_finite, is_usable in zip(able, finite.tolist(), usable.tolist(), strict=True):
        if not is_finite:
            without[i] = f"its keys are not finite in {shared.model.computed_in}: use float32"
        elif not is_usable:
            without[i] = f"its key in layer {shared.layer} is zero: there is no direction"
    lookups = {i: at.bare for i, at in able.items() if i not in without}
    return _Keys(lookups, keys[usable], intervals[usable], without)
