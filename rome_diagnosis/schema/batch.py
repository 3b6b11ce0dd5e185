"""``diag.batch/1``: a batch of edits by one method, before it is made and, if asked for, after."""

from typing import Annotated, Literal, NotRequired

from annotated_types import Len
from typing_extensions import TypedDict

from rome_diagnosis.schema.parts.arms import PerplexityChange, ShareChange
from rome_diagnosis.schema.parts.shared import (
    Contexts,
    Finding,
    Head,
    Limits,
    Model,
    Request,
    SecondMoment,
    Verdict,
)
from rome_diagnosis.schema.parts.values import Cosine, Count, Name, Number, Positive, Share, Size
from rome_diagnosis.schema.verify_list import Refused


class WrittenLayer(TypedDict):
    """What was written into one layer.

    Attributes:
        layer: The block.
        update_norm: ‖ΔW‖, Frobenius.
        relative_update_norm: The same over ‖W‖.
        residual: Root mean square length of the residuals it was to write.
        received: Median share of its residual that an edit's bare prompt received, as keys were.
        damage: Root mean square change of the MLP's output over the corpus; null without C.
        damage_measured: The same measured on the text set; null above the first layer.
    """

    layer: Count
    update_norm: Size
    relative_update_norm: Size
    residual: Size
    received: Number
    damage: Size | None
    damage_measured: Size | None


class Targets(TypedDict):
    """How the targets were optimised.

    Attributes:
        loss: Median of the last losses, in nats.
        clamped: How many ended on the sphere that δ is projected into.
        n: How many there are.
    """

    loss: Number
    clamped: Count
    n: Count


class Said(TypedDict):
    """What the edited model says of one edit under one wording.

    Attributes:
        p_before: Probability of the new object before, the geometric mean over its tokens.
        p_after: The same after.
        rank_after: Rank of its first token after; 1 is the likeliest.
        success: Whether the new object is likelier than the true one; without a true one, whether
            greedy decoding gives it.
        generalisation: Share of its paraphrases that succeed; null without any.
        locality: Share of its neighbouring facts that are kept; null without any.
    """

    p_before: Share
    p_after: Share
    rank_after: Count
    success: bool
    generalisation: Share | None
    locality: Share | None


class MadeEdit(TypedDict):
    """One edit of the batch, after it.

    Attributes:
        index: Its index among ``edits``.
        received: The share of z − h, or v* − v, that its bare prompt did receive there.
        loss: The last loss of its target, in nats.
        neighbours_receive: Known before: √Σφ² over the batch at the token of a neighbour's bare
            prompt that receives most, median over its neighbours; null without any.
        locality_lost: Share lost of its neighbours that were right before; null without any.
        bare: What the bare prompt gives.
        editing_prefix: What it gives after the first prefix.
    """

    index: Count
    received: Number
    loss: Number
    neighbours_receive: NotRequired[Number | None]
    locality_lost: NotRequired[Number | None]
    bare: Said
    editing_prefix: Said


class Figures(TypedDict):
    """Figures over the edits under one wording.

    Attributes:
        n: How many edits were asked.
        success_before: Share that succeeded before.
        success: Share that succeeds after.
        p_before: Mean probability of the new object before.
        p_after: The same after.
        generalisation: Over the paraphrases of all edits; null without any.
        locality: Over the neighbouring facts of all edits; null without any.
    """

    n: Count
    success_before: Share
    success: Share
    p_before: Share
    p_after: Share
    generalisation: ShareChange | None
    locality: ShareChange | None


class Rank(TypedDict):
    """Spearman's rank correlation of a prediction and what came.

    Attributes:
        rho: The correlation; null where one of the two does not vary.
        n: Number of edits.
    """

    rho: Number | None
    n: Count


