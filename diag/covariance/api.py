"""The library call: ``from diag.covariance import second_moments``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rome_diagnosis.errors import UserError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from diag.covariance.result import SecondMoments
    from probes.setup import SetupOptions


def second_moments(
    *,
    layers: Sequence[int] | None = None,
    text: Sequence[str | os.PathLike[str]] | str | os.PathLike[str] | None = None,
    text_field: str | None = None,
    max_tokens: int | None = None,
    row_length: int | None = None,
    ridge: str = "auto",
    import_npz: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 60.0,
    **setup: Unpack[SetupOptions],
) -> SecondMoments:
    """Estimates the second moments of several layers' keys in one pass over a text.

    Args:
        layers: The blocks; by default the edited one.
        text: A source as ``--text`` takes it, or several; packaged text by default.
        text_field: The field of a record that holds its text; ``text`` or ``Text`` by default.
        max_tokens: Stop after the row that reaches this many tokens.
        row_length: Tokens in a row; by default as many as the model reads, at most 1,024.
        ridge: ``auto``, ``none`` or a factor; see :mod:`probes.second_moment.shrinkage`.
        import_npz: Statistics of ROME or EasyEdit to take instead of an estimate.
        output: Where C goes, ``{layer}`` in it for the block; by default where ``auto`` looks.
        checkpoint_every: Seconds of work that an interruption may cost.
        **setup: Model, device, type, BOS and seed; see :class:`probes.setup.Setup`.

    Returns:
        A summary that knows where the moments are.

    Raises:
        UserError: For anything the caller can put right.
    """
    from diag.covariance.run import MomentPlan, measure_moments
    from probes.ranks import ranks
    from probes.setup import Setup

    if layers is not None and not layers:
        raise UserError("no layers are given: name one or more, or None for the edited one")
    chosen = Setup(**setup)
    sources = [text] if isinstance(text, str | os.PathLike) else text
    plan = MomentPlan(
        text=None if sources is None else [os.fspath(source) for source in sources],
        text_field=text_field,
        max_tokens=max_tokens,
        row_length=row_length,
        seed=chosen.seed,
        ridge=str(ridge),
        import_npz=None if import_npz is None else os.fspath(import_npz),
        output=None if output is None else os.fspath(output),
        checkpoint_every=checkpoint_every,
        quiet=chosen.quiet,
        command_line=None,
    )
    read = plan.check()
    with ranks() as group:
        model = chosen.load()
        blocks = [chosen.choose_layer(model)] if layers is None else sorted(set(layers))
        return measure_moments(plan, read, model, blocks, group)
