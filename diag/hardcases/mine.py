"""The edits of data sets that screening calls dangerous: one for each subject, relations balanced.

What is called safe is what the controls are chosen from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from diag.hardcases.cases import Screened
from diag.screen.shard import Screener
from probes.keys.shard_size import shard_size
from probes.request.cases import EditCase, from_record, relation
from probes.request.records import Notes, none_is_an_edit, rows
from rome_diagnosis.errors import UserError

RelatedEdit = tuple[EditCase, str]  # an edit and its relation


def read_candidates(path: str) -> tuple[list[RelatedEdit], int, tuple[str, ...]]:
    """Reads a data set.

    Args:
        path: Edits in any format of :mod:`probes.request.records`, with new objects.

    Returns:
        Its edits, each with the relation it names or else its prompt; how many records are no
        edits; and what was left out or changed in reading.

    Raises:
        UserError: If it cannot be read, or has no edit.
    """
    cases: list[RelatedEdit] = []
    notes = Notes()
    n_refused, problem = 0, ""
    for row in rows(path):
        try:
            if row.error is not None:
                raise UserError(row.error)
            case = from_record(row.record)
            cases.append((case, relation(row.record) or case.request.prompt))
            notes.add(row.record, case.request.notes)
        except UserError as error:
            n_refused += 1
            problem = problem or f"{row.place}: {error}"
    if not cases:
        raise none_is_an_edit(path, n_refused, problem)
    return cases, n_refused, notes.lines()


def screened(
    screener: Screener,
    cases: Sequence[RelatedEdit],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Screened | None]:
    """Screens edits.

    Args:
        screener: Measures and judges.
        cases: The edits.
        progress: Called with the edits done and all of them.

    Returns:
        One for each, ``None`` where it cannot be measured.
    """
    results: list[Screened | None] = []
    size = shard_size(len(screener.shared.prefixes), int(screener.shared.model.config.d_mlp))
    for start in range(0, len(cases), size):
        progress(start, len(cases))
        some = cases[start : start + size]
        measured = screener.screen([case.request for case, _ in some])
        results += (
            None if isinstance(row, UserError) else Screened(case, name, row)
            for (case, name), row in zip(some, measured, strict=True)
        )
    progress(len(cases), len(cases))
    return results


def hardest(edits: Iterable[Screened | None], n: int) -> list[Screened]:
    """The most dangerous edits.

    Args:
        edits: Screened edits.
        n: At most this many.

    Returns:
        Of each subject its most dangerous edit, if it is one; relations take turns, each with the
        most dangerous of its edits that are left.
    """
    ranked = sorted(
        (edit for edit in edits if edit and edit.is_hard), key=lambda edit: -edit.danger
    )
    of_relation: dict[str, list[Screened]] = defaultdict(list)
    subjects: set[str] = set()
    for edit in ranked:
        subject = edit.case.request.subject.casefold()
        if subject not in subjects:
            subjects.add(subject)
            of_relation[edit.relation].append(edit)
    return [edit for edit, _ in zip(_in_turns(list(of_relation.values())), range(n), strict=False)]


def _in_turns(queues: Sequence[Sequence[Screened]]) -> Iterator[Screened]:
    longest = max((len(queue) for queue in queues), default=0)
    for turn in range(longest):
        yield from (queue[turn] for queue in queues if turn < len(queue))
