"""The edits of a list, made one after another until the model collapses; then, which one did it.

Each v* is optimised on the model as the earlier edits left it, as the published code does. The
weights are the unedited matrix plus one sum of updates; the factors of each update are kept, so
that any earlier state of the model is a sum away and the culprit is found without an edit being
made twice. What is known goes to a journal at once: a run that was killed resumes where it stopped
and ends with the same bits.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diag.mathematics.update import RankOne
from diag.sequence.checkpoints import Checkpoints
from diag.sequence.listed import Listed
from probes.edited.weights import Total, edited
from probes.request.records import Refused
from rome_diagnosis.errors import UserError


@dataclass
class Made:
    """What has been done so far.

    Attributes:
        total: ΔW.
        places: Places in the list of the edits that were made.
        changes: Their updates.
        failed: Edits that could not be made.
        checkpoints: What was measured.
        collapse_at: How many edits had been made when the model collapsed; ``None`` if it did not.
    """

    total: Float[Tensor, "d_mlp d_model"]
    places: list[int] = field(default_factory=list)
    changes: list[RankOne] = field(default_factory=list)
    failed: list[Refused] = field(default_factory=list)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    collapse_at: int | None = None

    def add(self, place: int, change: RankOne) -> None:
        """Makes one more edit."""
        self.places.append(place)
        self.changes.append(change)
        self.total = self.total + change.matrix()

    def after(self, n: int) -> Float[Tensor, "d_mlp d_model"]:
        """ΔW after the first edits, added up in the same order."""
        total = torch.zeros_like(self.total)
        for change in self.changes[:n]:
            total = total + change.matrix()
        return total


def perform(
    listed: Listed,
    method: str,
    measured: Checkpoints,
    places: Sequence[int],
    *,
    done: Mapping[str, Any],
    keep: Callable[[str, Any], None],
    progress: Callable[[int, int], None],
) -> Made:
    """Makes the edits of a list until the model collapses.

    Args:
        listed: The list.
        method: The editor's name.
        measured: Measures the model.
        places: After which edits, counted from 1, it is measured.
        done: What an earlier run did, by key.
        keep: Takes what was done, by key.
        progress: Called with the edits made and all of them.

    Returns:
        What was done.
    """
    bench = measured.bench
    weights = bench.model.output_weight(bench.layer)
    made = Made(torch.zeros(*weights.shape, dtype=torch.float64))
    wanted = {*places, len(listed)}
    for i, case in enumerate(listed.cases):
        progress(i, len(listed))
        key = f"{i}:{case.digest}"
        if key not in done:
            keep(key, _edit(listed, i, method, measured, made.total))
        if "error" in done[key]:
            made.failed.append(Refused(listed.indices[i], done[key]["error"], "edit"))
        else:
            made.add(i, _unpacked(done[key]))
        if i + 1 not in wanted or not made.places:
            continue
        key = f"checkpoint:{i}"
        if key not in done:
            keep(key, measured.measure(made.places, made.total))
        made.checkpoints.append(done[key])
        if done[key]["outcome"] == "collapsed":
            break
    if made.checkpoints and made.checkpoints[-1]["outcome"] == "collapsed":
        made.collapse_at = _first_collapsed(made, measured)
    progress(len(listed), len(listed))
    return made


def _edit(
    listed: Listed, i: int, method: str, measured: Checkpoints, total: Tensor
) -> dict[str, Any]:
    """One edit on the model as the earlier ones left it: its factors, or why there are none."""
    bench, case = measured.bench, listed.cases[i]
    try:
        with edited(bench.model, [Total(total)], bench.layer):
            (target,) = bench.target_values([case])
            change = bench.factors(bench.observe(case), target)[method]
    except UserError as error:
        return {"error": str(error)}
    if not (change.u.isfinite().all() and change.r.isfinite().all()):
        return {"error": "its update is not finite: the model is gone"}
    return {
        "u": _packed(change.u),
        "r": _packed(change.r),
        "denominator": change.denominator,
        "steps": target.steps,
        "clamp_saturated": target.clamp_saturated,
    }


def _first_collapsed(made: Made, measured: Checkpoints) -> int:
    """The number of edits with which the model collapsed, between the last two checkpoints."""
    sound = made.checkpoints[-2]["edits"] if len(made.checkpoints) > 1 else 0
    broken = made.checkpoints[-1]["edits"]
    while broken - sound > 1:
        middle = (sound + broken) // 2
        if measured.collapsed(made.after(middle)):
            broken = middle
        else:
            sound = middle
    return int(broken)


def _packed(vector: Tensor) -> str:
    """A vector as text, every bit of it."""
    return base64.b64encode(vector.numpy().astype("<f8").tobytes()).decode("ascii")


def _unpacked(kept: Mapping[str, Any]) -> RankOne:
    u, r = (
        torch.from_numpy(np.frombuffer(base64.b64decode(kept[name]), dtype="<f8").copy())
        for name in ("u", "r")
    )
    return RankOne(u, r, float(kept["denominator"]))
