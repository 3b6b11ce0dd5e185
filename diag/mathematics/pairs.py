"""The pairs of a batch that make its denominator matrix ill conditioned, and why.

A key depends on the text up to the subject's last token alone. So the same subject at the beginning
of two prompts has one key, and no update can write two different changes at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from jaxtyping import Float
from torch import Tensor

Kind = Literal["contradiction", "same_subject", "parallel_keys"]


class PairedEdit(Protocol):
    """An edit, as far as pairs of edits go."""

    @property
    def subject(self) -> str: ...  # noqa: D102
    @property
    def prompt(self) -> str: ...  # noqa: D102
    @property
    def target_new(self) -> str | None: ...  # noqa: D102


@dataclass(frozen=True)
class Pair:
    """Two edits of a batch that disturb one another.

    Attributes:
        first: Index of the one.
        second: Index of the other, which comes after it.
        cosine: Cosine of the two keys, in the metric.
        kind: ``contradiction``: the same subject and prompt with two objects; ``same_subject``;
            ``parallel_keys``: different subjects, nearly one key.
    """

    first: int
    second: int
    cosine: float
    kind: Kind


def pairs(
    edits: Sequence[PairedEdit], cosines: Float[Tensor, "m m"], *, limit: float
) -> list[Pair]:
    """Finds the pairs.

    Args:
        edits: The batch.
        cosines: Between its keys, in the metric.
        limit: Keys with at least this absolute cosine count as one.

    Returns:
        Contradictions first, then the most parallel keys.
    """
    disturbing = []
    near = (cosines.abs() >= limit).nonzero().tolist()
    same: dict[str, list[int]] = {}
    for i, edit in enumerate(edits):
        same.setdefault(edit.subject.strip().casefold(), []).append(i)
    close = {(i, j) for i, j in near if i < j}
    close |= {(i, j) for at in same.values() for n, i in enumerate(at) for j in at[n + 1 :]}
    for i, j in close:
        disturbing.append(Pair(i, j, float(cosines[i, j]), _kind(edits[i], edits[j])))
    return sorted(disturbing, key=lambda p: (p.kind != "contradiction", -abs(p.cosine), p.first))


def contradictions(edits: Sequence[PairedEdit]) -> list[tuple[int, int]]:
    """Pairs of edits that give one prompt about one subject two objects.

    Args:
        edits: The edits.

    Returns:
        Indices of each edit that contradicts an earlier one, after that one's, in order.
    """
    given: dict[tuple[str, str], int] = {}
    apart = []
    for i, edit in enumerate(edits):
        first = given.setdefault((edit.subject.strip().casefold(), edit.prompt), i)
        if _kind(edits[first], edit) == "contradiction":
            apart.append((first, i))
    return apart


def _kind(one: PairedEdit, other: PairedEdit) -> Kind:
    if one.subject.strip().casefold() != other.subject.strip().casefold():
        return "parallel_keys"
    if one.prompt == other.prompt and one.target_new != other.target_new:
        return "contradiction"
    return "same_subject"
