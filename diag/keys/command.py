"""The command line of ``python -m diag.keys``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rome_diagnosis import command, options


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser("diag.keys", "Will editing this fact with ROME break the model?")
    options.add_request(parser)
    options.add_model(parser, several=True)
    options.add_clamp(parser)
    options.add_other_method(parser)
    group = options.add_output(parser)
    group.add_argument(
        "--save-tensors",
        metavar="FILE",
        default=options.UNSET,
        help="keys and second moment as safetensors",
    )
    options.add_fail_on(group)
    options.add_verbose(group, "every measurement and check")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command, as :func:`rome_diagnosis.command.run` asks for it."""
    words = command.words(arguments)
    if options.names_a_batch_method(words):
        return command.hand_over("diag.batch", words)
    parsed, given, _ = command.parse(build_parser(), words)
    if len(given.get("layer", ())) > 1:  # Several blocks, or the word "all".
        return command.hand_over("diag.sweep", words)
    setup = options.setup(parsed)
    parts = {name: given[name] for name in ("prompt", "target_new", "target_true") if name in given}
    tensors = (given.get("save_tensors"), ".safetensors")
    with options.outputs(given, setup.inputs(), tensors=tensors):
        from diag.keys.api import choose_request, diagnose

        # The request is read first: a typing mistake should not wait for a model to load.
        choose_request(parsed.subject, **parts)
        result = diagnose(
            parsed.subject, **parts, clamp=parsed.clamp_norm_factor, **setup.options()
        )
        if "save_tensors" in given:
            result.save_tensors(given["save_tensors"])
        command.deliver(result, given, text="reports.text.keys", verbose=parsed.verbose)
    return int(options.fails(given, [result.verdict]))
