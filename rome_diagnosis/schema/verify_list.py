"""``diag.verify/1`` of a list of edits: each edit, groups of them beside one another, a summary."""

from typing import Annotated, NotRequired

from typing_extensions import TypedDict

from rome_diagnosis.schema.parts.arms import Arms
from rome_diagnosis.schema.parts.shared import Estimate, Projections, Site
from rome_diagnosis.schema.parts.values import (
    Cosine,
    Count,
    Either,
    Name,
    Positive,
    Prompt,
    Share,
    Size,
)
from rome_diagnosis.schema.tasks import HeldAgainstTasks
from rome_diagnosis.schema.verify import (
    Collapsed,
    EditDocument,
    EditRequest,
    EditSite,
    Optimisation,
    Outcome,
    VerifyHead,
)


class PerformedEdit(TypedDict):
    """One edit of a list, performed.

    Attributes:
        request: The fact.
        site: Where it is edited and looked up.
        optimisation: How v* was optimised.
        arms: What was measured, for each arm.
        collapsed: Whether its perplexity met the criterion, for each arm.
        outcome: What became of the model, for each arm.
        error: Null.
    """

    request: EditRequest
    site: EditSite
    optimisation: Optimisation
    arms: Arms
    collapsed: Collapsed
    outcome: NotRequired[dict[Name, Outcome]]
    error: NotRequired[None]


class FailedRequest(TypedDict):
    """The fact of an edit that could not be performed.

    Attributes:
        subject: Its subject.
        prompt: Its prompt.
        case_id: As of a performed edit.
        group: As of a performed edit.
    """

    subject: str
    prompt: Prompt
    case_id: str | None
    group: str | None


class FailedEdit(TypedDict):
    """One edit of a list that could not be performed.

    Attributes:
        request: The fact.
        error: Why not.
    """

    request: FailedRequest
    error: str


Edit = Annotated[PerformedEdit | FailedEdit, Either("error")]


class Refused(TypedDict):
    """A record of the file that is no edit.

    Attributes:
        index: Its place in the file, from 0.
        reason: Why not.
        place: Where in the file it is, e.g. ``line 3``.
    """

    index: Count
    reason: str
    place: NotRequired[str]


class GroupArm(TypedDict):
    """One arm's figures over the edits of a group; null where nothing was measured.

    Attributes:
        numerator_norm: ‖v* − v‖.
        denominator_size: |D|.
        denominator_normalised_size: |D| / ‖u‖.
        relative_update_norm: ‖ΔW‖ / ‖W‖.
        relative_damage: The predicted damage, in units of the residual stream.
        perplexity_max: The largest perplexity; null where one overflowed.
        perplexity_ratio_max: The largest perplexity ratio; null where one overflowed.
        perplexity_ratio: The perplexity ratio, of edits whose perplexity did not overflow.
        collapsed: Number of edits that met the criterion.
        efficacy: Share of edits that took.
        efficacy_top1: Share whose new object greedy decoding gives.
        efficacy_generated: Share whose generated text begins with it.
        efficacy_unseen_prefix: Share that took after an unseen prefix.
        generalisation: Share of paraphrases that give the new object.
        locality: Share of neighbouring facts that keep their own.
        locality_unchanged: Share of neighbouring facts whose likeliest answer is what it was.
        entropy: Entropy of generated text, in bits.
        recall: Share of other facts still given.
    """

    numerator_norm: Estimate | None
    denominator_size: Estimate | None
    denominator_normalised_size: Estimate | None
    relative_update_norm: Estimate | None
    relative_damage: Estimate | None
    perplexity_max: Size | None
    perplexity_ratio_max: Size | None
    perplexity_ratio: Estimate | None
    collapsed: Count
    efficacy: Estimate | None
    efficacy_top1: Estimate | None
    efficacy_generated: Estimate | None
    efficacy_unseen_prefix: NotRequired[Estimate | None]
    generalisation: Estimate | None
    locality: Estimate | None
    locality_unchanged: Estimate | None
    entropy: Estimate | None
    recall: Estimate | None


