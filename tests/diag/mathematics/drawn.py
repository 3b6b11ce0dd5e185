"""Keys, values and second moments drawn at random, for the theorems of the update equation."""

from __future__ import annotations

import math

import torch

from probes.second_moment.moment import SecondMoment, of_moment

D_MLP, D_MODEL, N_CTX = 24, 10, 7


def close(x: float, y: float, tolerance: float = 1e-10) -> bool:
    return math.isclose(x, y, rel_tol=tolerance, abs_tol=tolerance)


def draw(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def corpus_moment(generator: torch.Generator) -> tuple[torch.Tensor, SecondMoment]:
    """Corpus keys, anisotropic and not centred as real ones are, and their second moment."""
    keys = draw(generator, 400, D_MLP) @ draw(generator, D_MLP, D_MLP) + draw(generator, D_MLP)
    return keys, of_moment(keys.T @ keys / len(keys), source="test")


def edit(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Keys and values under contexts, and a target."""
    return (
        draw(generator, N_CTX, D_MLP) + 2 * draw(generator, D_MLP),
        draw(generator, N_CTX, D_MODEL),
        draw(generator, D_MODEL),
    )
