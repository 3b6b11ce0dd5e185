"""Where the keys of many edits lie: those that collapse the model beside the others.

The paper's two pictures: the unprefixed and the prefixed keys together, and the directions C⁻¹k̄ in
which ROME writes. Collapse cases have unprefixed keys that lie by themselves; their prefixed keys
and directions do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from probes.first_token import projection
from probes.keys.many_edits import SharedPrefixes
from probes.model.loaded import LoadedModel
from probes.request.request import request
from probes.second_moment.moment import SecondMoment
from rome_diagnosis.editors import PUBLISHED
from rome_diagnosis.errors import UserError

Edit = Mapping[str, Any]
# More points than these do not show more, and a t-SNE of thousands takes minutes.
MOST_OF_A_GROUP = 150


@dataclass(frozen=True)
class NumberedKeys:
    """An edit's keys under the number it has in the list."""

    name: str
    rho: float
    keys: Float[Tensor, "n_ctx d_mlp"]


def place(
    model: LoadedModel,
    layer: int,
    prefixes: Sequence[str],
    moment: SecondMoment,
    edits: Sequence[Edit],
    *,
    seed: int = 0,
) -> dict[str, Any] | None:
    """Projects keys and directions of edits that were performed.

    Args:
        model: The unedited model.
        layer: The edited block.
        prefixes: Contexts 1…n of the edits.
        moment: The second moment C.
        edits: The contract's objects; those with an ``error`` are passed over. Of more than
            :data:`MOST_OF_A_GROUP` edits that collapsed, or that did not, evenly spaced ones stand
            for all.
        seed: Seed of the t-SNE.

    Returns:
        ``keys`` and ``directions``, each with ``points`` (whose ``subject`` is the edit's index
        among ``edits``) and the share of variance that its two principal components hold
        (``explained``), and how many edits there were (``of``) and were drawn (``drawn``);
        ``None`` without prefixes or with fewer than two edits.
    """
    chosen = _sample(edits)
    if not prefixes or len(chosen) < 2:
        return None
    asked = [request(edits[i]["request"]["subject"], edits[i]["request"]["prompt"]) for i in chosen]
    shared = SharedPrefixes(model, layer, prefixes)
    sites = shared.place(asked)
    able = [(i, at) for i, at in zip(chosen, sites, strict=True) if not isinstance(at, UserError)]
    if len(able) < 2:
        return None
    keys = shared.capture([at for _, at in able]).of()
    placed = [
        NumberedKeys(str(i), moment.ratio(own[0], own.mean(0)), own)
        for (i, _), own in zip(able, keys, strict=True)
    ]
    return {
        "keys": asdict(projection.keys(placed, seed=seed)),
        "directions": asdict(projection.directions(placed, moment, seed=seed)),
        "drawn": len(placed),
        "of": sum("error" not in edit for edit in edits),
    }


def _sample(edits: Sequence[Edit]) -> list[int]:
    """Indices of the edits to draw, evenly spaced in either group."""
    performed = [i for i, edit in enumerate(edits) if "error" not in edit]
    chosen: list[int] = []
    for broken in (True, False):
        group = [i for i in performed if bool(edits[i]["collapsed"][PUBLISHED]) == broken]
        drawn = min(len(group), MOST_OF_A_GROUP)
        chosen += [group[i * len(group) // drawn] for i in range(drawn)]
    return sorted(chosen)
