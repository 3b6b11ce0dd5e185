"""``diag.hardcases/1``: the data card of hard edits and their controls."""

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from rome_diagnosis.schema.parts.shared import (
    Contexts,
    Head,
    Limits,
    Model,
    Request,
    SecondMoment,
    Site,
    Verdict,
)
from rome_diagnosis.schema.parts.values import Count, Integer, Name, Number, Positive, Share, Size
from rome_diagnosis.schema.screen import VerdictCounts
from rome_diagnosis.schema.verify import KnownFacts, Outcome, Settings, Texts


class Source(TypedDict):
    """A file that edits, or wordings and objects, come from.

    Attributes:
        name: Its name.
        digest: SHA-256 of its bytes.
        licence: As it was stated; null where it was not.
    """

    name: str
    digest: str
    licence: str | None


class PerformingSettings(TypedDict):
    """How edits were performed.

    Attributes:
        precision: Half width of the share's 95 % interval at which no more were performed.
        at_most: No more than this many of either group were performed.
        seed: Drew the order in which edits were performed.
        settings: What all edits had in common.
    """

    precision: Size
    at_most: Count
    seed: Integer
    settings: Settings


class BrokenShare(TypedDict):
    """The share of performed edits that collapsed or damaged the model.

    Attributes:
        n: Edits performed.
        outcomes: How many had each outcome.
        mean: The share.
        low: Lower end of Wilson's 95 % interval.
        high: Upper end of it.
    """

    n: Count
    outcomes: dict[Outcome, Count]
    mean: Share
    low: Share
    high: Share


class Distributions(TypedDict):
    """How a group's measurements are distributed.

    Attributes:
        at: The quantiles' levels, from 0 to 1.
        rho: Quantiles of ρ; null where there is no value.
        relative_bound_rome: Quantiles of ROME's bound in units of hidden states' norm; null
            likewise.
        relative_bound_first_tokens_rome: Quantiles of the same at first tokens; null likewise.
    """

    at: list[Number]
    rho: list[Number] | None
    relative_bound_rome: list[Number] | None
    relative_bound_first_tokens_rome: list[Number] | None


class HardGroup(TypedDict):
    """The hard edits, or the easy ones.

    Attributes:
        chosen: Edits chosen by screening.
        n: Edits in the file: those chosen, without those that performing refuted.
        subjects: Different subjects among them.
        splits: How many are for development and for the test.
        relations: How many are of each relation.
        same_objects: How many have the same true object as the hard edit of their pair.
        verdicts: How often each verdict came.
        quantiles: How ρ and damage are distributed.
        performed: By arm, what became of the model; null where no edit was performed.
        refused: Edits that could not be performed.
    """

    chosen: Count
    n: Count
    subjects: Count
    splits: dict[str, Count]
    relations: dict[str, Count]
    same_objects: Count
    verdicts: VerdictCounts
    quantiles: Distributions
    performed: dict[Name, BrokenShare] | None
    refused: Count


class HardExample(Request):
    """One of the hardest edits.

    Attributes:
        rho: ρ.
        relative_bound_rome: ROME's bound; null where it could not be checked.
        verdict: On ROME as published.
        outcome: What became of the model under ROME; null where it was not performed.
        perplexity_ratio: Perplexity after over before; null likewise, or where it overflowed.
    """

    rho: Number
    relative_bound_rome: Size | None
    verdict: Verdict
    outcome: Outcome | None
    perplexity_ratio: Size | None


class HardCasesDocument(Head):
    """The data card of hard edits and their controls.

    Attributes:
        schema: ``diag.hardcases/1``.
        model: The model the edits are hard for.
        site: The edited block.
        contexts: The contexts of every edit.
        second_moment: The C the keys are judged by.
        clamp_factor: ‖δ‖ is clamped to this factor times ‖v_u‖.
        limits: The limits the verdicts rest on.
        file: Name of the records' file.
        seed: Chose wordings, objects, order and splits.
        made: ``mined`` from data sets, or ``composed`` from the model's vocabulary.
        sources: What edits, or wordings and objects, come from.
        screened: Edits that were screened.
        not_screened: Records that are no edits, or could not be measured.
        found: Those of them that are hard.
        found_subjects: Different subjects of these.
        notes: What was left out or changed in reading.
        performing: How edits were performed; null where none was.
        texts: The texts for perplexity.
        known_facts: The facts for recall.
        groups: The hard edits and the easy ones.
        examples: The first hard edits.
    """

    schema: Literal["diag.hardcases/1"]
    model: Model
    site: Site
    contexts: Contexts
    second_moment: SecondMoment
    clamp_factor: Positive
    limits: Limits
    file: str
    seed: Integer
    made: Literal["mined", "composed"]
    sources: list[Source]
    screened: Count
    not_screened: Count
    found: Count
    found_subjects: Count
    notes: list[str]
    performing: PerformingSettings | None
    texts: NotRequired[Texts]
    known_facts: NotRequired[KnownFacts]
    groups: dict[Literal["hard", "easy"], HardGroup]
    examples: list[HardExample]
