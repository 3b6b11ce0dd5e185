"""Every threshold of a verdict, in one place, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """A threshold and why it lies where it lies."""

    value: float
    reason: str


DAMAGE_COLLAPSE = Limit(
    0.85,
    "near the natural scale of 1, where an average token is pushed by the length of its own "
    "residual stream; of 200 edits of the bundled model (docs/evidence) all 41 that multiplied "
    "perplexity by ten lay above it, and 15 of the other 159, which more than tripled it",
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
CLAMP_NORM_FACTOR = Limit(
    4.0, "the clamp factor of ROME's own settings for GPT-2-XL and GPT-J; others use 3 to 4"
)


def of_verdicts() -> dict[str, float]:
    """The limits a verdict rests on, as documents about many edits keep them."""
    return {
        "damage_collapse": DAMAGE_COLLAPSE.value,
        "damage_safe": DAMAGE_SAFE.value,
        "ratio_collapse": RATIO_COLLAPSE.value,
        "ratio_safe": RATIO_SAFE.value,
    }


# What became of an edited model. The reasons quote the 200 edits of the bundled model in
# docs/evidence: C-ROME's 200 arms and ROME's 100 arms of later subjects are its controls.
PERPLEXITY_DAMAGED = Limit(
    1.25,
    "text is a quarter harder to predict than before the edit; the controls reach 1.02 at most",
)
RECALL_KEPT = Limit(
    0.85,
    "of other facts the model gave before the edit, at least 91 in 100 were still given by every "
    "control, and 73 or fewer by half of all edits with ROME",
)
LOCALITY_KEPT = Limit(
    0.5,
    "more than half of the neighbouring facts are lost, beyond what a handful of prompts can show "
    "by chance: the upper end of Wilson's 95% interval is compared",
)
ENTROPY_KEPT = Limit(
    0.6, "generated text keeps two thirds or more of its entropy in every control; loops do not"
)
