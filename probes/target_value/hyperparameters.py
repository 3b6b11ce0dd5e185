"""ROME's hyper-parameters, as its own and EasyEdit's files write them."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from rome_diagnosis.defaults import CLAMP_FACTOR
from rome_diagnosis.errors import UserError
from rome_diagnosis.source import read_text

WHAT = "the hyper-parameter file"
LARGEST_FILE = 1 << 16  # bytes; the published files have about a thousand
MOST_BRACKETS = 1000  # the published files have about twenty
# The published files' names for our fields.
PUBLISHED_NAMES = {
    "v_num_grad_steps": "evaluations",
    "v_lr": "learning_rate",
    "v_weight_decay": "weight_decay",
    "clamp_norm_factor": "clamp_norm_factor",
    "kl_factor": "kl_factor",
    "mom2_adjustment": "second_moment_adjustment",
}
# Further names that are looked at.
OTHER_NAMES = ("alg_name", "model_name", "fact_token", "layers", "context_template_length_params")
# Names in published files that decide nothing here: module templates, the statistics' data set,
# the machine, and v_loss_layer, which the published code reads although the loss is always taken
# at the last layer. EasyEdit's last three choose keys, which is what the editors here differ in.
IDLE_NAMES = (
    "v_loss_layer", "rewrite_module_tmp", "layer_module_tmp", "mlp_module_tmp", "attn_module_tmp",
    "ln_f_module", "lm_head_module", "embedding_layer", "mom2_dataset", "mom2_n_samples",
    "mom2_dtype", "stats_dir", "device", "max_length", "batch_size", "model_parallel", "fp16",
    "enable_prompt_keys", "enable_random_prefix_keys", "original_implementation",
)  # fmt: skip
KNOWN_NAMES = (*PUBLISHED_NAMES, *OTHER_NAMES, *IDLE_NAMES)
# The contexts of published files, which are sampled without being asked for.
PUBLISHED_CONTEXTS = (((5, 10), (10, 10)), ((0, 1), (10, 5)))
# Editors that optimise v* as ROME does.
ALGORITHMS = ("ROME", "R-ROME", "C-ROME", "P-ROME")
# Beyond these the arithmetic overflows and no published file comes near.
LARGEST = {
    "evaluations": 100_000,
    "learning_rate": 1e6,
    "weight_decay": 1e6,
    "kl_factor": 1e6,
    "stop_below": 1e6,
    "most_probable": 100_000,
    "nll_factor": 1e6,
    "leading_nll": 1.0,
    "leading_kl": 1e6,
    "clamp_norm_factor": 1e6,
}


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """How the target value v* is optimised; the defaults are ROME's for GPT-2.

    Attributes:
        evaluations: Evaluations of the loss; the last one takes no step, so there is one step less.
        learning_rate: Adam learning rate.
        weight_decay: Factor of ‖δ‖ / ‖v_u‖².
        clamp_norm_factor: ‖δ‖ is clamped to this factor times ‖v_u‖.
        kl_factor: Factor of the Kullback–Leibler divergence from the unedited model.
        stop_below: The loss, in nats, at which the optimisation stops.
        most_probable: At how many evaluations the new object must be the most probable in every
            prefixed context for the optimisation to stop there (ENCORE); 0 to go on regardless.
        nll_factor: Factor of the new object's negative log-likelihood.
        leading_nll: What remains of that factor after an evaluation at which the new object was the
            most probable in every context (PMET); 1 for all of it.
        leading_kl: The optimisation stops at such an evaluation if the Kullback–Leibler term, its
            factor included, is at most this (PMET); 0 to go on regardless.
        second_moment_adjustment: Whether u is C⁻¹k̄; some forks ship False, that is C = I.
        layer: The edited layer that the file names, if any.
        context_lengths: Pairs of a length in tokens and a number of sampled prefixes.
        model_name: The model that the file is for, if it names one.
        unused: The names in the file that decide nothing and are in no published file.
    """

    evaluations: int = 20
    learning_rate: float = 0.5
    weight_decay: float = 0.5
    clamp_norm_factor: float = CLAMP_FACTOR
    kl_factor: float = 0.0625
    stop_below: float = 0.05
    most_probable: int = 0
    nll_factor: float = 1.0
    leading_nll: float = 1.0
    leading_kl: float = 0.0
    second_moment_adjustment: bool = True
    layer: int | None = None
    context_lengths: tuple[tuple[int, int], ...] = ((5, 10), (10, 10))
    model_name: str | None = None
    unused: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuses values with which the optimisation means nothing."""
        for name, largest in LARGEST.items():
            value = getattr(self, name)
            lowest = int(name == "evaluations")
            if not (math.isfinite(value) and lowest <= value <= largest):
                raise UserError(f"{name} is {value}: it must be from {lowest} to {largest:g}")
        for name in ("clamp_norm_factor", "nll_factor"):  # else v* would be v, or be about nothing
            if not getattr(self, name) > 0:
                raise UserError(f"{name} is {getattr(self, name)}: it must be above 0")

    @property
    def follows_lead(self) -> bool:
        """Whether it matters that the new object is the most probable in every context."""
        return self.leading_nll != 1.0 or self.leading_kl > 0.0

    def reach(self, d_model: int) -> float:
        """The longest δ that Adam can make: a coordinate moves by about the learning rate a step.

        Args:
            d_model: Length of δ.

        Returns:
            (evaluations − 1) · learning rate · √d_model.
        """
        return (self.evaluations - 1) * self.learning_rate * math.sqrt(d_model)

    def to_json(self) -> dict[str, Any]:
        """The values as a JSON object."""
        return dataclasses.asdict(self)

    def notes(self, model: str) -> tuple[str, ...]:
        """What people should know when these are used.

        Args:
            model: Name or directory of the model that is edited.

        Returns:
            A line about names that are not used, and one if the file is for another model.
        """
        lines = []
        if self.unused:
            lines.append(f"hyper-parameters that are not used: {', '.join(self.unused)}")
        if self.model_name is not None and plain_name(self.model_name) != plain_name(model):
            lines.append(
                f"the hyper-parameters are those of {self.model_name}, but {model} is edited"
            )
        return tuple(lines)


