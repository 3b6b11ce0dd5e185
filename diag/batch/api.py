"""The library call: ``from diag.batch import batch``."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from diag.verify.api import split_options
from probes.setup import SetupOptions
from rome_diagnosis.errors import UserError
from rome_diagnosis.methods import BATCHED, METHODS

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from diag.batch.result import Batch
    from diag.verify.settings import Facts, Texts
    from probes.request.cases import EditCase
    from probes.target_value.method_file import MethodFile


class BatchOptions(SetupOptions, total=False):
    """Fields of :class:`probes.setup.Setup` and of :class:`diag.verify.settings.Settings`."""

    collapse_ratio: float
    precision: float
    texts: Texts | Sequence[str]
    facts: Facts


def batch(
    edits: Sequence[EditCase] | str | os.PathLike[str],
    *,
    method: str | None = None,
    hyperparameters: str | os.PathLike[str] | None = None,
    layers: Sequence[int] | None = None,
    parameters: Mapping[str, float] | None = None,
    post: str | None = None,
    perform: bool = False,
    save_model: str | os.PathLike[str] | None = None,
    **options: Unpack[BatchOptions],
) -> Batch:
    """Checks a batch of edits by one method and, if asked for, makes it and measures the model.

    Args:
        edits: A file in any of the published formats, or cases.
        method: A row of :data:`rome_diagnosis.methods.METHODS`; by default the one that
            ``hyperparameters`` are of, else MEMIT.
        hyperparameters: A file of the method's own code or of EasyEdit.
        layers: The edited layers; by default those of the file, else the one published work edits.
        parameters: Values by names of :data:`rome_diagnosis.methods.PARAMETERS`, which have
            precedence over the file's.
        post: A row of :data:`rome_diagnosis.methods.POST` that holds the update down.
        perform: Whether to make the batch; the model is afterwards what it was.
        save_model: A directory for the edited model; makes the batch.
        **options: Model, contexts and second moment (:class:`probes.setup.Setup`), and for a batch
            that is made what is measured on it (:class:`diag.verify.settings.Settings`).
            ``n_prefixes`` is what the method's published code samples, where it is not given; a
            file of second moments has ``{layer}`` in its name where there are several layers.

    Returns:
        What is known of the batch.

    Raises:
        UserError: For anything the caller can put right.
    """
    from diag.batch.run import run
    from probes.request.records import Edits, read_edits

    listed = (
        read_edits(edits) if isinstance(edits, str | os.PathLike) else Edits(tuple(edits or ()))
    )
    if not listed.cases and not listed.refused:
        raise UserError("the batch has no edits")
    n_prefixes = options.get("n_prefixes")
    setup, settings = split_options({**options})
    chosen = choose_method(method, hyperparameters, layers, parameters, post=post)
    return run(
        listed,
        setup,
        chosen,
        n_prefixes=n_prefixes,
        settings=settings if perform or save_model is not None else None,
        save_model=save_model,
    )


def choose_method(
    method: str | None,
    hyperparameters: str | os.PathLike[str] | None = None,
    layers: Sequence[int] | None = None,
    parameters: Mapping[str, float] | None = None,
    *,
    post: str | None = None,
    **target: Any,
) -> MethodFile:
    """A method with its layers and parameters, from a file and from what has precedence over it.

    Args:
        method: As of :func:`batch`.
        hyperparameters: As of :func:`batch`.
        layers: As of :func:`batch`.
        parameters: As of :func:`batch`.
        post: As of :func:`batch`.
        **target: Hyper-parameters of the target's optimisation that have precedence.

    Returns:
        The method.

    Raises:
        UserError: If there is no such method, the file cannot be used, or a value makes no sense.
    """
    from probes.target_value.method_file import defaults, read_method_file

    if method is not None and method not in METHODS:
        raise UserError(f"there is no method {method!r}: known are {', '.join(METHODS)}")
    if hyperparameters is not None:
        chosen = read_method_file(hyperparameters, method)
    else:
        chosen = defaults(method or BATCHED)
    if layers is not None:
        if not layers or list(layers) != sorted(set(layers)):
            raise UserError(
                f"layers are {list(layers)}: expected different ones in ascending order"
            )
        chosen = dataclasses.replace(chosen, layers=tuple(layers))
    return dataclasses.replace(
        chosen,
        post=post,
        parameters={**chosen.parameters, **(parameters or {})},
        target=dataclasses.replace(chosen.target, **target),
    )
