"""What became of the model after a batch was made: part of ``diag.batch/1``."""

from typing import Literal

from typing_extensions import TypedDict

from rome_diagnosis.schema.arms import PerplexityChange, ShareChange
from rome_diagnosis.schema.values import Count, Number, Positive, Share, Size


class WrittenLayer(TypedDict):
    """What was written into one layer.

    Attributes:
        layer: The block.
        update_norm: ‖ΔW‖, Frobenius.
        relative_update_norm: The same over ‖W‖.
        residual: Root mean square length of the residuals it was to write.
        received: Median over the edits of φ at the bare prompt, with the keys as they were then.
        damage: Root mean square change of the MLP's output over the corpus, in closed form; null
            without a corpus moment.
        damage_measured: The same measured on the text set; null above the first layer, whose keys
            the batch itself moves.
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
        received: The share of z − h, or v* − v, that its bare prompt's stream did receive.
        loss: The last loss of its target, in nats.
        bare: What the bare prompt gives.
        editing_prefix: What it gives after the first prefix.
    """

    index: Count
    received: Number
    loss: Number
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
        perplexity: Of the text set.
        recall: Of other facts; null without any.
        outcome: ``collapsed``, ``damaged`` or ``intact``.
        outcome_reasons: A phrase for each measurement beyond its limit.
        collapse_ratio: The perplexity ratio from which on a model counts as collapsed.
        predicted_received: How the share predicted before anything was optimised ranks the
            measured one.
        received_efficacy: How the predicted share ranks the new object's probability.
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
    collapse_ratio: Positive
    predicted_received: Rank
    received_efficacy: Rank
    texts: str
    facts: str
