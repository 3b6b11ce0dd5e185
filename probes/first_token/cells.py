"""Keys in cells: the subject first or later in its prompt, with or without a prefix.

Two factors give four cells at every block. Added to them are the paper's two controls, the first
token of ordinary text and the collapse cases that a prefix moved to later positions, and one of
ours: the bare first position with the token that follows a prefix (``␣Apple`` for ``Apple``), so
that a difference between cells need not be one between two tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probes.first_token.separation import (
    Probe,
    effective_rank,
    frechet,
    logistic_probe,
    mahalanobis,
    spread,
)
from probes.first_token.subjects import Subject
from probes.forward.counterfactual import Reading, keys_everywhere
from probes.model.loaded import LoadedModel
from probes.request.lookup import lookup
from probes.second_moment.moment import SecondMoment
from probes.shelf import Shelf, Taken
from probes.statistics import cosine
from rome_diagnosis.errors import UserError
from rome_diagnosis.limits import RATIO_COLLAPSE

# A later token of ordinary text follows about as much text as most prompts have.
ORDINARY_INDEX = 8
# Bytes of keys that are held at once, or a twentieth of the weights where that is more.
KEYS_AT_ONCE = 2**25

MEANINGS = {
    "first_bare": "subject first in its prompt, nothing before it",
    "first_prefixed": "subject first in its prompt, a prefix before it",
    "later_bare": "subject later in its prompt, nothing before it",
    "later_prefixed": "subject later in its prompt, a prefix before it",
    "first_spaced": "nothing before it, but the token that follows a prefix",
    "ordinary_first": "first token of ordinary text",
    "ordinary_later": f"token {ORDINARY_INDEX} of ordinary text",
    "collapse_bare": f"subjects whose |ρ| is below {RATIO_COLLAPSE.value}, nothing before it",
    "collapse_prefixed": "the same subjects moved to later positions by a prefix",
}
PAIRS = (
    ("first_bare", "first_prefixed"),
    ("first_bare", "later_bare"),
    ("first_prefixed", "later_bare"),
    ("later_bare", "later_prefixed"),
    ("first_bare", "first_spaced"),
    ("first_spaced", "first_prefixed"),
    ("first_bare", "ordinary_first"),
    ("ordinary_first", "ordinary_later"),
    ("collapse_bare", "collapse_prefixed"),
)


@dataclass(frozen=True)
class Cell:
    """Runs of one kind and the subjects or texts they belong to.

    Attributes:
        name: One of :data:`MEANINGS`.
        runs: One run for each member.
        members: Subject or text of each run; the probe's folds are divided by these.
    """

    name: str
    runs: list[Reading]
    members: list[str]


@dataclass(frozen=True)
class CellStatistics:
    """Statistics of one cell's keys at one block.

    Attributes:
        n: Number of keys.
        norm: Their mean length.
        norm_deviation: Standard deviation of their lengths.
        spread: Their variance over their mean square: near 0 if all are one vector.
        effective_rank: Effective number of directions that they span.
        whitened_norm: Their mean length in the C⁻¹ metric; ``None`` where no C is known.
        whitened_spread: Their spread in it.
    """

    n: int
    norm: float
    norm_deviation: float
    spread: float
    effective_rank: float
    whitened_norm: float | None
    whitened_spread: float | None


@dataclass(frozen=True)
class PairStatistics:
    """How far apart two cells are at one block.

    Attributes:
        cells: Their names.
        cosine: Cosine of their mean keys.
        whitened_cosine: The same in the C⁻¹ metric; ``None`` where no C is known.
        mahalanobis: Distance of their means in units of the spread within.
        frechet: Fréchet distance, in the keys' own units.
        probe: A logistic probe on subjects it has not seen; ``None`` with too few of them.
    """

    cells: tuple[str, str]
    cosine: float
    whitened_cosine: float | None
    mahalanobis: float
    frechet: float
    probe: Probe | None


def make(
    model: LoadedModel, subjects: Sequence[Subject], texts: Sequence[str], prefixes: Sequence[str]
) -> list[Cell]:
    """Makes the cells.

    Args:
        model: The model.
        subjects: The measured subjects.
        texts: Ordinary prose.
        prefixes: Contexts 1…n; each subject comes after one of them, in turn.

    Returns:
        The cells that have at least two members.
    """
    names = [subject.case.subject for subject in subjects]
    first = [subject.pairs[0] for subject in subjects]
    runs = {
        "first_bare": [(n, pair.bare_run()) for n, pair in zip(names, first, strict=True)],
        "first_prefixed": [(n, pair.prefixed_run()) for n, pair in zip(names, first, strict=True)],
        "later_bare": [],
        "later_prefixed": [],
        "first_spaced": [
            (n, pair.bare_run(form=True))
            for n, pair in zip(names, first, strict=True)
            if pair.bare != pair.spaced
        ],
    }
    for i, subject in enumerate(subjects):
        for cell, prefix in (("later_bare", ""), ("later_prefixed", prefixes[i % len(prefixes)])):
            try:
                at = lookup(model, subject.case.later, prefix)
            except UserError:
                continue
            runs[cell].append((names[i], Reading(at.ids, at.index, 1)))
    collapsed = [i for i, subject in enumerate(subjects) if abs(subject.rho) < RATIO_COLLAPSE.value]
    for cell, source in (("bare", "first_bare"), ("prefixed", "first_prefixed")):
        runs[f"collapse_{cell}"] = [runs[source][i] for i in collapsed]
    head = int(model.bos)
    for cell, index in (("ordinary_first", head), ("ordinary_later", head + ORDINARY_INDEX)):
        tokens = [(f"text {i}", model.tokens(text).ids) for i, text in enumerate(texts)]
        runs[cell] = [
            (n, Reading(ids[: index + 1], index, 1)) for n, ids in tokens if len(ids) > index
        ]
    return [
        Cell(name, [run for _, run in runs[name]], [member for member, _ in runs[name]])
        for name in MEANINGS
        if len(runs[name]) >= 2
    ]


def capture(
    model: LoadedModel, cells: Sequence[Cell], layers: Sequence[int]
) -> Iterator[tuple[int, dict[str, Float[Tensor, "m d_mlp"]]]]:
    """Captures every cell's keys in one pass; what may not be held at once waits on disk.

    Args:
        model: The model.
        cells: The cells.
        layers: The blocks.

    Yields:
        Each block and each cell's keys there.
    """
    runs = [run for cell in cells for run in cell.runs]
    sizes = [len(cell.runs) for cell in cells]
    room = max(KEYS_AT_ONCE, model.weight_bytes // 20)
    of_run = len(layers) * int(model.config.d_mlp) * torch.float32.itemsize
    at_once, shelf = max(1, room // of_run), Shelf(room)
    parts: list[dict[int, Taken]] = []
    for start in range(0, len(runs), at_once):
        by_layer = keys_everywhere(model, runs[start : start + at_once], layers)
        parts.append({layer: shelf.lay({"keys": by_layer.pop(layer)}) for layer in layers})
    for layer in layers:
        keys = torch.cat([part.pop(layer)()["keys"] for part in parts]).double().split(sizes)
        yield layer, {cell.name: own for cell, own in zip(cells, keys, strict=True)}


def describe_cells(keys: Float[Tensor, "m d_mlp"], moment: SecondMoment | None) -> CellStatistics:
    """Describes one cell at one block.

    Args:
        keys: At least two keys.
        moment: The block's second moment, where known.

    Returns:
        The statistics.
    """
    white = None if moment is None else moment.whiten(keys)
    lengths = keys.norm(dim=-1)
    return CellStatistics(
        n=len(keys),
        norm=float(lengths.mean()),
        norm_deviation=float(lengths.std()),
        spread=spread(keys),
        effective_rank=effective_rank(keys),
        whitened_norm=None if white is None else float(white.norm(dim=-1).mean()),
        whitened_spread=None if white is None else spread(white),
    )


def compare_cells(
    one: Cell,
    other: Cell,
    keys: dict[str, Float[Tensor, "m d_mlp"]],
    moment: SecondMoment | None,
    *,
    seed: int = 0,
) -> PairStatistics:
    """Compares two cells at one block.

    Args:
        one: The first cell.
        other: The second cell.
        keys: Keys of every cell at the block.
        moment: The block's second moment, where known.
        seed: Seed of the probe's folds and shuffles.

    Returns:
        The statistics.
    """
    a, b = keys[one.name], keys[other.name]
    means = torch.stack([a.mean(0), b.mean(0)])
    return PairStatistics(
        cells=(one.name, other.name),
        cosine=cosine(*means),
        whitened_cosine=None if moment is None else cosine(*moment.whiten(means)),
        mahalanobis=mahalanobis(a, b),
        frechet=frechet(a, b),
        probe=logistic_probe(a, b, [one.members, other.members], seed=seed),
    )
