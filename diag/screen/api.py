"""The library call: ``from diag.screen import screen``."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from diag.screen.result import LayerScreening, Screening
from rome_diagnosis import defaults
from rome_diagnosis.disk import files
from rome_diagnosis.editors import EDITORS, PUBLISHED
from rome_diagnosis.errors import UserError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from diag.screen.run import ScreenPlan
    from diag.screen.scan import OnError, Scan
    from probes.ranks import Ranks
    from probes.setup import Setup, SetupOptions
    from probes.target_value.hyperparameters import Hyperparameters
    from probes.target_value.method_file import MethodFile

T = TypeVar("T")


def screen(
    dataset: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    method: str | MethodFile = PUBLISHED,
    clamp: float | None = None,
    on_error: OnError = "skip",
    riskiest: str | os.PathLike[str] | None = None,
    n_riskiest: int = 100,
    forecast: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **setup: Unpack[SetupOptions],
) -> Screening:
    """Checks every edit of a data set before any is performed.

    Args:
        dataset: A JSON array, JSON Lines or CSV; see :mod:`probes.request.records`.
        output: The Parquet table to write, one row for each row of the data set, in its order.
        method: A method whose damage, response and verdict are added to ROME's, each edit made by
            itself: its name, or what :func:`choose_screening` gives with parameters.
        clamp: ‖δ‖ is clamped to this factor times ‖v_u‖, or ‖h‖ where the target lies in the
            stream; by default to the method's, for ROME and its editors 4.
        on_error: ``"skip"`` lists a row that is no edit as an error, ``"refuse"`` ends the run.
        riskiest: A file for the riskiest cases, as ``diag.verify --edits`` reads it.
        n_riskiest: Write at most this many of them.
        forecast: Whether to forecast the edits one after another too; see :mod:`diag.sequence`.
        progress: Called with the rows done and all rows.
        **setup: Model, layer, contexts and second moment; see :class:`probes.setup.Setup`.

    Returns:
        The summary, and where the table is.

    Raises:
        UserError: For anything the caller can put right.
    """
    by = choose_screening(method, clamp=clamp)
    if "n_prefixes" not in setup:
        setup["n_prefixes"] = by.row.contexts
    risky = None if riskiest is None else os.fspath(riskiest)
    planning = functools.partial(
        plan, method=by, riskiest=risky, n_riskiest=n_riskiest, forecast=forecast
    )
    return Screening(
        os.fspath(output),
        _run(planning, dataset, [output, riskiest], setup, on_error=on_error, progress=progress),
    )


def screen_layers(
    dataset: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    layers: Sequence[int] | Literal["all"] = "all",
    clamp: float = defaults.CLAMP_FACTOR,
    on_error: OnError = "skip",
    progress: Callable[[int, int], None] | None = None,
    **setup: Unpack[SetupOptions],
) -> LayerScreening:
    """Checks every edit of a data set at several blocks, from one pass over its texts.

    Args:
        dataset: As :func:`screen`.
        output: The Parquet table to write: for each row of the data set a row for each block.
        layers: The blocks, or ``"all"``.
        clamp: ‖δ‖ is clamped to this factor times ‖v_u‖ when v* is optimised.
        on_error: As :func:`screen`.
        progress: As :func:`screen`.
        **setup: Model, contexts and second moment; see :class:`probes.setup.Setup`. A second
            moment's file is named with ``{layer}`` for the block.

    Returns:
        The summary, block by block, and where the table is.

    Raises:
        UserError: For anything the caller can put right.
    """
    from probes.target_value.hyperparameters import Hyperparameters

    if setup.get("layer") is not None:
        raise UserError("several blocks are layers=[…], not layer=…")
    target = Hyperparameters(clamp_norm_factor=defaults.check_clamp(clamp))
    planning = functools.partial(plan_layers, layers=layers, target=target)
    return LayerScreening(
        os.fspath(output),
        _run(planning, dataset, [output], setup, on_error=on_error, progress=progress),
    )


def _run(
    planning: Callable[..., ScreenPlan],
    dataset: str | os.PathLike[str],
    outputs: Sequence[str | os.PathLike[str] | None],
    setup: SetupOptions,
    *,
    on_error: OnError,
    progress: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    """Screens a data set as planned; the first of the outputs is the table."""
    from diag.screen.run import run
    from diag.screen.scan import scan
    from probes.ranks import ranks
    from probes.setup import Setup

    chosen = Setup(**setup)
    files.check_outputs(outputs, inputs=[dataset, *chosen.inputs()])
    scanned = scan(os.fspath(dataset), on_error=on_error)
    with ranks() as group:
        job = planning(scanned, os.fspath(outputs[0] or ""), chosen, group)
        return run(job, group, progress or (lambda done, total: None))


def plan_layers(
    scanned: Scan,
    output: str,
    setup: Setup,
    group: Ranks,
    *,
    layers: Sequence[int] | Literal["all"],
    target: Hyperparameters,
) -> ScreenPlan:
    """Loads what screening at several blocks needs, in every process that shares the work.

    Args:
        scanned: The data set.
        output: The table to write.
        setup: What to measure with.
        group: The processes.
        layers: As in :func:`screen_layers`.
        target: How v* is optimised, and so how long its δ gets.

    Returns:
        The plan.

    Raises:
        UserError: As in :func:`screen_layers`.
    """
    from diag.screen.run import ScreenPlan
    from diag.screen.screeners import Screeners
    from probes.keys.many_edits import SharedPrefixes
    from probes.target_value.method_file import MethodFile

    model = setup.load()
    chosen = setup.choose_layers(model, layers)
    texts = group.share(list(setup.choose_prefixes(model)))
    shared = SharedPrefixes(model, chosen, texts)
    editors = [MethodFile(method=name, target=target) for name in EDITORS]

    def screeners(of: Setup) -> Screeners:
        return Screeners(
            shared, lambda: of.find_moments(model, chosen), target, setup.seed, editors
        )

    return ScreenPlan(
        scan=scanned,
        output=output,
        screeners=_in_turn(group, setup, screeners),
        several=True,
        sampled=setup.prefixes is None,
    )


def _in_turn(group: Ranks, setup: Setup, find: Callable[[Setup], T]) -> T:
    """One process estimates what is not at hand; the others then find it in the cache."""
    for first in (True, False):
        if group.is_first == first:
            result = find(setup if first else dataclasses.replace(setup, quiet=True))
        group.wait()
    return result


def choose_screening(
    method: str | MethodFile | None,
    parameters: Mapping[str, float] | None = None,
    *,
    clamp: float | None = None,
    hyperparameters: str | None = None,
) -> MethodFile:
    """What makes the edits that are screened.

    Args:
        method: As in :func:`screen`; ``None`` for the file's own.
        parameters: What tunes it, where that is not as published.
        clamp: As in :func:`screen`.
        hyperparameters: A file of the method.

    Returns:
        The method, its parameters and its target.

    Raises:
        UserError: If there is no such method, or its file or a value cannot be used.
    """
    from diag.batch import api
    from probes.target_value.method_file import MethodFile

    if not isinstance(method, MethodFile):
        method = api.choose_method(method, hyperparameters, None, parameters)
    if clamp is None:
        return method
    target = dataclasses.replace(method.target, clamp_norm_factor=defaults.check_clamp(clamp))
    return dataclasses.replace(method, target=target)


def plan(
    scanned: Scan,
    output: str,
    setup: Setup,
    group: Ranks,
    *,
    method: MethodFile,
    riskiest: str | None,
    n_riskiest: int,
    forecast: bool = False,
) -> ScreenPlan:
    """Loads what screening needs, in every process that shares the work.

    Args:
        scanned: The data set.
        output: The table to write.
        setup: What to measure with.
        group: The processes.
        method: What makes the edits; of :func:`choose_screening`.
        riskiest: As in :func:`screen`.
        n_riskiest: As in :func:`screen`.
        forecast: As in :func:`screen`.

    Returns:
        The plan.

    Raises:
        UserError: As in :func:`screen`.
    """
    from diag.batch.settings import contexts, moments
    from diag.screen import in_order
    from diag.screen.run import ScreenPlan
    from diag.screen.screeners import Screeners
    from probes.keys.many_edits import SharedPrefixes
    from probes.target_value.method_file import defaults

    if n_riskiest < 0:
        raise UserError(f"the number of riskiest cases must be 0 or more, not {n_riskiest}")
    model = (setup := _at_one_block(setup, method)).load()
    layer = setup.choose_layer(model)
    # A method of several layers has a clamp of its own, which is not that of ROME's columns.
    target = defaults(PUBLISHED).target if method.row.over_layers else method.target
    moment = _in_turn(group, setup, lambda of: moments(of, model, [layer], method)[layer])
    shared = SharedPrefixes(model, layer, group.share(list(contexts(setup, model, method.row))))
    methods = [] if method.method == PUBLISHED else [method]
    return ScreenPlan(
        scan=scanned,
        output=output,
        screeners=Screeners(shared, lambda: [(layer, moment)], target, setup.seed, methods),
        several=False,
        sampled=setup.prefixes is None,
        riskiest=riskiest,
        n_riskiest=n_riskiest,
        in_order=functools.partial(in_order.forecast_in_order, setup=setup) if forecast else None,
    )


def _at_one_block(setup: Setup, method: MethodFile) -> Setup:
    """The setup with its own block, else the one that the method's file names."""
    if setup.layer is not None or not method.layers:
        return setup
    layer, *others = method.layers
    if others:
        named = ", ".join(map(str, method.layers))
        raise UserError(f"a screening is of one block, not of {named}: give --layer one of them")
    return dataclasses.replace(setup, layer=layer)
