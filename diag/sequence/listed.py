"""The keys of a list of edits, read as ``diag.screen`` reads them.

Keys at the edited layer do not depend on what earlier edits wrote there, so they are read once,
from the unedited model, before anything is forecast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diag.screen.shard import Screener, shard_size
from probes.request.cases import EditCase
from probes.request.records import Edits, Refused
from rome_diagnosis.editors import Key
from rome_diagnosis.errors import UserError


@dataclass(frozen=True)
class Listed:
    """A list of edits with their keys, in the order in which they are made.

    Attributes:
        cases: The edits.
        indices: Where each stands in the list as it was given, from 0.
        rows: What ``diag.screen`` says of each.
        keys: By name, ``bare`` and ``mean``, ``[m, d_mlp]``.
        directions: C⁻¹k of these.
        values: The MLP's outputs at them, ``[m, d_model]``.
        refused: Records of the list that are no edits or have no key.
    """

    cases: tuple[EditCase, ...]
    indices: tuple[int, ...]
    rows: tuple[dict[str, Any], ...]
    keys: dict[Key, Float[Tensor, "m d_mlp"]]
    directions: dict[Key, Float[Tensor, "m d_mlp"]]
    values: dict[Key, Float[Tensor, "m d_model"]]
    refused: tuple[Refused, ...]

    def __len__(self) -> int:
        """How many edits there are."""
        return len(self.cases)


def read(
    edits: Edits,
    order: Sequence[int],
    screener: Screener,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Listed:
    """Reads the keys of a list.

    Args:
        edits: The edits.
        order: The order in which they are made: indices of ``edits.cases``.
        screener: Reads keys.
        progress: Called with the edits read and all of them.

    Returns:
        The edits that have keys.

    Raises:
        UserError: If none has.
    """
    shared = screener.shared
    size = shard_size(len(shared.prefixes), int(shared.model.config.d_mlp))
    kept: list[int] = []
    rows: list[dict[str, Any]] = []
    refused = list(edits.refused)
    keys: list[Tensor] = []
    for start in range(0, len(order), size):
        some = order[start : start + size]
        screened, both = screener.screen_with_keys([edits.cases[i].request for i in some])
        able = [at for at, row in enumerate(screened) if isinstance(row, dict)]
        keys.append(both[able])
        for at, row in enumerate(screened):
            if isinstance(row, UserError):
                refused.append(Refused(edits.index(some[at]), str(row), "key"))
            else:
                rows.append(row)
                kept.append(some[at])
        progress(min(start + size, len(order)), len(order))
    if not kept:
        raise UserError(f"not one edit of the list has a key: {refused[0].reason}")
    bare, mean = torch.cat(keys).unbind(1)
    named: dict[Key, Tensor] = {"bare": bare.contiguous(), "mean": mean.contiguous()}
    moment = screener.moment
    return Listed(
        cases=tuple(edits.cases[i] for i in kept),
        indices=tuple(edits.index(i) for i in kept),
        rows=tuple(rows),
        keys=named,
        directions={name: moment.solve(key) for name, key in named.items()},
        values={name: shared.model.mlp_output(key, shared.layer) for name, key in named.items()},
        refused=tuple(refused),
    )
