"""For each hard edit an easy one of the same relation and objects; splits that share no subject.

The subject of an easy edit stands later in its prompt, or is of several tokens, and screening calls
it safe: what is left of the difference between the two is the key.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from diag.hardcases.cases import HardPair, Screened
from diag.hardcases.mine import RelatedEdit, screened
from diag.hardcases.wordings import Relation
from diag.screen.shard import Screener
from probes.request.cases import EditCase
from probes.request.request import request

TRIES = 8  # wordings and subjects, for each hard edit


def of_composed(
    screener: Screener, hard: Sequence[Screened], relations: Sequence[Relation], *, seed: int
) -> list[Screened | None]:
    """Controls of composed edits.

    Args:
        screener: Measures and judges.
        hard: The hard edits.
        relations: What they were composed from.
        seed: Order in which wordings and subjects are tried.

    Returns:
        For each the same subject later in another wording, else another subject of the relation
        at the beginning, else ``None``.
    """
    named = {relation.name: relation for relation in relations}
    generator = random.Random(seed)
    taken = {edit.case.request.subject.casefold() for edit in hard}
    tries = [_candidates(edit, named[edit.relation], generator) for edit in hard]
    controls: list[Screened | None] = [None] * len(hard)
    for turn in range(TRIES):
        waiting = [i for i, control in enumerate(controls) if not control and turn < len(tries[i])]
        cases: list[RelatedEdit] = [(tries[i][turn], hard[i].relation) for i in waiting]
        for i, control in zip(waiting, screened(screener, cases), strict=True):
            if control is None or control.row["verdict"] != "safe":
                continue
            subject = control.case.request.subject.casefold()
            if subject == hard[i].case.request.subject.casefold() or subject not in taken:
                controls[i] = control
                taken.add(subject)
    return controls


def _candidates(edit: Screened, relation: Relation, generator: random.Random) -> list[EditCase]:
    """The edit with its subject later, and of other subjects, in the order they are tried."""
    case, asked = edit.case, edit.case.request
    later = generator.sample(relation.later, len(relation.later))
    facts = [fact.request for fact in relation.facts if " " in fact.request.subject]
    others = generator.sample(facts, min(TRIES, len(facts)))
    placed = [(asked.subject, wording) for wording in later]
    placed += [(other.subject, asked.prompt) for other in others]
    return [_placed(case, subject, wording) for subject, wording in placed[:TRIES]]


def _placed(case: EditCase, subject: str, wording: str) -> EditCase:
    """A case of another subject or in another wording, with the same objects."""
    edit, before = case.request, case.request.subject
    moved = request(subject, wording, target_new=edit.target_new, target_true=edit.target_true)
    paraphrases = [text.replace(before, subject) for text in (*case.paraphrases, edit.text)]
    neighbours = [each for each in case.neighbourhood if subject not in each.prompt]
    return replace(
        case,
        request=moved,
        paraphrases=tuple(text for text in paraphrases if text != moved.text),
        neighbourhood=tuple(neighbours),
    )


def of_mined(hard: Sequence[Screened], pool: Iterable[Screened | None]) -> list[Screened | None]:
    """Controls of mined edits, from the rows that screening calls safe.

    Args:
        hard: The hard edits.
        pool: Every screened row.

    Returns:
        For each an edit of the same relation, with the same true object where there is one, that
        is made to write the same new object; ``None`` where the relation has none left.
    """
    taken = {edit.case.request.subject.casefold() for edit in hard}
    safe: dict[str, dict[str, Screened]] = defaultdict(dict)
    for row in pool:
        if row is not None and row.row["verdict"] == "safe":
            safe[row.relation].setdefault(row.case.request.subject.casefold(), row)
    controls: list[Screened | None] = []
    for edit in hard:
        wanted = edit.case.request
        left = [
            (own.case.request.target_true != wanted.target_true, subject)
            for subject, own in safe[edit.relation].items()
            if subject not in taken and own.case.request.target_true != wanted.target_new
        ]
        if not left:
            controls.append(None)
            continue
        _, subject = min(left)
        taken.add(subject)
        control = safe[edit.relation][subject]
        moved = replace(control.case.request, target_new=wanted.target_new)
        controls.append(replace(control, case=replace(control.case, request=moved)))
    return controls


def paired(
    hard: Sequence[Screened], easy: Sequence[Screened | None], *, seed: int
) -> list[HardPair]:
    """Pairs, half of the subjects for the development of a method and half for its test.

    Args:
        hard: Hard edits.
        easy: The control of each.
        seed: Draws the split.

    Returns:
        The pairs. A control has its hard edit's subject or one of its own, so no subject is in
        both halves.
    """
    subjects = sorted({edit.case.request.subject.casefold() for edit in hard})
    random.Random(seed).shuffle(subjects)
    tested = set(subjects[: len(subjects) // 2])
    return [
        HardPair(one, other, "test" if one.case.request.subject.casefold() in tested else "develop")
        for one, other in zip(hard, easy, strict=True)
    ]