def read_hyperparameters(path: str | os.PathLike[str]) -> Hyperparameters:
    """Reads a hyper-parameter file of ROME (JSON) or EasyEdit (YAML).

    Args:
        path: The file.

    Returns:
        The hyper-parameters; what the file leaves out keeps its default.

    Raises:
        UserError: If the file cannot be read, is no mapping, is for another algorithm, has a
            mistyped name or a value of the wrong type, or looks the fact up anywhere but at the
            subject's last token.
    """
    return from_mapping(load_hyperparameters(path), source=str(path))


def load_hyperparameters(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """Reads the names and values of a hyper-parameter file, JSON or YAML.

    Args:
        path: The file.

    Returns:
        Names and values, as the file has them.

    Raises:
        UserError: If the file cannot be read or is no mapping.
    """
    text = read_text(path, WHAT, largest=LARGEST_FILE)
    try:
        # A JSON document is YAML too, but YAML 1.1 takes 5e-1 for a string.
        is_json = text.lstrip().startswith("{")
        values = json.loads(text, object_pairs_hook=_once) if is_json else _yaml(text)
    except RecursionError as error:
        raise UserError(f"cannot read {WHAT} {path}: it is nested too deeply") from error
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is neither JSON nor YAML: {reason[:200]}") from error
    if not isinstance(values, Mapping):
        kind = type(values).__name__ if values is not None else "nothing"
        raise UserError(f"{path} has no hyper-parameters in it, but {kind}: expected names: values")
    return values


def from_mapping(values: Mapping[str, Any], *, source: str = "the file") -> Hyperparameters:
    """Takes hyper-parameters from the published field names.

    Args:
        values: Field names and values.
        source: What to call them in an error.

    Returns:
        The hyper-parameters.

    Raises:
        UserError: As in :func:`read_hyperparameters`.
    """
    algorithm = values.get("alg_name", ALGORITHMS[0])
    if not isinstance(algorithm, str) or plain_name(algorithm) not in map(plain_name, ALGORITHMS):
        raise UserError(
            f"{source} is for {_shown(algorithm)}: hyper-parameters of {', '.join(ALGORITHMS)} are "
            "expected"
        )
    layers = values.get("layers")
    if layers is not None and not (isinstance(layers, list) and len(layers) == 1):
        raise UserError(f"{source} edits the layers {_shown(layers)}: ROME edits one")
    return of_target(values, source=source)


def of_target(
    values: Mapping[str, Any],
    *,
    source: str = "the file",
    also_known: Sequence[str] = (),
    defaults: Hyperparameters | None = None,
) -> Hyperparameters:
    """Takes what the optimisation of v* or z needs, whatever the method.

    Args:
        values: Field names and values.
        source: What to call them in an error.
        also_known: Further names the method's file has.
        defaults: What the file leaves out; ROME's for GPT-2 if not given.

    Returns:
        The hyper-parameters; of several layers ``layer`` is the last, where z is optimised.

    Raises:
        UserError: As in :func:`read_hyperparameters`, but for the algorithm.
    """
    unused = _unused(values, source, (*KNOWN_NAMES, *also_known))
    token = values.get("fact_token", "subject_last")
    if token != "subject_last":
        raise UserError(
            f"{source} looks the fact up at {_shown(token)}: only subject_last, which all "
            "published ROME experiments use, is supported"
        )
    defaults = defaults or Hyperparameters()
    taken: dict[str, Any] = {"unused": unused}
    for published, ours in PUBLISHED_NAMES.items():
        if published in values:
            kind = type(getattr(defaults, ours))
            taken[ours] = as_kind(kind, values[published], f"{published} in {source}")
    if values.get("model_name") is not None:
        taken["model_name"] = str(values["model_name"])
    layers = layers_of(values, source=source)
    if layers:
        taken["layer"] = layers[-1]
    lengths = values.get("context_template_length_params")
    if lengths is not None:
        name = f"context_template_length_params in {source}"
        try:
            taken["context_lengths"] = tuple(
                (as_kind(int, length, name), as_kind(int, n, name)) for length, n in lengths
            )
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{name} is {_shown(lengths)}: expected pairs of length and number"
            ) from error
        if any(length < 0 or n < 1 for length, n in taken["context_lengths"]):
            raise UserError(f"{name} is {_shown(lengths)}: lengths are from 0 and numbers from 1")
        if taken["context_lengths"] not in PUBLISHED_CONTEXTS:
            taken["unused"] += ("context_template_length_params (see --n-prefixes)",)
    return dataclasses.replace(defaults, **taken)


