"""Hyper-parameter files of the whole family: ROME's, MEMIT's, EMMET's, AlphaEdit's, EasyEdit's.

What the optimisation of the target needs is read by :mod:`probes.target_value.hyperparameters`;
here the method, its layers and what tunes its update are added.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from probes.target_value.hyperparameters import (
    Hyperparameters,
    as_kind,
    layers_of,
    load_hyperparameters,
    of_target,
    plain_name,
)
from rome_diagnosis.editors import PUBLISHED
from rome_diagnosis.errors import UserError
from rome_diagnosis.methods import METHODS, PARAMETERS, POST, Method

# The published files' names for the parameters of an update.
PUBLISHED_NAMES: Mapping[str, str] = {
    "mom2_update_weight": "weight",
    "emmet_lambda": "damping",
    "update_norm_lambda": "ridge",
    "nullspace_threshold": "threshold",
    "L2": "l2",
}
# Names in published files that decide nothing here: every published run takes all layers, and
# EMMET's objective is only reported. Prompts' keys are always in MEMIT's and its followers' means.
# ENCORE's files carry experiments along that none of them turns on.
IDLE_NAMES = (
    "layer_selection", "calculate_objective_value", "nullspace_dimension", "norm_control",
    "dynamic_multiplier", "random_vector_preservation", "grad_desc_lr", "grad_desc_steps",
    "gd_lambda", "spectral_norm", "condition_num", "calculate_norms",
)  # fmt: skip
# ENCORE's names that must have these values: updates by gradient descent, and no history.
HELD_NAMES: Mapping[str, bool] = {"use_gd": False, "add_prev_edits": True}
# ENCORE's stop of z: −n stops where the new object has led n times.
STOP = "prob_cutoff"
# PMET's factor of the new object's NLL, and the matrices it writes: the MLP's in all its files.
NLL, WRITTEN = "nll_loss_factor", "rewrite_module_tmps"
# Files without alg_name are told apart by the parameter that only one published method has.
TELLING: Mapping[str, str] = {
    "nullspace_threshold": "alphaedit",
    STOP: "encore",
    NLL: "pmet",
    "emmet_lambda": "emmet",
    "mom2_update_weight": "memit",
}


@dataclass(frozen=True, kw_only=True)
class MethodFile:
    """How a method edits: which layers, with which parameters, towards which target.

    Attributes:
        method: Its name among :data:`rome_diagnosis.methods.METHODS`.
        layers: The edited layers in ascending order; empty where nobody named any.
        parameters: What tunes the update, by names of :data:`rome_diagnosis.methods.PARAMETERS`.
        target: How the target value is optimised.
        post: A row of :data:`rome_diagnosis.methods.POST` that holds the update down, or ``None``.
    """

    method: str
    layers: tuple[int, ...] = ()
    parameters: Mapping[str, float] = field(default_factory=dict)
    target: Hyperparameters = field(default_factory=Hyperparameters)
    post: str | None = None

    def __post_init__(self) -> None:
        """Refuses parameters with which the update means nothing.

        Raises:
            UserError: Naming the first of them.
        """
        known = METHODS[self.method].parameters
        for name, value in self.parameters.items():
            if name not in known:
                has = f"it has {', '.join(known)}" if known else "nothing tunes it"
                raise UserError(f"{self.method} has no parameter {name}: {has}")
            if not (math.isfinite(value) and 0 <= value <= 1e12):
                raise UserError(
                    f"{name} ({PARAMETERS[name]}) is {value}: it must be from 0 to 1e12"
                )
            if name == "weight" and value == 0 and known.keys() == {"weight"}:
                raise UserError(
                    f"weight (λ) is 0, and {self.method} has nothing else to hold it back: give a "
                    "λ above 0; emmet with damping 0 writes each edit in full"
                )
        if self.post is not None and self.post not in POST:
            raise UserError(f"nothing called {self.post!r} is done to updates: {', '.join(POST)}")
        if len(self.layers) > 1 and not METHODS[self.method].over_layers:
            raise UserError(
                f"{self.method} edits one layer, not {', '.join(map(str, self.layers))}"
            )

    @property
    def row(self) -> Method:
        """The method's row of the table."""
        return METHODS[self.method]


