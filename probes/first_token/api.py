"""The library call: ``from probes.first_token import probe``."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from rome_diagnosis.errors import UserError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from probes.first_token.run import FirstTokenProbes
    from probes.first_token.subjects import SubjectCase
    from probes.second_moment.moment import SecondMoment
    from probes.setup import Prepared, Setup, SetupOptions

Whiten = Literal["edited", "all"]
COUNT = 120  # subjects.DEFAULT_COUNT, without its imports; a test keeps them equal
PAIRS = 4


def probe(
    *,
    subjects: Sequence[SubjectCase] | str | os.PathLike[str] | None = None,
    n_subjects: int = COUNT,
    first_only: bool = True,
    pairs: int = PAIRS,
    whiten: Whiten = "edited",
    encoder: str | None = None,
    stage: Callable[[str], None] = lambda name: None,
    **setup: Unpack[SetupOptions],
) -> FirstTokenProbes:
    """Measures how first-token keys differ, and which mechanism causes it.

    Args:
        subjects: Cases, or a file of subjects; by default those of the bundled world.
        n_subjects: Take at most this many subjects.
        first_only: Take only subjects that are one token, the prompt's first.
        pairs: Prefixes per subject used in the attribution.
        whiten: Whether the C⁻¹ metric is used at the edited block only, or C is looked up (and
            estimated if necessary) for all blocks.
        encoder: A T5 whose encoder is measured in the same way as a control.
        stage: Called with the name of each part of the work before it begins.
        **setup: Model, layer, contexts and second moment; see :class:`probes.setup.Setup`.

    Returns:
        The result.

    Raises:
        UserError: For anything the caller can put right.
    """
    from probes.first_token.run import ProbePlan, measure_all
    from probes.setup import Setup

    _check(n_subjects, pairs, whiten)
    from_file = isinstance(subjects, str | os.PathLike)
    cases = _cases(subjects)
    control = None
    if encoder is not None:
        from probes.first_token.encoder import load_encoder

        control = load_encoder(encoder)
    stage("model, contexts and second moment")
    settings = Setup(**setup)
    prepared = settings.prepare()
    words = ["--n-subjects", str(n_subjects), "--pairs", str(pairs), "--whiten", whiten]
    words += ["--subjects", str(subjects)] if from_file else []
    words += [] if first_only else ["--any-subject"]
    words += [] if encoder is None else ["--encoder", encoder]
    plan = ProbePlan(
        cases=cases,
        source="bundled world" if subjects is None else str(subjects) if from_file else "given",
        count=n_subjects,
        pairs=pairs,
        first_only=first_only,
        moments=_moments(settings, prepared, whiten),
        encoder=control,
        command=_command(prepared, words),
    )
    return measure_all(prepared, plan, stage=stage)


def _cases(
    subjects: Sequence[SubjectCase] | str | os.PathLike[str] | None,
) -> Sequence[SubjectCase]:
    from probes.first_token.subjects import bundled_cases, read_subjects

    if subjects is None:
        return bundled_cases()
    if isinstance(subjects, str | os.PathLike):
        return read_subjects(os.fspath(subjects))
    return subjects


def _check(n_subjects: int, pairs: int, whiten: str) -> None:
    """Refuses what cannot be meant, before anything is loaded."""
    for name, number in (("subjects", n_subjects), ("pairs", pairs)):
        if number < 1:
            raise UserError(f"the number of {name} must be 1 or more, not {number}")
    if whiten not in ("edited", "all"):
        raise UserError(f"whiten must be 'edited' or 'all', not {whiten!r}")


def _moments(settings: Setup, prepared: Prepared, whiten: Whiten) -> dict[int, SecondMoment]:
    """Second moments by block: the edited one's alone, or every block's."""
    moments = {prepared.layer: prepared.moment}
    if whiten == "all":
        others = dataclasses.replace(
            settings, second_moment="identity" if prepared.moment.is_identity else "auto"
        )
        for layer in range(prepared.model.n_layers):
            if layer != prepared.layer:
                moments[layer] = others.find_moment(prepared.model, layer)
    return moments


def _command(prepared: Prepared, words: Sequence[str]) -> str:
    """The command that repeats the measurement."""
    model = prepared.model
    return shlex.join(
        [
            *("python", "-m", "probes.first_token", "--model", model.name),
            *("--layer", str(prepared.layer), "--seed", str(prepared.seed), *words),
            *(
                ["--n-prefixes", str(len(prepared.prefixes))]
                if prepared.sampled
                else [f"--prefix={text}" for text in prepared.prefixes]
            ),
            *("--bos" if model.bos else "--no-bos", "--dtype", model.dtype),
            *(["--autocast", model.autocast] if model.autocast else []),
            *(
                []
                if prepared.moment.source in ("shipped", "estimated")
                else ["--second-moment", prepared.moment.source]
            ),
        ]
    )
