"""Sets of subjects: each with a prompt that begins with it and one in which it comes later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probes import bundled
from probes.forward.counterfactual import Reading, causal
from probes.keys.one_edit import capture
from probes.model.loaded import LoadedModel
from probes.reading.rows import container, rows
from probes.request.lookup import Lookup, find
from probes.request.request import Request, request
from probes.second_moment.moment import SecondMoment
from rome_diagnosis.errors import UserError
from rome_diagnosis.source import read_text

FIRST_PROMPT = "{} is"
LATER_PROMPT = "The story of {} is"
WHAT = "the subjects"
DEFAULT_COUNT = 120


@dataclass(frozen=True)
class SubjectCase:
    """One subject and two prompts about it.

    Attributes:
        first: The prompt that begins with the subject.
        later: A prompt in which other text comes before it.
    """

    first: Request
    later: Request

    @property
    def subject(self) -> str:
        """The subject."""
        return self.first.subject


@dataclass(frozen=True)
class TokenPair:
    """One subject's tokens without a prefix and after one.

    Attributes:
        head: A begin-of-sequence token where one is prepended, else nothing.
        prefix: The prefix's tokens.
        bare: The prompt's tokens up to the subject's last, as the bare prompt has them.
        spaced: The same number of tokens, as they are after the prefix.
        after: The prompt's tokens after the subject.
    """

    head: list[int]
    prefix: list[int]
    bare: list[int]
    spaced: list[int]
    after: list[int]

    def run(self, *, form: bool, position: bool, attention: bool) -> Reading:
        """The prompt after its prefix, with any of the three things that a prefix changes.

        Args:
            form: Whether the tokens are those of a text with a prefix (``␣Apple``).
            position: Whether they have the positions that the prefix gives them.
            attention: Whether they may attend to the prefix.

        Returns:
            The run: with all three it is the prefixed prompt, with none the bare one.
        """
        tail = self.spaced if form else self.bare
        ids = [*self.head, *self.prefix, *tail]
        start = len(ids) - len(tail)
        positions = list(range(len(ids)))
        if not position:
            positions[start:] = range(len(self.head), len(self.head) + len(tail))
        sees = causal(len(ids))
        if not attention:
            sees[start:, len(self.head) : start] = False
        return Reading(ids, len(ids) - 1, len(tail), positions, sees)

    def bare_run(self, *, form: bool = False) -> Reading:
        """The prompt with nothing before it but the head."""
        ids = [*self.head, *(self.spaced if form else self.bare)]
        return Reading(ids, len(ids) - 1, len(self.bare))

    def prefixed_run(self, *, form: bool = True) -> Reading:
        """The prompt after its prefix."""
        ids = [*self.head, *self.prefix, *(self.spaced if form else self.bare)]
        return Reading(ids, len(ids) - 1, len(self.bare))


@dataclass(frozen=True)
class Subject:
    """A subject, measured at the edited block.

    Attributes:
        case: The subject and its prompts.
        lookups: Where its last token is in contexts 0…n of the first prompt.
        keys: Its keys there, ``[n_ctx, d_mlp]``.
        direction: C⁻¹k̄ / k̄ᵀC⁻¹k̄. With k̄ and C fixed, ρ of a substituted key k is its inner
            product with this.
        pairs: Its tokens after some of the prefixes.
    """

    case: SubjectCase
    lookups: list[Lookup]
    keys: Float[Tensor, "n_ctx d_mlp"]
    direction: Float[Tensor, " d_mlp"]
    pairs: list[TokenPair]

    @property
    def name(self) -> str:
        """The subject itself."""
        return self.case.subject

    @property
    def rho(self) -> float:
        """ρ of the bare prompt's key."""
        return float(self.keys[0] @ self.direction)

    @property
    def rho_prefixed(self) -> float:
        """Mean ρ of the prefixed keys."""
        return float((self.keys[1:] @ self.direction).mean())


@dataclass(frozen=True)
class Skipped:
    """A subject that cannot be used, and why."""

    subject: str
    reason: str


def bundled_cases() -> list[SubjectCase]:
    """The subjects of the bundled world, one case each, those of a single token first."""
    cases: dict[str, tuple[bool, SubjectCase]] = {}
    for fact in bundled.facts():
        name = fact["subject"]
        later = [p for p in fact["paraphrases"] if p.count("{}") == 1 and not p.startswith("{}")]
        if name in cases or not later or not fact["prompt"].startswith("{}"):
            continue
        case = SubjectCase(request(name, fact["prompt"]), request(name, later[0]))
        cases[name] = (not fact.get("single_token", False), case)
    return [case for _, case in sorted(cases.values(), key=lambda entry: entry[0])]


def read_subjects(path: str | Path) -> list[SubjectCase]:
    """Reads subjects from a file.

    Args:
        path: Records with ``subject`` and optionally ``prompt`` and ``later_prompt``, in any
            container of :func:`probes.reading.rows.rows`; or plain text with one subject a line.

    Returns:
        The cases, with ``"{} is"`` and ``"The story of {} is"`` where no prompt is given.

    Raises:
        UserError: If the file cannot be read, or a line holds no subject.
    """
    cases = []
    for place, record in _records(path):
        try:
            name = str(record["subject"]).strip()
            cases.append(
                SubjectCase(
                    request(name, record.get("prompt") or FIRST_PROMPT),
                    request(name, record.get("later_prompt") or LATER_PROMPT),
                )
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}, {place}: no subject in {str(record)[:60]!r}") from error
        except UserError as error:
            raise UserError(f"{path}, {place}: {error}") from error
    if not cases:
        raise UserError(f"there are no subjects in {path}")
    return cases