def layers_of(values: Mapping[str, Any], *, source: str = "the file") -> tuple[int, ...]:
    """The layers a file edits, in its order; none where it names none.

    Args:
        values: Field names and values.
        source: What to call them in an error.

    Returns:
        The layers.

    Raises:
        UserError: If they are no list of different whole numbers in ascending order.
    """
    layers = values.get("layers")
    if layers is None:
        return ()
    if not isinstance(layers, list) or not layers:
        raise UserError(f"{source} edits the layers {_shown(layers)}: expected a list of layers")
    taken = tuple(as_kind(int, layer, f"layers in {source}") for layer in layers)
    if list(taken) != sorted(set(taken)):
        raise UserError(f"{source} edits the layers {_shown(layers)}: expected ascending ones")
    return taken


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object each of whose names is there once: of two values neither is the right one.

    Raises:
        ValueError: If a name is there twice.
    """
    twice = [name for name, n in Counter(name for name, _ in pairs).items() if n > 1]
    if twice:
        raise ValueError(f"it has {twice[0]} twice")
    return dict(pairs)


def _yaml(text: str) -> Any:
    """Reads YAML that holds values alone: no objects, and no aliases, which can grow without end.

    Raises:
        ValueError: If it is no such YAML.
    """
    import yaml

    if sum(text.count(bracket) for bracket in "[{") > MOST_BRACKETS:
        raise ValueError("it has too many brackets")  # the parser's time grows with their square
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError("aliases (*name) are not supported")
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _unused(values: Mapping[str, Any], source: str, known: Sequence[str]) -> tuple[str, ...]:
    """The names that decide nothing; one that looks like a mistyped known one is refused."""
    unknown = [str(name) for name in values if name not in known]
    for name in unknown:
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        if close:
            raise UserError(
                f"{source} has {_shown(name)}, which is unknown: did you mean {close[0]}?"
            )
    return tuple(unknown)


def as_kind(kind: type, value: Any, name: str) -> Any:
    """A value of a file as a number or a truth value.

    Args:
        kind: ``int``, ``float`` or ``bool``.
        value: What the file has.
        name: What to call it in an error.

    Returns:
        The value.

    Raises:
        UserError: If it is none.
    """
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
    raise UserError(f"{name} is {_shown(value)}: expected {kind.__name__}")


def _shown(value: Any) -> str:
    """A value as messages quote it."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        text = type(value).__name__
    return text if len(text) <= 60 else f"{text[:59]}…"


def plain_name(name: str) -> str:
    """A model's or an algorithm's name, without folder, owner, case and punctuation."""
    return re.sub(r"[^a-z0-9]", "", PurePath(name).name.lower().removesuffix("-hf"))
