"""Keys in two dimensions, for figures: principal components and t-SNE, both seeded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probes.second_moment.moment import SecondMoment

PERPLEXITY = 30
FEWEST = 10  # distinct points: a t-SNE of fewer shows nothing


class Keyed(Protocol):
    """A subject whose keys are to be drawn."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def rho(self) -> float:
        """ρ of its bare key."""

    @property
    def keys(self) -> Float[Tensor, "n_ctx d_mlp"]:
        """Its keys in contexts 0…n."""


@dataclass(frozen=True)
class Point:
    """One vector in two dimensions.

    Attributes:
        kind: ``unprefixed`` (k_u), ``prefixed`` (k_i) or ``direction`` (C⁻¹k̄).
        subject: The subject it belongs to.
        rho: ρ of that subject's bare key.
        pca: Its first two principal components.
        tsne: Its coordinates in a t-SNE; ``None`` where there are too few points for one.
    """

    kind: str
    subject: str
    rho: float
    pca: tuple[float, float]
    tsne: tuple[float, float] | None


@dataclass(frozen=True)
class Projection:
    """Points that were projected together.

    Attributes:
        points: The points.
        explained: Share of the variance that the two principal components hold.
    """

    points: list[Point]
    explained: tuple[float, float]


def keys(subjects: Sequence[Keyed], *, seed: int = 0) -> Projection:
    """Projects each subject's bare key and one of its prefixed keys.

    Args:
        subjects: The subjects, each with a bare and at least one prefixed key.
        seed: Seed of the t-SNE.

    Returns:
        The points, bare keys first.
    """
    n_contexts = len(subjects[0].keys) - 1
    bare = torch.stack([subject.keys[0] for subject in subjects])
    prefixed = torch.stack([s.keys[1 + i % n_contexts] for i, s in enumerate(subjects)])
    kinds = ["unprefixed"] * len(subjects) + ["prefixed"] * len(subjects)
    return _project(torch.cat([bare, prefixed]), kinds, [*subjects, *subjects], seed)


def directions(subjects: Sequence[Keyed], moment: SecondMoment, *, seed: int = 0) -> Projection:
    """Projects each subject's C⁻¹k̄, the direction in which ROME edits.

    Args:
        subjects: The subjects.
        moment: The second moment C.
        seed: Seed of the t-SNE.

    Returns:
        The points; each direction has length 1, because its length is divided out of an update.
    """
    solved = moment.solve(torch.stack([subject.keys.mean(0) for subject in subjects]))
    solved = solved / solved.norm(dim=-1, keepdim=True)
    return _project(solved, ["direction"] * len(subjects), subjects, seed)


def pca(x: Float[Tensor, "m d"]) -> tuple[Float[Tensor, "m 2"], tuple[float, float]]:
    """The first two principal components, with a sign that does not depend on the solver.

    Args:
        x: At least two points in at least two dimensions.

    Returns:
        Coordinates, and the share of the variance each component holds.

    Raises:
        ValueError: If there are fewer points or dimensions.
    """
    centred = x - x.mean(0)
    if len(x) < 2 or x.shape[1] < 2:
        raise ValueError(f"{tuple(x.shape)} has no two principal components")
    u, singular, axes = torch.linalg.svd(centred, full_matrices=False)
    largest = axes[:2].abs().argmax(dim=1)
    signs = torch.sign(axes[torch.arange(2), largest])
    total = float(singular.square().sum()) or 1.0
    shares = (singular[:2].square() / total).tolist()
    return u[:, :2] * singular[:2] * signs, (shares[0], shares[1])


def _project(x: Tensor, kinds: Sequence[str], subjects: Sequence[Keyed], seed: int) -> Projection:
    """Both projections of the same vectors."""
    flat, explained = pca(x)
    embedded = _tsne(x.numpy(), seed)
    return Projection(
        [
            Point(
                kind,
                subject.name,
                subject.rho,
                (float(flat[i, 0]), float(flat[i, 1])),
                None if embedded is None else (float(embedded[i, 0]), float(embedded[i, 1])),
            )
            for i, (kind, subject) in enumerate(zip(kinds, subjects, strict=True))
        ],
        explained,
    )


def _tsne(x: np.ndarray, seed: int) -> np.ndarray | None:
    """t-SNE coordinates; ``None`` for too few distinct points."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    # Points that nearly all coincide have no neighbourhoods to preserve, and the initial layout
    # would be divided by their spread.
    scale = np.abs(x).max() or 1.0
    if len(np.unique((x / scale).round(6), axis=0)) < FEWEST:
        return None
    perplexity = min(PERPLEXITY, (len(x) - 1) / 3)
    # One thread: the order in which several threads add would change the last digits.
    with threadpool_limits(1):
        embedded: np.ndarray = TSNE(
            perplexity=perplexity, init="pca", random_state=seed, n_jobs=1
        ).fit_transform(x)
    return embedded