def defaults(method: str) -> MethodFile:
    """What published code ships for a method.

    Args:
        method: Its name.

    Returns:
        Its parameters, and the target's hyper-parameters with its clamp factor; no layers.

    Raises:
        UserError: If there is no such method.
    """
    row = METHODS.get(method)
    if row is None:
        raise UserError(f"there is no method {method!r}: known are {', '.join(METHODS)}")
    target = dataclasses.replace(
        Hyperparameters(clamp_norm_factor=row.clamp), **dict(row.optimised)
    )
    return MethodFile(method=method, parameters=dict(row.parameters), target=target)


def read_method_file(path: str | os.PathLike[str], method: str | None = None) -> MethodFile:
    """Reads a hyper-parameter file of any method of the family.

    Args:
        path: The file: JSON as the methods' own code ships it, or EasyEdit's YAML.
        method: The method it is to be used for; the file's own by default.

    Returns:
        What it says; what it leaves out keeps the method's published value.

    Raises:
        UserError: If the file cannot be read, is for another method, or has a mistyped name or a
            value that cannot be used.
    """
    return from_mapping(load_hyperparameters(path), method, source=str(path))


def from_mapping(
    values: Mapping[str, Any], method: str | None = None, *, source: str = "the file"
) -> MethodFile:
    """Takes a method's hyper-parameters from the published field names.

    Args:
        values: Field names and values.
        method: As in :func:`read_method_file`.
        source: What to call them in an error.

    Returns:
        The hyper-parameters.

    Raises:
        UserError: As in :func:`read_method_file`.
    """
    own = _method_of(values, source)
    chosen = defaults(method or own or PUBLISHED)
    # Methods that share a file's fields may share the file: MEMIT's serves MEMIT with history.
    if own is not None and method is not None and not _serves(METHODS[own], chosen.row):
        raise UserError(f"{source} is for {own}, not for {method}: leave --method out, or give a "
                        f"file of {method}")  # fmt: skip
    parameters = dict(chosen.parameters)
    for published, ours in PUBLISHED_NAMES.items():
        # AlphaEdit's files carry MEMIT's λ along, which its update does not read.
        if published in values and ours in parameters:
            parameters[ours] = as_kind(float, values[published], f"{published} in {source}")
    for name, held in HELD_NAMES.items():
        if as_kind(bool, values.get(name, held), f"{name} in {source}") != held:
            raise UserError(f"{source} has {name}: {not held}, which is not performed here")
    matrices = values.get(WRITTEN, ["mlp"])
    if not isinstance(matrices, list) or len(matrices) != 1 or "att" in str(matrices):
        raise UserError(
            f"{source} has {WRITTEN}: {matrices}: only the MLP's output projection is edited here"
        )
    names = (*PUBLISHED_NAMES, *IDLE_NAMES, *HELD_NAMES, STOP, NLL, WRITTEN)
    target = of_target(values, source=source, also_known=names, defaults=chosen.target)
    if STOP in values:
        target = dataclasses.replace(target, most_probable=_stop(values[STOP], source))
    if NLL in values:
        factor = as_kind(float, values[NLL], f"{NLL} in {source}")
        target = dataclasses.replace(target, nll_factor=factor)
    return dataclasses.replace(
        chosen, layers=layers_of(values, source=source), parameters=parameters, target=target
    )


def _stop(value: Any, source: str) -> int:
    """How often the new object must have led for z to stop; ENCORE's code takes it negated."""
    times = -as_kind(int, value, f"{STOP} in {source}")
    if times < 0:
        raise UserError(
            f"{STOP} in {source} is {value}: a stop at a mean probability is not performed; −2 "
            "stops where the new object has been the most probable twice"
        )
    return int(times)


def _method_of(values: Mapping[str, Any], source: str) -> str | None:
    """The method a file is for; ``None`` where any editor of one fact may use it."""
    name = values.get("alg_name")
    if name is None:
        return next((method for field, method in TELLING.items() if field in values), None)
    known = {plain_name(method): method for method in METHODS}
    plain = plain_name(name) if isinstance(name, str) else ""
    if plain not in known:
        raise UserError(f"{source} is for {str(name)[:40]!r}: known are {', '.join(METHODS)}")
    return known[plain]


def _serves(own: Method, wanted: Method) -> bool:
    """Whether one method's file has all that another method is tuned with."""
    if not wanted.over_layers:
        return not own.over_layers
    return own.over_layers and set(wanted.parameters) <= {*own.parameters, "ridge"}
