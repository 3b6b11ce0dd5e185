"""The library call: ``from diag.screen import screen``."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from rome_diagnosis import files, options
from rome_diagnosis.errors import UserError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from diag.screen.layers import LayersPlan
    from diag.screen.result import LayerScreening, Screening
    from diag.screen.run import Plan
    from diag.screen.scan import OnError, Scan
    from probes.ranks import Ranks
    from probes.setup import Setup, SetupOptions


def screen(
    dataset: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    clamp: float = options.CLAMP_FACTOR,
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
        clamp: ‖δ‖ is clamped to this factor times ‖v_u‖ when v* is optimised.
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
    from diag.screen.in_order import with_forecast
    from diag.screen.run import run
    from diag.screen.scan import scan
    from probes.ranks import ranks
    from probes.setup import Setup

    chosen = Setup(**setup)
    files.check_outputs([output, riskiest], inputs=[dataset, *chosen.inputs()])
    scanned = scan(os.fspath(dataset), on_error=on_error)
    with ranks() as group:
        job = plan(
            scanned,
            os.fspath(output),
            chosen,
            group,
            clamp=clamp,
            riskiest=None if riskiest is None else os.fspath(riskiest),
            n_riskiest=n_riskiest,
        )
        if forecast:
            job = with_forecast(job, chosen)
        return run(job, group, progress or (lambda done, total: None))


def screen_layers(
    dataset: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    layers: Sequence[int] | Literal["all"] = "all",
    clamp: float = options.CLAMP_FACTOR,
    on_error: OnError = "skip",
    progress: Callable[[int, int], None] | None = None,
    **setup: Unpack[SetupOptions],
) -> LayerScreening:
    """Checks every edit of a data set at several blocks, from one pass over its texts.

    Args:
        dataset: As :func:`screen`.
        output: The Parquet table to write: for each row of the data set a row for each block.
        layers: The blocks, or ``"all"``.
        clamp: As :func:`screen`.
        on_error: As :func:`screen`.
        progress: As :func:`screen`.
        **setup: Model, contexts and second moment; see :class:`probes.setup.Setup`. A second
            moment's file is named with ``{layer}`` for the block.

    Returns:
        The summary, block by block, and where the table is.

    Raises:
        UserError: For anything the caller can put right.
    """
    from diag.screen.layers import run
    from diag.screen.scan import scan
    from probes.ranks import ranks
    from probes.setup import Setup

    if setup.get("layer") is not None:
        raise UserError("several blocks are layers=[…], not layer=…")
    chosen = Setup(**setup)
    files.check_outputs([output], inputs=[dataset, *chosen.inputs()])
    scanned = scan(os.fspath(dataset), on_error=on_error)
    with ranks() as group:
        job = plan_layers(scanned, os.fspath(output), chosen, group, layers=layers, clamp=clamp)
        return run(job, group, progress or (lambda done, total: None))


def plan_layers(
    scanned: Scan,
    output: str,
    setup: Setup,
    group: Ranks,
    *,
    layers: Sequence[int] | Literal["all"],
    clamp: float,
    command_line: str | None = None,
) -> LayersPlan:
    """Loads what screening at several blocks needs, in every process that shares the work.

    Args:
        scanned: The data set.
        output: The table to write.
        setup: What to measure with.
        group: The processes.
        layers: As in :func:`screen_layers`.
        clamp: As in :func:`screen`.
        command_line: What repeats the run.

    Returns:
        The plan.

    Raises:
        UserError: As in :func:`screen_layers`.
    """
    from diag.screen.layers import LayersPlan, Screeners
    from probes.keys.many_edits import SharedPrefixes
    from probes.target_value.hyperparameters import Hyperparameters

    target = Hyperparameters(clamp_norm_factor=options.check_clamp(clamp))
    model = setup.load()
    chosen = setup.choose_layers(model, layers)
    texts = group.share(list(setup.choose_prefixes(model)))
    shared = SharedPrefixes(model, chosen, texts)

    def screeners(of: Setup) -> Screeners:
        return Screeners(shared, lambda: of.find_moments(model, chosen), target, setup.seed)

    # One process estimates what is not at hand; the others then find it in the cache.
    if group.is_first:
        measuring = screeners(setup)
    group.wait()
    if not group.is_first:
        measuring = screeners(dataclasses.replace(setup, quiet=True))
    group.wait()
    return LayersPlan(scanned, output, measuring, setup.prefixes is None, command_line)


def plan(
    scanned: Scan,
    output: str,
    setup: Setup,
    group: Ranks,
    *,
    clamp: float,
    riskiest: str | None,
    n_riskiest: int,
    command_line: str | None = None,
) -> Plan:
    """Loads what screening needs, in every process that shares the work.

    Args:
        scanned: The data set.
        output: The table to write.
        setup: What to measure with.
        group: The processes.
        clamp: As in :func:`screen`.
        riskiest: As in :func:`screen`.
        n_riskiest: As in :func:`screen`.
        command_line: What repeats the run.

    Returns:
        The plan.

    Raises:
        UserError: As in :func:`screen`.
    """
    from diag.screen.run import Plan
    from diag.screen.shard import Screener
    from probes.keys.many_edits import SharedPrefixes
    from probes.target_value.hyperparameters import Hyperparameters

    options.check_clamp(clamp)
    if n_riskiest < 0:
        raise UserError(f"the number of riskiest cases must be 0 or more, not {n_riskiest}")
    model = setup.load()
    layer = setup.choose_layer(model)
    # One process estimates C where it is not at hand; the others then find it in the cache.
    if group.is_first:
        moment = setup.find_moment(model, layer)
    group.wait()
    if not group.is_first:
        moment = dataclasses.replace(setup, quiet=True).find_moment(model, layer)
    group.wait()
    texts = group.share(list(setup.choose_prefixes(model)))
    chosen = Hyperparameters(clamp_norm_factor=clamp)
    return Plan(
        scanned,
        output,
        Screener(SharedPrefixes(model, layer, texts), moment, chosen, setup.seed),
        sampled=setup.prefixes is None,
        riskiest=riskiest,
        n_riskiest=n_riskiest,
        command_line=command_line,
    )
