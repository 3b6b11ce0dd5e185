"""Every threshold of a verdict, in one place, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """A threshold and why it lies where it lies."""

    value: float
    reason: str


DAMAGE_COLLAPSE = Limit(
    1.0,
    "the natural scale: an average token would be pushed by the length of its own residual "
    "stream, so that what the model knew about it is drowned",
)
DAMAGE_SAFE = Limit(
    0.2,
    "in trial edits of models that do collapse, an average push of a fifth of the residual "
    "stream raised perplexity by about a tenth, and one below a tenth left it unchanged",
)
RATIO_COLLAPSE = Limit(
    0.1, "ROME's damage is C-ROME's times 1/|ρ|: at 0.1 the inconsistent keys make it tenfold"
)
RATIO_SAFE = Limit(0.5, "inconsistent keys then at most double the damage of a consistent edit")
FIRST_TOKEN_LIKENESS = Limit(
    0.99, "more like the mean first-token key than 99 in 100 ordinary later keys are"
)
SINK_NORM = Limit(
    3.0,
    "the stream of an ordinary token stays within a factor of three of the median; a sink's is "
    "carried by a few coordinates that are many times larger",
)
TOKENS_PER_DIMENSION = Limit(
    4.0, "with fewer tokens than a few for each dimension, C⁻¹ amplifies sampling noise"
)
