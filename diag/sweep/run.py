"""One edit at several blocks: one pass of the model, then one second moment at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from diag.keys.document import document
from diag.keys.judge import judge
from diag.keys.row import row
from diag.sweep import document as written
from diag.sweep.result import LayerSweep
from probes.keys.observe import observe_layers
from probes.keys.sink import SinkRecorder
from probes.request.request import Request
from probes.setup import Setup
from probes.target_value.hyperparameters import Hyperparameters


def sweep(
    edit: Request,
    setup: Setup,
    layers: Sequence[int] | Literal["all"],
    *,
    hyperparameters: Hyperparameters,
) -> LayerSweep:
    """Diagnoses one edit at several blocks.

    Args:
        edit: The fact and its prompt.
        setup: Model, contexts and second moments.
        layers: The blocks, or ``"all"``.
        hyperparameters: How v* is optimised, and so how long its δ gets.

    Returns:
        The sweep.

    Raises:
        UserError: As :func:`diag.keys.run.diagnose`, or if there are no such blocks.
    """
    model = setup.load()
    chosen = setup.choose_layers(model, layers)
    prefixes = setup.choose_prefixes(model)
    sink = SinkRecorder(model, max(chosen))
    observations = observe_layers(model, edit, chosen, prefixes, also=sink.hooks)
    sampled = setup.prefixes is None
    rows, notes = [], None
    for observation, (layer, moment) in zip(
        observations, setup.find_moments(model, chosen), strict=True
    ):
        assert observation.layer == layer
        judgement = judge(observation, moment, hyperparameters=hyperparameters, seed=setup.seed)
        notes = document(observation, judgement, moment, seed=setup.seed, sampled=sampled)
        rows.append(row(notes))
    assert notes is not None
    profile = observations[-1].profile.layers
    return LayerSweep(written.document(notes, rows, written.sink(sink.first_positions(), profile)))
