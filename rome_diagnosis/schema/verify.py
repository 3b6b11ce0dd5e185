"""``diag.verify/1`` of one edit: how it was performed, and what became of the model."""

from typing import Annotated, Literal, NotRequired

from annotated_types import Gt, Le, Len
from typing_extensions import TypedDict

from rome_diagnosis.schema.parts.arms import Arms
from rome_diagnosis.schema.parts.shared import (
    Contexts,
    Head,
    Limits,
    Model,
    Request,
    SecondMoment,
    Site,
)
from rome_diagnosis.schema.parts.values import (
    LARGEST,
    Count,
    Integer,
    Name,
    Number,
    Positive,
    Says,
    Share,
    Size,
)
from rome_diagnosis.schema.tasks import TaskScore

Outcome = Literal["collapsed", "damaged", "intact"]


class EditRequest(Request):
    """The fact that is edited, and the record it comes from.

    Attributes:
        case_id: The record's own identifier; null if it has none.
        group: The group the data set puts it into; null if it names none.
    """

    case_id: str | None
    group: str | None


class EditSite(Site):
    """Where the edit is made, and where the bare prompt looks the fact up.

    Attributes:
        token: The subject's last token.
        index: Its index in the bare prompt.
        is_first_token: Whether no other token of the text precedes it.
    """

    token: str
    index: Count
    is_first_token: bool


class Optimisation(TypedDict):
    """How the target value v* = v_u + δ was optimised.

    Attributes:
        steps: Steps of Adam.
        loss: The last loss, in nats.
        losses: The loss at each evaluation.
        probability: Probability of the new object at the end.
        delta_norm: ‖δ‖.
        initial_norm: ‖v_u‖.
        clamp_saturated: Whether ‖δ‖ was clamped.
    """

    steps: Count
    loss: Number
    losses: list[Number]
    probability: Share
    delta_norm: Size
    initial_norm: Positive
    clamp_saturated: bool


class Collapsed(TypedDict, extra_items=bool):  # type: ignore[call-arg]
    """Whether each arm broke the model, under the arm's name.

    Attributes:
        rome: ROME as published.
        c_rome: C-ROME.
        p_rome: P-ROME.
        c_rome_prefixed: C-ROME's weights, a prefix before the test prompts.
    """

    rome: bool
    c_rome: bool
    p_rome: bool
    c_rome_prefixed: bool


class Hyperparameters(TypedDict):
    """Hyper-parameters of the optimisation of v*.

    Attributes:
        evaluations: Evaluations of the loss; the last takes no step.
        learning_rate: Adam learning rate.
        weight_decay: Factor of ‖δ‖ / ‖v_u‖².
        clamp_norm_factor: ‖δ‖ is clamped to this factor times ‖v_u‖.
        kl_factor: Factor of the Kullback–Leibler divergence from the unedited model.
        stop_below: The loss at which the optimisation stops, in nats.
        most_probable: At how many evaluations the new object must be the most probable in every
            prefixed context for the optimisation to stop there; 0 to go on regardless.
        nll_factor: Factor of the new object's negative log-likelihood.
        leading_nll: What remains of that factor after an evaluation at which the new object was the
            most probable in every context.
        leading_kl: The Kullback–Leibler term at which the optimisation stops there; 0 to go on.
        second_moment_adjustment: Whether the direction is C⁻¹k; false means C = I.
        layer: The block a hyper-parameter file names; null if none.
        context_lengths: Lengths of the sampled prefixes in tokens, and how many of each.
        model_name: The model that a hyper-parameter file is for; null if it names none.
        unused: Names in a hyper-parameter file that decide nothing.
    """

    evaluations: Count
    learning_rate: Size
    weight_decay: Size
    clamp_norm_factor: Positive
    kl_factor: Size
    stop_below: Size
    most_probable: NotRequired[Count]
    nll_factor: NotRequired[Size]
    leading_nll: NotRequired[Size]
    leading_kl: NotRequired[Size]
    second_moment_adjustment: bool
    layer: Count | None
    context_lengths: list[Annotated[list[Count], Len(2, 2), Says("a list of two whole numbers")]]
    model_name: NotRequired[str | None]
    unused: NotRequired[list[str]]