def _records(path: str | Path) -> Iterator[tuple[str, Any]]:
    """The records of a file and where they stand; a line of plain text is a subject's name."""
    needed = (("subject",),)
    if container(path, what=WHAT, needed=needed) == "other":
        for number, line in enumerate(read_text(path, WHAT).split("\n"), start=1):
            if line.lstrip().startswith("{"):
                raise UserError(
                    f"{path}, line {number}: a record among names; write all lines as JSON"
                )
            if line.strip():
                yield f"line {number}", {"subject": line}
        return
    for row in rows(path, what=WHAT, needed=needed):
        if row.error is not None:
            raise UserError(f"{path}, {row.place}: it {row.error}")
        yield row.place, row.record


def measure_subjects(
    model: LoadedModel,
    cases: Sequence[SubjectCase],
    layer: int,
    prefixes: Sequence[str],
    moment: SecondMoment,
    *,
    count: int = DEFAULT_COUNT,
    pairs: int = 4,
    first_only: bool = True,
) -> tuple[list[Subject], list[Skipped]]:
    """Looks subjects up and captures their keys, skipping those that cannot be compared.

    Args:
        model: The model.
        cases: The subjects; the first usable ones are taken.
        layer: The edited block.
        prefixes: Contexts 1…n; at least one.
        moment: The second moment of that block's keys.
        count: Take at most this many subjects.
        pairs: Prefixes per subject used in the attribution; different ones for different
            subjects, so that every prefix is used.
        first_only: Take only subjects that are one token, the bare prompt's first.

    Returns:
        The measured subjects, and those skipped on the way with the reason.

    Raises:
        UserError: If there is no prefix, or fewer than two subjects can be used.
    """
    if not prefixes:
        raise UserError("first-token probes compare with prefixed prompts: give at least 1 prefix")
    chosen, skipped = _choose(model, cases, prefixes, count, pairs, first_only)
    flat = [lookup for _, lookups, _ in chosen for lookup in lookups]
    keys = capture(model, flat, layer).keys.reshape(len(chosen), len(prefixes) + 1, -1)
    mean = keys.mean(1)
    solved = moment.solve(mean)
    scale = (solved * mean).sum(-1, keepdim=True)
    if not bool(torch.isfinite(keys).all()) or not bool((scale > 0).all()):
        raise UserError(f"the keys of {model.name} at layer {layer} are zero or not finite")
    directions = solved / scale
    subjects = [
        Subject(case, lookups, keys[i], directions[i], split)
        for i, (case, lookups, split) in enumerate(chosen)
    ]
    return subjects, skipped


def _choose(
    model: LoadedModel,
    cases: Sequence[SubjectCase],
    prefixes: Sequence[str],
    count: int,
    n_pairs: int,
    first_only: bool,
) -> tuple[list[tuple[SubjectCase, list[Lookup], list[TokenPair]]], list[Skipped]]:
    """The first usable cases with their lookups and pairs, and the cases skipped on the way."""
    chosen: list[tuple[SubjectCase, list[Lookup], list[TokenPair]]] = []
    skipped: list[Skipped] = []
    for case in cases:
        if len(chosen) == count:
            break
        try:
            lookups, pairs = _look_up(model, case, prefixes)
            if first_only and len(pairs[0].bare) > 1:
                raise UserError(f"its last token is not the first: it is {len(pairs[0].bare)} long")
        except UserError as error:
            skipped.append(Skipped(case.subject, str(error)))
            continue
        start = len(chosen) * n_pairs
        turn = [pairs[(start + i) % len(pairs)] for i in range(min(n_pairs, len(pairs)))]
        chosen.append((case, lookups, turn))
    if len(chosen) < 2:
        why = f" (the first: {skipped[0].subject!r}: {skipped[0].reason})" if skipped else ""
        raise UserError(
            f"only {len(chosen)} of {len(cases)} subjects can be probed on {model.name}{why}: "
            "give more with --subjects FILE"
        )
    return chosen, skipped


def _look_up(
    model: LoadedModel, case: SubjectCase, prefixes: Sequence[str]
) -> tuple[list[Lookup], list[TokenPair]]:
    """Where a subject is in every context of its first prompt, and its tokens after each prefix."""
    edit = case.first
    prompt = model.tokens(edit.text)
    bare = find(model, edit, "", prompt)
    head = bare.ids[: int(model.bos)]
    tail = bare.ids[len(head) :]
    lookups, pairs = [bare], []
    for prefix in prefixes:
        tokens = model.tokens(prefix + edit.text)
        prefixed = find(model, edit, prefix, tokens)
        start = next(i for i, (_, stop) in enumerate(tokens.offsets) if stop > len(prefix))
        spaced = prefixed.ids[start:]
        if len(spaced) != len(tail):
            raise UserError(
                f"it is {len(tail)} tokens in the bare prompt and {len(spaced)} after a prefix, "
                "so its tokens cannot be exchanged one by one"
            )
        lookups.append(prefixed)
        pairs.append(
            TokenPair(
                head, prefixed.ids[len(head) : start], tail, spaced, prompt.ids[bare.index + 1 :]
            )
        )
    return lookups, pairs
