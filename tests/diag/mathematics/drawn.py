"""Keys, values and second moments drawn at random, for the theorems of the update equation."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from diag.mathematics.stream import Stream
from probes.model.contribution import Contribution
from probes.second_moment.moment import Background, SecondMoment, of_moment

D_MLP, D_MODEL, N_CTX = 24, 10, 7


def close(x: float, y: float, tolerance: float = 1e-10) -> bool:
    return math.isclose(x, y, rel_tol=tolerance, abs_tol=tolerance)


def draw(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def corpus_moment(generator: torch.Generator) -> tuple[torch.Tensor, SecondMoment]:
    """Corpus keys, anisotropic and not centred as real ones are, and their second moment."""
    keys = draw(generator, 400, D_MLP) @ draw(generator, D_MLP, D_MLP) + draw(generator, D_MLP)
    return keys, of_moment(keys.T @ keys / len(keys), source="test")


def stream(moment: SecondMoment, *, norm: torch.nn.Module | None = None, seed: int = 0) -> Stream:
    """A stream that takes outputs as they are, or through a norm; its typical norm is 2."""
    generator = torch.Generator().manual_seed(100 + seed)
    background = Background(
        first_keys=draw(generator, 30, D_MLP).float(),
        later_keys=draw(generator, 50, D_MLP).float(),
        residual_norm=2.0,
        residual_norm_before=2.0,
    )
    projection = torch.nn.Linear(D_MLP, D_MODEL, dtype=torch.float64)
    with torch.no_grad():
        projection.weight.copy_(draw(generator, D_MODEL, D_MLP))
    way = Contribution(factor=1.0, norm=norm, takes_stream=False, projection=projection)
    beside = moment if moment.is_identity else replace(moment, background=background)
    return Stream(beside, way)


def edit(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Keys and values under contexts, and a target."""
    return (
        draw(generator, N_CTX, D_MLP) + 2 * draw(generator, D_MLP),
        draw(generator, N_CTX, D_MODEL),
        draw(generator, D_MODEL),
    )