class Performed(TypedDict):
    """What became of the model.

    Attributes:
        targets: How the targets were optimised.
        layers: What was written, layer by layer.
        edits: Each edit that was asked.
        bare: Figures at the bare prompts.
        editing_prefix: Figures after the first prefix.
        perplexity: Perplexity of the text set before and after the batch.
        recall: Share of other facts that are still recalled; null without any.
        outcome: ``collapsed``, ``damaged`` or ``intact``.
        outcome_reasons: A phrase for each measurement beyond its limit.
        prediction: The verdict before the batch was made beside what came of it, as a sentence.
        collapse_ratio: The perplexity ratio from which on a model counts as collapsed.
        predicted_received: How the share predicted beforehand ranks the measured one.
        received_efficacy: How the predicted share ranks the new object's probability.
        neighbours_locality: How what the neighbours receive, known before, ranks the locality lost.
        texts: What perplexity was measured on.
        facts: What recall was measured on.
    """

    targets: Targets
    layers: list[WrittenLayer]
    edits: list[MadeEdit]
    bare: Figures
    editing_prefix: Figures
    perplexity: PerplexityChange
    recall: ShareChange | None
    outcome: Literal["collapsed", "damaged", "intact"]
    outcome_reasons: list[str]
    prediction: NotRequired[str]
    collapse_ratio: Positive
    predicted_received: Rank
    received_efficacy: Rank
    neighbours_locality: NotRequired[Rank]
    texts: str
    facts: str


class Received(TypedDict):
    """φ: the share of its wanted change that a key receives, 1 for all of it.

    Attributes:
        bare: At the edit's own bare prompt, signed.
        prefixed: At its prefixed prompts, signed, mean; null without any.
        other_first_tokens: At ordinary texts' first tokens, root mean square; null without any.
        later_tokens: At later tokens of ordinary text, root mean square; null without a sample.
    """

    bare: Number
    prefixed: Number | None
    other_first_tokens: Size | None
    later_tokens: Size | None


class BatchNeighbour(TypedDict):
    """Another edit of the batch.

    Attributes:
        index: Its index among ``edits``.
        value: Cosine of the two keys in the metric, or the share of its change that arrives here.
    """

    index: Count
    value: Number


class BatchEdit(TypedDict):
    """One edit of the batch, before anything is optimised.

    Attributes:
        request: The fact.
        case_id: The data set's name for it; null where it has none.
        token: The token at which the bare prompt looks it up.
        token_index: That token's index.
        is_first_token: Whether nothing precedes it.
        longest: The length that its z − h, or v* − v, can have at most.
        expected_share: The share of it that is expected, below 1 where Adam's steps usually end
            before the clamp.
        key_length: kᵀGk at the first edited layer: what M's regulariser is read against.
        response: φ at the first edited layer; null where M is singular.
        received_bare: The share of its change that its bare prompt receives over all layers.
        received_prefixed: The same at its prefixed prompts.
        nearest: The edit with the most parallel key; null in a batch of one.
        disturbed_by: The edit whose change arrives here most; null in a batch of one.
    """

    request: Request
    case_id: str | None
    token: str
    token_index: Count
    is_first_token: bool
    longest: Size
    expected_share: NotRequired[Share]
    key_length: Number
    response: Received | None
    received_bare: Number | None
    received_prefixed: Number | None
    nearest: BatchNeighbour | None
    disturbed_by: BatchNeighbour | None


class BatchDamage(TypedDict):
    """Root mean square changes at ordinary tokens, before targets are known.

    Attributes:
        expected: RMS change of the MLP's output, with residuals as long as is likely and no
            direction in common; null where it is not known.
        bound: At most, whatever directions residuals have.
        whatever_keys: The method's own bound, whatever the keys; null where it has none.
        relative_expected: RMS change of the residual stream, in units of its median norm.
        relative_bound: By the smaller of the two bounds.
        relative_first_tokens: At most at first tokens, whatever directions residuals have.
        relative_expected_first_tokens: Expected at first tokens, as ``relative_expected`` is.
        not_checked: Why nothing relative is given; null where it is.
    """

    expected: Size | None
    bound: Size | None
    whatever_keys: Size | None
    relative_expected: Size | None
    relative_bound: Size | None
    relative_first_tokens: Size | None
    relative_expected_first_tokens: NotRequired[Size | None]
    not_checked: str | None


