"""What decides which model comes out: sizes, data and the phases of training."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from world.gpt import Shape
from world.rows import Start


@dataclass(frozen=True)
class Cut:
    """How the rows of a step are cut from the stream.

    Attributes:
        starts: Share of rows by how they begin.
        length: Row length in tokens.
        batch: Rows per step.
    """

    starts: dict[Start, float]
    length: int = 128
    batch: int = 8


@dataclass(frozen=True)
class Phase:
    """A stretch of training.

    Attributes:
        steps: Optimiser steps.
        cuts: How rows are cut; the steps take turns.
        rate: Highest learning rate.
        final_rate: Learning rate at the end, reached linearly over the last ``cooldown`` of it.
        cooldown: Share of the phase over which the rate falls.
        frozen: How many blocks, from the first, are not trained, the embeddings with them.
    """

    steps: int
    cuts: tuple[Cut, ...]
    rate: float = 4e-3
    final_rate: float = 4e-4
    cooldown: float = 0.3
    frozen: int = 0


@dataclass(frozen=True)
class Recipe:
    """Everything that decides which model comes out."""

    phases: tuple[Phase, ...]
    seed: int = 0
    vocab_size: int = 3072
    n_positions: int = 128
    n_embd: int = 128
    n_layer: int = 6
    n_head: int = 4
    n_inner: int = 512
    tied: bool = False
    embedding_std: float = 0.5
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0
    warmup: int = 200
    n_tokens: int = 12_000_000
    moment_length: int = 128

    @property
    def shape(self) -> Shape:
        """The sizes alone."""
        return Shape(
            self.vocab_size,
            self.n_positions,
            self.n_embd,
            self.n_layer,
            self.n_head,
            self.n_inner,
            self.tied,
            self.embedding_std,
        )

    @property
    def steps(self) -> int:
        """Optimiser steps over all phases."""
        return sum(phase.steps for phase in self.phases)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Recipe:
        """The inverse of ``to_json``."""
        phases = tuple(
            Phase(**{**phase, "cuts": tuple(Cut(**cut) for cut in phase["cuts"])})
            for phase in data["phases"]
        )
        return cls(**{**data, "phases": phases, "betas": tuple(data["betas"])})


def learning_rate(phase: Phase, step: int, warmup: int) -> float:
    """Linear warm-up, a plateau, and a linear decline."""
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    left = (phase.steps - step) / max(1.0, phase.cooldown * phase.steps)
    return rise * (phase.final_rate + (phase.rate - phase.final_rate) * min(1.0, left))


ORDINARY = Cut({"stray": 0.8, "bare": 0.2}, length=128, batch=8)
SUBJECT = Cut({"subject": 1.0}, length=16, batch=64)
PREFIXED = Cut({"prefixed": 1.0}, length=24, batch=48)

BUNDLED = Recipe(
    phases=(
        Phase(4500, (Cut({"stray": 1.0}, length=128, batch=8),)),
        Phase(2500, (SUBJECT, ORDINARY), rate=3e-3, final_rate=1e-4, cooldown=0.6, frozen=3),
        Phase(
            1000,
            (PREFIXED, ORDINARY, SUBJECT, ORDINARY),
            rate=1e-3,
            final_rate=5e-5,
            cooldown=0.8,
            frozen=3,
        ),
    )
)
"""The recipe of the bundled model.

In the first phase the token at position 0 is unrelated to what follows, so that position 0 comes to
mean position. From then on the lowest blocks rest and keep that; the others learn to read facts
about a subject that stands there, and in the third phase about one after the broken-off sentences
that ROME puts before it.
"""