class Settings(TypedDict):
    """What all edits of a run have in common.

    Attributes:
        prefixes: Contexts 1 to n of the edit.
        unseen_prefix: A prefix that is not among them.
        hyperparameters: How v* is optimised.
        c_rome_target: What C-ROME writes: ``published`` v_u + δ, ``consistent`` v̄ + δ.
        collapse_ratio: The perplexity ratio at and above which a model counts as collapsed.
        precision: Relative half width of the ratio's interval at which texts suffice; null where
            all texts were measured.
        seed: Seed of the sampled texts.
        generated_tokens: Tokens of each generated text.
    """

    prefixes: list[str]
    unseen_prefix: str
    hyperparameters: Hyperparameters
    c_rome_target: Literal["published", "consistent"]
    collapse_ratio: Annotated[float, Gt(1), Le(LARGEST), Says("a finite number above 1")]
    precision: NotRequired[Positive | None]
    seed: Integer
    generated_tokens: Count


class Texts(TypedDict):
    """The text set. How much of it an edit was measured on stands with the edit's perplexity.

    Attributes:
        source: What the set is called.
        digest: Digest of the texts.
        n_texts: Number of texts.
        forced: Whether all of them were measured, rather than as many as settled the outcome.
        bos: Whether a begin-of-sequence token began every row.
        token_weighted: The unedited model's perplexity: exp of the mean loss over all predicted
            tokens. Older documents have it.
        text_mean: The mean over texts of each one's perplexity. Older documents have it.
        loss: The mean loss over all predicted tokens, in nats. Older documents have it.
        n_tokens: Number of predicted tokens. Older documents have it.
    """

    source: str
    digest: str
    n_texts: Count
    forced: NotRequired[bool]
    bos: bool
    token_weighted: NotRequired[Positive]
    text_mean: NotRequired[Positive]
    loss: NotRequired[Number]
    n_tokens: NotRequired[Count]


class KnownFacts(TypedDict):
    """Facts whose recall is measured: those the unedited model gives.

    Attributes:
        source: Where the facts come from.
        digest: Digest of all facts that could have been asked.
        n: Number of facts.
        tried: Number of facts that were asked to find them.
    """

    source: NotRequired[str]
    digest: NotRequired[str]

    n: Count
    tried: Count


class VerifyHead(Head):
    """What documents of one edit and of a list have in common.

    Attributes:
        schema: ``diag.verify/1``.
        model: The model.
        contexts: The contexts of the edit.
        second_moment: The C the updates were solved with.
        settings: What all edits have in common.
        limits: The limits the verdicts of a pre-flight check rest on.
        texts: The text set.
        known_facts: The facts whose recall is measured.
        tasks: The unedited model's scores in downstream tasks, where they were asked.
        notes: What was left out or changed in reading files, or does not fit the model.
    """

    schema: Literal["diag.verify/1"]
    model: Model
    contexts: Contexts
    second_moment: SecondMoment
    settings: Settings
    limits: NotRequired[Limits]
    texts: Texts
    known_facts: KnownFacts
    tasks: NotRequired[dict[str, TaskScore]]
    notes: NotRequired[list[str]]


class Prediction(TypedDict):
    """What was said of ROME as published before the edit, beside what became of the model.

    Attributes:
        verdict: The verdict of ``diag.keys``.
        relative_bound: The damage bound it rests on; null where none was computed.
        expected_share: The share of the bound that was expected.
        agreement: How the outcome compares with it.
        sentence: The same in words.
    """

    verdict: Literal["collapse_risk", "damage_risk", "safe", "unclear"]
    relative_bound: Size | None
    expected_share: NotRequired[Share]
    agreement: Literal["as predicted", "milder", "worse", "open"]
    sentence: str


class EditDocument(VerifyHead):
    """One edit, performed.

    Attributes:
        request: The fact.
        site: Where it is edited and looked up.
        optimisation: How v* was optimised.
        arms: What was measured, for each arm.
        prediction: What was predicted before the edit, and whether it came true.
        collapsed: Whether its perplexity met the criterion, for each arm.
        outcome: What became of the model, for each arm.
        outcome_reasons: Measurements beyond their limits, as phrases, for each arm.
    """

    request: EditRequest
    site: EditSite
    optimisation: Optimisation
    prediction: NotRequired[Prediction]
    arms: Arms
    collapsed: Collapsed
    outcome: NotRequired[dict[Name, Outcome]]
    outcome_reasons: NotRequired[dict[Name, list[str]]]
