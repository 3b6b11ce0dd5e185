"""The options that choose a method of the family and tune it, for every command that takes one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rome_diagnosis import options
from rome_diagnosis.methods import METHODS, PARAMETERS


def add_method(to: options.Options, *, method: str, hyperparameters: str | None = None) -> None:
    """Adds ``--method`` with every method of the family, and ``--hyperparameters`` with its file.

    Args:
        to: A parser, or a group of its options.
        method: Help on the method.
        hyperparameters: Help on the file; ``None`` leaves it out.
    """
    to.add_argument("--method", choices=tuple(METHODS), default=options.UNSET, help=method)
    if hyperparameters is not None:
        to.add_argument(
            "--hyperparameters", metavar="FILE", default=options.UNSET, help=hyperparameters
        )


def add_parameters(to: options.Options) -> None:
    """Adds what methods of the family are tuned with."""
    for name, symbol in PARAMETERS.items():
        to.add_argument(f"--{name}", type=_parameter, default=options.UNSET, help=symbol)


def chosen(given: Mapping[str, Any], default: str | None = None) -> dict[str, Any]:
    """The method, its file and what tunes it, as ``diag.batch.api.choose`` takes them.

    Args:
        given: Parsed options of :func:`add_method` and :func:`add_parameters`.
        default: The method where neither it nor a file is given.
    """
    file = given.get("hyperparameters")
    return {
        "method": given.get("method", default if file is None else None),
        "hyperparameters": file,
        "parameters": {name: given[name] for name in PARAMETERS if name in given},
    }


def _parameter(text: str) -> float:
    """Reads a parameter: a finite number, 0 or more."""
    return 0.0 if float(text) == 0 else options.positive(text)
