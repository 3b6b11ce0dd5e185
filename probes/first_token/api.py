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
    from probes.first_token.subjects import Case
    from probes.setup import Prepared, SetupOptions

Whiten = Literal["edited", "all"]
COUNT = 120  # subjects.DEFAULT_COUNT, without its imports; a test holds them together
PAIRS = 4


def probe(
    *,
    subjects: Sequence[Case] | str | os.PathLike[str] | None = None,
    n_subjects: int = COUNT,
    first_only: bool = True,
    pairs: int = PAIRS,
    whiten: Whiten = "edited",
    encoder: str | None = None,
    stage: Callable[[str], None] = lambda name: None,
    **setup: Unpack[SetupOptions],
) -> FirstTokenProbes:
    """Measures how first-token keys differ, and which mechanism makes them so.

    Args:
        subjects: Cases, or a file of subjects; by default those of the bundled world.
        n_subjects: Take at most this many subjects.
        first_only: Take only subjects that are one token, the prompt's first.
        pairs: Prefixes per subject used in the attribution.
        whiten: Whether the C⁻¹ metric is used at the edited block only, or C is looked up (and if
            need be estimated) for all blocks.
        encoder: A T5, in whose encoder the same is measured as a control.
        stage: Called with a word before each part of the work.
        **setup: Model, layer, contexts and second moment; see :class:`probes.setup.Setup`.

    Returns:
        Everything measured.

    Raises:
        UserError: For anything the caller can put right.
    """
    from probes.first_token.run import inquire
    from probes.first_token.subjects import bundled_cases, read
    from probes.setup import Setup

    for name, number in (("subjects", n_subjects), ("pairs", pairs)):
        if number < 1:
            raise UserError(f"the number of {name} must be 1 or more, not {number}")
    if whiten not in ("edited", "all"):
        raise UserError(f"whiten must be 'edited' or 'all', not {whiten!r}")
    named = isinstance(subjects, str | os.PathLike)
    cases = read(os.fspath(subjects)) if isinstance(subjects, str | os.PathLike) else subjects
    control = None
    if encoder is not None:
        import probes.first_token.encoder

        control = probes.first_token.encoder.load(encoder)
    stage("model, contexts and second moment")
    settings = Setup(**setup)
    at = settings.prepare()
    moments = {at.layer: at.moment}
    if whiten == "all":
        others = dataclasses.replace(
            settings, second_moment="identity" if at.moment.is_identity else "auto"
        )
        for layer in range(at.model.n_layers):
            if layer != at.layer:
                moments[layer] = others.find_moment(at.model, layer)
    words = ["--n-subjects", str(n_subjects), "--pairs", str(pairs)]
    words += ["--subjects", str(subjects)] if named else []
    words += [] if first_only else ["--any-subject"]
    words += [] if encoder is None else ["--encoder", encoder]
    return inquire(
        at.model,
        at.layer,
        bundled_cases() if cases is None else cases,
        at.prefixes,
        moments,
        count=n_subjects,
        pairs=pairs,
        first_only=first_only,
        seed=at.seed,
        about={
            "command": _command(at, [*words, "--whiten", whiten]),
            "source": "bundled world" if cases is None else str(subjects) if named else "given",
            "contexts_sampled": at.sampled,
        },
        encoder=control,
        stage=stage,
    )


def _command(at: Prepared, words: Sequence[str]) -> str:
    """The command that measures the same again."""
    model = at.model
    return shlex.join(
        [
            *("python", "-m", "probes.first_token", "--model", model.name),
            *("--layer", str(at.layer), "--seed", str(at.seed), *words),
            *(
                ["--n-prefixes", str(len(at.prefixes))]
                if at.sampled
                else [f"--prefix={text}" for text in at.prefixes]
            ),
            *("--bos" if model.bos else "--no-bos", "--dtype", model.dtype),
            *(
                []
                if at.moment.source in ("shipped", "estimated")
                else ["--second-moment", at.moment.source]
            ),
        ]
    )
