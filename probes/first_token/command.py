"""The command line of ``python -m probes.first_token``."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from rome_diagnosis import command
from rome_diagnosis.errors import UserError

if TYPE_CHECKING:
    from probes.first_token.run import FirstTokenProbes
    from probes.first_token.subjects import Case
    from probes.model.loaded import LoadedModel
    from probes.second_moment.moment import SecondMoment

Whiten = Literal["edited", "all"]
COUNT = 120  # subject_set.DEFAULT_COUNT, without its imports; a test holds them together
PAIRS = 4


def probe(
    model: LoadedModel | str | None = None,
    *,
    layer: int | None = None,
    subjects: Sequence[Case] | str | None = None,
    n_subjects: int = COUNT,
    first_only: bool = True,
    prefixes: Sequence[str] | None = None,
    n_prefixes: int = 20,
    pairs: int = PAIRS,
    second_moment: SecondMoment | str = "auto",
    whiten: Whiten = "edited",
    encoder: str | None = None,
    seed: int = 0,
    stage: Callable[[str], None] = lambda name: None,
) -> FirstTokenProbes:
    """Measures how first-token keys differ, and which mechanism makes them so.

    Args:
        model: A loaded model, a directory or a hub name; the bundled model by default.
        layer: The edited block; by default the one published work edits.
        subjects: Cases, or a file of subjects; by default those of the bundled world.
        n_subjects: How many at most.
        first_only: Take only subjects that are one token, the prompt's first.
        prefixes: Contexts 1…n as texts; sampled from the model by default.
        n_prefixes: How many to sample.
        pairs: Behind how many of the prefixes each subject is taken apart.
        second_moment: C of the edited block itself, a file, ``"identity"`` or ``"auto"``.
        whiten: Whether the C⁻¹ metric is used at the edited block only, or C is found (and if
            need be estimated) for all blocks.
        encoder: A T5, in whose encoder the same is measured as a control.
        seed: Of contexts, folds, shuffles, bootstraps and projections.
        stage: Called with a word before each part of the work.

    Returns:
        Everything measured.

    Raises:
        UserError: For anything the caller can put right.
    """
    import probes.request.prefixes
    from probes.first_token.run import inquire
    from probes.first_token.subjects import bundled_cases, read

    for name, number in (("subjects", n_subjects), ("pairs", pairs)):
        if number < 1:
            raise UserError(f"the number of {name} must be 1 or more, not {number}")
    cases = read(subjects) if isinstance(subjects, str) else subjects
    control = None
    if encoder is not None:
        import probes.first_token.encoder

        control = probes.first_token.encoder.load(encoder)
    loaded, block = _settle(model, layer)
    stage("contexts")
    given = prefixes is not None
    texts = (
        probes.request.prefixes.given(prefixes)
        if prefixes is not None
        else probes.request.prefixes.sample(loaded, n=n_prefixes, seed=seed)
    )
    stage("second moment")
    moment = (
        command.find_second_moment(loaded, block, second_moment)
        if isinstance(second_moment, str)
        else second_moment
    )
    moments = {block: moment}
    if whiten == "all":
        for other in range(loaded.n_layers):
            if other != block:
                moments[other] = command.find_second_moment(
                    loaded, other, "identity" if moment.is_identity else "auto"
                )
    words = ["python", "-m", "probes.first_token", "--model", loaded.name, "--layer", str(block)]
    words += ["--n-subjects", str(n_subjects), "--pairs", str(pairs), "--seed", str(seed)]
    if isinstance(subjects, str):
        words += ["--subjects", subjects]
    words += [] if first_only else ["--any-subject"]
    words += [] if encoder is None else ["--encoder", encoder]
    if given:
        words += [f"--prefix={text}" for text in texts]
    else:
        words += ["--n-prefixes", str(n_prefixes)]
    words += ["--whiten", whiten, "--bos" if loaded.bos else "--no-bos", "--dtype", loaded.dtype]
    if moment.source not in ("shipped", "estimated"):
        words += ["--second-moment", moment.source]
    return inquire(
        loaded,
        block,
        bundled_cases() if cases is None else cases,
        texts,
        moments,
        count=n_subjects,
        pairs=pairs,
        first_only=first_only,
        seed=seed,
        about={
            "command": shlex.join(words),
            "source": "bundled world"
            if cases is None
            else str(subjects)
            if isinstance(subjects, str)
            else "given",
            "contexts_sampled": not given,
        },
        encoder=control,
        stage=stage,
    )


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser(
        "probes.first_token", "Where and why are keys of first tokens different?"
    )
    group = parser.add_argument_group("subjects")
    unset = argparse.SUPPRESS
    group.add_argument(
        "--subjects", metavar="FILE", default=unset,
        help="JSON Lines with subject, prompt and later_prompt, or one subject a line (default: "
        "the bundled world's)",
    )  # fmt: skip
    group.add_argument("--n-subjects", type=int, default=COUNT, help="how many at most")
    group.add_argument(
        "--any-subject", action="store_true", default=unset,
        help="take subjects of several tokens too",
    )  # fmt: skip
    group.add_argument(
        "--prefix", metavar="TEXT", action="append", default=unset,
        help="a context to put in front of the prompt; repeat it (default: sampled)",
    )  # fmt: skip
    group.add_argument("--n-prefixes", type=int, default=20, help="how many contexts to sample")
    group.add_argument(
        "--pairs", type=int, default=PAIRS,
        help="behind how many of them each subject is taken apart",
    )  # fmt: skip
    group.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    command.add_model_options(parser)
    parser.add_argument(
        "--whiten", choices=("edited", "all"), default="edited",
        help="use the C⁻¹ metric at the edited block, or find C for every block",
    )  # fmt: skip
    parser.add_argument(
        "--encoder", metavar="NAME_OR_DIR", default=unset,
        help="a T5, in whose encoder the same is measured as a control",
    )  # fmt: skip
    group = parser.add_argument_group("output")
    group.add_argument(
        "--json", metavar="FILE|-", default=unset,
        help="the result as JSON; python -m reports renders it",
    )  # fmt: skip
    group.add_argument("--html", metavar="FILE", default=unset, help="the result as a page")
    group.add_argument("--quiet", action="store_true", default=unset, help="print no text")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: The command line, without the program's name.

    Returns:
        The exit code.

    Raises:
        UserError: For anything the user can put right.
    """
    options = build_parser().parse_args(arguments)
    asked: dict[str, Any] = vars(options)
    to_json, to_html, quiet = asked.get("json"), asked.get("html"), asked.get("quiet", False)
    command.check_writable(to_json, to_html)
    subjects = asked.get("subjects")
    if subjects is not None:
        from probes.first_token.subjects import read

        read(subjects)  # a mistake in the file should not wait for a model to load
    model, layer = command.load_model(options)
    moment = command.find_second_moment(model, layer, options.second_moment, quiet=quiet)
    with _progress(quiet) as stage:
        result = probe(
            model,
            layer=layer,
            subjects=subjects,
            n_subjects=options.n_subjects,
            first_only=not asked.get("any_subject", False),
            prefixes=asked.get("prefix"),
            n_prefixes=options.n_prefixes,
            pairs=options.pairs,
            second_moment=moment,
            whiten=options.whiten,
            encoder=asked.get("encoder"),
            seed=options.seed,
            stage=stage,
        )
    if to_json:
        command.write_text(to_json, result.to_json())
    if to_html:
        command.write_text(to_html, result.to_html())
    if not quiet and to_json != "-":
        from reports.text import first_token

        first_token.show(result.document)
    return 0


class _progress:
    """Says on a terminal which part of the work is under way."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet

    def __enter__(self) -> Callable[[str], None]:
        if self.quiet:
            return lambda name: None
        from rich.console import Console

        self.status = Console(stderr=True).status("first-token probes")
        self.status.start()
        return lambda name: self.status.update(f"first-token probes: {name}")

    def __exit__(self, *_: object) -> None:
        if not self.quiet:
            self.status.stop()


def _settle(model: LoadedModel | str | None, layer: int | None) -> tuple[LoadedModel, int]:
    if model is None or isinstance(model, str):
        words = [] if model is None else ["--model", model]
        if layer is not None:
            words += ["--layer", str(layer)]
        options = argparse.ArgumentParser()
        command.add_model_options(options)
        return command.load_model(options.parse_args(words))
    block = model.default_layer() if layer is None else layer
    model.check_layer(block)
    return model, block
