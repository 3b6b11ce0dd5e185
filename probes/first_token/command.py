"""The command line of ``python -m probes.first_token``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from probes.first_token.api import COUNT, PAIRS
from rome_diagnosis import command, options
from rome_diagnosis.progress import note, stages

FIRST_STAGE = "subjects"  # of what is measured, after the model is loaded
TAKES = (
    "this takes about a minute on the bundled model with two cores, and longer with its size, "
    "--n-subjects and --pairs"
)


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser(
        "probes.first_token", "Where and why are keys of first tokens different?"
    )
    group = parser.add_argument_group("subjects")
    group.add_argument(
        "--subjects",
        metavar="FILE",
        default=options.UNSET,
        help="JSON Lines with subject, prompt and later_prompt, or one subject a line (default: "
        "the bundled world's)",
    )
    group.add_argument(
        "--n-subjects", type=options.count, default=COUNT, help="take at most this many subjects"
    )
    group.add_argument(
        "--any-subject",
        action="store_true",
        default=options.UNSET,
        help="also take subjects of several tokens",
    )
    options.add_prefixes(group)
    group.add_argument(
        "--pairs",
        type=options.count,
        default=PAIRS,
        help="prefixes per subject used in the attribution",
    )
    group = options.add_model(parser)
    group.add_argument(
        "--whiten",
        choices=("edited", "all"),
        default="edited",
        help="use the C⁻¹ metric at the edited block only, or at all blocks",
    )
    group.add_argument(
        "--encoder",
        metavar="NAME_OR_DIR",
        default=options.UNSET,
        help="a T5 whose encoder is measured in the same way as a control",
    )
    options.add_output(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command, as :func:`rome_diagnosis.command.run` asks for it."""
    parsed, given, _ = command.parse(build_parser(), arguments)
    setup = options.setup(parsed)
    subjects = given.get("subjects")
    with options.outputs(given, [*setup.inputs(), subjects, given.get("encoder")]):
        from probes.first_token.api import probe

        if subjects is not None:
            from probes.first_token.subjects import read_subjects

            read_subjects(subjects)  # a mistake in the file should not wait for a model to load
        with stages("first-token probes", quiet=setup.quiet) as stage:
            result = probe(
                subjects=subjects,
                n_subjects=parsed.n_subjects,
                first_only="any_subject" not in given,
                pairs=parsed.pairs,
                whiten=parsed.whiten,
                encoder=given.get("encoder"),
                stage=_announced(stage, quiet=setup.quiet),
                **setup.options(),
            )
        command.deliver(result, given, text="reports.text.first_token")
    return 0


def _announced(stage: Callable[[str], None], *, quiet: bool) -> Callable[[str], None]:
    """Says how long it takes once the model is there: a mistake in its name is one line."""

    def entered(name: str) -> None:
        if name == FIRST_STAGE and not quiet:
            note(TAKES)
        stage(name)

    return entered
