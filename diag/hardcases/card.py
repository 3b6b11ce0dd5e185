"""The data card: from which model and sources a set was made, how, and what is in it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from diag.hardcases import confirm
from diag.hardcases.cases import Group, HardPair, Screened
from diag.judgement.verdict import Verdict
from diag.screen.summary import QUANTILES
from rome_diagnosis.editors import ARMS

MEASURES = ("rho", "relative_bound_rome", "relative_bound_first_tokens_rome")
LISTED = 20
GROUPS: tuple[Group, ...] = get_args(Group)
Performed = Mapping[Group, Mapping[int, Mapping[str, Any]]]


@dataclass(frozen=True)
class Source:
    """A file that edits, or wordings and objects, come from.

    Attributes:
        name: Its name.
        digest: SHA-256 of its bytes.
        licence: As the user states it; ``None`` where nobody did.
    """

    name: str
    digest: str
    licence: str | None

    @classmethod
    def of(cls, path: str, licence: str | None) -> Source:
        """Identifies a file."""
        return cls(Path(path).name, hashlib.sha256(Path(path).read_bytes()).hexdigest(), licence)


def of_set(pairs: Sequence[HardPair], performed: Performed) -> dict[str, Any]:
    """What a set holds, and what performing a sample of it showed.

    Args:
        pairs: Hard edits and their controls, as they were chosen.
        performed: By group, results of :func:`diag.hardcases.confirm.perform_set` by pair.

    Returns:
        ``groups``, by name, and ``examples``.
    """
    done = performed["hard"]
    listed = [(i, pair) for i, pair in enumerate(pairs) if not is_refuted("hard", done.get(i))]
    return {
        "groups": {group: _of_group(group, pairs, performed[group]) for group in GROUPS},
        "examples": [_example(pair.hard, done.get(i)) for i, pair in listed[:LISTED]],
    }


def is_refuted(group: Group, performed: Mapping[str, Any] | None) -> bool:
    """Whether an edit did not do what its group says, so that it leaves the set.

    Args:
        group: ``hard`` or ``easy``.
        performed: What became of the model; ``None`` if it was not performed.

    Returns:
        Whether a hard edit left the model intact under ROME, an easy one did not, or either could
        not be performed.
    """
    if performed is None:
        return False
    outcome = performed.get("outcome", {}).get(confirm.PUBLISHED)
    return outcome is None or (outcome == "intact") == (group == "hard")


def _of_group(
    group: Group, pairs: Sequence[HardPair], performed: Mapping[int, Mapping[str, Any]]
) -> dict[str, Any]:
    edits = {i: edit for i, pair in enumerate(pairs) if (edit := pair.of(group)) is not None}
    there = {i: edit for i, edit in edits.items() if not is_refuted(group, performed.get(i))}
    shares = {arm: confirm.share(performed.values(), arm) for arm in ARMS}
    verdicts = Counter(edit.row["verdict"] for edit in there.values())
    return {
        "chosen": len(edits),
        "n": len(there),
        "subjects": len({edit.case.request.subject.casefold() for edit in there.values()}),
        "splits": dict(sorted(Counter(pairs[i].split for i in there).items())),
        "relations": dict(
            sorted(Counter(edit.relation for edit in there.values()).items(), key=lambda r: -r[1])
        ),
        "same_objects": sum(
            edit.case.request.target_true == pairs[i].hard.case.request.target_true
            for i, edit in there.items()
        ),
        "verdicts": {name: verdicts[name] for name in get_args(Verdict)},
        "quantiles": {
            "at": list(QUANTILES),
            **{name: _quantiles(edit.row[name] for edit in there.values()) for name in MEASURES},
        },
        "performed": {arm: value for arm, value in shares.items() if value is not None} or None,
        "refused": sum("error" in result for result in performed.values()),
    }


def _quantiles(values: Iterable[float | None]) -> list[float] | None:
    there = [value for value in values if value is not None]
    return np.quantile(there, QUANTILES).tolist() if there else None


def _example(edit: Screened, performed: Mapping[str, Any] | None) -> dict[str, Any]:
    ratios = (performed or {}).get("perplexity_ratio", {})
    return {
        **edit.case.request.describe(),
        "rho": edit.row["rho"],
        "relative_bound_rome": edit.row["relative_bound_rome"],
        "verdict": edit.row["verdict"],
        "outcome": (performed or {}).get("outcome", {}).get(confirm.PUBLISHED),
        "perplexity_ratio": ratios.get(confirm.PUBLISHED),
    }
