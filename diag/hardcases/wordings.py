"""Relations as a file of facts shows them: how they are put into words, and their objects.

No format of its own: any file of edits has prompts with a place for the subject and objects of the
right type. Records of one relation are put together by the relation they name, or by their prompt.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from probes.request.cases import EditCase, fact, relation
from probes.request.records import none_is_an_edit, rows
from probes.request.request import SLOT
from rome_diagnosis.errors import UserError

# A prompt that fewer subjects share may say something about its own subject.
FEWEST_SUBJECTS = 3
FEWEST_OBJECTS = 3  # one that the model prefers, and some to choose from


@dataclass(frozen=True)
class Relation:
    """A relation.

    Attributes:
        name: What the file calls it.
        first: Prompts that begin with the subject, ``{}`` for it; the most frequent first.
        later: Prompts with text before the subject.
        objects: Its objects, in alphabetical order.
        facts: What the file states of it.
    """

    name: str
    first: tuple[str, ...]
    later: tuple[str, ...]
    objects: tuple[str, ...]
    facts: tuple[EditCase, ...]


def read_wordings(path: str | os.PathLike[str]) -> list[Relation]:
    """Reads the relations of a file.

    Args:
        path: Facts or edits in any format of :mod:`probes.request.records`, with true objects.

    Returns:
        Those that have a prompt which begins with the subject, by name.

    Raises:
        UserError: If the file cannot be read, or has no such relation.
    """
    facts: dict[str, list[EditCase]] = defaultdict(list)
    n_refused, problem = 0, ""
    for row in rows(path):
        try:
            if row.error is not None:
                raise UserError(row.error)
            case = fact(row.record)
            facts[relation(row.record) or case.request.prompt].append(case)
        except UserError as error:
            n_refused += 1
            problem = problem or f"{row.place}: {error}"
    if not facts:
        raise none_is_an_edit(path, n_refused, problem)
    relations = [_relation(name, stated) for name, stated in sorted(facts.items())]
    usable = [each for each in relations if each.first and len(each.objects) >= FEWEST_OBJECTS]
    if not usable:
        raise UserError(
            f"no relation of {path} can be composed with: it needs a prompt that begins with the "
            f"subject and comes with {FEWEST_SUBJECTS} subjects, and {FEWEST_OBJECTS} objects"
        )
    return usable


def _relation(name: str, facts: list[EditCase]) -> Relation:
    subjects: dict[str, set[str]] = defaultdict(set)
    for case in facts:
        for prompt in _prompts(case):
            subjects[prompt].add(case.request.subject)
    shared = [prompt for prompt in subjects if len(subjects[prompt]) >= FEWEST_SUBJECTS]
    ranked = _most_frequent({prompt: len(subjects[prompt]) for prompt in shared})
    return Relation(
        name,
        first=tuple(prompt for prompt in ranked if prompt.startswith(SLOT)),
        later=tuple(prompt for prompt in ranked if not prompt.startswith(SLOT)),
        objects=tuple(sorted({str(case.request.target_true) for case in facts})),
        facts=tuple(facts),
    )


def _prompts(case: EditCase) -> Iterable[str]:
    """A fact's prompts with ``{}`` for the subject, where it stands in them once."""
    subject = case.request.subject
    yield case.request.prompt
    for text in case.paraphrases:
        if text.count(subject) == 1:
            yield text.replace(subject, SLOT)


def _most_frequent(counts: dict[str, int]) -> list[str]:
    return [prompt for prompt, _ in sorted(Counter(counts).items(), key=lambda i: (-i[1], i[0]))]
