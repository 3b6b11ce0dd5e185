"""``probes.first_token/1``: where and why keys of first tokens differ."""

from typing import Annotated, Literal

from typing_extensions import TypedDict

from rome_diagnosis.schema.parts.cells import BlockCells, CellMeaning, Sinks
from rome_diagnosis.schema.parts.shared import (
    Estimate,
    Head,
    Model,
    Projections,
    SecondMoment,
    Site,
)
from rome_diagnosis.schema.parts.values import (
    Count,
    Either,
    Integer,
    Name,
    Number,
    Positive,
    Share,
    Size,
)


class Skipped(TypedDict):
    """A subject that was not used.

    Attributes:
        subject: The subject.
        reason: Why not.
    """

    subject: str
    reason: str


class Subjects(TypedDict):
    """The subjects.

    Attributes:
        n: Number of subjects.
        source: Where they come from.
        names: The subjects.
        skipped: Those that could not be used.
    """

    n: Count
    source: str
    names: list[str]
    skipped: list[Skipped]


class ProbeContexts(TypedDict):
    """The contexts subjects are put into.

    Attributes:
        n: Number of prefixes.
        sampled: Whether they were sampled from the model.
        prefixes: The prefixes.
        pairs: Prefixes per subject used in the attribution.
    """

    n: Count
    sampled: bool
    prefixes: list[str]
    pairs: Count


class Rho(TypedDict):
    """ρ of the subjects, with k̄ and C fixed.

    Attributes:
        unprefixed: Mean ρ of the subjects' bare keys.
        prefixed: Mean ρ of their prefixed keys.
        collapse_limit: |ρ| below this multiplies the damage tenfold.
        below_limit: Share of the subjects below it.
    """

    unprefixed: Estimate
    prefixed: Estimate
    collapse_limit: Positive
    below_limit: Share


class PerformedEffect(TypedDict):
    """What one intervention does to ρ.

    Attributes:
        name: The intervention.
        hypothesis: What it tests.
        meaning: What is done, in words.
        starts_from: The run it changes.
        reason: Null.
        n: Number of subjects.
        rho_before: ρ before the intervention.
        rho_after: ρ after it.
        delta: Their difference.
        recovered: The part of the gap to the other run it closes: 0 none, 1 all; null if there is
            no gap.
        key_change: Mean norm of the key's change over the key's norm.
        changed: Share of the runs whose key moved at all.
    """

    name: str
    hypothesis: str
    meaning: str
    starts_from: Literal["bare", "prefixed"]
    reason: None
    n: Count
    rho_before: Estimate
    rho_after: Estimate
    delta: Estimate
    recovered: Number | None
    key_change: Size
    changed: Share


class InapplicableEffect(TypedDict):
    """An intervention that does not apply to this model; its figures are null.

    Attributes:
        name: The intervention.
        hypothesis: What it tests.
        meaning: What would be done, in words.
        starts_from: The run it would change.
        reason: Why it does not apply.
        n: 0.
    """

    name: str
    hypothesis: str
    meaning: str
    starts_from: Literal["bare", "prefixed"]
    reason: str
    n: Count


Effect = Annotated[PerformedEffect | InapplicableEffect, Either("reason")]


class Interventions(TypedDict):
    """Interventions on runs of the model.

    Attributes:
        positions: How a token's position reaches its key.
        effects: What each intervention does.
    """

    positions: Literal["absolute", "relative", "none"]
    effects: list[Effect]


class SubjectShares(TypedDict, extra_items=Number):  # type: ignore[call-arg]
    """One subject's Δρ and, under each factor's name, the factor's Shapley value.

    Attributes:
        subject: The subject.
        delta: Its Δρ.
    """

    subject: str
    delta: Number


