"""A list of edits from its file to its document: read, forecast, performed if that is asked for."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diag.mathematics.damage import Optimiser
from diag.mathematics.stream import Stream
from diag.screen.shard import Screener
from diag.sequence import document
from diag.sequence.api import Order
from diag.sequence.listed import read
from diag.sequence.outlook import Outlook, look
from diag.sequence.result import Trajectory
from diag.verify.settings import Settings
from probes.edited.weights import writable
from probes.keys.many_edits import SharedPrefixes
from probes.model.contribution import contribution
from probes.model.loaded import describe
from probes.request.cases import EditCase
from probes.request.records import Edits, read_edits
from probes.setup import Prepared, Setup
from rome_diagnosis import envelope, files
from rome_diagnosis.editors import EDITORS
from rome_diagnosis.errors import UserError

SCHEMA = "diag.sequence/1"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Asked:
    """A list and how it is to be made.

    Attributes:
        name: What results call the list.
        edits: Its edits.
        method: The editor's name.
        order: ``given`` or ``shuffled``.
        seed: Seed of a drawn order.
    """

    name: str
    edits: Edits
    method: str
    order: Order
    seed: int

    @classmethod
    def of(
        cls,
        edits: Sequence[EditCase] | str | os.PathLike[str],
        *,
        method: str,
        order: Order,
        limit: int | None,
        seed: int,
    ) -> Asked:
        """Reads a list.

        Args:
            edits: A file, or cases.
            method: The editor's name.
            order: ``given`` or ``shuffled``.
            limit: Process only the first N edits.
            seed: Seed of a drawn order.

        Returns:
            The list.

        Raises:
            UserError: If it cannot be read, has no edits, or there is no such editor or order.
        """
        if method not in EDITORS:
            raise UserError(f"there is no editor {method!r}: known are {', '.join(EDITORS)}")
        if order not in ("given", "shuffled"):
            raise UserError(f"the order is given or shuffled, not {order!r}")
        if limit is not None and limit < 1:
            raise UserError(f"the number of edits must be 1 or more, not {limit}")
        if isinstance(edits, str | os.PathLike):
            return cls(Path(edits).name, read_edits(edits, limit=limit), method, order, seed)
        if not edits:
            raise UserError("the list has no edits")
        return cls("the list", Edits(tuple(edits)[:limit]), method, order, seed)

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
    asked: Asked,
    setup: Prepared,
    settings: Settings,
    *,
    performing: Performing | None = None,
    progress: Progress = lambda done, total: None,
    command_line: str | None = None,
) -> Trajectory:
    """Forecasts a list and, if that is asked for, makes it.

    Args:
        asked: The list.
        setup: Model, layer, contexts and second moment.
        settings: How v* is optimised, and what is measured.
        performing: How the list is made; ``None`` edits nothing.
        progress: Called with the edits done and all of them: first those whose keys are read, then
            those that are made.
        command_line: What repeats it.

    Returns:
        The result.

    Raises:
        UserError: If not one edit of the list has a key, or it cannot be made as asked for.
    """
    outlook = foresee(asked, setup, settings, progress=progress)
    written = {
        **head(asked, setup, settings, command_line),
        **document.of_outlook(outlook, asked.method),
        "checkpoints": [],
        "collapse_at": None,
        "performance": None,
    }
    if performing is not None:
        written |= _performed(asked, setup, settings, performing, outlook, written, progress)
    return Trajectory(envelope.plain(written))


def _performed(
    asked: Asked,
    setup: Prepared,
    settings: Settings,
    performing: Performing,
    outlook: Outlook,
    written: Mapping[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """What making the list adds to the document."""
    from diag.sequence.performance import Performer, stored
    from diag.verify.one_edit import Bench

    bench = Bench(setup, settings)
    measured: dict[str, Any] = {"settings": settings.to_json(), **bench.measured_on()}
    names = ("schema", "dataset", "model", "site", "contexts", "second_moment", "limits", "method",
             "order", "seed")  # fmt: skip
    identity = {name: written[name] for name in names} | {"drawn_with": setup.seed} | measured
    with stored(performing.journal, envelope.plain(identity)) as (done, keep):
        if "created" not in done:
            keep("created", written["created"])
        performer = Performer(bench, outlook, asked.method)
        made = performer.run((done, keep), progress)
        told = performer.describe(made)
        if performing.save_model is not None:
            performer.save(made, performing.save_after, performing.save_model)
        return {"created": done["created"], **measured, **told}


def prepare(setup: Setup, settings: Settings, performing: Performing | None) -> Prepared:
    """Loads the model and finds everything else.

    Args:
        setup: What to measure with.
        settings: Whose hyper-parameters choose what the setup leaves open.
        performing: How the list is made; ``None`` edits nothing.

    Returns:
        Model, layer, contexts and second moment.

    Raises:
        UserError: If something cannot be loaded, or the model's weights cannot be edited.
    """
    from diag.verify.api import with_hyperparameters

    if performing is not None and performing.save_model is not None:
        files.check_new_folder(performing.save_model)
    setup = with_hyperparameters(setup, settings.hyperparameters)
    if performing is not None:
        model = setup.load()
        writable(model, setup.choose_layer(model))  # said before a second moment is estimated
    return setup.prepare()


def foresee(
    asked: Asked,
    setup: Prepared,
    settings: Settings,
    *,
    progress: Progress = lambda done, total: None,
) -> Outlook:
    """Reads the keys of a list and forecasts it; arguments as of :func:`run`."""
    model, layer, chosen = setup.model, setup.layer, settings.hyperparameters
    shared = SharedPrefixes(model, layer, setup.prefixes)
    screener = Screener(shared, setup.moment, hyperparameters=chosen, seed=setup.seed)
    listed = read(asked.edits, asked.places, screener, progress)
    optimiser = Optimiser(chosen.clamp_norm_factor, chosen.reach(int(model.config.d_model)))
    stream = Stream(setup.moment, contribution(model, layer))
    return look(listed, asked.method, stream, optimiser)


def head(
    asked: Asked, setup: Prepared, settings: Settings, command_line: str | None
) -> dict[str, Any]:
    """What a document says of the list and of what it is measured with."""
    model, layer = setup.model, setup.layer
    return {
        **envelope.head(SCHEMA, command_line),
        "dataset": {
            "name": asked.name,
            "digest": asked.digest,
            "notes": [*asked.edits.notes, *settings.hyperparameters.notes(model.name)],
        },
        "model": describe(model),
        "site": {"layer": layer, "hook": model.hook(layer, "key")},
        "contexts": {
            "seed": setup.seed if setup.sampled else None,
            "sampled": setup.sampled,
            "n": len(setup.prefixes),
            "prefixes": list(setup.prefixes),
        },
        "second_moment": setup.moment.describe(model.dtype),
        "clamp_factor": settings.hyperparameters.clamp_norm_factor,
        "limits": document.of_limits(),
        "method": asked.method,
        "order": asked.order,
        "seed": asked.seed if asked.order == "shuffled" else None,
    }
