"""ROME's hyper-parameters, as its own and EasyEdit's files write them."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rome_diagnosis.errors import UserError

# The field names of the published files and ours. Those not listed (module templates, the name of
# the statistics' data set, v_loss_layer, which the published code reads but whose loss is always
# taken at the last layer) decide nothing here.
PUBLISHED_NAMES = {
    "v_num_grad_steps": "evaluations",
    "v_lr": "learning_rate",
    "v_weight_decay": "weight_decay",
    "clamp_norm_factor": "clamp_norm_factor",
    "kl_factor": "kl_factor",
    "mom2_adjustment": "second_moment_adjustment",
}


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """How the target value v* is optimised; the defaults are ROME's for GPT-2.

    Attributes:
        evaluations: Evaluations of the loss; the last one takes no step, so there is one step less.
        learning_rate: Adam's.
        weight_decay: Factor of ‖δ‖ / ‖v_u‖².
        clamp_norm_factor: Longest δ, in lengths of v_u.
        kl_factor: Factor of the Kullback–Leibler divergence from the unedited model.
        stop_below: The loss at which the optimisation stops.
        second_moment_adjustment: Whether u is C⁻¹k̄; some forks ship False, that is C = I.
        layer: The edited layer the file names, if it names one.
        context_lengths: Lengths in tokens and numbers of the sampled prefixes.
    """

    evaluations: int = 20
    learning_rate: float = 0.5
    weight_decay: float = 0.5
    clamp_norm_factor: float = 4.0
    kl_factor: float = 0.0625
    stop_below: float = 0.05
    second_moment_adjustment: bool = True
    layer: int | None = None
    context_lengths: tuple[tuple[int, int], ...] = ((5, 10), (10, 10))

    def __post_init__(self) -> None:
        """Refuses values with which the optimisation means nothing."""
        for name, lowest in (
            ("evaluations", 1),
            ("learning_rate", 0),
            ("weight_decay", 0),
            ("kl_factor", 0),
            ("stop_below", 0),
        ):
            if not getattr(self, name) >= lowest:
                raise UserError(f"{name} is {getattr(self, name)}: it must be {lowest} or more")
        if not self.clamp_norm_factor > 0:
            raise UserError(f"clamp_norm_factor is {self.clamp_norm_factor}: it must be above 0")

    def to_json(self) -> dict[str, Any]:
        """The values as a JSON object."""
        return dataclasses.asdict(self)


def read(path: str | os.PathLike[str]) -> Hyperparameters:
    """Reads a hyper-parameter file of ROME (JSON) or EasyEdit (YAML).

    Args:
        path: The file.

    Returns:
        The hyper-parameters; what the file leaves out keeps its default.

    Raises:
        UserError: If the file cannot be read, is no mapping, holds a value of the wrong type, or
            looks the fact up anywhere but at the subject's last token.
    """
    import yaml

    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the hyper-parameter file {path}: {error}") from error
    try:
        # A JSON document is YAML too, but YAML 1.1 takes 5e-1 for a string.
        values = json.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} is neither JSON nor YAML: {_one_line(error)}") from error
    if not isinstance(values, Mapping):
        raise UserError(f"{path} holds no hyper-parameters, but a {type(values).__name__}")
    return from_mapping(values, source=str(path))


def from_mapping(values: Mapping[str, Any], *, source: str = "the file") -> Hyperparameters:
    """Takes hyper-parameters from the published field names.

    Args:
        values: Field names and values.
        source: What to call them in an error.

    Returns:
        The hyper-parameters.

    Raises:
        UserError: As in :func:`read`.
    """
    token = values.get("fact_token", "subject_last")
    if token != "subject_last":
        raise UserError(
            f"{source} looks the fact up at {token!r}: only subject_last, which all published "
            "ROME experiments use, is supported"
        )
    defaults = Hyperparameters()
    taken: dict[str, Any] = {}
    for published, ours in PUBLISHED_NAMES.items():
        if published in values:
            kind = type(getattr(defaults, ours))
            taken[ours] = _as(kind, values[published], f"{published} in {source}")
    layers = values.get("layers")
    if layers is not None:
        if not isinstance(layers, list) or len(layers) != 1:
            raise UserError(f"{source} edits the layers {layers}: ROME edits one")
        taken["layer"] = _as(int, layers[0], f"layers in {source}")
    lengths = values.get("context_template_length_params")
    if lengths is not None:
        try:
            taken["context_lengths"] = tuple((int(length), int(n)) for length, n in lengths)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"context_template_length_params in {source} is {lengths!r}: "
                "expected pairs of length and number"
            ) from error
    return Hyperparameters(**taken)


def _as(kind: type, value: Any, name: str) -> Any:
    if kind is bool:
        if isinstance(value, bool):
            return value
    elif not isinstance(value, bool):
        try:
            number = float(value)
            if kind is float or number == int(number):
                return kind(number)
        except (TypeError, ValueError, OverflowError):
            pass
    raise UserError(f"{name} is {value!r}: expected {kind.__name__}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
