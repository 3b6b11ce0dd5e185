"""``python -m diag.keys --layer 1,2,5`` or ``all``: the same edit at several blocks."""

from __future__ import annotations

from collections.abc import Sequence

from diag.keys.command import build_parser
from rome_diagnosis import command, options
from rome_diagnosis.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command, as :func:`rome_diagnosis.command.run` asks for it.

    Args:
        arguments: A line of ``diag.keys`` whose ``--layer`` names several blocks.

    Returns:
        The exit code.

    Raises:
        UserError: If it cannot be run.
    """
    parsed, given, _ = command.parse(build_parser(), arguments)
    layers = given.pop("layer")
    if "save_tensors" in given:
        raise UserError("--save-tensors takes one block: give --layer a number")
    setup = options.setup(parsed)
    parts = {name: given[name] for name in ("prompt", "target_new", "target_true") if name in given}
    with options.outputs(given, setup.inputs()):
        from diag.keys.api import choose_request
        from diag.sweep.api import sweep

        choose_request(parsed.subject, **parts)
        result = sweep(
            parsed.subject,
            layers=layers,
            **parts,
            clamp=parsed.clamp_norm_factor,
            **setup.options(),
        )
        command.deliver(result, given, text="reports.text.sweep")
    return int(options.fails(given, list(result.verdicts.values())))