class GroupArms(TypedDict, extra_items=GroupArm):  # type: ignore[call-arg]
    """The arms' figures, under their names.

    Attributes:
        rome: ROME as published.
        c_rome: C-ROME.
        p_rome: P-ROME.
        c_rome_prefixed: C-ROME's weights, a prefix before the test prompts.
    """

    rome: GroupArm
    c_rome: GroupArm
    p_rome: GroupArm
    c_rome_prefixed: GroupArm


class Group(TypedDict):
    """The figures of one group of edits.

    Attributes:
        name: The group.
        n: Number of edits.
        perplexity_before: Perplexity of the unedited model.
        arms: Figures of each arm.
    """

    name: str
    n: Count
    perplexity_before: Positive | None
    arms: GroupArms


class Rescue(TypedDict):
    """What C-ROME does where ROME breaks the model.

    Attributes:
        n: Number of edits with which ROME does.
        c_rome_ratio_max: The largest perplexity ratio of C-ROME among them; null where one
            overflowed or there are none.
    """

    n: Count
    c_rome_ratio_max: Size | None


class Agreement(TypedDict):
    """How well predicted damage tells what happens to perplexity.

    Attributes:
        spearman: Rank correlation over updates with noticeable damage; null with fewer than three.
        n_ranked: Number of these updates.
        auc: Chance that a collapse has more predicted damage than another update; null without
            either.
        n_collapsed: Number of collapses.
        n_other: Number of other updates.
    """

    spearman: Cosine | None
    n_ranked: Count
    auc: Share | None
    n_collapsed: Count
    n_other: Count


class PooledAgreement(Agreement):
    """The same of ROME's updates, and of all editors' together.

    Attributes:
        pooled: The agreement over all editors' updates.
    """

    pooled: Agreement


class RankedLocality(TypedDict):
    """How well φ at neighbours' prompts, known before editing, ranks what locality loses.

    Attributes:
        spearman: Rank correlation over the arms of edits with neighbours; null with fewer than
            three.
        n: Number of these arms.
    """

    spearman: Cosine | None
    n: Count


class CollapsedCounts(TypedDict, extra_items=Count):  # type: ignore[call-arg]
    """Number of edits with which each arm broke the model, under the arm's name.

    Attributes:
        rome: ROME as published.
        c_rome: C-ROME.
        p_rome: P-ROME.
        c_rome_prefixed: C-ROME's weights, a prefix before the test prompts.
    """

    rome: Count
    c_rome: Count
    p_rome: Count
    c_rome_prefixed: Count


class EditsSummary(TypedDict):
    """Figures over all edits of a list.

    Attributes:
        n: Number of edits that were performed.
        n_errors: Number of edits that could not be.
        collapse_ratio: The criterion on the perplexity ratio.
        collapsed: Number of collapses, for each arm.
        outcomes: Number of edits of each outcome, for each arm.
        rescue: What C-ROME does where ROME breaks the model.
        damage_against_perplexity: How well predicted damage tells what happens to perplexity.
        response_against_locality: How well φ tells what happens to neighbouring facts.
        surrogate: How well perplexity and damage tell what tasks lose, where they were asked.
    """

    n: Count
    n_errors: Count
    collapse_ratio: Positive
    collapsed: CollapsedCounts
    outcomes: NotRequired[dict[Name, dict[Name, Count]]]
    rescue: Rescue
    damage_against_perplexity: PooledAgreement
    response_against_locality: NotRequired[RankedLocality]
    surrogate: NotRequired[HeldAgainstTasks]


class EditProjections(Projections):
    """Keys and directions of the edits, of a sample where there are many.

    Attributes:
        drawn: Number of edits that are drawn.
        of: Number of edits they stand for.
    """

    drawn: Count
    of: Count


class EditsDocument(VerifyHead):
    """A list of edits, each performed on the unedited model.

    Attributes:
        site: The edited block.
        edits: The edits, in the order of the list.
        refused: Records that are no edits.
        projections: Keys and directions in two dimensions; null with fewer than two edits or no
            prefixes.
        groups: For each way of grouping (``collapse``, ``first_token``, ``record``), the groups.
        summary: Figures over all edits.
    """

    site: Site
    edits: list[Edit]
    refused: list[Refused]
    projections: NotRequired[EditProjections | None]
    groups: dict[Name, list[Group]]
    summary: EditsSummary


VerifyDocument = Annotated[EditDocument | EditsDocument, Either("edits")]
