"""Options that choose an editor or a method of its family, and tune it and its target v*."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rome_diagnosis.defaults import CLAMP_FACTOR
from rome_diagnosis.options.values import UNSET, Options, count, parameter, positive

# The hyper-parameters of a target that a command line may set.
TARGET: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "evaluations": (count, "evaluations of the loss; one step less"),
    "learning_rate": (positive, "Adam learning rate"),
    "weight_decay": (float, "factor of ‖δ‖/‖v_u‖²"),
    "kl_factor": (float, "factor of the divergence from the unedited model"),
    "stop_below": (float, "loss at which the optimisation stops"),
}


def add_editor(to: Options, *, auto: str) -> None:
    """Adds ``--method`` for one editor, or what chooses one.

    Args:
        to: A parser, or a group of its options.
        auto: The word that leaves the choice to the diagnosis, and the default.
    """
    from rome_diagnosis.editors import EDITORS

    to.add_argument(
        "--method",
        choices=(auto, *EDITORS),
        default=auto,
        help=f"the editor; {auto} takes the first one that is safe",
    )


def add_other_method(to: Options) -> None:
    """Adds ``--method``, by which a command about one fact's editors turns to another method."""
    from rome_diagnosis.editors import EDITORS
    from rome_diagnosis.methods import METHODS

    *most, last = EDITORS
    to.add_argument(
        "--method",
        choices=tuple(METHODS),
        default=UNSET,
        help=f"{', '.join(most)} and {last} are always shown together; any other goes to "
        "diag.batch, with its options",
    )


def names_a_batch_method(words: Sequence[str]) -> bool:
    """Whether a command line's ``--method`` is for ``diag.batch``.

    Args:
        words: The command line, without the program's name.

    Returns:
        Whether it names a method, and not one of the editors that are shown together.
    """
    from rome_diagnosis.editors import EDITORS

    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    reader.add_argument("--method", nargs="?")
    method = reader.parse_known_args(words)[0].method
    return method is not None and method not in EDITORS


def add_method(to: Options, *, method: str, hyperparameters: str | None = None) -> None:
    """Adds ``--method`` with every method of the family, its parameters and its file.

    Args:
        to: A parser, or a group of its options.
        method: Help on the method.
        hyperparameters: Help on the file; ``None`` leaves it out.
    """
    from rome_diagnosis.methods import METHODS, PARAMETERS

    to.add_argument("--method", choices=tuple(METHODS), default=UNSET, help=method)
    if hyperparameters is not None:
        add_hyperparameters(to, hyperparameters)
    for name, symbol in PARAMETERS.items():
        to.add_argument(f"--{name}", type=parameter, default=UNSET, help=symbol)


def method_of(given: Mapping[str, Any], default: str | None = None) -> dict[str, Any]:
    """The method, its file and what tunes it, as ``diag.batch.api.choose_method`` takes them.

    Args:
        given: Parsed options of :func:`add_method`.
        default: The method where neither it nor a file is given.
    """
    from rome_diagnosis.methods import PARAMETERS

    file = given.get("hyperparameters")
    return {
        "method": given.get("method", default if file is None else None),
        "hyperparameters": file,
        "parameters": {name: given[name] for name in PARAMETERS if name in given},
    }


def add_hyperparameters(to: Options, help: str) -> None:
    """Adds ``--hyperparameters``, a file of a method's published code."""
    to.add_argument("--hyperparameters", metavar="FILE", default=UNSET, help=help)


def add_clamp(to: Options, *, default: float | None = CLAMP_FACTOR) -> None:
    """Adds ``--clamp-norm-factor``, and without mention the name that some commands had for it.

    Args:
        to: A parser, or a group of its options.
        default: ``None`` where the method's own or a file's holds.
    """
    to.add_argument(
        "--clamp-norm-factor",
        type=positive,
        default=UNSET if default is None else default,
        help="the target may move this many times the length of what it starts from"
        + (" (default: the method's)" if default is None else ""),
    )
    to.add_argument(
        "--clamp-factor",
        dest="clamp_norm_factor",
        type=positive,
        default=UNSET,
        help=argparse.SUPPRESS,
    )


def add_target(parser: argparse.ArgumentParser) -> None:
    """Adds how v* is optimised."""
    group = parser.add_argument_group("optimisation of v*")
    add_hyperparameters(
        group, "of ROME (JSON) or EasyEdit (YAML); the options below have precedence"
    )
    for name, (kind, text) in TARGET.items():
        option = "--" + name.replace("_", "-")
        group.add_argument(option, type=kind, default=UNSET, help=text)
    add_clamp(group, default=None)
    group.add_argument(
        "--c-rome-target",
        choices=("published", "consistent"),
        default="published",
        help="what C-ROME writes: v_u + δ as published, or v̄ + δ",
    )


def target_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """The hyper-parameters of a target that options have given, by name."""
    return {name: given[name] for name in (*TARGET, "clamp_norm_factor") if name in given}