class Attribution(TypedDict):
    """Δρ from the bare to the prefixed key, attributed to what a prefix changes.

    Attributes:
        delta: Δρ.
        shapley: Each factor's share of it.
        alone: The change of ρ if one factor alone is switched on.
        last: The change if it is switched on last.
        interactions: What several factors do together beyond their parts.
        combinations: ρ of each combination of factors.
        subjects: The shares, subject by subject.
        efficiency_error: Largest difference between Δρ and the sum of a subject's shares.
        reproduction_error: Largest difference of ρ from the same key captured another way.
        n_runs: Number of runs.
        words: The attribution as a sentence.
    """

    delta: Estimate
    shapley: dict[str, Estimate]
    alone: dict[str, Estimate]
    last: dict[str, Estimate]
    interactions: dict[str, Estimate]
    combinations: dict[str, Estimate]
    subjects: list[SubjectShares]
    efficiency_error: Size
    reproduction_error: Size
    n_runs: Count
    words: str


class Patched(TypedDict):
    """What one patch does to ρ.

    Attributes:
        block: The patched block; the last one where a patch spans several.
        site: What is patched.
        direction: Which run is patched.
        rho: ρ of the patched run's key.
        recovered: The part of the gap to the other run it closes: 0 none, 1 all.
    """

    block: Count
    site: Name
    direction: Literal["into_bare", "into_prefixed"]
    rho: Estimate
    recovered: Number


class Patching(TypedDict):
    """Activations of one run written into the other.

    Attributes:
        rho_bare: ρ of the bare run's key.
        rho_prefixed: ρ of the prefixed run's key.
        patches: The patches.
        null_error: Largest change of ρ when a run is patched with its own activations.
        residual_error: Largest difference from the other run's ρ with the residual stream that
            enters the edited MLP patched.
        attention_error: The same with the embedding and every attention output patched.
        control: Mean change of a key, over its norm, when another subject's stream is patched in;
            null where subjects differ in length.
        words: Where ρ recovers, as a sentence.
    """

    rho_bare: Estimate
    rho_prefixed: Estimate
    patches: list[Patched]
    null_error: Size
    residual_error: Size
    attention_error: Size
    control: Size | None
    words: str


class EncoderControl(TypedDict):
    """The same statistics of an encoder, in which the first token sees all others.

    Attributes:
        name: The encoder.
        layer: The block whose ρ is given.
        n_layers: Number of its blocks.
        n: Number of subjects.
        rho_unprefixed: ρ of keys that stand first.
        rho_prefixed: ρ of prefixed keys.
        below_limit: Share of the subjects below the limit on |ρ|.
        layers: Cells and pairs of each block.
        n_tokens: Tokens each block's second moment was estimated on.
    """

    name: str
    layer: Count
    n_layers: Count
    n: Count
    rho_unprefixed: Estimate
    rho_prefixed: Estimate
    below_limit: Share
    layers: list[BlockCells]
    n_tokens: Count


class Message(TypedDict):
    """One result in a sentence.

    Attributes:
        id: Its name.
        message: The sentence.
    """

    id: Name
    message: str


class FirstTokenDocument(Head):
    """Where and why keys of first tokens differ.

    Attributes:
        schema: ``probes.first_token/1``.
        model: The model.
        site: The edited block.
        second_moment: The C of the edited block.
        seed: Seed of everything that is sampled.
        subjects: The subjects.
        contexts: The contexts they are put into.
        rho: ρ of their bare and prefixed keys.
        cells: What each cell of keys holds.
        layers: Cells and pairs of each block.
        sinks: Attention sinks on ordinary text.
        interventions: Interventions on runs of the model.
        attribution: Δρ, attributed to what a prefix changes.
        patching: Activations of one run written into the other.
        projections: Keys and directions in two dimensions.
        encoder: The same of an encoder; null unless one was given.
        findings: The results in sentences.
    """

    schema: Literal["probes.first_token/1"]
    model: Model
    site: Site
    second_moment: SecondMoment
    seed: Integer
    subjects: Subjects
    contexts: ProbeContexts
    rho: Rho
    cells: dict[Name, CellMeaning]
    layers: list[BlockCells]
    sinks: Sinks
    interventions: Interventions
    attribution: Attribution
    patching: Patching
    projections: Projections
    encoder: EncoderControl | None
    findings: list[Message]