class BatchLayer(TypedDict):
    """One edited layer.

    Attributes:
        layer: The block.
        hook: TransformerLens' name of the activation that is the key.
        second_moment: C of its keys.
        regulariser: What stands on M's diagonal beside KᵀGK.
        condition_number: Condition number of M; null where M is singular.
        rank: Directions left to write in, for a method that projects; null for others.
        damage: What the batch does to ordinary tokens there.
    """

    layer: Count
    hook: str
    second_moment: SecondMoment
    regulariser: Size
    condition_number: Size | None
    rank: Count | None
    damage: BatchDamage


class EditPair(TypedDict):
    """Two edits that make M ill conditioned.

    Attributes:
        first: Index of the one.
        second: Index of the other.
        cosine: Cosine of the two keys, in the metric.
        kind: ``contradiction`` for one prompt with two objects, ``same_subject``, or
            ``parallel_keys``.
    """

    first: Count
    second: Count
    cosine: Cosine
    kind: Literal["contradiction", "same_subject", "parallel_keys"]


class FamilyRow(TypedDict):
    """What one method of the family would do with the same batch, at the first edited layer.

    Attributes:
        name: The method.
        parameters: Its parameters, by name.
        regulariser: What stands on M's diagonal beside KᵀGK.
        condition_number: Condition number of M; null where M is singular.
        rank: Directions left to write in, for a method that projects; null for others.
        response: φ, the median over the edits; null where M is singular.
    """

    name: Name
    parameters: dict[Name, Size]
    regulariser: Size
    condition_number: Size | None
    rank: Count | None
    response: Received | None


class MatrixPicture(TypedDict):
    """M as a picture.

    Attributes:
        layer: The block.
        edits: Indices of the edits shown: the first ones where there are many.
        cosines: Cosines between their keys in the metric, row by row.
        cross_response: Row i, column j: the share of edit j's change that edit i's bare prompt
            receives; null where M is singular.
    """

    layer: Count
    edits: list[Count]
    cosines: list[list[Cosine]]
    cross_response: list[list[Number]] | None


class ChosenMethod(TypedDict):
    """The method of the batch.

    Attributes:
        name: Its name.
        parameters: Its parameters, by name: ``weight`` λ, ``damping`` μ, ``ridge`` λₙ,
            ``threshold`` τ, ``l2`` L₂.
        clamp: ‖δ‖ is clamped to this factor of the length of what δ is added to.
        spread: ``even`` where each layer writes its part by number, ``root`` by its square root.
        post: What holds the computed update down before it is written, ``rect`` or ``prune``;
            what is foretold is the update before it. ``None`` where nothing does.
    """

    name: Name
    parameters: dict[Name, Size]
    clamp: Size
    spread: Literal["even", "root"]
    post: NotRequired[Literal["rect", "prune"] | None]


class BatchDocument(Head):
    """A batch of edits by one method: what it would do, and what it did.

    Attributes:
        schema: ``diag.batch/1``.
        model: The model.
        method: The method.
        contexts: The contexts keys are averaged over.
        layers: The edited layers, ascending.
        edits: The edits, in order.
        refused: Records of the file that are not edits.
        pairs: Pairs that make M ill conditioned, the worst first, at most 100.
        n_pairs: How many there are.
        family: Every method with the same keys, at the first layer.
        picture: M at the first layer.
        findings: What was checked.
        limits: The limits of the verdict.
        verdict: The verdict on the batch.
        summary: A sentence or two: the worst finding.
        performed: What became of the model; missing where the batch was not made.
        notes: What was supplied or changed in reading the edits.
    """

    schema: Literal["diag.batch/1"]
    model: Model
    method: ChosenMethod
    contexts: Contexts
    layers: Annotated[list[BatchLayer], Len(1)]
    edits: Annotated[list[BatchEdit], Len(1)]
    refused: list[Refused]
    pairs: list[EditPair]
    n_pairs: Count
    family: list[FamilyRow]
    picture: MatrixPicture
    findings: list[Finding]
    limits: Limits
    verdict: Verdict
    summary: str
    performed: NotRequired[Performed]
    notes: list[str]
