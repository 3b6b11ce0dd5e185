"""A list of edits from its file to its document: read, forecast, performed if that is asked for."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diag.batch import settings as batch_settings
from diag.batch.check import directions, weight
from diag.batch.settings import Workplace
from diag.judgement.sequence import once_made
from diag.mathematics.damage import Optimiser
from diag.sequence import document
from diag.sequence.api import Order
from diag.sequence.listed import read_keys
from diag.sequence.outlook import Outlook, look
from diag.sequence.result import Trajectory
from diag.verify.settings import Settings
from probes.edited.weights import writable
from probes.keys.many_edits import SharedPrefixes
from probes.model.loaded import describe_model
from probes.request.cases import EditCase
from probes.request.records import Edits, read_edits
from probes.setup import Setup
from probes.target_value.method_file import MethodFile
from rome_diagnosis import envelope
from rome_diagnosis.disk import files
from rome_diagnosis.editors import EDITORS
from rome_diagnosis.errors import UserError
from rome_diagnosis.limits import FEWEST_TOKENS
from rome_diagnosis.methods import METHODS

SCHEMA = "diag.sequence/1"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class EditList:
    """A list and how it is to be made.

    Attributes:
        name: What results call the list.
        edits: Its edits.
        chosen: The method, its parameters and its target's hyper-parameters.
        batch: How many edits are made together.
        order: ``given`` or ``shuffled``.
        seed: Seed of a drawn order.
    """

    name: str
    edits: Edits
    chosen: MethodFile
    batch: int
    order: Order
    seed: int

    @classmethod
    def of(
        cls,
        edits: Sequence[EditCase] | str | os.PathLike[str],
        chosen: MethodFile,
        *,
        batch: int = 1,
        order: Order = "given",
        limit: int | None = None,
        seed: int = 0,
    ) -> EditList:
        """Reads a list.

        Args:
            edits: A file, or cases.
            chosen: The method.
            batch: How many edits are made together.
            order: ``given`` or ``shuffled``.
            limit: Process only the first N edits.
            seed: Seed of a drawn order.

        Returns:
            The list.

        Raises:
            UserError: If it cannot be read, has no edits, or cannot be made like that.
        """
        if batch < 1:
            raise UserError(f"a batch has 1 edit or more, not {batch}")
        if len(chosen.layers) > 1:
            blocks = ", ".join(map(str, chosen.layers))
            raise UserError(
                f"a list is followed in one block, for above it keys move with every batch; the "
                f"hyper-parameters name {blocks}: choose one of them with --layer"
            )
        if order not in ("given", "shuffled"):
            raise UserError(f"the order is given or shuffled, not {order!r}")
        if limit is not None and limit < 1:
            raise UserError(f"the number of edits must be 1 or more, not {limit}")
        if isinstance(edits, str | os.PathLike):
            listed = read_edits(edits, limit=limit)
            return cls(Path(edits).name, listed, chosen, batch, order, seed)
        if not edits:
            raise UserError("the list has no edits")
        return cls("the list", Edits(tuple(edits)[:limit]), chosen, batch, order, seed)

    @property
    def places(self) -> list[int]:
        """Indices of the edits in the order in which they are made."""
        places = list(range(len(self.edits.cases)))
        if self.order == "shuffled":
            random.Random(self.seed).shuffle(places)
        return places

    @property
    def digest(self) -> str:
        """Identifies the edits."""
        digests = "".join(case.digest for case in self.edits.cases)
        return hashlib.sha256(digests.encode()).hexdigest()


@dataclass(frozen=True)
class Performing:
    """How a list is made for real.

    Attributes:
        journal: File that results go to as they come; with the same arguments an interrupted run
            resumes from it. It stays: whoever saves the result removes it.
        save_model: Directory for the model; ``None`` saves none.
        save_after: After how many edits it is saved; ``None`` for the last before it collapsed.
    """

    journal: str | None = None
    save_model: str | None = None
    save_after: int | None = None


def run(
    asked: EditList,
    workplace: Workplace,
    settings: Settings,
    *,
    performing: Performing | None = None,
    progress: Progress = lambda done, total: None,
    command_line: str | None = None,
) -> Trajectory:
    """Forecasts a list and, if that is asked for, makes it.

    Args:
        asked: The list.
        workplace: Model, method, layer, contexts and second moment.
        settings: What is measured.
        performing: How the list is made; ``None`` edits nothing.
        progress: Called with the edits done and all of them: first those whose keys are read, then
            those that are made.
        command_line: What repeats it.

    Returns:
        The result.

    Raises:
        UserError: If not one edit of the list has a key, or it cannot be made as asked for.
    """
    outlook = foresee(asked, workplace, progress=progress)
    geometry = outlook.chosen.plan.geometry
    checked = [directions(geometry), weight(geometry, asked.batch, outlook.response)]
    written = {
        **head(asked, workplace, command_line),
        **document.of_outlook(
            outlook,
            asked.chosen.method,
            weak=next((of.message for of in checked if of and of.status != "pass"), None),
        ),
        "checkpoints": [],
        "collapse_at": None,
        "performance": None,
    }
    if performing is not None:
        written |= _performed(workplace, settings, performing, outlook, written, progress)
        if written["checkpoints"]:
            last = written["checkpoints"][-1]
            written["advice"] = once_made(written["advice"], last["outcome"], last["edits"])
    return Trajectory(envelope.plain(written))


def _performed(
    workplace: Workplace,
    settings: Settings,
    performing: Performing,
    outlook: Outlook,
    written: Mapping[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """What making the list adds to the document."""
    from diag.sequence.performance import Performer, stored
    from diag.verify.one_edit import Bench

    settings = dataclasses.replace(settings, hyperparameters=workplace.chosen.target)
    bench = Bench(workplace.prepared, settings)
    measured: dict[str, Any] = {"settings": settings.to_json(), **bench.measured_on()}
    names = ("schema", "dataset", "model", "site", "contexts", "second_moment", "limits", "method",
             "parameters", "batch", "order", "seed")  # fmt: skip
    drawn = {"drawn_with": workplace.seed, "fewest_tokens": FEWEST_TOKENS.value}
    identity = {name: written[name] for name in names} | drawn | measured
    with stored(performing.journal, envelope.plain(identity)) as (done, keep):
        if "created" not in done:
            keep("created", written["created"])
        performer = Performer(bench, outlook, workplace)
        series = performer.run((done, keep), progress)
        figures = performer.describe(series)
        if performing.save_model is not None:
            performer.save(series, performing.save_after, performing.save_model)
        return {"created": done["created"], **measured, **figures}


def prepare(
    setup: Setup,
    chosen: MethodFile,
    settings: Settings,
    performing: Performing | None = None,
    *,
    n_prefixes: int | None = None,
) -> Workplace:
    """Loads the model and finds everything else.

    Args:
        setup: What to measure with; its layer has precedence over the method's.
        chosen: The method.
        settings: What is measured.
        performing: How the list is made; ``None`` edits nothing.
        n_prefixes: How many contexts to sample; as the method's code does by default.

    Returns:
        Model, method, layer, contexts and second moment.

    Raises:
        UserError: If something cannot be loaded, or the model's weights cannot be edited.
    """
    from diag.verify.api import with_hyperparameters

    consistent = settings.c_rome_target == "consistent"
    if consistent and chosen.row.subtract != "mean":
        own = ", ".join(name for name, row in METHODS.items() if row.subtract == "mean")
        raise UserError(
            f"a consistent target is for methods that subtract the mean value ({own}), "
            f"not for {chosen.method}: leave --c-rome-target out"
        )
    if performing is not None and performing.save_model is not None:
        files.check_new_folder(performing.save_model)
    setup = with_hyperparameters(setup, chosen.target)
    if performing is not None:
        model = setup.load()
        writable(model, setup.choose_layer(model))  # said before a second moment is estimated
    workplace = batch_settings.prepare_workplace(setup, chosen, n_prefixes=n_prefixes)
    return dataclasses.replace(workplace, consistent=consistent)


def foresee(
    asked: EditList,
    workplace: Workplace,
    *,
    progress: Progress = lambda done, total: None,
) -> Outlook:
    """Reads the keys of a list and forecasts it; arguments as of :func:`run`."""
    model, (layer,) = workplace.model, workplace.layers
    target, method = workplace.chosen.target, workplace.method
    listed = read_keys(
        asked.edits,
        asked.places,
        SharedPrefixes(model, layer, workplace.prefixes),
        workplace.moments[layer],
        over_layers=method.over_layers,
        seed=workplace.seed,
        progress=progress,
    )
    optimiser = Optimiser(target.clamp_norm_factor, target.reach(int(model.config.d_model)))
    # Methods that take the same keys can be tried on them.
    able = [row for row in METHODS.values() if row not in workplace.not_compared]
    kin = [row for row in able if method.over_layers and row.over_layers]
    kin = kin or [METHODS[name] for name in {**EDITORS, method.name: None}]
    return look(
        listed,
        {row.name: workplace.under(row) for row in kin},
        method.name,
        workplace.streams[layer],
        optimiser,
        batch=asked.batch,
        consistent=workplace.consistent,
    )


def head(asked: EditList, workplace: Workplace, command_line: str | None) -> dict[str, Any]:
    """What a document says of the list and of what it is measured with."""
    model, (layer,) = workplace.model, workplace.layers
    geometry, target = workplace.geometries[layer], workplace.chosen.target
    notes = workplace.notes if workplace.method.over_layers else target.notes(model.name)
    return {
        **envelope.head(SCHEMA, command_line),
        "dataset": {
            "name": asked.name,
            "digest": asked.digest,
            "notes": [*asked.edits.notes, *notes],
        },
        "model": describe_model(model),
        "site": {"layer": layer, "hook": model.hook(layer, "key")},
        "contexts": {
            "seed": workplace.seed if workplace.sampled else None,
            "sampled": workplace.sampled,
            "n": len(workplace.prefixes),
            "prefixes": list(workplace.prefixes),
        },
        "second_moment": workplace.moments[layer].describe(model.computed_in),
        "clamp_factor": target.clamp_norm_factor,
        "limits": document.of_limits(),
        "method": asked.chosen.method,
        "parameters": {name: geometry[name] for name in geometry.method.parameters},
        "batch": asked.batch,
        "order": asked.order,
        "seed": asked.seed if asked.order == "shuffled" else None,
    }
