"""The batches of a list, made one after another until the model collapses; then, which one did it.

Each target is optimised on the model as the earlier batches left it, as the published code does,
and a batch is written as :mod:`diag.batch.perform` writes any. The weights are the unedited matrix
plus one sum of updates; the factors of each update are kept, so that any earlier state of the model
is a sum away and the culprit is found without an edit being made twice. What is known goes to a
journal at once: a run that was killed resumes where it stopped and ends with the same bits.
"""

from __future__ import annotations

import base64
import bisect
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diag.batch.perform import performed
from diag.batch.settings import Workplace
from diag.mathematics.steps import batches
from diag.mathematics.update import RankOne
from diag.sequence.checkpoints import Checkpoints
from diag.sequence.listed import Listed
from probes.edited.weights import Total, edited
from probes.request.records import Refused
from rome_diagnosis.errors import UserError


@dataclass(frozen=True)
class WrittenBatch:
    """One batch that was made: ΔW = Σ w ⊗ r.

    Attributes:
        places: Places in the list of its edits.
        steps: w of each, ``[m, d_mlp]``.
        residuals: r of each, ``[m, d_model]``.
    """

    places: tuple[int, ...]
    steps: Float[Tensor, "m d_mlp"]
    residuals: Float[Tensor, "m d_model"]

    def matrix(self) -> Float[Tensor, "d_mlp d_model"]:
        """ΔW itself, materialised."""
        return self.steps.T @ self.residuals


@dataclass
class MadeEdits:
    """What has been done so far.

    Attributes:
        total: ΔW.
        written: The batches, in order.
        failed: Edits that could not be made.
        checkpoints: What was measured.
        collapse_at: How many edits had been made when the model collapsed; ``None`` if it did not.
    """

    total: Float[Tensor, "d_mlp d_model"]
    written: list[WrittenBatch] = field(default_factory=list)
    failed: list[Refused] = field(default_factory=list)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    collapse_at: int | None = None

    @property
    def places(self) -> list[int]:
        """Places in the list of the edits that were made."""
        return [i for one in self.written for i in one.places]

    @property
    def changes(self) -> list[RankOne]:
        """The update of each of these edits."""
        return [
            RankOne(step, residual, 1.0)
            for one in self.written
            for step, residual in zip(one.steps, one.residuals, strict=True)
        ]

    @property
    def ends(self) -> list[int]:
        """How many edits had been made after each batch."""
        return list(itertools.accumulate(len(one.places) for one in self.written))

    def add(self, one: WrittenBatch) -> None:
        """Makes one more batch."""
        self.written.append(one)
        self.total = self.total + one.matrix()

    def after(self, n: int) -> Float[Tensor, "d_mlp d_model"]:
        """ΔW after the batches of the first n edits, added up in the same order."""
        total = torch.zeros_like(self.total)
        for one, end in zip(self.written, self.ends, strict=True):
            if end <= n:
                total = total + one.matrix()
        return total


def perform_list(
    listed: Listed,
    workplace: Workplace,
    measured: Checkpoints,
    places: Sequence[int],
    *,
    batch: int,
    store: tuple[Mapping[str, Any], Callable[[str, Any], None]],
    progress: Callable[[int, int], None],
) -> MadeEdits:
    """Makes the edits of a list until the model collapses.

    Args:
        listed: The list.
        workplace: The model, and what edits it.
        measured: Measures the model.
        places: After which edits, counted from 1, it is measured; at the end of their batches.
        batch: How many edits are made together.
        store: What an earlier run did, by key, and what takes what this one does.
        progress: Called with the edits made and all of them.

    Returns:
        What was done.
    """
    done, keep = store
    weights = workplace.model.output_weight(workplace.layers[0])
    series = MadeEdits(torch.zeros(*weights.shape, dtype=torch.float64))
    wanted = {*places, len(listed)}
    for own in batches(len(listed), batch):
        progress(own.start, len(listed))
        key = f"{own.start}:{listed.cases[own.start].digest}"
        if key not in done:
            keep(key, _batch(listed, range(own.start, own.stop), workplace, series))
        for i, reason in done[key]["failed"]:
            series.failed.append(Refused(listed.indices[i], reason, "edit"))
        if done[key]["places"]:
            series.add(_unpacked(done[key]))
        if wanted.isdisjoint(range(own.start + 1, own.stop + 1)) or not series.written:
            continue
        key = f"checkpoint:{own.stop - 1}"
        if key not in done:
            keep(key, measured.measure(series.places, series.total))
        series.checkpoints.append(done[key])
        if done[key]["outcome"] == "collapsed":
            series.collapse_at = _first_collapsed(series, measured)
            break
    progress(len(listed), len(listed))
    return series


def _batch(
    listed: Listed, places: Sequence[int], workplace: Workplace, series: MadeEdits
) -> dict[str, Any]:
    """One batch on the model as the earlier ones left it: its factors, or why there are none."""
    (layer,), method = workplace.layers, workplace.method
    able = [i for i in places if listed.cases[i].request.target_new is not None]
    failed = [(i, "it has no new object") for i in places if i not in able]
    nothing = {"failed": failed, "places": []}
    if not able:
        return nothing
    history = {layer: listed.keys[method.along][series.places]} if method.remembers else None
    requests = [listed.cases[i].request for i in able]
    try:
        with (
            edited(workplace.model, [Total(series.total)], layer),
            performed(workplace, requests, history) as batch,
        ):
            update = batch.layers[0].update
    except UserError as error:
        return nothing | {"failed": [*failed, *((i, str(error)) for i in able)]}
    if not (update.steps.isfinite().all() and update.residuals.isfinite().all()):
        gone = "its update is not finite: the model is gone"
        return nothing | {"failed": [*failed, *((i, gone) for i in able)]}
    return {
        "failed": failed,
        "places": able,
        "w": _packed(update.steps),
        "r": _packed(update.residuals),
        "steps": [target.steps for target in batch.targets],
        "clamp_saturated": [target.clamp_saturated for target in batch.targets],
    }


def _first_collapsed(series: MadeEdits, measured: Checkpoints) -> int:
    """The number of edits with which the model collapsed, between the last two checkpoints."""
    sound = series.checkpoints[-2]["edits"] if len(series.checkpoints) > 1 else 0
    broken = int(series.checkpoints[-1]["edits"])
    between = [end for end in series.ends if sound < end < broken]
    first = bisect.bisect_left(between, True, key=lambda end: measured.collapsed(series.after(end)))
    return [*between, broken][first]


def _packed(rows: Tensor) -> str:
    """Vectors as text, every bit of them."""
    return base64.b64encode(rows.numpy().astype("<f8").tobytes()).decode("ascii")


def _unpacked(kept: Mapping[str, Any]) -> WrittenBatch:
    places = tuple(kept["places"])
    steps, residuals = (
        torch.from_numpy(np.frombuffer(base64.b64decode(kept[name]), dtype="<f8").copy())
        for name in ("w", "r")
    )
    return WrittenBatch(places, steps.view(len(places), -1), residuals.view(len(places), -1))
