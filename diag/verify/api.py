"""The library calls: ``from diag.verify import verify, verify_list``."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from diag.judgement.collapse import COLLAPSE_RATIO
from rome_diagnosis.errors import UserError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from diag.verify.result import Comparison, Verification
    from diag.verify.run import Texts, Trial
    from probes.request.cases import EditCase
    from probes.request.request import Request
    from probes.setup import Setup, SetupOptions
    from probes.target_value.hyperparameters import Hyperparameters

CRomeTarget = Literal["published", "consistent"]
# About 13,000 tokens of the bundled texts: the ratio of two perplexities on the same text is then
# known to a fraction of a per cent.
MAX_TEXTS = 100
GENERATED_TOKENS = 40


def verify(
    subject: str,
    prompt: str | None = None,
    *,
    target_new: str | None = None,
    target_true: str | None = None,
    hyperparameters: Hyperparameters | None = None,
    c_rome_target: CRomeTarget = "published",
    collapse_ratio: float = COLLAPSE_RATIO.value,
    texts: Sequence[str] | None = None,
    **setup: Unpack[SetupOptions],
) -> Verification:
    """Performs one edit four ways and measures the model before and after each.

    Args:
        subject: The subject of the fact.
        prompt: With ``{}`` for the subject, or with the subject in it once; by default that of a
            fact the bundled world knows about the subject.
        target_new: The new object; needed unless the bundled world knows the fact.
        target_true: What the model says now; success is then P(new) > P(true).
        hyperparameters: Of the optimisation of v*; ROME's by default.
        c_rome_target: What C-ROME writes: ``"published"`` v_u + δ, ``"consistent"`` v̄ + δ.
        collapse_ratio: The perplexity ratio at and above which a model counts as collapsed.
        texts: Texts to measure perplexity on; bundled held-out texts by default.
        **setup: Model, layer, contexts and second moment; see :class:`probes.setup.Setup`.

    Returns:
        What became of the model.

    Raises:
        UserError: For anything the caller can put right.
    """
    from probes.request.cases import of_request
    from probes.setup import Setup

    edit = choose_edit(subject, prompt, target_new, target_true)
    trial = prepare(
        Setup(**setup),
        hyperparameters,
        c_rome_target=c_rome_target,
        collapse_ratio=collapse_ratio,
        texts=_texts(texts),
    )
    return trial.one(of_request(edit))


def verify_list(
    edits: Sequence[EditCase] | str | os.PathLike[str],
    *,
    hyperparameters: Hyperparameters | None = None,
    c_rome_target: CRomeTarget = "published",
    collapse_ratio: float = COLLAPSE_RATIO.value,
    texts: Sequence[str] | None = None,
    journal: str | os.PathLike[str] | None = None,
    progress: Callable[[int], None] | None = None,
    **setup: Unpack[SetupOptions],
) -> Comparison:
    """Performs a list of edits, one at a time, and compares collapse cases with normal ones.

    Args:
        edits: A file in ROME's, EasyEdit's or the bundled facts' format, or cases.
        hyperparameters: As in :func:`verify`.
        c_rome_target: As in :func:`verify`.
        collapse_ratio: As in :func:`verify`.
        texts: As in :func:`verify`.
        journal: A file that results go to as they come; with the same arguments an interrupted
            run resumes from it.
        progress: Called with the number of edits done.
        **setup: As in :func:`verify`.

    Returns:
        Every edit's result, and groups of them beside one another.

    Raises:
        UserError: For anything the caller can put right.
    """
    from probes.request.cases import Cases, read
    from probes.setup import Setup

    cases = read(edits) if isinstance(edits, str | os.PathLike) else Cases(tuple(edits))
    trial = prepare(
        Setup(**setup),
        hyperparameters,
        c_rome_target=c_rome_target,
        collapse_ratio=collapse_ratio,
        texts=_texts(texts),
    )
    return trial.many(
        cases, journal=None if journal is None else os.fspath(journal), progress=progress
    )


def prepare(
    setup: Setup,
    hyperparameters: Hyperparameters | None = None,
    *,
    c_rome_target: CRomeTarget,
    collapse_ratio: float,
    texts: Texts,
    generated_tokens: int = GENERATED_TOKENS,
) -> Trial:
    """Loads the model, measures it unedited and makes it ready for edits.

    Args:
        setup: What to measure with; its layer and second moment have precedence over those that
            the hyperparameters name.
        hyperparameters: Of the optimisation of v*; ROME's by default.
        c_rome_target: As in :func:`verify`.
        collapse_ratio: As in :func:`verify`.
        texts: For perplexity.
        generated_tokens: Length of the generated texts.

    Returns:
        The run.

    Raises:
        UserError: If weights, texts or contexts cannot be used.
    """
    from diag.verify import run
    from probes.target_value.hyperparameters import Hyperparameters

    chosen = hyperparameters or Hyperparameters()
    if setup.layer is None:
        setup = dataclasses.replace(setup, layer=chosen.layer)
    if setup.second_moment == "auto" and not chosen.second_moment_adjustment:
        setup = dataclasses.replace(setup, second_moment="identity")  # as the result will say
    model = setup.load()
    layer = setup.choose_layer(model)
    return run.prepare(
        model,
        layer,
        setup.find_moment(model, layer),
        prefixes=setup.prefixes,
        n_prefixes=setup.n_prefixes,
        seed=setup.seed,
        hyperparameters=chosen,
        c_rome_target=c_rome_target,
        collapse_ratio=collapse_ratio,
        texts=texts,
        generated_tokens=generated_tokens,
    )


def choose_edit(
    subject: str, prompt: str | None, target_new: str | None, target_true: str | None
) -> Request:
    """The requested edit, which must have a new object.

    Raises:
        UserError: As :func:`diag.keys.api.choose_request`, or if there is no new object.
    """
    from diag.keys.api import choose_request

    edit = choose_request(subject, prompt, target_new=target_new, target_true=target_true)
    if edit.target_new is None:
        raise UserError(f"the edit of {edit.subject!r} has no new object: give --target-new")
    return edit


def _texts(texts: Sequence[str] | None) -> Texts:
    from diag.verify.run import Texts

    return Texts.read(limit=MAX_TEXTS) if texts is None else Texts("given", tuple(texts))
